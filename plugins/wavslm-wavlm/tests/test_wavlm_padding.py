"""Padding never changes a result: items of a batch equal the same items alone, in every style."""

from __future__ import annotations

import pytest
import torch

from wavslm_wavlm.backbone import WavLMUpper
from wavslm_wavlm.config import WavLMConfig, WavLMUpperConfig
from wavslm_wavlm.encoder import WavLM

SMALL = {"dim": 32, "ffn_dim": 48, "num_heads": 4, "num_buckets": 20, "max_distance": 40, "num_layers": 3}
STYLES: dict[str, dict[str, object]] = {
    "causal": {"causal": True, "window_size": 12},
    "full": {},
    "base": {"layer_norm_first": False, "front_end_norm": "group"},
    "large": {"final_norm": True, "normalize_waveform": True, "conv_bias": True},
}
LENGTHS = [16000, 9777, 12345, 500, 130, 16000 - 321]
"""130 samples are fewer than the front end's kernels span."""


@pytest.mark.parametrize("style", STYLES)
@torch.no_grad()
def test_encoder_items_equal_items_alone(style: str) -> None:
    torch.manual_seed(0)
    config = WavLMConfig.model_validate(
        {"hidden_dims": (16,) * 7, "conv_pos": 16, "conv_pos_groups": 4} | SMALL | STYLES[style]
    )
    encoder = WavLM(config).eval()
    waveform = torch.randn(len(LENGTHS), 16000) * 3 + 1
    lengths = torch.tensor(LENGTHS)
    batch = encoder.hidden_states(waveform, lengths=lengths)
    frames = encoder.frame_lengths(lengths).tolist()
    for item, (length, count) in enumerate(zip(LENGTHS, frames, strict=True)):
        alone = encoder.hidden_states(waveform[item : item + 1, :length])
        assert alone[0].shape[1] == count
        for found, expected in zip(batch, alone, strict=True):
            torch.testing.assert_close(found[item : item + 1, :count], expected, atol=1e-4, rtol=0.0)
    assert all(hidden.isfinite().all() for hidden in batch)


@pytest.mark.parametrize("fill", [0.0, 1e3, torch.nan])
@torch.no_grad()
def test_backbone_items_equal_items_alone(fill: float) -> None:
    torch.manual_seed(0)
    backbone = WavLMUpper(
        WavLMUpperConfig.model_validate({"window_size": 12, "lookahead_size": 3, "input_dim": 32} | SMALL)
    ).eval()
    lengths = [70, 3, 33, 64]
    features = torch.randn(4, 70, 32)
    for item, length in enumerate(lengths):
        features[item, length:] = fill
    batch = backbone(features, lengths=torch.tensor(lengths))
    for item, length in enumerate(lengths):
        alone = backbone(features[item : item + 1, :length])
        torch.testing.assert_close(batch[item : item + 1, :length], alone, atol=1e-5, rtol=0.0)


def test_padding_leaves_gradients_alone() -> None:
    torch.manual_seed(0)
    backbone = WavLMUpper(
        WavLMUpperConfig.model_validate({"window_size": 12, "lookahead_size": 3, "input_dim": 32} | SMALL)
    )
    features = torch.randn(1, 33, 32)
    backbone(features).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}
    backbone.zero_grad()
    padded = torch.cat([features, torch.randn(1, 40, 32)], dim=1)
    backbone(padded, lengths=torch.tensor([33]))[:, :33].square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-4, rtol=1e-4)
