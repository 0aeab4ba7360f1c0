"""Peak memory is that of a span of time, not of a process's life; seeds follow from their key alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wavslm_core.training import device as training_device
from wavslm_core.training.device import PeakMemory, seed_from, seed_torch

SIZE = 200 << 20


@pytest.mark.skipif(not training_device.CLEAR_REFS.exists(), reason="the kernel keeps no such mark")
def test_what_was_freed_counts_while_it_is_measured_and_no_longer() -> None:
    before = PeakMemory(torch.device("cpu")).bytes()
    during = PeakMemory(torch.device("cpu"))
    held = torch.ones(SIZE, dtype=torch.uint8)
    del held
    peak, after = during.bytes(), PeakMemory(torch.device("cpu")).bytes()
    assert before is not None
    assert peak is not None
    assert after is not None
    assert before + 0.95 * SIZE < peak < before + 1.2 * SIZE
    assert after < before + 0.2 * SIZE


def test_where_it_cannot_be_known_nothing_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_device, "CLEAR_REFS", tmp_path / "absent" / "clear_refs")
    assert PeakMemory(torch.device("cpu")).bytes() is None


def test_seeds_depend_on_every_part_of_the_key() -> None:
    keys = [
        (0, "train", 0, 0),
        (1, "train", 0, 0),
        (0, "valid", 0, 0),
        (0, "train", 1, 0),
        (0, "train", 0, 1),
    ]
    seeds = {seed_from(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert seed_from(0, "train", 0, 0) in seeds


@pytest.mark.parametrize("accelerated", [False, True])
def test_torch_draws_what_follows_from_the_key(accelerated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_device, "_has_accelerator", lambda: accelerated)
    torch.manual_seed(seed_from(3, "train", 7))
    wanted = torch.rand(4)
    seed_torch(3, "train", 7)
    assert torch.equal(torch.rand(4), wanted)
