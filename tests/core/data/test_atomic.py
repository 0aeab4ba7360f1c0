from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from wavslm_core.data.atomic import replacing, write_json
from wavslm_core.errors import DataError


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a" / "value.json"
    write_json(path, {"x": 1})

    def fail_half_way() -> None:
        with replacing(path) as beside:
            beside.write_text("half")
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        fail_half_way()
    assert json.loads(path.read_text()) == {"x": 1}
    assert [item.name for item in path.parent.iterdir()] == ["value.json"]


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, 1)
    with pytest.raises(DataError, match=r"cannot write .*value\.json.*Free some space"), replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text().strip() == "1"


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_json(tmp_path / "file" / "value.json", 1)
