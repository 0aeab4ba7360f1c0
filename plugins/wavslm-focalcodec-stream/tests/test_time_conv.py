"""Time-major convolutions against PyTorch's own, and the ring against the whole sequence."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from wavslm_focalcodec_stream.scaling import DownScale, MergeFrames, SplitFrames
from wavslm_focalcodec_stream.time_conv import TimeConv


@pytest.mark.parametrize("kernel_size", [1, 6, 7, 64, 129])
@pytest.mark.parametrize("groups", [1, 8])
def test_offline_is_same_convolution(kernel_size: int, groups: int) -> None:
    conv = TimeConv(8, 8, kernel_size, groups=groups, causal=False)
    x = torch.randn(2, 90, 8)
    expected = F.conv1d(x.transpose(1, 2), conv.weight, conv.bias, padding="same", groups=groups)
    assert torch.allclose(conv(x), expected.transpose(1, 2), atol=1e-5)


@pytest.mark.parametrize("left_padding", ["replicate", "zeros"])
@pytest.mark.parametrize(("kernel_size", "groups"), [(1, 8), (7, 1), (7, 8), (100, 8)])
@pytest.mark.parametrize("frames", [1, 4, 20, 70])
def test_ring_equals_whole_sequence(left_padding: str, kernel_size: int, groups: int, frames: int) -> None:
    conv = TimeConv(8, 8, kernel_size, groups=groups, left_padding=left_padding)
    x = torch.randn(3, 560, 8)
    mode = "replicate" if left_padding == "replicate" else "constant"
    padded = F.pad(x.transpose(1, 2), (kernel_size - 1, 0), mode=mode)
    expected = F.conv1d(padded, conv.weight, conv.bias, groups=groups).transpose(1, 2)
    assert torch.allclose(conv(x), expected, atol=1e-5)
    state = conv.init_state(3)
    storage = state[0].data_ptr()
    outputs = []
    for piece in x.split(frames, dim=1):
        output, state = conv.step(piece, state)
        outputs.append(output)
        assert state[0].data_ptr() == storage  # the ring is written into, never copied
    assert torch.allclose(torch.cat(outputs, dim=1), expected, atol=1e-5)


def test_gradients_of_long_kernels_match_direct_convolution() -> None:
    with torch.enable_grad():
        conv = TimeConv(4, 4, 80, groups=4)
        x = torch.randn(2, 120, 4, requires_grad=True)
        grad = torch.randn(2, 120, 4)
        conv(x).backward(grad)
        ours = [x.grad.clone(), conv.weight.grad.clone(), conv.bias.grad.clone()]
        x.grad = conv.weight.grad = conv.bias.grad = None
        padded = F.pad(x.transpose(1, 2), (79, 0), mode="replicate")
        F.conv1d(padded, conv.weight, conv.bias, groups=4).transpose(1, 2).backward(grad)
    for actual, expected in zip(ours, [x.grad, conv.weight.grad, conv.bias.grad], strict=True):
        assert torch.allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_merging_and_splitting_are_strided_convolutions(factor: int) -> None:
    merge, split = MergeFrames(6, 5, factor), SplitFrames(5, 6, factor)
    x = torch.randn(2, 12, 6)
    merged = F.conv1d(x.transpose(1, 2), merge.weight, merge.bias, stride=factor)
    assert torch.allclose(merge(x), merged.transpose(1, 2), atol=1e-5)
    expected = F.conv_transpose1d(merged, split.weight, split.bias, stride=factor)
    assert torch.allclose(split(merged.transpose(1, 2)), expected.transpose(1, 2), atol=1e-5)


def test_downscale_completes_the_last_group_with_zeros() -> None:
    scale = DownScale(4, 4, 3)
    x = torch.randn(1, 7, 4)
    assert torch.allclose(scale(x), scale(F.pad(x, (0, 0, 0, 2))))
