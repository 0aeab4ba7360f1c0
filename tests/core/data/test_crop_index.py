from __future__ import annotations

import numpy as np
import pytest

from wavslm_core.data import crop_index
from wavslm_core.data.crop_index import CropIndex, KnownLengths


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("shortest", [0, 12, 10**9])
def test_it_is_what_counting_one_by_one_gives(
    count: int, shortest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crop_index, "_PASS", 2048)
    lengths = np.random.default_rng(count).integers(0, 200, count)
    index = CropIndex(KnownLengths(lengths), crop=50, shortest=shortest)
    owners = [
        utterance
        for utterance, length in enumerate(lengths.tolist())
        if length >= shortest
        for _ in range(max(1, -(-length // 50)))
    ]
    assert len(index) == len(owners)
    numbers = np.random.default_rng(0).permutation(len(owners))
    utterances, found = index.locate(numbers)
    np.testing.assert_array_equal(utterances, np.asarray(owners, np.int64)[numbers])
    np.testing.assert_array_equal(found, lengths[utterances])


def test_lengths_are_never_all_asked_for_at_once() -> None:
    asked: list[int] = []

    class Asked:
        def __len__(self) -> int:
            return 3_000_000

        def lengths_of(self, first: int, last: int) -> np.ndarray:
            asked.append(last - first)
            return np.full(last - first, 700)

    index = CropIndex(Asked(), crop=500)
    assert max(asked) <= 1 << 20
    asked.clear()
    utterances, _ = index.locate(np.array([0, 1, 2, 5_999_999]))
    assert utterances.tolist() == [0, 0, 1, 2_999_999]
    assert sum(asked) <= 2048
