"""Small copies of the suites, in every layout, of harmonic sounds that are made here."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from wavslm_suites.config import SALMON_TASKS
from wavslm_suites.zerospeech import LEXICAL, SYNTACTIC

RATES_HZ = (16_000, 22_050, 48_000)
VOICES = ("A", "B", "C", "D")
TIMBRES = (210, 1.0), (240, 0.4), (100, 1.0), (125, 0.4), (160, 0.7)
"""Pitch in Hz, and how fast harmonics fall."""
FREQUENCIES = ("0", "1", "4", "5", "19", "20", "99", "100", "3000", "0", "2", "0")


def sound(seed: int, seconds: float = 0.3, rate_hz: int = 16_000, channels: int = 1) -> np.ndarray:
    """Return gliding harmonics (S,channels) that no two seeds have in common."""
    rng = np.random.default_rng(seed)
    time_S = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch_hz = rng.uniform(90, 280) * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(1, 4) * time_S))
    phase_S = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    heard_S = sum(rng.uniform() * np.sin(n * phase_S) / n for n in range(1, 12))
    return np.repeat(0.3 * np.asarray(heard_S)[:, None], channels, axis=1)


def write_sound(path: Path, seed: int, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound(seed, **options), options.get("rate_hz", 16_000))


def write_gold(folder: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with (folder / "gold.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def zerospeech(root: Path, *, words: int = 12, sentences: int = 8) -> Path:
    """Make `lexical/dev` and `syntactic/dev`: each item in four voices, rates and channels mixed."""
    rng = np.random.default_rng(0)
    seed = 0
    lexical = []
    for item in range(words):
        for voice in VOICES:
            for correct in (1, 0):
                seed += 1
                name = f"w{seed:04d}"
                rate_hz = RATES_HZ[seed % 3]
                write_sound(
                    root / "lexical" / "dev" / f"{name}.wav", seed, rate_hz=rate_hz, channels=1 + seed % 2
                )
                word = f"word{item}" if correct else f"nonword{item}"
                frequency = FREQUENCIES[item % len(FREQUENCIES)] if correct else ""
                row = (item, name, voice, frequency, word, f"P{item} {correct}", 3 + item % 3, correct)
                lexical.append(row)
    order = rng.permutation(len(lexical))
    write_gold(root / "lexical" / "dev", LEXICAL, (lexical[place] for place in order))
    syntactic = []
    for item in range(sentences):
        kind, subtype = ("agreement", "binding", "npi")[item % 3], f"s{item % 2}"
        for voice in VOICES:
            pair = []
            for correct in (1, 0):
                seed += 1
                name = f"s{seed:04d}"
                write_sound(root / "syntactic" / "dev" / f"{name}.wav", seed, seconds=0.5)
                text = f'sentence {item}, "so"' if correct else f"so {item} sentence"
                pair.append((item, name, voice, kind, subtype, text, correct))
            syntactic += pair if rng.integers(2) else pair[::-1]
    write_gold(root / "syntactic" / "dev", SYNTACTIC, syntactic)
    return root


def salmon(root: Path, *, pairs: int = 3) -> Path:
    for place, task in enumerate(SALMON_TASKS):
        for number in range(pairs):
            for side in (0, 1):
                write_sound(root / task / f"sample_{number}_{side}.wav", 100 * place + 2 * number + side)
    return root


def slamkit(root: Path) -> Path:
    for place, (folder, splitter) in enumerate((("swuggy_inter", "_"), ("swuggy_oov", "_"), ("sblimp", "+"))):
        for voice in ("one", "two"):
            for number in range(4):
                name = f"{number + 8}{splitter}{voice}.wav"
                write_sound(root / folder / voice / name, 1000 * place + 10 * number + len(voice))
    return root


def stories(root: Path, *, count: int = 5) -> Path:
    for number in range(count):
        for side, label in enumerate(("correct", "incorrect")):
            write_sound(root / f"{2 * number + side}_story{number}_{label}.wav", 2 * number + side)
    return root


def prosaudit(root: Path) -> Path:
    folder, rows = root / "english" / "dev", []
    for number in range(6):
        write_sound(folder / f"p{number}.wav", number)
        rows.append((f"p{number}", number // 2, "lexical", number % 2))
    write_gold(folder, ("filename", "id", "task", "correct"), rows)
    return root


def pair_table(root: Path) -> Path:
    """Make a table of pairs of which some tell where they split."""
    lines = []
    for number in range(4):
        for side in (0, 1):
            write_sound(root / "audio" / f"{number}_{side}.flac", 2 * number + side, seconds=0.6)
        line: dict[str, Any] = {"positive": f"audio/{number}_0.flac", "negative": f"audio/{number}_1.flac"}
        line |= {
            "id": f"pair {number}",
            "item": f"item {number // 2}",
            "kind": "odd" if number % 2 else "even",
        }
        lines.append(line | ({"split": 0.3} if number < 2 else {}))
    (root / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return root / "pairs.jsonl"


def parquet(path: Path, columns: dict[str, list[int]]) -> None:
    """Write a table as the hub has it: column → seeds of its recordings."""
    import pyarrow
    import pyarrow.parquet

    def cell(seed: int) -> dict[str, object]:
        encoded = io.BytesIO()
        soundfile.write(encoded, sound(seed, seconds=0.2 + 0.1 * (seed % 3)), 16_000, format="WAV")
        return {"bytes": encoded.getvalue(), "path": f"{seed}.wav"}

    path.parent.mkdir(parents=True, exist_ok=True)
    table = {name: [cell(seed) for seed in seeds] for name, seeds in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(table), path)


def speech(root: Path, *, voices: str = "abcd", utterances: int = 5, rate_hz: int = 16_000) -> Path:
    """Make `speech/<speaker>-<n>.flac` of voices that are told apart by pitch and timbre, and `sexes.tsv`.

    Each utterance has three stretches of voice of 0.8 to 1.9 s with pauses of 0.3 s, its own loudness and
    noise; a and b are women, c and d men, and who else there is is not in the table.
    """
    for number, voice in enumerate(voices):
        pitch_hz, fall = TIMBRES[number % len(TIMBRES)]
        for utterance in range(utterances):
            rng = np.random.default_rng((ord(voice), utterance))
            pieces = [np.zeros(round(0.25 * rate_hz))]
            for _ in range(3):
                time_S = np.arange(round(rng.uniform(0.8, 1.9) * rate_hz)) / rate_hz
                glide = 1 + 0.2 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time_S + rng.uniform(0, 6))
                phase_S = 2 * np.pi * np.cumsum(pitch_hz * glide) / rate_hz
                heard_S = sum(rng.uniform(0.5, 1) * np.sin(n * phase_S) / n**fall for n in range(1, 16))
                pieces += [np.asarray(heard_S) / 16, np.zeros(round(0.3 * rate_hz))]
            waveform = np.concatenate(pieces) * rng.uniform(0.2, 1.0)
            waveform += 1e-4 * rng.standard_normal(len(waveform))
            (root / "speech").mkdir(parents=True, exist_ok=True)
            soundfile.write(root / "speech" / f"{voice}-{utterance}.flac", waveform, rate_hz)
    sexes = {"a": "F", "b": "female", "c": "M", "d": "m"}
    lines = [f"{voice}\t{sex}\n" for voice, sex in sexes.items() if voice in voices]
    (root / "sexes.tsv").write_text("speaker\tsex\n" + "".join(lines), encoding="utf-8")
    return root
