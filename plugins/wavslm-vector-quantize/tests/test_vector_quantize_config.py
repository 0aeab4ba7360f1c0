"""Configs: facts, clear messages, and no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from wavslm_core.facts import CodecFacts
from wavslm_core.testing.fake_configs import FakeDecoderConfig, FakeEncoderConfig
from wavslm_vector_quantize.codebook_configs import KMeansConfig, ResidualConfig, SimVqConfig, VqConfig
from wavslm_vector_quantize.config import MappedQuantizerConfig
from wavslm_vector_quantize.scalar_configs import BsqConfig, FsqConfig, LfqConfig


def test_listing_and_stating_facts_import_no_torch() -> None:
    code = (
        "import sys, wavslm_vector_quantize.plugin as plugin\n"
        "plugin.FsqConfig(input_dim=8).facts(); plugin.KMeansConfig(input_dim=8).facts()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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


def test_wrong_options_say_what_to_do() -> None:
    with pytest.raises(ValidationError, match="use 2048 or 4096"):
        BsqConfig(input_dim=8, codebook_size=3000)
    with pytest.raises(ValidationError, match="3 or more, not 2; for bits use lfq or bsq"):
        FsqConfig(input_dim=8, levels=(8, 2))
    with pytest.raises(ValidationError, match="16777216 codes: use 1048576 or fewer"):
        FsqConfig(input_dim=8, levels=(64,) * 4)
