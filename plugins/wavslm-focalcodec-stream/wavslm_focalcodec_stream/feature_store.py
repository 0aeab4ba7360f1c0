"""A teacher's features of a split on disk, so that each utterance is heard once and not in every epoch.

    features.json           a fingerprint of what they are; written last: without it a store is unfinished
    lengths.bin             int64: frames of each utterance of the split, 0 for those that are left out
    features-00000.bin …    float16 (frames, outputs, width): what the teacher gives of each, in their order
    records/00000.json      frames of each utterance of a shard; written when the shard is

Shards are files that are whole or absent, and depend on nothing but the fingerprint: a killed writer goes on
with the next one, and two that write the same store leave what one would. float16 rounds a number by at most
1/2048 of it, which adds less than 1e-7 of the features' mean square to an MSE; half of float32's size.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wavslm_core.plugin import (
    DataError,
    Interrupted,
    Split,
    StageContext,
    divide,
    json_digest,
    length_batches,
    plan_digest,
    plan_shards,
    progress_bar,
    read_json,
    replacing,
    write_json,
)

STORE_FILE, LENGTHS_FILE, RECORDS = "features.json", "lengths.bin", "records"
DTYPE = np.dtype("<f2")
SHARD_MINUTES = 5.0
"""Audio of a shard: 30 MB of one output of width 1024."""
BATCH_SECONDS = 160.0
"""Padded audio that the teacher hears at once."""
MAPPED_SHARDS = 4096
"""Shards that are mapped at once: the system allows a process some 65,000 mappings."""

Teach = Callable[[Sequence[Tensor]], list[Tensor]]
"""Whole waveforms (S,) → what the teacher gives for each, (T, outputs, D)."""


@dataclass(frozen=True)
class _Record:
    """What a finished shard holds."""

    lengths: list[int]


class FeatureStore:
    """A finished store. Frames of an utterance are counted as the teacher gives them."""

    def __init__(self, folder: Path, shards: Sequence[range], *, outputs: int, width: int) -> None:
        """Raises: DataError when something of it is missing or truncated."""
        self.folder = folder
        self.shape = (outputs, width)
        self._starts = np.array([shard.start for shard in shards])
        utterances = shards[-1].stop if shards else 0
        self.lengths = self._read(LENGTHS_FILE, np.dtype("<i8"), (utterances,))
        self._frames = np.concatenate([[0], np.cumsum(self.lengths)])
        self._shards: dict[int, npt.NDArray[Any]] = {}
        for number in range(len(shards)):
            self._check(number)

    def features(self, utterance: int, *, start: int = 0, frames: int | None = None) -> Tensor:
        """Return (T, outputs, D) float16, from frame `start` on; fewer than `frames` at the end."""
        number = int(np.searchsorted(self._starts, utterance, side="right")) - 1
        first = int(self._frames[utterance] - self._frames[self._starts[number]])
        length = int(self.lengths[utterance])
        stop = length if frames is None else min(length, start + frames)
        # A copy: what is mapped may not be written to.
        return torch.from_numpy(np.array(self._shard(number)[first + start : first + stop]))

    def _shard(self, number: int) -> npt.NDArray[Any]:
        shard = self._shards.get(number)
        if shard is None:
            if len(self._shards) >= MAPPED_SHARDS:
                self._shards.pop(next(iter(self._shards)), None)
            shard = self._read(shard_file(number), DTYPE, (self._shard_frames(number), *self.shape))
            self._shards[number] = shard
        return shard

    def _shard_frames(self, number: int) -> int:
        last = number + 1 == len(self._starts)
        end = len(self.lengths) if last else self._starts[number + 1]
        return int(self._frames[end] - self._frames[self._starts[number]])

    def _check(self, number: int) -> None:
        self._check_size(
            shard_file(number), self._shard_frames(number) * int(np.prod(self.shape)) * DTYPE.itemsize
        )

    def _read(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        self._check_size(name, int(np.prod(shape)) * dtype.itemsize)
        # An empty file cannot be mapped. As a plain array: slicing a `memmap` takes ten times as long.
        whole = (
            np.memmap(self.folder / name, dtype, "r", shape=shape)
            if np.prod(shape)
            else np.zeros(shape, dtype)
        )
        return np.asarray(whole)

    def _check_size(self, name: str, expected: int) -> None:
        path = self.folder / name
        size = path.stat().st_size if path.is_file() else -1
        if size != expected:
            raise DataError(
                f"{path} is truncated or missing: {max(size, 0)} bytes found, {expected} expected. Delete "
                f"{self.folder}, and the teacher is heard again"
            )


def shard_file(number: int) -> str:
    return f"features-{number:05d}.bin"


def feature_store(
    split: Split,
    teach: Teach,
    context: StageContext,
    *,
    fingerprint: Mapping[str, Any],
    outputs: int,
    width: int,
    frame_rate_hz: float,
    sample_rate_hz: int,
    longest_seconds: float,
) -> FeatureStore:
    """Return what a teacher gives for the utterances of a split; what the cache lacks of it is made first.

    `fingerprint`: all that decides what `teach` gives. Longer utterances than `longest_seconds` are left out.
    Processes share the work. Raises: Interrupted, after which what is done is kept; AudioError; DataError for
    a full disk, a damaged store or features that float16 cannot hold.
    """
    shards = plan_shards(split.utterances, shard_minutes=SHARD_MINUTES)
    known = {
        **fingerprint,
        "corpus": split.corpus.fingerprint(split.name),
        "split": split.name,
        "longest_seconds": longest_seconds,
        "plan": plan_digest(split.utterances, shards),
        "format": 1,
    }
    folder = context.cache_dir / f"features-{split.name}-{json_digest(known)}"
    kept = split.durations_s <= longest_seconds
    records = [folder / RECORDS / f"{number:05d}.json" for number in range(len(shards))]
    missing = context.processes.broadcast(
        []
        if (folder / STORE_FILE).exists()
        else [n for n, record in enumerate(records) if not record.exists()]
    )
    seconds = sum(float(split.durations_s[list(shards[number])].sum()) for number in missing)
    if missing:
        _check_room(folder, seconds * frame_rate_hz * outputs * width * DTYPE.itemsize)
    total = seconds / context.world_size
    with progress_bar(f"Teacher's features of {split.name}", total=total, unit="s audio") as advance:

        def write(number: int) -> None:
            members = [index for index in shards[number] if kept[index]]
            found: dict[int, Tensor] = {}
            milliseconds = np.round(1000 * split.durations_s[members]).astype(np.int64)
            for places in length_batches(milliseconds, budget=round(1000 * BATCH_SECONDS)):
                if context.processes.heard(context.stop_requested()):
                    raise Interrupted("stopped while the teacher was heard; finished shards are kept")
                batch = [members[place] for place in places]
                waveforms = [split.load(index, sample_rate_hz=sample_rate_hz) for index in batch]
                found |= dict(zip(batch, map(_halved, teach(waveforms)), strict=True))
                advance(float(split.durations_s[batch].sum()))
            with replacing(folder / shard_file(number)) as beside, beside.open("wb") as stream:
                for index in members:
                    found[index].numpy().astype(DTYPE, copy=False).tofile(stream)
            lengths = [len(found[index]) if index in found else 0 for index in shards[number]]
            write_json(records[number], asdict(_Record(lengths)))

        divide(context.processes, missing, write, stop_requested=context.stop_requested)
    if context.rank == 0 and not (folder / STORE_FILE).exists():
        remedy = f"Delete {folder}, and the teacher is heard again"
        lengths = [
            length for record in records for length in read_json(record, _Record, remedy=remedy).lengths
        ]
        with replacing(folder / LENGTHS_FILE) as beside:
            np.array(lengths, "<i8").tofile(beside)
        write_json(folder / STORE_FILE, {"fingerprint": known, "outputs": outputs, "width": width})
    context.processes.barrier()
    return FeatureStore(folder, shards, outputs=outputs, width=width)


def _halved(features: Tensor) -> Tensor:
    halved = features.detach().cpu().half()
    if not bool(torch.isfinite(halved).all()):
        raise DataError(
            "teacher_cache: the teacher gives numbers that are not finite, or too large for float16. Check "
            "it, or leave teacher_cache out"
        )
    return halved


def _check_room(folder: Path, needed: float) -> None:
    place = next(path for path in folder.absolute().parents if path.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DataError(
            f"teacher_cache: the features take {needed / 1e9:.3g} GB, but {place} has {free / 1e9:.3g} GB. "
            "Free some space, or leave it out: the teacher is then heard in every step"
        )
