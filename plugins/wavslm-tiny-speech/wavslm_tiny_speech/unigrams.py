"""How common the sounds of a recording are, whatever their order: unigrams over clusters of spectra.

A language model that knew nothing but how often each token comes would score by this. It is learnt from the
first utterances of the corpus, always the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wavslm_tiny_speech.config import TinySpeechConfig
from wavslm_tiny_speech.espeak import Espeak
from wavslm_tiny_speech.recording import record
from wavslm_tiny_speech.synthesis import script
from wavslm_tiny_speech.takes import Samples

Doubles = npt.NDArray[np.float64]
UTTERANCES = 16
"""Of training, from the first on."""
CLUSTERS = 64
ITERATIONS = 10
FRAME_SECONDS = 0.02
BANDS = 20
CLUSTERINGS = 8
"""Each begins with other frames; two of them agree on little more than half of pairs that are close."""
FAINTEST = 1e-7
"""Power of a band that is silence: a little above the noise of 16 bits."""


@dataclass(frozen=True)
class Unigrams:
    """Clusters of log spectra, each a token, and how likely each is."""

    frame: int
    """Samples of a token."""
    centres_KB: Doubles
    """In decibels."""
    log_probs_K: Doubles
    """In nats."""

    @classmethod
    def of_corpus(cls, espeak: Espeak, sample_rate_hz: int) -> list[Unigrams]:
        """Return several unigrams of the first `UTTERANCES` of training, by other clusters each.

        The same in every suite, so a process finds them once.
        """
        if sample_rate_hz in _OF_CORPUS:
            return _OF_CORPUS[sample_rate_hz]
        config = TinySpeechConfig(sample_rate_hz=sample_rate_hz)
        told = [script(config, "train", number) for number in range(UTTERANCES)]
        waveforms = [record(espeak, text, voice, sample_rate_hz=sample_rate_hz) for text, voice in told]
        found = [cls.of(waveforms, sample_rate_hz, seed=1 + number) for number in range(CLUSTERINGS)]
        return _OF_CORPUS.setdefault(sample_rate_hz, found)

    @classmethod
    def of(cls, waveforms: Iterable[Samples], sample_rate_hz: int, *, seed: int = 1) -> Unigrams:
        """Return the unigrams of waveforms, (S,) each: k-means, and counts with one added to each."""
        frame = round(FRAME_SECONDS * sample_rate_hz)
        levels_TB = np.concatenate([_band_levels_db(samples, frame) for samples in waveforms])
        # Drawn from all frames, not from distinct ones: silence, one in eight, needs a cluster of its own.
        centres_KB = np.random.default_rng(seed).permutation(levels_TB)[:CLUSTERS]
        for _ in range(ITERATIONS):
            tokens_T = _nearest(levels_TB, centres_KB)
            centres_KB = np.stack(
                [
                    levels_TB[tokens_T == token].mean(axis=0) if (tokens_T == token).any() else centre_B
                    for token, centre_B in enumerate(centres_KB)
                ]
            )
        counts_K = 1 + np.bincount(_nearest(levels_TB, centres_KB), minlength=len(centres_KB))
        return cls(frame, centres_KB, np.log(counts_K / counts_K.sum()))

    def token_log_probs(self, samples: Samples) -> Doubles:
        """Return the log probability of each whole frame of a waveform (S,) in nats, (S // frame,)."""
        log_probs_T: Doubles = self.log_probs_K[
            _nearest(_band_levels_db(samples, self.frame), self.centres_KB)
        ]
        return log_probs_T


_OF_CORPUS: dict[int, list[Unigrams]] = {}


def _band_levels_db(samples: Samples, frame: int) -> Doubles:
    """Return the power of each whole frame in bands of equal width, (frames, BANDS)."""
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame) / 32768
    power = np.abs(np.fft.rfft(frames * np.hanning(frame))[:, 1:]) ** 2
    edges = np.linspace(0, power.shape[1], BANDS + 1).astype(int)
    bands = np.add.reduceat(power, edges[:-1], axis=1) / np.diff(edges)
    levels: Doubles = 10 * np.log10(bands + FAINTEST)
    return levels


def _nearest(levels_TB: Doubles, centres_KB: Doubles) -> npt.NDArray[np.int64]:
    """Return the cluster of each frame, (T,)."""
    distances_TK = (centres_KB**2).sum(axis=1) - 2 * levels_TB @ centres_KB.T
    tokens_T: npt.NDArray[np.int64] = distances_TK.argmin(axis=1)
    return tokens_T
