"""One reader for every JSON file: what it was asked for, or one clear error that names the file."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import FiniteFloat

from wavslm_core.errors import CheckpointError, DataError
from wavslm_core.machine.json_files import (
    MISSING,
    differences,
    parse_json,
    parse_object,
    read_json,
    read_lines,
    read_object,
)
from wavslm_core.machine.regular_files import read_regular

DAMAGES = {
    "nothing": b"",
    "cut off": b'{"name": "a", "pieces"',
    "no UTF-8": b'{"name": "\xff", "pieces": [], "seconds": 1}',
    "100,000 brackets": b"[" * 100_000,
    "100,000 objects": b'{"a":' * 100_000,
    "a list": b"[1, 2]",
    "null": b"null",
    "a text for a number": b'{"name": "a", "pieces": [], "seconds": "1"}',
    "NaN": b'{"name": "a", "pieces": [], "seconds": NaN}',
    "infinite": b'{"name": "a", "pieces": [], "seconds": 1e999}',
    "a number of 5,000 digits": b'{"name": "a", "pieces": [], "seconds": ' + b"9" * 5000 + b"}",
    "a null character": b'{"name": "a\\\\\\u0000", "pieces": [], "seconds": 1}',
    "a key that is missing": b'{"name": "a", "seconds": 1}',
    "another thing in the list": b'{"name": "a", "pieces": [[1, 2], {"x": 1}], "seconds": 1}',
}


@dataclass(frozen=True)
class Piece:
    name: str
    pieces: tuple[tuple[int, int], ...]
    seconds: FiniteFloat
    speaker: str | None = None


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_document_is_one_error_that_names_the_file_and_the_remedy(
    tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "piece.json"
    path.write_bytes(DAMAGES[damage])
    with pytest.raises(CheckpointError) as told:
        read_json(path, Piece, remedy="Fetch it again.", error=CheckpointError)
    assert str(told.value).startswith(f"{path} is damaged (")
    assert str(told.value).endswith("). Fetch it again.")
    assert "\n" not in str(told.value)


def test_a_whole_document_is_read_as_its_shape(tmp_path: Path) -> None:
    path = tmp_path / "piece.json"
    path.write_text('{"name": "ä", "pieces": [[0, 5], [7, 2]], "seconds": 3, "new": 1}', encoding="utf-8")
    assert read_json(path, Piece, remedy="") == Piece("ä", ((0, 5), (7, 2)), 3.0)
    assert read_object(path, remedy="")["new"] == 1


@pytest.mark.parametrize("text", ["[]", '{"a": NaN}', '{"a": [{"b": -1e400}]}', "[" * 100_000, '"x"', ""])
def test_an_object_without_a_shape_is_still_checked(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1|should be an object|too large"):
        parse_object(text)


def test_what_only_looks_like_a_null_character_is_text() -> None:
    assert parse_object(r'{"a": "\\u0000"}') == {"a": r"\u0000"}


def test_keys_that_are_numbers_and_numbers_that_are_whole() -> None:
    assert parse_json('{"3": ["12_0"]}', dict[int, list[str]]) == {3: ["12_0"]}
    with pytest.raises(ValueError, match="3"):
        parse_json('{"3": [12]}', dict[int, list[str]])


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    endless = tmp_path / "zero.json"
    endless.symlink_to("/dev/zero")
    for path, reason in ((pipe, "no regular file"), (endless, "no regular file"), (tmp_path, "no regular")):
        with pytest.raises(DataError, match=f"cannot be read: .*{reason}"):
            read_object(path, remedy="Delete it.")


def test_what_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    for read in (read_object, partial(read_json, shape=Piece), partial(read_lines, shape=Piece)):
        with pytest.raises(DataError, match="larger than 64 MiB") as told:
            read(path, remedy="Delete it.")
        # It may be good.
        assert "elete" not in str(told.value)
        assert "damaged" not in str(told.value)
    with pytest.raises(OSError, match="larger than 2 KiB"):
        read_regular(path, most_bytes=2048)


def test_a_missing_file_stays_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none.json", tmp_path / "file" / "none.json"):
        with pytest.raises(FileNotFoundError):
            read_object(path, remedy="")


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": [1, {"b": 3}], "c": 1}, {"a": [1, {"b": 2}], "c": 2}, [("a.1.b", 3, 2), ("c", 1, 2)]),
        ({"a": 1}, {}, [("a", 1, MISSING)]),
        ({}, {"a": None}, [("a", MISSING, None)]),
        ({"a": [1, 2]}, {"a": [1]}, [("a", [1, 2], [1])]),
    ],
)
def test_documents_differ_at_dotted_paths(wanted: Any, found: Any, said: list[Any]) -> None:
    assert list(differences(wanted, found)) == said
