"""The codec that is shipped: found by name, small, as good as the card says, the same in a stream."""

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
from wavslm_core.parts.configs import DataConfig
from wavslm_core.parts.plugins import load_registry
from wavslm_tiny_speech.config import TinySpeechConfig

FOLDER = Path(wavslm_tiny_models.__file__).parent
CHUNK = 1280
"""80 ms in samples."""
STOI = 0.755
"""Of a minute of unseen voices, as measured when the weights were packed."""


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Split:
    data = DataConfig((("valid", TinySpeechConfig(valid_minutes=1.0)),))
    return open_split(data, "valid", cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.load("tiny")


def test_names_and_size() -> None:
    found = load_registry().checkpoint("tiny", "codec")
    assert found is not None
    assert found.license == "Apache-2.0"
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
