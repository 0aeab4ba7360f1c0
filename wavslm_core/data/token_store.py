"""A split as tokens: flat memory-mapped shards, an index, and a fingerprint of what made them.

    store.json                 fingerprint, vocabulary, counts; written last: without it a store is unfinished
    tokens-00000.bin …         tokens of whole utterances in order, 2 bytes each (4 above 65536 codes)
    bounds.bin                 int64: where each shard starts in the flat stream, and its end
    offsets.bin                int64: where each utterance starts in the flat stream, and its end
    ids.txt, id_offsets.bin    the utterances' ids, one a line, and int64 byte offsets of the lines
    rejected.jsonl             what was left out, and why

Everything is memory-mapped when it is first touched, so that neither opening nor seeking depends on how many
tokens there are. Opening asks the file system for the size of each shard, of a thousand spread evenly where
there are more; every other shard is checked when it is first touched.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, FiniteFloat

from wavslm_core.data.manifest import Strings
from wavslm_core.errors import DataError
from wavslm_core.machine.json_files import MISSING, differences, read_json
from wavslm_core.machine.regular_files import size_of_regular

STORE_FILE = "store.json"
BOUNDS_FILE = "bounds.bin"
OFFSETS_FILE = "offsets.bin"
IDS_FILE = "ids.txt"
ID_OFFSETS_FILE = "id_offsets.bin"
REJECTED_FILE = "rejected.jsonl"
FORMAT_VERSION = 1
CHECKED_SHARDS = 1000
"""Shards whose size is checked when a store is opened."""
MAPPED_SHARDS = 4096
"""Shards that are mapped at once: the system allows a process some 65,000 mappings."""

MOST_BYTES = 1 << 30
"""Of the record of a shard, which lists its utterances."""

IntArray = npt.NDArray[np.int64]
Count = Annotated[int, Field(ge=0, lt=1 << 50)]
Shape = TypeVar("Shape")


def shard_file(number: int) -> str:
    return f"tokens-{number:05d}.bin"


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest little-endian number type that holds every token."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def token_fingerprint(codec: dict[str, Any], corpus: dict[str, Any]) -> dict[str, Any]:
    """Return the fingerprint of `Codec.fingerprint()` applied to `Corpus.fingerprint(split)`."""
    return {"codec": codec, "corpus": corpus}


def check_fingerprint(folder: Path, *, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise DataError naming the first field in which two fingerprints differ."""
    for field, wanted, present in differences(expected, found):
        hint = _MADE_OF_TIMES if field.endswith("corpus.content") else ""
        raise DataError(
            f"the tokens in {folder} are stale: they were made with {field} = {_short(present)}, now it is "
            f"{_short(wanted)}{hint}. Delete that folder to make them again, or use another run folder"
        )


_MADE_OF_TIMES = " (made of names, sizes and modification times: `cp -a` and `rsync -a` keep those)"


def _short(value: Any, most: int = 60) -> str:
    if value is MISSING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[:most]}…"


@dataclass(frozen=True)
class _Version:
    format: int


@dataclass(frozen=True)
class StoreDocument:
    """What `store.json` holds beside the version of its format."""

    fingerprint: dict[str, Any]
    vocab_size: Annotated[int, Field(gt=0, le=1 << 32)]
    tokens: Count
    token_rate_hz: FiniteFloat
    """Tokens a second; where it varies, their mean."""
    align: Annotated[int, Field(gt=0, lt=1 << 62)]
    """Every utterance is a whole number of this many tokens."""
    shards: Count
    utterances: Count
    rejected: Count
    seconds: FiniteFloat
    """Duration of the audio that was encoded."""
    work_seconds: FiniteFloat
    """Time that it took."""


def read_part(path: Path, shape: type[Shape]) -> Shape:
    """Return a JSON document of a store. Raises: DataError when it is missing or damaged."""
    try:
        return read_json(path, shape, remedy=f"Delete {path.parent} to tokenise again", most_bytes=MOST_BYTES)
    except FileNotFoundError:
        raise DataError(
            f"{path.parent} holds no finished token store; run the stage `tokenize` first"
        ) from None


class TokenStore:
    """A finished token store. Positions count tokens in the flat stream of all utterances."""

    def __init__(self, folder: Path, document: StoreDocument) -> None:
        self.folder = folder
        self.document = document
        self.fingerprint = document.fingerprint
        self.vocab_size = document.vocab_size
        self.total_tokens = document.tokens
        self.token_rate_hz = document.token_rate_hz
        self.align = document.align
        self.seconds = document.seconds
        self._utterances = document.utterances
        self._dtype = token_dtype(self.vocab_size)
        self._bounds = self._map(BOUNDS_FILE, np.dtype("<i8"), document.shards + 1)
        if self._bounds[0] != 0 or self._bounds[-1] != self.total_tokens or (np.diff(self._bounds) < 0).any():
            raise self._damaged(BOUNDS_FILE)
        self._shards: dict[int, npt.NDArray[Any]] = {}
        self._check_shards()

    @classmethod
    def open(cls, folder: str | Path, *, expect: dict[str, Any] | None = None) -> TokenStore:
        """Open a finished store.

        Raises: DataError when it is missing, unfinished, truncated, or was not made with `expect`, a
        `token_fingerprint(…)`.
        """
        place = Path(folder)
        version = read_part(place / STORE_FILE, _Version).format
        if version != FORMAT_VERSION:
            raise DataError(
                f"{place} is a token store of format {version}, this version reads "
                f"{FORMAT_VERSION}; delete it to tokenise again"
            )
        document = read_part(place / STORE_FILE, StoreDocument)
        if expect is not None:
            check_fingerprint(place, found=document.fingerprint, expected=expect)
        return cls(place, document)

    def _damaged(self, name: str) -> DataError:
        return DataError(f"{self.folder / name} is damaged; delete {self.folder} to tokenise again")

    def _map(self, name: str, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
        self._check_size(name, count * dtype.itemsize)
        # An empty file cannot be mapped.
        return np.memmap(self.folder / name, dtype, "r", shape=(count,)) if count else np.zeros(0, dtype)

    def _check_size(self, name: str, expected: int) -> None:
        path = self.folder / name
        try:
            size = size_of_regular(path)
        except FileNotFoundError:
            size = -1
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error.strerror}; mend it, or delete {self.folder} to tokenise again"
            ) from error
        if size != expected:
            raise DataError(
                f"{path} is truncated or missing: {max(size, 0)} bytes found, {expected} expected; "
                f"delete {self.folder} to tokenise again"
            )

    def _check_shards(self) -> None:
        shards = len(self._bounds) - 1
        for number in np.unique(np.linspace(0, shards - 1, min(shards, CHECKED_SHARDS)).round().astype(int)):
            self._check_size(shard_file(int(number)), self._shard_length(int(number)) * self._dtype.itemsize)

    def _shard_length(self, number: int) -> int:
        return int(self._bounds[number + 1] - self._bounds[number])

    def _shard(self, number: int) -> npt.NDArray[Any]:
        shard = self._shards.get(number)
        if shard is None:
            if len(self._shards) >= MAPPED_SHARDS:
                # The one mapped first. Mapping is cheap: what was read stays in the system's cache.
                self._shards.pop(next(iter(self._shards)), None)
            shard = self._map(shard_file(number), self._dtype, self._shard_length(number))
            self._shards[number] = shard
        return shard

    @cached_property
    def _offsets(self) -> IntArray:
        offsets = self._map(OFFSETS_FILE, np.dtype("<i8"), self._utterances + 1)
        if offsets[0] != 0 or offsets[-1] != self.total_tokens:
            raise self._damaged(OFFSETS_FILE)
        return offsets

    @cached_property
    def ids(self) -> Strings:
        """The utterances' ids, in order."""
        offsets = self._map(ID_OFFSETS_FILE, np.dtype("<i8"), self._utterances + 1)
        return Strings(self._map(IDS_FILE, np.dtype("u1"), int(offsets[-1])), offsets)

    @property
    def lengths(self) -> IntArray:
        """Tokens of each utterance."""
        return np.diff(self._offsets)

    def length(self, index: int) -> int:
        """Return how many tokens one utterance has."""
        return int(self._offsets[index + 1] - self._offsets[index])

    def __len__(self) -> int:
        return self._utterances

    def tokens(self, index: int) -> IntArray:
        """Return the tokens (T,) of one utterance."""
        position = range(self._utterances)[index]
        start, end = int(self._offsets[position]), int(self._offsets[position + 1])
        return self.window(start, end - start)

    def window(self, offset: int, length: int) -> IntArray:
        """Return tokens (length,) of the flat stream from `offset` on. Raises: DataError outside it."""
        end = offset + length
        if offset < 0 or length < 0 or end > self.total_tokens:
            raise DataError(
                f"{self.folder} holds {self.total_tokens} tokens, {length} from {offset} on were asked for"
            )
        window = np.empty(length, np.int64)
        number = int(np.searchsorted(self._bounds, offset, side="right")) - 1
        done = 0
        while done < length:
            start = offset + done - int(self._bounds[number])
            piece = self._shard(number)[start : start + length - done]
            window[done : done + len(piece)] = piece
            done += len(piece)
            number += 1
        return window

    def counts(self) -> IntArray:
        """Return how often each token occurs, (V,)."""
        counts = np.zeros(self.vocab_size, np.int64)
        for number in range(len(self._bounds) - 1):
            counts += np.bincount(self._shard(number), minlength=self.vocab_size)
        return counts
