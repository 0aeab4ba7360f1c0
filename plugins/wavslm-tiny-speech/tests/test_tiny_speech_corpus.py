from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from wavslm_core.errors import DataError
from wavslm_core.parts.plugins import load_registry
from wavslm_tiny_speech.config import TinySpeechConfig
from wavslm_tiny_speech.corpus import TinySpeech
from wavslm_tiny_speech.espeak import SAMPLE_RATE_HZ, Espeak
from wavslm_tiny_speech.recording import HIGHEST_PEAK, LEVEL_DBFS, trim
from wavslm_tiny_speech.synthesis import AUDIO_FILE
from wavslm_tiny_speech.voices import ACCENTS, TRAIN_TIMBRES, VALID_TIMBRES, Voice

TEXT = "One morning Lily found a red kite in the garden. She gave it to Tom."


def corpus(cache: Path, **options: Any) -> TinySpeech:
    config = TinySpeechConfig(**({"minutes": 1.0, "valid_minutes": 0.5} | options))
    return TinySpeech(config, cache_dir=cache)


def all_samples(opened: TinySpeech, split: str) -> bytes:
    return opened._split(split).audio.tobytes()


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> TinySpeech:
    return corpus(tmp_path_factory.mktemp("cache"))


def test_it_is_registered() -> None:
    entry = load_registry().entry("corpus", "tiny_speech")
    assert entry.load() is TinySpeech
    assert TinySpeechConfig(valid_minutes=2).expected_seconds("valid") == 120


def test_it_sounds_like_speech(minute: TinySpeech) -> None:
    utterances = minute.utterances("train")
    assert 60 <= sum(utterance.seconds for utterance in utterances) < 75
    for utterance in utterances:
        waveform = minute.load(utterance, sample_rate_hz=16000).numpy()
        assert len(waveform) == utterance.samples
        assert 3 < utterance.seconds < 14
        assert np.isfinite(waveform).all()
        assert np.abs(waveform).max() <= HIGHEST_PEAK + 1e-3
        assert 20 * np.log10(np.sqrt(np.mean(waveform**2))) == pytest.approx(LEVEL_DBFS, abs=0.5)
        frames = waveform[: len(waveform) // 400 * 400].reshape(-1, 400)
        loud = (frames**2).mean(axis=1) > 10 ** (-50 / 10)
        assert 0.5 < loud.mean() < 0.98
        spectrum = (np.abs(np.fft.rfft(frames[loud] * np.hanning(400))) ** 2).mean(axis=0)
        # Most of the power of speech lies below 4 kHz, not all of it below 300 Hz.
        assert spectrum[100:].sum() < 0.35 * spectrum.sum()
        assert spectrum[8:].sum() > 0.15 * spectrum.sum()


def test_transcripts_and_speakers_are_kept(minute: TinySpeech) -> None:
    for utterance in minute.utterances("valid"):
        assert utterance.speaker is not None
        # Between two and five words a second, pauses included.
        assert 2 < len(utterance.text.split()) / utterance.seconds < 5
    train = {utterance.speaker for utterance in minute.utterances("train")}
    assert train.isdisjoint(utterance.speaker for utterance in minute.utterances("valid"))


def test_crops_and_other_rates(minute: TinySpeech) -> None:
    utterance = minute.utterances("train")[0]
    whole = minute.load(utterance, sample_rate_hz=16000)
    crop = minute.load_crop(utterance, start=4000, samples=1000, sample_rate_hz=16000)
    assert torch.equal(crop, whole[4000:5000])
    last = minute.load_crop(utterance, start=len(whole) - 10, samples=1000, sample_rate_hz=16000)
    assert torch.equal(last, whole[-10:])
    faster = minute.load(utterance, sample_rate_hz=24000)
    assert len(faster) == -(-len(whole) * 24000 // 16000)
    crop = minute.load_crop(utterance, start=4000, samples=1000, sample_rate_hz=24000)
    assert torch.equal(crop, faster[4000:5000])


def test_more_minutes_continue_where_fewer_end(minute: TinySpeech, tmp_path: Path) -> None:
    longer = corpus(tmp_path, minutes=1.5)
    short, long = all_samples(minute, "train"), all_samples(longer, "train")
    assert len(long) > len(short)
    assert long[: len(short)] == short
    assert longer.utterances("train")[: len(minute.utterances("train"))] == minute.utterances("train")
    assert longer.fingerprint("train") != minute.fingerprint("train")


@pytest.mark.slow
def test_another_process_makes_the_same_bytes(minute: TinySpeech, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from wavslm_tiny_speech.config import TinySpeechConfig\n"
        "from wavslm_tiny_speech.corpus import TinySpeech\n"
        "config = TinySpeechConfig(minutes=1.0, valid_minutes=0.5)\n"
        "TinySpeech(config, cache_dir=Path(sys.argv[1])).utterances('train')"
    )
    environment = os.environ | {"PYTHONHASHSEED": "17"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, env=environment)
    (folder,) = tmp_path.glob("tiny_speech-*")
    assert (folder / AUDIO_FILE).read_bytes() == all_samples(minute, "train")


def test_seeds_tell_other_stories(minute: TinySpeech, tmp_path: Path) -> None:
    other = corpus(tmp_path, seed=1)
    assert {u.text for u in other.utterances("valid")}.isdisjoint(u.text for u in minute.utterances("valid"))
    assert other.fingerprint("valid")["audio"] != minute.fingerprint("valid")["audio"]


def test_a_cache_is_used_again_and_a_damaged_one_made_again(tmp_path: Path) -> None:
    first = corpus(tmp_path, valid_minutes=0.2)
    samples = all_samples(first, "valid")
    (folder,) = tmp_path.glob("tiny_speech-*")
    made = (folder / AUDIO_FILE).stat().st_mtime_ns
    assert all_samples(corpus(tmp_path, valid_minutes=0.2), "valid") == samples
    assert (folder / AUDIO_FILE).stat().st_mtime_ns == made
    (folder / AUDIO_FILE).write_bytes(samples[:1000])
    assert all_samples(corpus(tmp_path, valid_minutes=0.2), "valid") == samples
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, f".{folder.name}.lock"}


@pytest.mark.slow
def test_what_a_killed_synthesis_left_is_removed_by_the_next(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from wavslm_tiny_speech import synthesis\n"
        "from wavslm_tiny_speech.config import TinySpeechConfig\n"
        "first = synthesis.record\n"
        "def dying(*arguments, **options):\n"
        "    synthesis.record = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return first(*arguments, **options)\n"
        "synthesis.record = dying\n"
        "synthesis.synthesised(TinySpeechConfig(valid_minutes=1), 'valid', cache_dir=Path(sys.argv[1]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)])
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".writing-*/*"))) == 1
    # Another split too: whoever writes next in the cache.
    all_samples(corpus(tmp_path, minutes=0.1), "train")
    (folder,) = tmp_path.glob("tiny_speech-train-*")
    assert not list(tmp_path.glob(".writing-*"))
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE((folder / AUDIO_FILE).stat().st_mode) | 0o111


def test_what_was_said_before_changes_nothing() -> None:
    voices = [Voice(ACCENTS[i % len(ACCENTS)], TRAIN_TIMBRES[i], 50, 50, 170) for i in range(0, 24, 3)]
    with Espeak() as espeak:
        forwards = [espeak.speak(TEXT, item).tobytes() for item in voices]
        backwards = [espeak.speak(TEXT, item).tobytes() for item in reversed(voices)]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == len(voices)


def test_every_voice_speaks_without_clipping() -> None:
    with Espeak() as espeak:
        for number, timbre in enumerate(TRAIN_TIMBRES + VALID_TIMBRES):
            samples = espeak.speak(TEXT, Voice(ACCENTS[number % len(ACCENTS)], timbre, 50, 50, 170))
            assert 2.5 < len(samples) / SAMPLE_RATE_HZ < 6, timbre
            magnitude = np.abs(samples.astype(np.int32))
            assert magnitude.max() > 3000, timbre
            assert (magnitude >= 32767).mean() < 1e-4, timbre


def test_an_unknown_voice_is_refused() -> None:
    with Espeak() as espeak, pytest.raises(DataError, match=r"refused voice 'xx-nowhere\+m1'"):
        espeak.speak(TEXT, Voice("xx-nowhere", "m1", 50, 50, 170))


def test_silence_is_trimmed_at_the_ends_only() -> None:
    waveform = np.zeros(SAMPLE_RATE_HZ * 3, np.float32)
    waveform[SAMPLE_RATE_HZ] = waveform[2 * SAMPLE_RATE_HZ] = 0.5
    assert len(trim(waveform)) == pytest.approx(SAMPLE_RATE_HZ * 1.12, abs=3)
    assert len(trim(np.zeros(100, np.float32))) == 100


def test_what_a_user_can_get_wrong(minute: TinySpeech) -> None:
    with pytest.raises(DataError, match="no split 'test'; its splits are train and valid"):
        minute.utterances("test")
    with pytest.raises(ValidationError, match="minutes"):
        TinySpeechConfig(minutes=0)
