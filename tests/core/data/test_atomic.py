from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wavslm_core.data.atomic import remove_leftovers, replacing, replacing_folder, write_json
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


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "codec"
    for text in ("old", "new"):
        with replacing_folder(folder) as beside:
            (beside / "inner").mkdir()
            (beside / "inner" / "x.txt").write_text(text)
            if text == "new":
                (beside / "more.txt").write_text(text)
                assert (folder / "inner" / "x.txt").read_text() == "old"
    assert (folder / "inner" / "x.txt").read_text() == "new"

    def fail_half_way() -> None:
        with replacing_folder(folder) as beside:
            (beside / "x.txt").write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"cannot write .*codec: No space left"):
        fail_half_way()
    assert sorted(path.name for path in folder.iterdir()) == ["inner", "more.txt"]
    assert [path.name for path in folder.parent.iterdir()] == ["codec"]


def test_what_a_killed_process_left_is_cleared_and_put_back(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from wavslm_core.data import atomic\n"
        "folder, moment = Path(sys.argv[1]), sys.argv[2]\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "with atomic.replacing_folder(folder) as beside:\n"
        "    (beside / 'x.txt').write_text('new')\n"
        "    if moment == 'filling': die()\n"
        "    real = Path.rename\n"
        "    Path.rename = lambda old, new: die() if new == folder else real(old, new)\n"
    )
    for number, moment in enumerate(("filling", "swapping")):
        run = tmp_path / str(number)
        (run / "codec").mkdir(parents=True)
        (run / "codec" / "x.txt").write_text("old")
        with replacing(run / "metrics.jsonl") as beside:
            beside.write_text("kept")
        done = subprocess.run([sys.executable, "-c", program, str(run / "codec"), moment])
        assert done.returncode == -signal.SIGKILL
        assert (run / "codec").exists() == (moment == "filling")
        remove_leftovers(run)
        assert sorted(path.name for path in run.iterdir()) == ["codec", "metrics.jsonl"]
        assert (run / "codec" / "x.txt").read_text() == "old"


def test_files_that_others_may_be_writing_are_left_alone(tmp_path: Path) -> None:
    for name in (".writing-00000000-jobs.json", ".writing-00000001-stop"):
        (tmp_path / name).touch()
    (tmp_path / ".writing-00000002-codec").mkdir()
    os.utime(tmp_path / ".writing-00000001-stop", (1, 1))
    remove_leftovers(tmp_path, files_older_than_s=600)
    assert [path.name for path in tmp_path.iterdir()] == [".writing-00000000-jobs.json"]
