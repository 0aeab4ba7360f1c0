"""Which files a verb works on, and where their results go."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from wavslm_core.cli.inputs import Files, Found, find_files, output_files
from wavslm_core.data.audio_files import AUDIO_SUFFIXES
from wavslm_core.data.audio_tree import walk
from wavslm_core.data.token_writer import write_json
from wavslm_core.errors import DataError, WavslmError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with links of all kinds and hidden files."""
    root = tmp_path / "tree"
    for name in ("a.wav", "b/c.FLAC", "b/notes.txt", ".hidden/d.wav", ".writing-01234567-e.wav", "z/f.mp3"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "g.wav").touch()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    (root / "broken.wav").symlink_to("nothing.wav")
    (root / "circle.wav").symlink_to("circle.wav")
    return root


def test_verbs_see_the_files_that_corpora_see(tree: Path) -> None:
    found = find_files([tree], AUDIO_SUFFIXES)
    usable = [str(item.relative) for item in found if not item.problem]
    assert usable == ["a.wav", "b/c.FLAC", "linked/g.wav", "z/f.mp3"]
    assert {str(item.relative): item.problem for item in found if item.problem} == {
        "broken.wav": "is a link to nothing; mend or remove it",
        "circle.wav": "is a link to itself; mend or remove it",
    }
    assert [(item.name, bool(item.reason)) for item in walk(tree)] == [
        (str(item.relative), bool(item.problem)) for item in found
    ]


def test_broken_links_are_skipped_and_the_rest_is_done(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "a.flac").symlink_to("nothing.wav")
    found = find_files([tree], AUDIO_SUFFIXES)
    outputs = output_files(found, tmp_path / "out", old=AUDIO_SUFFIXES, new=".npz")
    assert outputs[0] == tmp_path / "out" / "a.npz"
    files = Files(found, lambda path: path.stat().st_size)
    assert [place for place, _ in files] == [1, 2, 5, 6]
    assert files.skipped_in_words == ", 3 skipped"
    assert capsys.readouterr().err.splitlines() == [
        f"skipped: {tree / 'a.flac'} is a link to nothing; mend or remove it",
        f"skipped: {tree / 'broken.wav'} is a link to nothing; mend or remove it",
        f"skipped: {tree / 'circle.wav'} is a link to itself; mend or remove it",
    ]


def test_a_folder_that_may_not_be_opened_is_skipped_or_named(
    shared_folder: Path, somebody_else: Callable[[], AbstractContextManager[None]]
) -> None:
    (shared_folder / "closed").mkdir(mode=0o700)
    (shared_folder / "a.wav").touch()
    with somebody_else():
        found = find_files([shared_folder], AUDIO_SUFFIXES)
        with pytest.raises(WavslmError, match="closed cannot be read: Permission denied; check its perm"):
            find_files([shared_folder / "closed"], AUDIO_SUFFIXES)
    assert [(str(item.relative), item.problem) for item in found] == [
        ("a.wav", ""), ("closed", "cannot be opened: Permission denied")
    ]  # fmt: skip


def test_files_that_are_skipped_count_as_done(tmp_path: Path) -> None:
    problems = {"a": "", "b": "is a link to nothing", "c": ""}
    found = [Found(tmp_path / name, Path(name), False, problem) for name, problem in problems.items()]
    files = Files(found, str)
    done: list[float] = []
    for place, _ in files.each(done.append):
        if place == 2:
            files.skip(place, WavslmError("c is too short"))
            continue
    assert done == [1, 1, 1]
    assert files.skipped_in_words == ", 2 skipped"


def test_a_result_whose_name_is_too_long_does_not_end_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Found(tmp_path / name, Path(name), named=False) for name in ("a" * 252, "b", "c")]
    outputs = output_files(found, tmp_path / "out", old=(), new=".npz")
    files = Files(found, str)
    for place, content in files:
        with files.writing(place):
            write_json(outputs[place], content)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.npz", "c.npz"]
    assert "File name too long (256 bytes). Shorten it" in capsys.readouterr().err
    with pytest.raises(DataError, match="is a file, not a folder"), files.writing(0):
        write_json(outputs[1] / "x", 1)
