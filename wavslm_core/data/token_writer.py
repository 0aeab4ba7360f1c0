"""Writes a token store shard by shard; what is finished stays finished, whatever happens in between.

The caller plans shards as a pure function of the utterance list and asks which are missing. A shard is its
tokens, then a small record; the record is written last. When all are there, `finish` joins the records into
the store's index.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import FiniteFloat

from wavslm_core.data.corpora import Rejected, Utterance, content_digest, durations_s
from wavslm_core.data.token_store import (
    BOUNDS_FILE,
    FORMAT_VERSION,
    ID_OFFSETS_FILE,
    IDS_FILE,
    MOST_BYTES,
    OFFSETS_FILE,
    REJECTED_FILE,
    STORE_FILE,
    Count,
    TokenStore,
    check_fingerprint,
    read_part,
    shard_file,
    token_dtype,
)
from wavslm_core.errors import DataError
from wavslm_core.machine.files import replacing, write_json
from wavslm_core.machine.json_files import read_lines

PLAN_FILE = "plan.json"
RECORDS = "records"
SCAN = "scan"
"""Where a file was found bad that no shard was planned for."""


@dataclass(frozen=True)
class ShardRecord:
    """What a finished shard holds."""

    ids: list[str]
    lengths: list[Count]
    rejected: list[Rejected]
    audio_seconds: FiniteFloat
    """Duration of what was encoded."""
    work_seconds: FiniteFloat
    """Time that it took."""


def plan_shards(utterances: Sequence[Utterance], *, shard_minutes: float) -> list[range]:
    """Return consecutive ranges of utterances, each the shortest that lasts `shard_minutes`."""
    ends_s = np.cumsum(durations_s(utterances))
    shards: list[range] = []
    start = 0
    while start < len(ends_s):
        before_s = ends_s[start - 1] if start else 0.0
        last = int(np.searchsorted(ends_s, before_s + shard_minutes * 60))
        end = min(last, len(ends_s) - 1) + 1
        shards.append(range(start, end))
        start = end
    return shards


def plan_digest(utterances: Sequence[Utterance], shards: Sequence[range]) -> str:
    """Return 16 hex digits that change when any shard would hold something else."""
    digest = hashlib.sha256(content_digest(utterances).encode())
    digest.update(json.dumps([len(shard) for shard in shards]).encode())
    return digest.hexdigest()[:16]


class TokenWriter:
    """Fills a folder with the shards of one plan."""

    def __init__(
        self,
        folder: Path,
        *,
        fingerprint: dict[str, Any],
        plan: str,
        shards: int,
        vocab_size: int,
        token_rate_hz: float | None,
        align: int,
    ) -> None:
        """Start or continue a store; `token_rate_hz` None: it varies, and the mean is kept.

        Raises: DataError when the folder was begun for something else.
        """
        self.folder = folder
        self.shards = shards
        self.vocab_size = vocab_size
        self._about = {
            "format": FORMAT_VERSION,
            "fingerprint": fingerprint,
            "vocab_size": vocab_size,
            **({} if token_rate_hz is None else {"token_rate_hz": token_rate_hz}),
            "align": align,
            "shards": shards,
        }
        begun = {"fingerprint": fingerprint, "shards": {"count": shards, "plan": plan}, "align": align}
        if (folder / PLAN_FILE).exists():
            check_fingerprint(folder, found=read_part(folder / PLAN_FILE, dict[str, Any]), expected=begun)
        else:
            write_json(folder / PLAN_FILE, begun)

    @property
    def finished(self) -> bool:
        return (self.folder / STORE_FILE).exists()

    def missing(self) -> list[int]:
        """Return the numbers of the shards that still have to be written."""
        return [number for number in range(self.shards) if not self._record_file(number).exists()]

    def _record_file(self, number: int) -> Path:
        return self.folder / RECORDS / f"{number:05d}.json"

    def write(self, number: int, tokens: Sequence[npt.NDArray[np.int64]], record: ShardRecord) -> None:
        """Write one shard, all or nothing. Raises: DataError when tokens do not fit or the disk is full."""
        if [len(item) for item in tokens] != record.lengths or len(record.ids) != len(tokens):
            raise ValueError("the record of a shard must match its tokens")
        flat = np.concatenate([np.zeros(0, np.int64), *tokens])
        if flat.size and not (flat.min() >= 0 and flat.max() < self.vocab_size):
            raise DataError(
                f"the codec gave tokens from {flat.min()} to {flat.max()}, its vocabulary has "
                f"{self.vocab_size}; the quantizer's facts are wrong"
            )
        with replacing(self.folder / shard_file(number)) as beside:
            flat.astype(token_dtype(self.vocab_size)).tofile(beside)
        write_json(self._record_file(number), asdict(record))

    def _record(self, number: int) -> ShardRecord:
        return read_part(self._record_file(number), ShardRecord)

    def finish(self, *, also_rejected: Sequence[Rejected] = ()) -> TokenStore:
        """Join the shards' records into the index and open the store; `also_rejected` is listed first."""
        missing = self.missing()
        if missing:
            raise ValueError(f"shards {missing} are not written yet")
        if not self.finished:
            totals = self._write_index(also_rejected)
            mean = {"token_rate_hz": totals["tokens"] / totals["seconds"] if totals["seconds"] else 0.0}
            write_json(self.folder / STORE_FILE, mean | self._about | totals)
        return TokenStore.open(self.folder)

    def _write_index(self, also_rejected: Sequence[Rejected]) -> dict[str, float]:
        with ExitStack() as stack:
            streams = {
                name: stack.enter_context((stack.enter_context(replacing(self.folder / name))).open("wb"))
                for name in (BOUNDS_FILE, OFFSETS_FILE, IDS_FILE, ID_OFFSETS_FILE, REJECTED_FILE)
            }
            utterances, tokens, id_bytes, left_out = 0, 0, 0, 0
            audio_seconds, work_seconds = 0.0, 0.0
            for name in (BOUNDS_FILE, OFFSETS_FILE, ID_OFFSETS_FILE):
                np.zeros(1, "<i8").tofile(streams[name])
            for number in range(self.shards):
                record = self._record(number)
                ids = [f"{name}\n".encode() for name in record.ids]
                offsets = tokens + np.cumsum(record.lengths, dtype="<i8")
                streams[OFFSETS_FILE].write(offsets.astype("<i8").tobytes())
                id_offsets = id_bytes + np.cumsum([len(name) for name in ids], dtype="<i8")
                streams[ID_OFFSETS_FILE].write(id_offsets.astype("<i8").tobytes())
                streams[IDS_FILE].write(b"".join(ids))
                rejected = [*(also_rejected if number == 0 else ()), *record.rejected]
                for item in rejected:
                    line = json.dumps(asdict(item), ensure_ascii=False)
                    streams[REJECTED_FILE].write(f"{line}\n".encode())
                utterances += len(ids)
                tokens += sum(record.lengths)
                id_bytes += sum(map(len, ids))
                left_out += len(rejected)
                audio_seconds += record.audio_seconds
                work_seconds += record.work_seconds
                streams[BOUNDS_FILE].write(np.array([tokens], "<i8").tobytes())
        return {
            "utterances": utterances,
            "tokens": tokens,
            "rejected": left_out,
            "seconds": audio_seconds,
            "work_seconds": work_seconds,
        }


def token_stores(place: Path) -> dict[str, Path]:
    """Return split → store for a run's folder, or one store by its own name. Raises: DataError."""
    if not place.exists():
        raise DataError(f"{place} does not exist; name a run's folder or a token store in it")
    stores = {place.name: place} if _is_store(place) else {}
    # Those of stages that are not the last of their kind stand in a folder of the stage.
    for pattern in () if stores else ("tokens/[!.]*", "tokenize*/tokens/[!.]*"):
        for folder in sorted(place.glob(pattern)):
            if _is_store(folder):
                stores[folder.relative_to(place).as_posix().removeprefix("tokens/")] = folder
    if not stores:
        raise DataError(
            f"{place} holds no token store; name a run's folder whose stage `tokenize` has begun, or a store"
        )
    return stores


def _is_store(folder: Path) -> bool:
    return (folder / STORE_FILE).exists() or (folder / PLAN_FILE).exists()


def stored_rejections(store: Path) -> Iterator[tuple[str, Rejected]]:
    """Yield (shard, what was left out of it); of an unfinished store what its finished shards say.

    Raises: DataError when the store is damaged.
    """
    in_shards = 0
    found: list[tuple[str, Rejected]] = []
    for path in sorted((store / RECORDS).glob("[!.]*.json")):
        for item in read_part(path, ShardRecord).rejected:
            found.append((path.stem, item))
            in_shards += 1
    lines = _lines(store)
    # The scan's come first; then those of the shards, in order.
    for item in lines[: len(lines) - in_shards]:
        yield SCAN, item
    yield from found


def _lines(store: Path) -> list[Rejected]:
    remedy = f"Delete {store} to tokenise again"
    try:
        return read_lines(store / REJECTED_FILE, Rejected, remedy=remedy, most_bytes=MOST_BYTES)
    except FileNotFoundError:
        return []
