from pathlib import Path

import pytest

from wavslm_core.data.token_store import MOST_BYTES
from wavslm_core.data.token_writer import stored_rejections
from wavslm_core.errors import DataError
from wavslm_core.machine import json_files


def test_a_long_list_is_read_and_one_that_is_too_long_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corpus of millions may have lost hundreds of thousands."""
    with (tmp_path / "rejected.jsonl").open("w") as stream:
        stream.write('{"id": "a", "reason": "is empty"}\n')
        stream.truncate(MOST_BYTES + 1)
    allowed: list[int] = []
    read = json_files.read_regular

    def reading(path: Path, *, most_bytes: int) -> bytes:
        allowed.append(most_bytes)
        return read(path, most_bytes=most_bytes)

    monkeypatch.setattr(json_files, "read_regular", reading)
    with pytest.raises(DataError, match=r"rejected\.jsonl cannot be read: it is larger than") as told:
        list(stored_rejections(tmp_path))
    assert "elete" not in str(told.value)
    assert allowed == [MOST_BYTES]


def test_a_damaged_list_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "rejected.jsonl").write_text('{"id": "a", "reason": "is empty"}\n{"id"')
    with pytest.raises(
        DataError, match=rf"rejected\.jsonl is damaged \(.*Delete {tmp_path} to tokenise again"
    ):
        list(stored_rejections(tmp_path))
