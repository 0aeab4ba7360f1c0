"""A whole split, synthesised into a cache folder: one flat file of 16-bit samples and an index.

Utterance i is a pure function of (seed, split, i, voices): longer splits continue shorter ones. The folder
is written beside its place and renamed, so it is whole or absent; one process at a time makes it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeInt, PositiveInt

from wavslm_core.plugin import (
    json_digest,
    kept_folder,
    parse_json,
    progress_bar,
    read_regular,
    size_of_regular,
)
from wavslm_tiny_speech.cache import generator_digest
from wavslm_tiny_speech.config import TinySpeechConfig
from wavslm_tiny_speech.espeak import Espeak
from wavslm_tiny_speech.recording import record
from wavslm_tiny_speech.stories import tell
from wavslm_tiny_speech.voices import Voice, voice

SplitName = Literal["train", "valid"]

AUDIO_FILE = "audio.i16"
INDEX_FILE = "index.json"
MOST_BYTES = 1 << 30
"""Of the index: about 150 an utterance."""
SOURCES = ("words.py", "stories.py", "voices.py", "espeak.py", "recording.py", "synthesis.py")


@dataclass(frozen=True)
class Line:
    """One utterance of a split."""

    start: NonNegativeInt
    samples: PositiveInt
    voice: str
    text: str


@dataclass(frozen=True)
class _Index:
    """What `index.json` holds."""

    digest: str
    lines: list[Line]


@dataclass(frozen=True)
class Synthesised:
    """An opened cache folder."""

    folder: Path
    digest: str
    """Changes whenever any sample does."""
    lines: list[Line]
    audio: npt.NDArray[np.int16]


def script(config: TinySpeechConfig, split: SplitName, number: int) -> tuple[str, Voice]:
    """Return what utterance `number` says and in which voice."""
    held_out = split == "valid"
    random = Random(f"{config.seed}/{split}/{number}")
    count = config.valid_voices if held_out else config.voices
    return tell(random, held_out=held_out), voice(random.randrange(count), held_out=held_out)


def request(config: TinySpeechConfig, split: SplitName) -> dict[str, Any]:
    """Return everything that decides how a split sounds, as JSON values."""
    return {
        "split": split,
        "minutes": config.minutes_of(split),
        "voices": config.valid_voices if split == "valid" else config.voices,
        "sample_rate_hz": config.sample_rate_hz,
        "seed": config.seed,
        "generator": generator_digest(SOURCES),
    }


def synthesised(config: TinySpeechConfig, split: SplitName, *, cache_dir: Path) -> Synthesised:
    """Open a split, making it first where the cache does not hold it. Raises: DataError."""
    wanted = request(config, split)
    folder = cache_dir / f"tiny_speech-{split}-{json_digest(wanted)}"
    return kept_folder(folder, _open, lambda beside: _make(config, split, beside))


def _open(folder: Path) -> Synthesised | None:
    """Open a cache folder, or return None when it is absent or damaged."""
    try:
        index = parse_json(read_regular(folder / INDEX_FILE, most_bytes=MOST_BYTES), _Index)
        total = size_of_regular(folder / AUDIO_FILE) // 2
        ends = [0, *(line.start + line.samples for line in index.lines)]
        if total == 0 or [line.start for line in index.lines] != ends[:-1] or ends[-1] != total:
            return None
        audio = np.memmap(folder / AUDIO_FILE, "<i2", mode="r", shape=(total,))
    except (OSError, ValueError):
        return None
    return Synthesised(folder, index.digest, index.lines, audio)


def _make(config: TinySpeechConfig, split: SplitName, folder: Path) -> None:
    lines, digest = _speak(config, split, folder / AUDIO_FILE)
    index = {"digest": digest, "lines": [asdict(line) for line in lines]}
    (folder / INDEX_FILE).write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")


def _speak(config: TinySpeechConfig, split: SplitName, file: Path) -> tuple[list[Line], str]:
    """Write utterances until there are enough; return their index and the digest of the samples."""
    wanted = round(60 * config.minutes_of(split) * config.sample_rate_hz)
    lines: list[Line] = []
    digest = hashlib.sha256()
    start = 0
    with (
        Espeak() as espeak,
        file.open("wb") as stream,
        progress_bar(
            f"Synthesising {split}", total=wanted / config.sample_rate_hz, unit="s speech"
        ) as advance,
    ):
        while start < wanted:
            text, speaker = script(config, split, len(lines))
            samples = record(espeak, text, speaker, sample_rate_hz=config.sample_rate_hz)
            encoded = samples.astype("<i2").tobytes()
            stream.write(encoded)
            digest.update(encoded)
            lines.append(Line(start, len(samples), speaker.id, text))
            start += len(samples)
            advance(len(samples) / config.sample_rate_hz)
    return lines, digest.hexdigest()[:16]
