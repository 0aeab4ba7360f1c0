"""Suites that are made where they are asked for, the first time: pairs in a cache folder, as WAVs.

Each pair begins alike up to a known sample and then goes on rightly or wrongly. The folder is whole or
absent, and holds `index.json` beside the recordings, so that one can look and listen.
"""

from __future__ import annotations

import re
import wave
from abc import abstractmethod
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeInt, PositiveInt

from wavslm_core.data.audio_source import AudioSource
from wavslm_core.data.suites import Pair, PairList, Suite
from wavslm_core.errors import PluginError
from wavslm_core.machine.files import write_json
from wavslm_core.machine.json_files import json_digest, parse_json
from wavslm_core.machine.locks import kept_folder
from wavslm_core.machine.regular_files import read_regular, size_of_regular
from wavslm_core.parts.configs import SuiteConfig

Samples = npt.NDArray[np.int16]
ConfigT = TypeVar("ConfigT", bound=SuiteConfig)
INDEX_FILE = "index.json"
MOST_BYTES = 1 << 28
"""Of the index: about 400 a pair."""
HEADER_BYTES = 44
"""Of a WAV."""
BANDS = 32
FRAME = 512
"""Samples of a spectrum; a frame begins at every half of it."""


@dataclass(frozen=True, eq=False)
class MadePair:
    """A pair: its right and its wrong recording, (S,) each, alike up to sample `split`."""

    id: str
    """Unique in its suite, and the beginning of its files' names."""
    item: str
    right: Samples
    wrong: Samples
    split: int
    groups: Mapping[str, str] = field(default_factory=dict)
    texts: tuple[str, str] = ("", "")


class MadeSuite(Suite[ConfigT], Generic[ConfigT]):
    """A suite that is made by its own class, from its config alone or from other data."""

    sample_rate_hz: int
    """Sampling rate of the recordings."""

    @abstractmethod
    def ingredients(self) -> Mapping[str, Any]:
        """Return JSON values: where any of them differs, the suite is made anew. Raises: DataError."""

    @abstractmethod
    def make(self, write: Callable[[MadePair], None]) -> str:
        """Write every pair, in a fixed order, and return what tables should say of the suite.

        The same ingredients give the same bytes. Raises: DataError.
        """

    def read(self) -> PairList:
        self.folder = self.cache_dir / f"{self.config.registered_name()}-{json_digest(self.ingredients())}"
        index = kept_folder(self.folder, _opened, self._make)
        pairs = [
            Pair(
                line.id,
                *_files(line.id),
                item=line.item,
                groups=line.groups,
                split_s=(line.split / self.sample_rate_hz, line.split / self.sample_rate_hz),
                texts=line.texts,
            )
            for line in index.lines
        ]
        return PairList(pairs, remark=index.remark)

    def source(self, name: str) -> AudioSource:
        return self.folder / name

    def _make(self, folder: Path) -> None:
        lines: list[_Line] = []

        def write(pair: MadePair) -> None:
            problem = _problem(pair, known=[line.id for line in lines])
            if problem:
                raise PluginError(
                    f"{type(self).__name__} of the suite '{self.config.registered_name()}' wrote the pair "
                    f"{pair.id!r}, {problem}"
                )
            for file, samples in zip(_files(pair.id), (pair.right, pair.wrong), strict=True):
                _write(folder / file, samples, self.sample_rate_hz)
            both = len(pair.right), len(pair.wrong)
            lines.append(_Line(pair.id, pair.item, pair.groups, int(pair.split), both, pair.texts))

        remark = self.make(write)
        write_json(folder / INDEX_FILE, asdict(_Index(remark, lines)))


@dataclass(frozen=True)
class _Line:
    """A pair, as the index has it; samples are counted."""

    id: str
    item: str
    groups: Mapping[str, str]
    split: NonNegativeInt
    samples: tuple[PositiveInt, PositiveInt]
    texts: tuple[str, str]


@dataclass(frozen=True)
class _Index:
    """What `index.json` holds."""

    remark: str
    lines: list[_Line]


def spectral_distance_db(samples: Samples, split: int) -> float:
    """Return how far the mean spectra before and after a place are apart, whatever their levels (RMS).

    What tells by this alone which recording is right needs no language model: a mark for one to pass.
    """
    before, after = (_band_levels_db(part) for part in (samples[:split], samples[split:]))
    difference = before - after
    return float(np.sqrt(np.mean((difference - difference.mean()) ** 2)))


def _band_levels_db(samples: Samples) -> npt.NDArray[np.float64]:
    """Return the mean power in bands of equal width, (bands,)."""
    padded = np.pad(samples.astype(np.float64) / 32768, (0, max(0, FRAME - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[:: FRAME // 2]
    power = (np.abs(np.fft.rfft(frames * np.hanning(FRAME))) ** 2).mean(axis=0)
    bands = power[1:].reshape(BANDS, -1).mean(axis=1)
    decibels: npt.NDArray[np.float64] = 10 * np.log10(bands + 1e-9)
    return decibels


def _problem(pair: MadePair, *, known: Container[str]) -> str:
    """Return what is wrong with a pair, and what is right; empty if nothing is."""
    if not re.fullmatch(r"[\w-][\w.-]*", pair.id):
        return "whose id names files: give letters, digits, dots, dashes and underscores"
    if pair.id in known:
        return "whose id another one has: give each its own"
    if not all(
        isinstance(text, str) for text in (pair.item, *pair.groups, *pair.groups.values(), *pair.texts)
    ):
        named = {"item": pair.item, "groups": dict(pair.groups), "texts": pair.texts}
        return f"with {named}: give strings"
    for samples in (pair.right, pair.wrong):
        if samples.dtype != np.int16 or samples.ndim != 1:
            return f"with samples {samples.dtype} {samples.shape}: give int16 (S,), such as 32767 * waveform"
        if not 0 <= pair.split < len(samples):
            return f"which splits at sample {pair.split} of {len(samples)}: let it split inside of both"
    if not np.array_equal(pair.right[: pair.split], pair.wrong[: pair.split]):
        return f"whose recordings differ before sample {pair.split}, where they split"
    return ""


def _files(pair: str) -> tuple[str, str]:
    return f"{pair}-right.wav", f"{pair}-wrong.wav"


def _write(file: Path, samples: Samples, sample_rate_hz: int) -> None:
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(sample_rate_hz)
        stream.writeframes(samples.astype("<i2").tobytes())


def _opened(folder: Path) -> _Index | None:
    """Return what a folder holds, or None when it is absent or damaged."""
    try:
        index = parse_json(read_regular(folder / INDEX_FILE, most_bytes=MOST_BYTES), _Index)
        whole = all(
            size_of_regular(folder / file) == HEADER_BYTES + 2 * samples
            for line in index.lines
            for file, samples in zip(_files(line.id), line.samples, strict=True)
        )
    except (OSError, ValueError):
        return None
    return index if whole else None
