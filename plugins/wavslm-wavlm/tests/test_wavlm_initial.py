"""Initial weights: lower layers for an encoder, upper ones for a backbone; what does not fit is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from wavslm_core.errors import CheckpointError
from wavslm_core.model.folders import save_encoder
from wavslm_core.model.weights import SkipInitialisation
from wavslm_core.parts.plugins import load_registry
from wavslm_core.testing.fakes import fake_codec
from wavslm_wavlm.backbone import WavLMUpper
from wavslm_wavlm.config import WavLMConfig, WavLMUpperConfig
from wavslm_wavlm.encoder import WavLM, load_wavlm

ENCODER = {
    "hidden_dims": (24,) * 7,
    "dim": 48,
    "ffn_dim": 96,
    "num_heads": 4,
    "num_buckets": 40,
    "max_distance": 80,
    "num_layers": 2,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "causal": True,
}
UPPER = {
    "dim": 48,
    "ffn_dim": 96,
    "num_heads": 4,
    "num_buckets": 40,
    "max_distance": 80,
    "num_layers": 2,
    "first_layer": 3,
    "lookahead_size": 3,
    "input_dim": 48,
    "vocab_size": 10,
}


@pytest.fixture(scope="module")
def large(make_oracle: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("large")
    make_oracle("large").save_pretrained(folder)
    return str(folder)


def test_encoder_starts_from_the_lower_layers(large: str) -> None:
    whole = load_wavlm(large)
    encoder = WavLM(WavLMConfig.model_validate(ENCODER | {"checkpoint": large, "causal": False})).eval()
    waveform = torch.randn(1, 8000)
    with torch.no_grad():
        expected = whole.encoder.hidden_states(
            whole.feature_proj(whole.norm(whole.feature_extractor(waveform)))
        )
        torch.testing.assert_close(encoder(waveform), list(expected)[2])
    causal = WavLM(WavLMConfig.model_validate(ENCODER | {"checkpoint": large}))
    top, causal_top = encoder.encoder.layers[1], causal.encoder.layers[1]
    for ours, theirs in zip(causal_top.parameters(), top.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_lower_and_upper_layers_make_the_whole(large: str) -> None:
    whole = load_wavlm(large)
    upper = WavLMUpper(
        WavLMUpperConfig.model_validate(UPPER | {"checkpoint": large, "window_size": 60})
    ).eval()
    waveform = torch.randn(1, 320 * 4 + 80)
    with torch.no_grad():
        hidden = whole.hidden_states(waveform)
        # Four frames are one chunk: the causal backbone then sees what the full context sees.
        torch.testing.assert_close(upper(hidden[2]), hidden[4], atol=1e-4, rtol=0.0)


def test_new_inputs_keep_their_random_weights(large: str) -> None:
    for options in ({"input": "embedding"}, {"input_dim": 20}):
        upper = WavLMUpper(WavLMUpperConfig.model_validate(UPPER | {"checkpoint": large} | options))
        whole = load_wavlm(large)
        assert torch.equal(upper.norm.weight, whole.encoder.norm.weight)  # type: ignore[union-attr]
        assert torch.equal(upper.relative_embedding.weight, whole.encoder.relative_embedding.weight)


def test_saved_models_do_not_ask_for_the_checkpoint() -> None:
    encoder_config = WavLMConfig.model_validate(ENCODER | {"checkpoint": "/nowhere/at/all"})
    upper_config = WavLMUpperConfig.model_validate(UPPER | {"checkpoint": "/nowhere/at/all"})
    with SkipInitialisation():
        WavLM(encoder_config)
        WavLMUpper(upper_config)
    with torch.device("meta"):
        WavLM(encoder_config)
        WavLMUpper(upper_config)
    with pytest.raises(CheckpointError, match="no folder '/nowhere/at/all'"):
        WavLM(encoder_config)


def test_random_initialisation_is_not_disturbed_by_the_question(large: str) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    with torch.random.fork_rng():
        WavLM(WavLMConfig.model_validate(ENCODER | {"checkpoint": large}))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 5}, "has 4 layers, but layers 1 to 5"),
        ({"num_heads": 8}, "num_heads is 4 there and 8 here"),
        ({"layer_norm_first": False}, "layer_norm_first is True there and False here"),
        ({"ffn_dim": 64}, "ffn_dim is 96 there and 64 here"),
    ],
)
def test_encoder_that_does_not_fit(large: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        WavLM(WavLMConfig.model_validate(ENCODER | {"checkpoint": large} | options))


def test_backbone_that_does_not_fit(large: str, make_oracle: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has 4 layers, but layers 4 to 5"):
        WavLMUpper(WavLMUpperConfig.model_validate(UPPER | {"checkpoint": large, "first_layer": 4}))
    make_oracle("base").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="normalises after its layers"):
        WavLMUpper(WavLMUpperConfig.model_validate(UPPER | {"checkpoint": str(tmp_path)}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, "num_heads 5 must divide dim 48"),
        ({"kernel_sizes": (3, 3)}, "one value per convolution"),
        ({"window_size": 3}, "a chunk has to fit into the window"),
        ({"normalize_waveform": True}, "need the whole waveform"),
        ({"output_layer": 3}, "output_layer 3 is above num_layers 2"),
        ({"num_buckets": 7}, "num_buckets must be even"),
        ({"conv_pos_groups": 5}, "conv_pos_groups 5 must divide dim 48"),
        ({"strides": (5, 2, 2, 2, 2, 2, 0)}, "must be 1 or more"),
    ],
)
def test_config_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WavLMConfig.model_validate(ENCODER | options)


def test_facts_and_registration() -> None:
    facts = WavLMConfig(causal=True).facts()
    assert (facts.hop_samples, facts.chunk_frames, facts.window_frames, facts.streams) == (320, 4, 512, True)
    facts = WavLMConfig().facts()
    assert (facts.chunk_frames, facts.window_frames, facts.causal, facts.streams) == (1, None, False, False)
    upper = WavLMUpperConfig(input="embedding", vocab_size=10, lookahead_size=3).facts()
    assert (upper.input, upper.chunk_tokens, upper.window_tokens, upper.causal) == ("embedding", 4, 512, True)
    assert WavLMUpperConfig.links() == {
        "lookahead_size": "head.lookahead_tokens",
        "input_dim": "quantizer.output_dim",
        "vocab_size": "quantizer.vocab_size",
    }
    registry = load_registry()
    assert registry.entry("encoder", "wavlm").load() is WavLM
    assert registry.entry("backbone", "wavlm_upper").load() is WavLMUpper


def test_configs_import_no_torch() -> None:
    code = "import sys, wavslm_wavlm.plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_encoder_starts_from_one_in_our_own_format(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = WavLM(WavLMConfig.model_validate(ENCODER | {"causal": False, "num_layers": 3}))
    save_encoder(tmp_path / "encoder", whole)
    for reference in (tmp_path, tmp_path / "encoder"):
        encoder = WavLM(WavLMConfig.model_validate(ENCODER | {"checkpoint": str(reference)}))
        expected = whole.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in encoder.state_dict().items())
    save_encoder(tmp_path / "other", fake_codec().encoder)
    with pytest.raises(CheckpointError, match=r"holds the encoder 'fake', a 'wavlm' is needed"):
        WavLM(WavLMConfig.model_validate(ENCODER | {"checkpoint": str(tmp_path / "other")}))


def test_a_causal_twin_adopts_the_lowest_layers_of_its_teacher(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {**ENCODER, "causal": False}
    teacher = WavLM(WavLMConfig.model_validate({**sizes, "num_layers": 3, "final_norm": True}))
    student = WavLM(WavLMConfig.model_validate(ENCODER))
    student.adopt(teacher)
    expected = teacher.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in student.state_dict().items())
    other = {**sizes, "num_heads": 2, "conv_pos": 8, "ffn_dim": 64}
    message = (
        r"the teacher does not fit encoder 'wavlm': ffn_dim is 64 there and 96 here; num_heads is 2 there "
        r"and 4 here; conv_pos is 8 there and 16 here\. Give both the same options"
    )
    with pytest.raises(CheckpointError, match=message):
        student.adopt(WavLM(WavLMConfig.model_validate(other)))
    with pytest.raises(CheckpointError, match=r"the teacher has 1 layers, but layers 1 to 2 are asked for"):
        student.adopt(WavLM(WavLMConfig.model_validate({**sizes, "num_layers": 1})))
    with pytest.raises(CheckpointError, match=r"the teacher is the encoder 'fake', .* Give a 'wavlm'"):
        student.adopt(fake_codec().encoder)


def test_a_backbone_starts_as_the_upper_layers_of_an_encoder() -> None:
    encoder = WavLM(WavLMConfig.model_validate(ENCODER | {"num_layers": 4, "causal": False}))
    upper = WavLMUpper(WavLMUpperConfig.model_validate(UPPER))
    upper.adopt(encoder)
    for ours, theirs in zip(upper.layers.parameters(), encoder.encoder.layers[2:].parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(upper.relative_embedding.weight, encoder.encoder.relative_embedding.weight)
    # Without a final norm there, the one here is as it was made.
    assert torch.equal(upper.norm.weight, torch.ones(48))
    with pytest.raises(CheckpointError, match="has 4 layers, but layers 4 to 5 are asked for"):
        WavLMUpper(WavLMUpperConfig.model_validate(UPPER | {"first_layer": 4})).adopt(encoder)
    with pytest.raises(CheckpointError, match="the encoder is 'fake'"):
        upper.adopt(fake_codec().encoder)
