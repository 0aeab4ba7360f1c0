"""Official models in small: the same tokens exactly, everything else within the stated tolerance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavslm_core import Codec
from wavslm_core.parts.plugins import load_registry
from wavslm_focalcodec_stream.format_config import FocalCodecFormatConfig
from wavslm_focalcodec_stream.official_format import FocalCodecFormat
from wavslm_focalcodec_stream.quantizer import FocalCodecStream

CAUSAL = ["codec_50hz_causal", "codec_50hz_causal_vocos"]
CODECS = [
    *CAUSAL,
    "codec_50hz_causal_ragged",
    "codec_50hz_offline",
    "codec_12_5hz_offline",
    "codec_50hz_offline_old_keys",
]
Parity = Callable[[Tensor, Tensor], None]
Io = Callable[[str], dict[str, Tensor]]


def load_codec(folder: Path) -> Codec:
    if "wavlm" not in load_registry().names("encoder"):
        pytest.skip("the encoder 'wavlm' is not installed: pip install ./plugins/wavslm-wavlm")
    return Codec.load(folder)


@pytest.mark.parametrize("name", CODECS)
def test_quantizer_and_decoder(
    name: str, parity_folder: Callable[[str], Path], parity_io: Io, assert_parity: Parity
) -> None:
    parts = FocalCodecFormat(FocalCodecFormatConfig()).read(parity_folder(name))
    io = parity_io(name)
    quantizer = FocalCodecStream(parts.configs["quantizer"]).eval()
    quantizer.load_state_dict(parts.states["quantizer"])
    decoder = load_registry().build(parts.configs["decoder"]).eval()
    decoder.load_state_dict(parts.states["decoder"])

    assert_parity(quantizer.latents(io["feats"]), io["lats"])
    assert torch.equal(quantizer.encode(io["feats"]), io["toks"])
    assert torch.equal(quantizer.codes(io["toks"]), io["codes"])
    assert_parity(quantizer.decode(io["toks"]), io["qfeats"])
    waveform = decoder(io["qfeats"])
    samples = min(waveform.shape[1], io["rec_sig"].shape[1])
    assert samples >= io["rec_sig"].shape[1] - decoder.config.hop_samples
    assert_parity(waveform[:, :samples], io["rec_sig"][:, :samples])


@pytest.mark.parametrize("name", CODECS)
def test_whole_codec(
    name: str, parity_folder: Callable[[str], Path], parity_io: Io, assert_parity: Parity
) -> None:
    codec, io = load_codec(parity_folder(name)), parity_io(name)
    assert torch.equal(codec.encode(io["sig"]), io["toks"])
    assert_parity(codec.dequantize(io["toks"]), io["qfeats"])
    assert_parity(codec.reconstruct(io["sig"]), io["rec_sig"])


@pytest.mark.parametrize("name", CAUSAL)
def test_streaming(
    name: str, parity_folder: Callable[[str], Path], parity_io: Io, assert_parity: Parity
) -> None:
    codec, io = load_codec(parity_folder(name)), parity_io(name)
    stream = codec.stream(batch_size=io["sig"].shape[0])
    tokens = [stream.encode(chunk) for chunk in io["sig"].split(1280, dim=1)]
    assert torch.equal(torch.cat(tokens, dim=1), io["stream_toks"])
    audio = [stream.decode(chunk) for chunk in tokens]
    assert_parity(torch.cat(audio, dim=1), io["stream_rec_sig"])
