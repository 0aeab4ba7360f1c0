"""Speech to text, offline: pocketsphinx with the model in its wheel, or faster-whisper with a local one."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from wavslm_core.plugin import WavslmError, resample
from wavslm_judges.config import WordErrorConfig

RATE_HZ = 16_000


class Recogniser(ABC):
    """Hears English."""

    @abstractmethod
    def hear(self, waveform_S: Tensor, *, sample_rate_hz: int) -> str:
        """Return what was said; empty when nothing was understood. A function of its arguments alone."""


class Pocketsphinx(Recogniser):
    """A hidden Markov model with n-grams: small, deterministic, easily confused."""

    def __init__(self, config: WordErrorConfig) -> None:
        self._library = _library("pocketsphinx", "pip install 'wavslm-judges[pocketsphinx]'")
        self._options: dict[str, Any] = {"samprate": float(RATE_HZ), "loglevel": "FATAL"}
        if config.model is not None:
            self._options["hmm"] = str(_existing(config.model, "model"))
        with TemporaryDirectory() as folder:
            if config.language_model is not None:
                sentences = _existing(config.language_model, "language_model").read_text(encoding="utf-8")
                self._options["lm"] = self._write_model(sentences, Path(folder) / "sentences.lm")
            self._decoder = self._library.Decoder(**self._options)

    def hear(self, waveform_S: Tensor, *, sample_rate_hz: int) -> str:
        samples = (_samples(waveform_S, sample_rate_hz) * 32767).astype(np.int16)
        # The front end tracks noise and cepstral means from one utterance to the next: start it afresh.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return "" if found is None else str(found.hypstr)

    def _write_model(self, sentences: str, path: Path) -> str:
        """Write a trigram model of the sentences. Raises: WavslmError when they hold no words."""
        lines = [" ".join(words_of(line)) for line in sentences.splitlines()]
        text = "\n".join(line for line in lines if line)
        if not text:
            raise WavslmError(
                "word_error: the file of `language_model` has no words. Give sentences, one a line."
            )
        model = import_module("pocketsphinx.lm").ArpaBoLM(text=text, add_start=True)
        model.compute()
        model.write_file(str(path))
        return str(path)


class FasterWhisper(Recogniser):
    """Whisper by CTranslate2, greedy, from a folder on this machine."""

    def __init__(self, config: WordErrorConfig) -> None:
        library = _library("faster_whisper", "pip install 'wavslm-judges[whisper]'")
        folder = _existing(str(config.model), "model")
        self._model = library.WhisperModel(str(folder), device="auto", compute_type="default")

    def hear(self, waveform_S: Tensor, *, sample_rate_hz: int) -> str:
        segments, _ = self._model.transcribe(
            _samples(waveform_S, sample_rate_hz),
            language="en",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments)


def recogniser_for(config: WordErrorConfig) -> Recogniser:
    """Return the recogniser of a config. Raises: WavslmError when it or its files are not there."""
    return {"pocketsphinx": Pocketsphinx, "faster_whisper": FasterWhisper}[config.recogniser](config)


def _library(name: str, command: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise WavslmError(
            f"the metric 'word_error' needs {name}, which is not installed. "
            f"Install it with: {command}, or leave 'word_error' out of `metrics`"
        ) from None


def _existing(path: str, option: str) -> Path:
    found = Path(path).expanduser()
    if not found.exists():
        raise WavslmError(f"word_error: {option} is '{path}', which does not exist. Correct the path.")
    return found


def _samples(waveform_S: Tensor, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Return (S,) float32 in [-1, 1] at 16 kHz."""
    samples: npt.NDArray[np.float32] = (
        resample(waveform_S.detach().float().cpu(), sample_rate_hz, RATE_HZ).clamp(-1, 1).numpy()
    )
    return samples


def words_of(text: str) -> list[str]:
    """Return the words in lower case, without punctuation; apostrophes inside words stay."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("\u2019", "'"))


def edits(wanted: Sequence[str], heard: Sequence[str]) -> int:
    """Return the fewest substitutions, deletions and insertions from one to the other."""
    row = list(range(len(heard) + 1))
    for place, word in enumerate(wanted, start=1):
        diagonal, row[0] = row[0], place
        for column, other in enumerate(heard, start=1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (word != other)),
            )
    return row[-1]
