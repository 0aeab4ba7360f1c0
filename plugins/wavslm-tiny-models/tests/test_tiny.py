"""The models that are shipped: found by name, small, as good as the card says, the same in a stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import wavslm_tiny_models
from wavslm_core.data.corpora import Split, open_split
from wavslm_core.evaluation.config import StoiConfig
from wavslm_core.evaluation.reconstruction import score_reconstruction
from wavslm_core.model.codec import Codec
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.configs import DataConfig
from wavslm_core.parts.plugins import load_registry
from wavslm_tiny_speech.config import TinySpeechConfig

FOLDER = Path(wavslm_tiny_models.__file__).parent
CHUNK = 1280
"""80 ms in samples."""
STOI = 0.813
"""Of a minute of unseen voices, as measured when the weights were packed."""
BITS = 7.001
"""Per token, of the same minute."""


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Split:
    data = DataConfig((("valid", TinySpeechConfig(valid_minutes=1.0)),))
    return open_split(data, "valid", cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.load("tiny")


@pytest.fixture(scope="module")
def speech_lm() -> SpeechLM:
    return SpeechLM.load("tiny")


def test_names_and_size() -> None:
    held = load_registry().checkpoints()
    assert {(model.name, model.kind, model.license) for model in held} >= {
        ("tiny", "codec", "Apache-2.0"),
        ("tiny", "speech_lm", "Apache-2.0"),
    }
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors")) <= 12e6


def test_its_score_is_that_of_the_card(codec: Codec, minute: Split) -> None:
    metrics = {"stoi": load_registry().build(StoiConfig())}
    scored = score_reconstruction(codec, minute, range(len(minute.utterances)), metrics)
    assert np.mean([rebuilt.scores["stoi"] for rebuilt, _ in scored]) == pytest.approx(STOI, abs=0.01)


def test_it_streams_as_it_does_offline(codec: Codec, minute: Split) -> None:
    waveform_1S = minute.load(0, sample_rate_hz=16000)[None]
    waveform_1S = waveform_1S[:, : waveform_1S.shape[1] // CHUNK * CHUNK]
    stream = codec.stream()
    tokens = [stream.encode(chunk_1S) for chunk_1S in waveform_1S.split(CHUNK, dim=1)]
    assert torch.equal(torch.cat(tokens, dim=1), codec.encode(waveform_1S))
    audio_1S = torch.cat([*(stream.decode(piece) for piece in tokens), stream.flush()], dim=1)
    delay = codec.facts.decoder.delay_samples
    assert torch.allclose(audio_1S[:, delay:], codec.decode(torch.cat(tokens, dim=1)), atol=1e-4)


def test_the_language_model_reads_the_codec_and_knows_what_the_card_says(
    speech_lm: SpeechLM, codec: Codec, minute: Split
) -> None:
    assert speech_lm.codec.fingerprint() == codec.fingerprint()
    scores = [
        speech_lm.score_speech(minute.load(index, sample_rate_hz=16000)[None], sample_rate=16000)
        for index in range(len(minute.utterances))
    ]
    nats = -sum(score.nats.item() for score in scores)
    tokens = sum(score.counts.item() for score in scores)
    assert nats / tokens / np.log(2) == pytest.approx(BITS, abs=0.05)


def test_it_speaks_on_live_as_it_does_offline(speech_lm: SpeechLM, minute: Split) -> None:
    prompt_1S = minute.load(0, sample_rate_hz=16000)[None, : 25 * CHUNK]
    spoken_1S = speech_lm.continue_speech(prompt_1S, sample_rate=16000, seconds=2.0, seed=3)
    assert 0.01 < spoken_1S.square().mean().sqrt().item() < 0.5
    session = speech_lm.session()
    caller = session.join(seed=3)
    session.hear(prompt_1S, [caller])
    live = [session.speak([caller])[0] for _ in range(25)]
    live_S = torch.cat([*live, session.leave(caller)])[: spoken_1S.shape[1]]
    assert torch.allclose(live_S, spoken_1S[0, : len(live_S)], atol=1e-4)
