"""Configs: facts and clear messages."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from wavslm_core.parts.facts import CodecFacts
from wavslm_core.testing.fake_configs import FakeDecoderConfig, FakeEncoderConfig
from wavslm_vector_quantize.codebook_configs import KMeansConfig, ResidualConfig, SimVqConfig, VqConfig
from wavslm_vector_quantize.config import MappedQuantizerConfig
from wavslm_vector_quantize.scalar_configs import BsqConfig, FsqConfig, LfqConfig


@pytest.mark.parametrize("config_class", [FsqConfig, LfqConfig, BsqConfig, VqConfig, SimVqConfig])
def test_defaults_have_12_bits_a_frame(config_class: type[MappedQuantizerConfig]) -> None:
    facts = config_class(input_dim=8).facts()
    assert (facts.vocab_size, facts.bits_per_token, facts.chunk_tokens) == (4096, 12, 1)


def test_residual_levels_are_tokens_in_a_row() -> None:
    residual = ResidualConfig(input_dim=8).facts()
    assert (residual.vocab_size, residual.tokens_per_frame, residual.chunk_tokens) == (128, 2, 2)
    encoder, decoder = FakeEncoderConfig(dim=8).facts(), FakeDecoderConfig(input_dim=8).facts()
    codec = CodecFacts(encoder=encoder, quantizer=residual, decoder=decoder)
    assert codec.token_rate_hz == 100
    assert codec.token_rate_hz * residual.bits_per_token == 600
    assert (codec.frames(7), codec.tokens_for(3 * 320)) == (3, 6)


def test_k_means_has_500_units_and_leaves_the_encoder_alone() -> None:
    facts = KMeansConfig(input_dim=8).facts()
    assert facts.vocab_size == 500
    assert set(facts.losses.values()) == {0.0}


def test_merged_units_have_ids_for_their_durations() -> None:
    facts = KMeansConfig(input_dim=8, codebook_size=100, deduplicate=True, max_run=5).facts()
    assert (facts.vocab_size, facts.max_run, facts.variable_rate) == (500, 5, True)
    assert facts.bits_per_token == pytest.approx(6.644, abs=0.001)
    assert not KMeansConfig(input_dim=8).facts().variable_rate
    with pytest.raises(ValidationError, match="tell no more than 8 lengths apart"):
        KMeansConfig(input_dim=8, deduplicate=True, max_run=9)


FOCAL: dict[str, Any] = {
    "compressor": {"name": "focal", "hidden_dims": [16, 8], "downscale_factors": [1, 2]},
    "decompressor": {"name": "focal", "hidden_dims": [8, 16], "upscale_factors": [2, 1], "lookahead_size": 2},
}


def test_focal_maps_set_rate_and_chunk() -> None:
    facts = VqConfig(input_dim=8, **FOCAL).facts()
    assert (facts.frames_per_token, facts.chunk_frames, facts.chunk_tokens) == (2, 6, 3)
    assert VqConfig.model_validate(VqConfig(input_dim=8, **FOCAL).model_dump()).facts() == facts
    with pytest.raises(ValidationError, match="merges 2 frames into one but the decompressor makes 1 of one"):
        VqConfig(input_dim=8, compressor=FOCAL["compressor"])
    with pytest.raises(ValidationError, match="a frame is 2 tokens here, so 2 frames cannot share one"):
        ResidualConfig(input_dim=8, **FOCAL)


@pytest.mark.slow
def test_without_the_other_distribution_focal_maps_name_it() -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('wavslm_focalcodec_stream'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import importlib.util\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: (\n"
        "    None if name == 'wavslm_focalcodec_stream' else real(name, *rest))\n"
        "from wavslm_vector_quantize.codebook_configs import VqConfig\n"
        "from wavslm_vector_quantize.maps import build_map\n"
        "config = VqConfig(input_dim=8)\n"
        "build_map(8, 4, config.compressor, features_dim=8)\n"
        "VqConfig.model_json_schema()\n"
        "VqConfig(input_dim=8, compressor={'name': 'focal', 'hidden_dims': [8]})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'wavslm-vector-quantize[focal]'" in done.stderr


def test_wrong_options_say_what_to_do() -> None:
    with pytest.raises(ValidationError, match="use 2048 or 4096"):
        BsqConfig(input_dim=8, codebook_size=3000)
    with pytest.raises(ValidationError, match="3 or more, not 2; for bits use lfq or bsq"):
        FsqConfig(input_dim=8, levels=(8, 2))
    with pytest.raises(ValidationError, match="16777216 codes: use 1048576 or fewer"):
        FsqConfig(input_dim=8, levels=(64,) * 4)
