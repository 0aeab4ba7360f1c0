"""Corpus `tiny_speech`: speech that is made where it is needed, the first time it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wavslm_core.plugin import Corpus, DataError, Utterance
from wavslm_tiny_speech.config import TinySpeechConfig

if TYPE_CHECKING:
    from torch import Tensor

    from wavslm_tiny_speech.synthesis import Synthesised


class TinySpeech(Corpus):
    """Little stories told by synthetic voices; see `TinySpeechConfig`."""

    config: TinySpeechConfig

    def _split(self, name: str) -> Synthesised:
        from wavslm_tiny_speech.synthesis import synthesised

        if name not in ("train", "valid"):
            raise DataError(f"tiny_speech has no split '{name}'; its splits are train and valid")
        opened: dict[str, Synthesised] = self.__dict__.setdefault("_opened", {})
        if name not in opened:
            opened[name] = synthesised(
                self.config, "train" if name == "train" else "valid", cache_dir=self.cache_dir
            )
        return opened[name]

    def utterances(self, split: str) -> Sequence[Utterance]:
        return [
            Utterance(
                f"{split}-{number:06d}", line.samples, self.config.sample_rate_hz, line.voice, line.text
            )
            for number, line in enumerate(self._split(split).lines)
        ]

    def load(self, utterance: Utterance, *, sample_rate_hz: int) -> Tensor:
        return self.load_crop(
            utterance,
            start=0,
            samples=-(-utterance.samples * sample_rate_hz // utterance.sample_rate_hz),
            sample_rate_hz=sample_rate_hz,
        )

    def load_crop(self, utterance: Utterance, *, start: int, samples: int, sample_rate_hz: int) -> Tensor:
        import numpy as np
        import torch

        from wavslm_core.plugin import resample

        split, _, number = utterance.id.rpartition("-")
        opened = self._split(split)
        line = opened.lines[int(number)]
        first, last = line.start, line.start + line.samples
        if sample_rate_hz == self.config.sample_rate_hz:
            first, last = first + start, min(last, first + start + samples)
        waveform_S = torch.from_numpy(opened.audio[first:last].astype(np.float32) / 32768)
        if sample_rate_hz == self.config.sample_rate_hz:
            return waveform_S
        return resample(waveform_S, self.config.sample_rate_hz, sample_rate_hz)[start : start + samples]

    def fingerprint(self, split: str) -> dict[str, Any]:
        return {
            "corpus": "tiny_speech",
            "split": split,
            "minutes": self.config.minutes_of(split),
            "seed": self.config.seed,
            "sample_rate_hz": self.config.sample_rate_hz,
            "audio": self._split(split).digest,
        }
