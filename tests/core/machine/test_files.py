import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from wavslm_core.errors import DataError
from wavslm_core.machine import files as atomic
from wavslm_core.machine.files import open_in_place, remove_leftovers, replacing, replacing_folder, write_json


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


def test_a_folder_in_the_place_of_a_file_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for write in (open_in_place, lambda path: write_json(path, 1)):
        with pytest.raises(DataError, match=r"folder is a folder, not a file\. Move it away"):
            write(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


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
        "import os, signal, sys; from pathlib import Path; from wavslm_core.machine import files\n"
        "folder, moment = Path(sys.argv[1]), sys.argv[2]\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "with files.replacing_folder(folder) as beside:\n"
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
    remove_leftovers(tmp_path, others_write="files")
    assert [path.name for path in tmp_path.iterdir()] == [".writing-00000000-jobs.json"]


def half_written(folder: Path, name: str) -> Path:
    """Leave what a process leaves that is killed while it writes a file, and return it."""
    program = (
        "import os, signal, sys; from pathlib import Path; from wavslm_core.machine.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as beside:\n"
        "    beside.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    before = set(folder.iterdir())
    assert subprocess.run([sys.executable, "-c", program, str(folder / name)]).returncode == -signal.SIGKILL
    (left,) = set(folder.iterdir()) - before
    return left


def test_where_others_write_only_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    half_written(tmp_path, "dead.npz")
    elsewhere = f".writing-{'0' * 6}-1-{'0' * 8}-elsewhere"
    for name in (elsewhere, f"{elsewhere}.old", ".writing-notes", "whole.npz"):
        (tmp_path / name).touch()
    (tmp_path / f".writing-{'0' * 8}").mkdir()
    os.utime(tmp_path / f"{elsewhere}.old", (1, 1))
    (tmp_path / "inner").mkdir()
    deeper = half_written(tmp_path / "inner", "x")
    with replacing(tmp_path / "mine.npz") as mine, replacing_folder(tmp_path / "folder") as folder:
        remove_leftovers(tmp_path, deep=False, others_write="everything")
        assert mine.exists()
        assert folder.exists()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        elsewhere, f".writing-{'0' * 8}", ".writing-notes", "whole.npz", "mine.npz", "folder", "inner"
    }  # fmt: skip
    assert deeper.exists()


@pytest.mark.parametrize("name", ["a.npz", f"{'a' * 236}.npz", f"{'é' * 121}.safetensors"])
def test_names_as_long_as_a_file_system_takes(tmp_path: Path, name: str) -> None:
    assert len(os.fsencode(name)) <= 255
    for text in ("old", "new"):
        with replacing(tmp_path / name) as beside:
            assert len(os.fsencode(beside.name)) <= max(len(os.fsencode(name)), 128)
            assert beside.suffix == Path(name).suffix
            beside.write_text(text)
        with replacing_folder(tmp_path / "folders" / name) as beside:
            assert len(os.fsencode(beside.name)) <= max(len(os.fsencode(name)), 128)
            (beside / text).touch()
    assert (tmp_path / name).read_text() == "new"
    assert [path.name for path in (tmp_path / "folders").iterdir()] == [name]
    assert [path.name for path in (tmp_path / "folders" / name).iterdir()] == ["new"]


def test_a_name_that_is_too_long_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"name too long \(260 bytes\)\. Shorten it"):
        write_json(tmp_path / ("a" * 260), 1)


def test_a_folder_with_a_long_name_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a kill between the two renames that replace it."""
    folder = tmp_path / ("a" * 250)
    folder.mkdir()
    (folder / "old").touch()

    def killed(path: Path, target: Path) -> Path:
        if target == folder:
            raise KeyboardInterrupt
        return rename(path, target)

    rename = Path.rename
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt), replacing_folder(folder):
            pass
    assert not folder.exists()
    remove_leftovers(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_nothing_is_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    (tmp_path / "link").symlink_to(mine)
    with pytest.raises(DataError, match="link is a link, and nothing is written through links"):
        open_in_place(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    for flags in (os.O_RDWR, os.O_WRONLY):
        with pytest.raises(DataError, match=r"cannot write .*: pipe is no regular file\. Remove it;"):
            open_in_place(tmp_path / "pipe", flags)
    # Somebody who could guess it.
    monkeypatch.setattr(atomic, "_tag", lambda: "000000-1-00000000")
    (tmp_path / ".writing-000000-1-00000000-value.json").symlink_to(mine)
    with pytest.raises(DataError, match="cannot write"):
        write_json(tmp_path / "value.json", 1)
    assert mine.read_text() == "precious"


@pytest.mark.parametrize("others_write", ["nothing", "files", "everything"])
def test_a_planted_link_takes_nothing_out_of_the_folder_it_leads_to(
    tmp_path: Path, others_write: Literal["nothing", "files", "everything"]
) -> None:
    """In a folder that others write to: it looks like what a killed process left, and not as if of late."""
    home, shared = tmp_path / "home", tmp_path / "shared"
    (home / "inner").mkdir(parents=True)
    (home / "key").write_text("secret")
    shared.mkdir()
    links = [shared / f".{kind}-{number:08x}" for kind in ("replaced", "writing") for number in range(2)]
    for link in links:
        link.symlink_to(home)
        os.utime(link, (1, 1), follow_symlinks=False)
        os.utime(home, (1, 1))
    write_json(shared / "value.json", 1)
    with replacing_folder(shared / "folder"):
        pass
    remove_leftovers(shared, others_write=others_write)
    assert sorted(path.name for path in shared.iterdir()) == ["folder", "value.json"]
    assert sorted(path.name for path in home.iterdir()) == ["inner", "key"]


def test_names_of_temporary_files_cannot_be_foreseen(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with replacing(tmp_path / "x") as beside:
            names.add(beside.name)
    assert len(names) == 3


def test_a_link_to_a_folder_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "old").touch()
    for target in ("elsewhere", "nowhere"):
        link = tmp_path / f"to {target}"
        link.symlink_to(tmp_path / target)
        with replacing_folder(link) as beside:
            (beside / "new").touch()
        assert not link.is_symlink()
        assert [path.name for path in link.iterdir()] == ["new"]
    assert (tmp_path / "elsewhere" / "old").exists()
    (tmp_path / f".writing-{'0' * 8}").symlink_to(tmp_path / "elsewhere")
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "to elsewhere", "to nowhere"}
    assert (tmp_path / "elsewhere" / "old").exists()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_says_who_may_read(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "one") as beside:
            put_in_place_of(beside)
        with replacing_folder(tmp_path / "folder") as folder:
            put_in_place_of(folder / "two")
        os.close(open_in_place(tmp_path / "three"))
    finally:
        os.umask(before)
    for name in ("one", "folder/two", "three"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask, name


def put_in_place_of(path: Path) -> None:
    """Write as libraries do that have temporary files of their own, which nobody else may read."""
    own = path.with_name("own")
    own.write_text("x")
    own.chmod(0o600)
    own.replace(path)


@pytest.mark.parametrize("write", [replacing, replacing_folder])
def test_who_writes_next_clears_away_what_a_killed_process_left(tmp_path: Path, write: Any) -> None:
    half_written(tmp_path, "a.npz")
    with write(tmp_path / "b"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
