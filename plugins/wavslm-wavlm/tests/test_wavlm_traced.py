"""Graphs that torch makes of a language model over WavLM layers give what the model gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.export import Dim, export

from wavslm_core import SpeechLM
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm
from wavslm_wavlm.backbone import WavLMUpper
from wavslm_wavlm.config import WavLMUpperConfig


@pytest.fixture(scope="module")
def model() -> SpeechLM:
    torch.manual_seed(0)
    codec = fake_codec()
    backbone = WavLMUpper(
        WavLMUpperConfig(
            input_dim=16,
            vocab_size=32,
            dim=16,
            ffn_dim=32,
            num_layers=1,
            num_heads=2,
            window_size=12,
            lookahead_size=3,
        )
    )
    speech_lm = fake_speech_lm(codec)
    return SpeechLM(codec, backbone, speech_lm.head, speech_lm.sampler).eval()


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(0, 32, (2, 30), generator=torch.Generator().manual_seed(0))


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5, equal_nan=True)


@pytest.mark.slow
def test_a_compiled_model_scores_and_learns_as_it_does_uncompiled(model: SpeechLM, tokens: Tensor) -> None:
    # Nothing is left out of the graph; inductor, which takes minutes, would add only its kernels.
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    lengths = torch.tensor([30, 18])
    gradients, scores = [], []
    for called in (model, compiled):
        model.zero_grad()
        scores.append(called(tokens, lengths=lengths))
        scores[-1].nansum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert_same(scores[1], scores[0])
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_an_exported_model_scores_every_batch_and_length(model: SpeechLM, tokens: Tensor) -> None:
    any_shape = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC},)
    with torch.no_grad():
        exported = export(model, (tokens,), dynamic_shapes=any_shape).module()
        for given in (tokens, tokens[:1, :17], tokens.repeat(2, 3)):
            assert_same(exported(given), model(given))


def test_compiled_steps_are_the_steps(model: SpeechLM, tokens: Tensor) -> None:
    step = torch.compile(model.backbone.step, backend="eager")
    state, expected_state = (model.backbone.init_state(2) for _ in range(2))
    # The ring comes round once: a window is three chunks.
    for features_BTD in model.inputs(tokens[:, :16]).split(4, dim=1):
        found, state = step(features_BTD, state)
        expected, expected_state = model.backbone.step(features_BTD, expected_state)
        assert_same(found, expected)
