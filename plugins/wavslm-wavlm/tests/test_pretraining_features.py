"""What is clustered lies where the encoder's frames are, and follows from the audio alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import melodies
import pytest
import torch

from wavslm_core.plugin import Encoder, RecipeError, load_registry
from wavslm_wavlm.config import WavLMConfig
from wavslm_wavlm.encoder import WavLM
from wavslm_wavlm.pretraining.features import Cepstra, HiddenStates


def hidden_states(encoder: Encoder[Any], *, layer: int | None, hop_samples: int = 320) -> HiddenStates:
    return HiddenStates(encoder, layer=layer, hop_samples=hop_samples, device=torch.device("cpu"))


CONVOLUTIONS = {
    "long": {},
    "published": {
        "hidden_dims": (8,) * 7,
        "kernel_sizes": (10, 3, 3, 3, 3, 2, 2),
        "strides": (5, 2, 2, 2, 2, 2, 2),
    },
    "short": {"kernel_sizes": (160, 1), "hidden_dims": (8, 8), "front_end_init": "random"},
}


@pytest.fixture
def wavlm() -> Callable[..., WavLM]:
    def make(**options: Any) -> WavLM:
        torch.manual_seed(0)
        return WavLM(WavLMConfig(**{**melodies.WAVLM, **options})).eval()

    return make


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_row_of_cepstra_is_of_what_a_frame_hears(wavlm: Callable[..., WavLM], name: str) -> None:
    options = CONVOLUTIONS[name]
    encoder = wavlm(**({**options, "front_end_init": "random"}))
    reach, hop = encoder.config.receptive_samples, encoder.config.hop_samples
    features = Cepstra(encoder, normalized=False)
    for samples in (1, 300, 1000, 16000, 16123):
        (rows_TF,) = features([torch.rand(samples) - 0.5])
        assert rows_TF.shape == (int(encoder.frame_lengths(torch.tensor(samples))), 39)
    wave_S = torch.zeros(16000)
    middle = 20 * hop + reach // 2
    wave_S[middle] = 1.0
    (rows_TF,) = features([wave_S])
    loudest = rows_TF[:, 0].argmax()
    heard_T = encoder.project(wave_S[None])[0] - encoder.project(torch.zeros(1, 16000))[0]
    changed = heard_T.detach().norm(dim=1).nonzero()[:, 0].tolist()
    assert loudest == 20
    assert changed[0] + changed[-1] == 40


def test_cepstra_of_a_crop_are_those_of_the_whole(wavlm: Callable[..., WavLM]) -> None:
    encoder = wavlm()
    features = Cepstra(encoder, normalized=False)
    wave_S = melodies.melody(1, 2.0)
    (whole_TF,), (crop_TF,) = features([wave_S]), features([wave_S[30 * 320 : 80 * 320]])
    inner = slice(6, -6)
    torch.testing.assert_close(crop_TF[inner], whole_TF[30 : 30 + len(crop_TF)][inner])


def test_normalized_cepstra_do_not_know_how_a_recording_was_made(wavlm: Callable[..., WavLM]) -> None:
    wave_S = melodies.melody(1, 2.0)
    features = Cepstra(wavlm(), normalized=True)
    (rows_TF,), (louder_TF,) = features([wave_S]), features([3 * wave_S])
    assert features.fingerprint != Cepstra(wavlm(), normalized=False).fingerprint
    assert rows_TF.mean(0).abs().max() < 1e-4
    torch.testing.assert_close(rows_TF.std(0, correction=0), torch.ones(39), atol=2e-2, rtol=0)
    torch.testing.assert_close(louder_TF, rows_TF, atol=2e-2, rtol=0)
    (one_TF,) = features([wave_S[:1]])
    assert one_TF.isfinite().all()


def test_hidden_states_are_those_of_the_layer_whatever_is_in_the_batch(wavlm: Callable[..., WavLM]) -> None:
    encoder = wavlm()
    waves = [melodies.melody(0, 0.5), melodies.melody(1, 1.0)]
    features = hidden_states(encoder, layer=1)
    for wave_S, rows_TF in zip(waves, features(waves), strict=True):
        torch.testing.assert_close(rows_TF, encoder.hidden_states(wave_S[None])[1][0], atol=1e-5, rtol=1e-5)
    (own,) = hidden_states(encoder, layer=None)(waves[:1])
    torch.testing.assert_close(own, encoder(waves[0][None])[0])
    assert features.fingerprint != hidden_states(encoder, layer=2).fingerprint
    encoder.norm.bias.data += 1
    assert features.fingerprint != hidden_states(wavlm(), layer=1).fingerprint


def test_encoders_that_cannot_teach_are_refused_by_name(wavlm: Callable[..., WavLM]) -> None:
    with pytest.raises(RecipeError, match=r"a frame every 320 samples at 16000 Hz, but .* every 640"):
        hidden_states(wavlm(), layer=None, hop_samples=640)
    with pytest.raises(RecipeError, match=r"targets.layer is 3, but what 'wavlm' gives has passed 2 layers"):
        hidden_states(wavlm(), layer=3)
    registry = load_registry()
    mel = registry.build(registry.entry("encoder", "mel").config_class(hop_samples=320, window_samples=640))
    with pytest.raises(RecipeError, match="'mel' gives has passed no layers"):
        hidden_states(mel, layer=1)
    (rows_TF,) = hidden_states(mel, layer=None)([melodies.melody(0, 0.5)])
    assert rows_TF.shape == (25, mel.config.facts().output_dim)
