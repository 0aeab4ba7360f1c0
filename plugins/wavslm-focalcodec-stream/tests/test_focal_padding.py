"""Padding never changes a valid result: items of a batch come out as they do alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from wavslm_focalcodec_stream.config import FocalCodecStreamConfig
from wavslm_focalcodec_stream.decoder_config import IstftConfig, VocosConfig, WaveNeXtConfig
from wavslm_focalcodec_stream.decoders import Istft, Vocos, WaveNeXt
from wavslm_focalcodec_stream.quantizer import FocalCodecStream

LENGTHS = (37, 50, 5)
SMALL: dict[str, Any] = {"input_dim": 20, "dim": 16, "ffn_dim": 24, "num_layers": 2}


def padded_batch(dim: int) -> torch.Tensor:
    batch = 100.0 * torch.randn(len(LENGTHS), max(LENGTHS), dim)
    for row, length in enumerate(LENGTHS):
        batch[row, :length] = torch.randn(length, dim)
    return batch


def make_quantizer(*, causal: bool, factor: int, focal_window: int = 5) -> FocalCodecStream:
    shared = {"focal_window": focal_window, "focal_factor": 2, "window_size": 24}
    config = FocalCodecStreamConfig(
        input_dim=20,
        codebook_size=64,
        causal=causal,
        compressor={"hidden_dims": (20, 16), "downscale_factors": (1, factor), **shared},
        decompressor={"hidden_dims": (16, 20), "upscale_factors": (factor, 1), **shared},
    )
    return FocalCodecStream(config).eval()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("factor", "focal_window"), [(1, 5), (2, 6), (4, 5)])
def test_quantizer(causal: bool, factor: int, focal_window: int) -> None:
    quantizer = make_quantizer(causal=causal, factor=factor, focal_window=focal_window)
    features, lengths = padded_batch(20), torch.tensor(LENGTHS)
    latents = quantizer.latents(features, lengths=lengths)
    tokens = quantizer.encode(features, lengths=lengths)
    token_lengths = quantizer.token_lengths(lengths)
    garbage = torch.randint(0, 64, tokens.shape)
    padded_tokens = torch.where(torch.arange(tokens.shape[1]) < token_lengths[:, None], tokens, garbage)
    decoded = quantizer.decode(padded_tokens, lengths=token_lengths)
    trained = quantizer(features, lengths=lengths)
    for row, length in enumerate(LENGTHS):
        alone = features[row : row + 1, :length]
        count = int(token_lengths[row])
        assert torch.allclose(latents[row : row + 1, :count], quantizer.latents(alone), atol=1e-5)
        assert torch.equal(tokens[row : row + 1, :count], quantizer.encode(alone))
        expected = quantizer.decode(tokens[row : row + 1, :count])
        assert torch.allclose(decoded[row : row + 1, : expected.shape[1]], expected, atol=1e-5)
        assert torch.allclose(
            trained.features_BTD[row : row + 1, :length], quantizer(alone).features_BTD, atol=1e-5
        )


def test_losses_count_valid_tokens_only() -> None:
    quantizer = make_quantizer(causal=True, factor=1)
    features = padded_batch(20)
    padded = quantizer(features[:1], lengths=torch.tensor([37])).losses
    alone = quantizer(features[:1, :37]).losses
    for name in ("entropy", "commitment"):
        assert torch.allclose(padded[name], alone[name], atol=1e-5)


DECODERS: dict[str, nn.Module] = {
    "wavenext": WaveNeXt(WaveNeXtConfig(hop_samples=48, **SMALL)),
    "wavenext_offline": WaveNeXt(WaveNeXtConfig(hop_samples=48, causal=False, **SMALL)),
    "vocos": Vocos(VocosConfig(hop_samples=32, n_fft=64, causal=True, **SMALL)),
    "vocos_offline": Vocos(VocosConfig(hop_samples=32, n_fft=100, **SMALL)),
    "istft": Istft(IstftConfig(hop_samples=32, n_fft=128, **SMALL)),
}


@pytest.mark.parametrize("name", DECODERS)
def test_decoder(name: str) -> None:
    decoder = DECODERS[name].eval()
    hop_samples = decoder.config.hop_samples
    features = padded_batch(20)
    waveform = decoder(features, lengths=torch.tensor(LENGTHS))
    assert waveform.shape == (len(LENGTHS), max(LENGTHS) * hop_samples)
    for row, length in enumerate(LENGTHS):
        alone = decoder(features[row : row + 1, :length])
        assert torch.allclose(waveform[row : row + 1, : length * hop_samples], alone, atol=1e-4)
