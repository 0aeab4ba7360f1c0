from __future__ import annotations

import numpy as np
import pytest

from wavslm_tiny_speech.balance import clues_with
from wavslm_tiny_speech.espeak import Espeak
from wavslm_tiny_speech.recording import record
from wavslm_tiny_speech.takes import Samples, Take
from wavslm_tiny_speech.unigrams import CLUSTERINGS, CLUSTERS, Unigrams
from wavslm_tiny_speech.voices import voice


def tone(cycles: int, seconds: float, sample_rate_hz: int) -> Samples:
    """Return a tone (S,) that is the same in each frame of 20 ms."""
    frame = round(0.02 * sample_rate_hz)
    phase_S = cycles / frame * np.arange(round(seconds * sample_rate_hz))
    return np.round(8000 * np.sin(2 * np.pi * phase_S)).astype(np.int16)


@pytest.mark.parametrize("sample_rate_hz", [8000, 11025, 16000, 44100])
def test_what_comes_often_is_likely_and_frames_are_whole(sample_rate_hz: int) -> None:
    unigrams = Unigrams.of([tone(10, 4, sample_rate_hz), tone(50, 1, sample_rate_hz)], sample_rate_hz)
    often, rare = (unigrams.token_log_probs(tone(cycles, 1.01, sample_rate_hz)) for cycles in (10, 50))
    assert len(often) == len(rare) == 50
    assert often.mean() > rare.mean() + 1
    assert np.exp(unigrams.log_probs_K).sum() == pytest.approx(1)


def test_the_corpus_s_are_the_same_every_time_and_silence_is_likeliest() -> None:
    with Espeak() as espeak:
        several, same = (Unigrams.of_corpus(espeak, 16000) for _ in range(2))
        speech = record(espeak, "Oscar saw a shiny bucket.", voice(8, held_out=True), sample_rate_hz=16000)
    for one, again in zip(several, same, strict=True):
        assert one.centres_KB.shape == (CLUSTERS, 20)
        assert np.array_equal(one.centres_KB, again.centres_KB)
        assert np.array_equal(one.log_probs_K, again.log_probs_K)
        assert len({*one.log_probs_K}) > CLUSTERS / 4
    assert several[0].token_log_probs(np.zeros(320, np.int16)) == [several[0].log_probs_K.max()]
    assert len({one.centres_KB.tobytes() for one in several}) == CLUSTERINGS
    clues = clues_with(several)
    paused = np.pad(speech, (0, 8000))
    take = Take(paused, speech, 1000, ("", ""), {})
    told = {name: clues[name](take) for name in ("duration", "loudness", "unigrams", "unigrams in sum")}
    assert told == {"duration": 1, "loudness": -1, "unigrams": 1, "unigrams in sum": -1}
    for clue in clues.values():
        assert clue(Take(speech, paused, 1000, ("", ""), {})) == -clue(take)
        assert clue(Take(speech, speech, 1000, ("", ""), {})) == 0
