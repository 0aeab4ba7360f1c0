"""The one reader of JSON: whatever a file holds, its reader gets what it asked for or one clear error.

Shapes are dataclasses, typed dictionaries and the like, checked strictly by pydantic; its parser also bounds
how deep brackets go. NaN and infinite numbers, for which JSON has no word, are refused: in shapes a number is
a `pydantic.FiniteFloat`.
"""

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from wavslm_core.errors import DataError, WavslmError
from wavslm_core.machine.files import refusal
from wavslm_core.machine.regular_files import MOST_BYTES, read_regular

Shape = TypeVar("Shape")
_NULL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}

MISSING = object()
"""What a document has where it has nothing."""


def read_json(
    path: Path,
    shape: type[Shape],
    *,
    remedy: str,
    error: type[WavslmError] = DataError,
    most_bytes: int = MOST_BYTES,
) -> Shape:
    """Return what a JSON file holds, as a `shape`.

    Raises: FileNotFoundError; `error`, which names the file and what is wrong and ends with `remedy`, for
    damage, another shape, no UTF-8, no regular file; without it for more than `most_bytes`.
    """
    try:
        return parse_json(read_regular(path, most_bytes=most_bytes), shape)
    except (OSError, ValueError) as problem:
        _explain(path, problem, remedy, error)


def json_digest(document: Any, *, digits: int = 12) -> str:
    """Return hex digits that change with a JSON document, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:digits]


def read_object(
    path: Path, *, remedy: str, error: type[WavslmError] = DataError, most_bytes: int = MOST_BYTES
) -> dict[str, Any]:
    """Return what a JSON file holds that must be an object, whatever is in it. Raises: as `read_json`."""
    try:
        return parse_object(read_regular(path, most_bytes=most_bytes))
    except (OSError, ValueError) as problem:
        _explain(path, problem, remedy, error)


def read_lines(path: Path, shape: type[Shape], *, remedy: str, most_bytes: int = MOST_BYTES) -> list[Shape]:
    """Return what a file holds that has one JSON text a line, each a `shape`. Raises: as `read_json`."""
    try:
        return [parse_json(line, shape) for line in read_regular(path, most_bytes=most_bytes).splitlines()]
    except (OSError, ValueError) as problem:
        _explain(path, problem, remedy, DataError)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Return the object that a JSON text stands for. Raises: ValueError, in a few words."""
    value = from_json(_encoded(text), allow_inf_nan=False)
    if not isinstance(value, dict):
        raise ValueError(f"it should be an object, not a {type(value).__name__}")
    _refuse_infinite(value)
    return value


def parse_json(text: str | bytes, shape: type[Shape]) -> Shape:
    """Return what a JSON text stands for, as a `shape`. Raises: ValueError, in a few words."""
    try:
        return _adapter(shape).validate_json(_encoded(text), strict=True)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Invalid JSON: ").removeprefix("Input ")
        raise ValueError(f"{where[:100]}: it {reason}" if where else reason) from None


def _encoded(text: str | bytes) -> bytes:
    """Return a text's bytes. Raises: ValueError for the null character, which no name of a file may have."""
    encoded = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    if b"u0000" in encoded and _NULL.search(encoded):
        raise ValueError("it holds a null character")
    return encoded


def _refuse_infinite(value: dict[str, Any] | list[Any]) -> None:
    """Raises: ValueError for a number such as 1e999, which the parser lets pass as infinite."""
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, float) and not math.isfinite(inner):
            raise ValueError("it holds a number that is too large")
        if isinstance(inner, dict | list):
            _refuse_infinite(inner)


def _explain(path: Path, problem: Exception, remedy: str, error: type[WavslmError]) -> NoReturn:
    if isinstance(problem, FileNotFoundError | NotADirectoryError):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    if isinstance(problem, PermissionError):
        raise error(f"{path} cannot be read: {refusal(path, problem)}") from None
    if isinstance(problem, OSError) and problem.errno == errno.EFBIG:
        # Its size says nothing about what it holds: no reason to delete it.
        raise error(f"{path} cannot be read: {problem.strerror}; look what wrote so much into it") from None
    if isinstance(problem, OSError):
        raise error(f"{path} cannot be read: {problem.strerror or problem}. {remedy}") from None
    raise error(f"{path} is damaged ({problem}). {remedy}") from None


def _adapter(shape: type[Shape]) -> TypeAdapter[Shape]:
    if shape not in _ADAPTERS:
        _ADAPTERS[shape] = TypeAdapter(shape)
    return _ADAPTERS[shape]


def differences(wanted: Any, found: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted path, what is wanted there, what is found) wherever two documents differ, in order.

    `MISSING` stands for what one of them lacks.
    """
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            inner = f"{path}.{key}" if path else str(key)
            yield from differences(wanted.get(key, MISSING), found.get(key, MISSING), inner)
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for place, pair in enumerate(zip(wanted, found, strict=True)):
            yield from differences(*pair, f"{path}.{place}")
    elif wanted != found:
        yield path, wanted, found
