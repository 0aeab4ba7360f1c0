"""Quantizer and decoder learn: gradients reach every parameter, and a little audio is fitted."""

from __future__ import annotations

import torch

from wavslm_focalcodec_stream.config import FocalCodecStreamConfig
from wavslm_focalcodec_stream.decoder_config import IstftConfig
from wavslm_focalcodec_stream.decoders import Istft
from wavslm_focalcodec_stream.quantizer import FocalCodecStream

OPTIONS = {"hidden_dims": (16, 16), "focal_window": 5, "window_size": 70, "use_layerscale": True}


def make_quantizer() -> FocalCodecStream:
    return FocalCodecStream(
        FocalCodecStreamConfig(
            input_dim=16,
            codebook_size=64,
            compressor={**OPTIONS, "downscale_factors": (1, 1)},
            decompressor={**OPTIONS, "upscale_factors": (1, 1), "last_window_size": 70},
        )
    )


def test_bypassed_codes_are_the_latents() -> None:
    quantizer = make_quantizer().eval()
    features = torch.randn(1, 16, 16)
    bypassed = quantizer(features, bypass_codes=True)
    rounded = quantizer(features)
    assert torch.equal(bypassed.tokens_BT, rounded.tokens_BT)
    assert torch.equal(bypassed.features_BTD, quantizer.decompressor(quantizer.latents(features)))
    assert torch.allclose(rounded.features_BTD, quantizer.decode(rounded.tokens_BT), atol=1e-5)


def test_istft_fits_a_sweep_of_tones() -> None:
    time_S = torch.arange(60 * 32) / 2000.0
    target = 0.3 * torch.sin(2 * torch.pi * (60 * time_S + 80 * time_S.square()))[None]
    features = torch.randn(1, 60, 16)
    decoder = Istft(IstftConfig(input_dim=16, hop_samples=32, n_fft=128, dim=48, ffn_dim=96, num_layers=2))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=4e-3)
    losses = []
    with torch.enable_grad():
        for _ in range(150):
            loss = (decoder(features) - target)[:, :-96].square().mean() / target.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
    assert losses[-1] < 0.1 < losses[0]
