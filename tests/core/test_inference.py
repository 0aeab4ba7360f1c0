"""Packed models score and generate like the originals, within what fewer bits allow."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wavslm_core.errors import WavslmError
from wavslm_core.inference import PACKERS, packed_copy
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm

RELATIVE_ERROR = {"fp32": 1e-5, "bf16": 2e-2, "int8": 3e-2}


@pytest.mark.parametrize("weights", PACKERS)
@pytest.mark.parametrize("rows", [1, 4, 33])
def test_a_packed_linear_is_the_linear(weights: str, rows: int) -> None:
    linear = nn.Linear(96, 64)
    packed = packed_copy(nn.Sequential(linear), weights=weights)
    x = torch.randn(2, rows, 96)
    with torch.inference_mode():
        expected, given = linear(x), packed(x)
    assert given.shape == expected.shape
    assert ((given - expected).norm() / expected.norm()).item() < RELATIVE_ERROR[weights]


@pytest.mark.parametrize("weights", PACKERS)
def test_a_packed_model_scores_alike_and_the_original_is_untouched(weights: str) -> None:
    model = fake_speech_lm(fake_codec())
    tokens = torch.randint(0, 32, (2, 24))
    before = model.log_probs(tokens)
    packed = model.for_inference(weights=weights)
    with torch.inference_mode():
        after = packed.log_probs(tokens)
    assert (after - before)[:, 4:].abs().max().item() < RELATIVE_ERROR[weights] * 10
    assert torch.equal(model.log_probs(tokens).nan_to_num(), before.nan_to_num())
    assert packed.generate(tokens, new_tokens=8).shape == (2, 8)


def test_unknown_weights() -> None:
    with pytest.raises(WavslmError, match="Did you mean 'int8'"):
        fake_codec().for_inference(weights="int4")
