"""Configs: facts, clear messages, and no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from wavslm_focalcodec_stream.config import FocalCodecStreamConfig
from wavslm_focalcodec_stream.decoder_config import IstftConfig, VocosConfig


def test_configs_import_no_torch() -> None:
    code = (
        "import sys, wavslm_focalcodec_stream.plugin as plugin\n"
        "plugin.FocalCodecStreamConfig(input_dim=8).facts(); plugin.IstftConfig(input_dim=8).facts()\n"
        "assert plugin.FocalCodecFormatConfig().known_document('lucadellalib/wavslm_4k')\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_chunk_holds_whole_tokens_and_the_lookahead() -> None:
    facts = FocalCodecStreamConfig(input_dim=8).facts()
    assert (facts.chunk_frames, facts.chunk_tokens, facts.streams) == (4, 4, True)
    slow = FocalCodecStreamConfig(
        input_dim=8,
        compressor={"downscale_factors": (1, 1, 3)},
        decompressor={"upscale_factors": (3, 1, 1)},
    ).facts()
    assert (slow.frames_per_token, slow.chunk_frames, slow.chunk_tokens) == (3, 12, 4)
    plain = FocalCodecStreamConfig(input_dim=8, decompressor={"lookahead_size": 0}).facts()
    assert plain.chunk_frames == 1
    assert not FocalCodecStreamConfig(input_dim=8, causal=False).facts().streams


def test_istft_needs_constant_overlap() -> None:
    assert IstftConfig(input_dim=8).facts().delay_samples == 960
    with pytest.raises(ValidationError, match=r"n_fft 1000 must be even and a whole multiple.*640 or 1280"):
        IstftConfig(input_dim=8, n_fft=1000)
    with pytest.raises(ValidationError, match="2 or more"):
        IstftConfig(input_dim=8, n_fft=320)


def test_vocos_window_holds_a_hop() -> None:
    with pytest.raises(ValidationError, match="at least hop_samples 320"):
        VocosConfig(input_dim=8, n_fft=256)


@pytest.mark.parametrize("size", [3, 1000])
def test_codebook_is_a_power_of_two(size: int) -> None:
    with pytest.raises(ValidationError, match="not a power of two"):
        FocalCodecStreamConfig(input_dim=8, codebook_size=size)
