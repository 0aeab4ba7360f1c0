"""Packed models score and generate like the originals, within what fewer bits allow."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wavslm_core import SpeechLM
from wavslm_core.errors import CheckpointError, WavslmError
from wavslm_core.parts.packing import PACKERS, LinearGelu, packed_copy
from wavslm_core.parts.streaming import CausalConv1d, Padding
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


@pytest.mark.parametrize(("activations", "limit"), [("of_one_sign", 3e-2), ("with_outliers", 4e-2)])
def test_int8_products_do_not_overflow_and_outliers_do_not_drown_the_rest(
    activations: str, limit: float
) -> None:
    """Of one sign, full products in 16 bits would give half of the sum; 7-bit activations err by 5e-2."""
    torch.manual_seed(0)
    linear = nn.Linear(1024, 64)
    x = torch.randn(4, 1024)
    if activations == "of_one_sign":
        nn.init.ones_(linear.weight)
        x = torch.full((4, 1024), 5.0)
        x[:, 0] = -0.001
    else:
        x[:, ::97] *= 8
    with torch.inference_mode():
        given = packed_copy(nn.Sequential(linear), weights="int8")(x)
        expected = linear.double()(x.double())
    assert ((given - expected).norm() / expected.norm()).item() < limit


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


@pytest.mark.parametrize("weights", PACKERS)
def test_gelu_is_part_of_the_packed_linear(weights: str) -> None:
    linear = LinearGelu(96, 64)
    packed = packed_copy(nn.Sequential(linear), weights=weights)
    x = torch.randn(5, 96)
    with torch.inference_mode():
        expected, given = F.gelu(F.linear(x, linear.weight, linear.bias)), packed(x)
        assert torch.equal(linear(x), expected)
    assert ((given - expected).norm() / expected.norm()).item() < RELATIVE_ERROR[weights]
    if weights == "fp32":
        # Exact to rounding: the tanh approximation would be off by 1e-4 and more.
        torch.testing.assert_close(given, expected, atol=1e-6, rtol=0.0)


def test_finer_weights() -> None:
    assert [pack.finer.weights for pack in PACKERS.values()] == ["fp32", "fp32", "bf16"]


@pytest.mark.parametrize("weights", [None, *PACKERS])
@pytest.mark.parametrize("left_padding", ["replicate", "zeros"])
@pytest.mark.parametrize(("kernel_size", "groups"), [(1, 1), (7, 1), (20, 2), (20, 32), (9, 64)])
@pytest.mark.parametrize("frames", [1, 4, 40])
def test_causal_convolution_steps_equal_the_sum(
    weights: str | None, left_padding: Padding, kernel_size: int, groups: int, frames: int
) -> None:
    conv = CausalConv1d(64, 64, kernel_size, groups=groups, left_padding=left_padding)
    x = torch.randn(2, 120, 64)
    mode = "constant" if left_padding == "zeros" else "replicate"
    padded = F.pad(x.mT, (kernel_size - 1, 0), mode=mode)
    expected = F.conv1d(padded, conv.weight, conv.bias, groups=groups).mT
    module = conv if weights is None else packed_copy(conv, weights=weights)
    state = module.init_state(2)
    place = state[0].data_ptr()
    outputs = []
    with torch.inference_mode():
        for piece in x.split(frames, dim=1):
            output, state = module.step(piece, state)
            outputs.append(output)
            assert state[0].data_ptr() == place
        for given in (torch.cat(outputs, dim=1), module(x)):
            error = (given - expected).norm() / expected.norm()
            assert error.item() < RELATIVE_ERROR[weights or "fp32"]


@pytest.mark.parametrize("weights", PACKERS)
@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_packed_models_can_be_copied_and_pickled(weights: str, again: Callable[[SpeechLM], SpeechLM]) -> None:
    packed = fake_speech_lm(fake_codec()).for_inference(weights=weights)
    copied = again(packed)
    tokens = torch.randint(0, 32, (2, 24))
    with torch.inference_mode():
        assert torch.equal(copied.log_probs(tokens).nan_to_num(), packed.log_probs(tokens).nan_to_num())
    assert torch.equal(copied.codec.encode(torch.ones(1, 1280)), packed.codec.encode(torch.ones(1, 1280)))
    for model in (copied, copied.codec):
        with pytest.raises(CheckpointError, match="packed by for_inference"):
            model.save("nowhere")


def test_a_packed_model_is_not_packed_once_more() -> None:
    packed = fake_codec().for_inference(weights="fp32")
    with pytest.raises(WavslmError, match="packed as fp32 already; pack the one that it was made from"):
        packed.for_inference(weights="int8")


def test_unknown_weights() -> None:
    with pytest.raises(WavslmError, match="Did you mean 'int8'"):
        fake_codec().for_inference(weights="int4")
