"""HuBERT and wav2vec 2.0: against the library's hidden states, padded, and every way weights are stored."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from wavslm_core.errors import CheckpointError, PluginError, StreamingError
from wavslm_core.model.weights import SkipInitialisation
from wavslm_core.parts.plugins import load_registry
from wavslm_speech_encoders.config import HubConfig, HubertConfig, Wav2Vec2Config
from wavslm_speech_encoders.hub_encoder import HubEncoder, Hubert, Wav2Vec2

CLASSES: dict[str, tuple[type[HubConfig], type[HubEncoder[Any]]]] = {
    "Hubert": (HubertConfig, Hubert),
    "Wav2Vec2": (Wav2Vec2Config, Wav2Vec2),
}
SMALL: dict[str, Any] = {
    "hidden_dims": (24,) * 7,
    "dim": 48,
    "ffn_dim": 96,
    "num_heads": 4,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "layer": 2,
}
STYLES: dict[str, dict[str, Any]] = {
    "base": {},
    "large": {"layer_norm_first": True, "front_end_norm": "layer", "conv_bias": True},
}
KINDS = sorted(CLASSES)


def make(kind: str, style: str, **options: Any) -> HubEncoder[Any]:
    config_class, encoder_class = CLASSES[kind]
    return encoder_class(config_class.model_validate(SMALL | STYLES[style] | options)).eval()


@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_features_are_the_library_s_hidden_states(
    make_oracle: Any, kind: str, style: str, layer: int, tmp_path: Path
) -> None:
    oracle = make_oracle(kind, style)
    oracle.save_pretrained(tmp_path)
    encoder = make(kind, style, layer=layer, checkpoint=str(tmp_path))
    waveform = torch.randn(2, 9000) * 3 + 1
    given = (waveform - waveform.mean(1, keepdim=True)) / (
        waveform.var(1, keepdim=True, correction=0) + 1e-7
    ).sqrt()
    expected = oracle(given, output_hidden_states=True).hidden_states[layer]
    torch.testing.assert_close(encoder(waveform), expected, atol=1e-4, rtol=0.0)
    raw = make(kind, style, layer=layer, checkpoint=str(tmp_path), normalize_waveform=False)
    expected = oracle(waveform, output_hidden_states=True).hidden_states[layer]
    torch.testing.assert_close(raw(waveform), expected, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_training_sees_what_inference_sees(kind: str) -> None:
    encoder = make(kind, "base")
    waveform = torch.randn(2, 8000)
    with torch.no_grad():
        expected = encoder(waveform)
    encoder.train()
    features = encoder(waveform, lengths=torch.tensor([8000, 8000]))
    torch.testing.assert_close(features, expected)


def old_names(folder: Path) -> None:
    """Rewrite a folder as older releases saved it: a pickle, weight norm under its former names."""
    state = load_file(folder / "model.safetensors")
    for new, old in {"original0": "weight_g", "original1": "weight_v"}.items():
        prefix = "encoder.pos_conv_embed.conv"
        state[f"{prefix}.{old}"] = state.pop(f"{prefix}.parametrizations.weight.{new}")
    torch.save(state | {"masked_spec_embed": torch.zeros(48)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_pickle_holds_the_same(make_oracle: Any, kind: str, tmp_path: Path) -> None:
    make_oracle(kind, "base").save_pretrained(tmp_path)
    new = make(kind, "base", checkpoint=str(tmp_path))
    old_names(tmp_path)
    old = make(kind, "base", checkpoint=str(tmp_path))
    for (name, given), expected in zip(old.named_parameters(), new.parameters(), strict=True):
        assert torch.equal(given, expected), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_in_shards_is_read_whole(make_oracle: Any, kind: str, tmp_path: Path) -> None:
    oracle = make_oracle(kind, "base")
    oracle.save_pretrained(tmp_path / "whole")
    oracle.save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    assert len(list((tmp_path / "shards").glob("model-*-of-*.safetensors"))) > 1
    whole, shards = (make(kind, "base", checkpoint=str(tmp_path / name)) for name in ("whole", "shards"))
    for (name, given), expected in zip(shards.named_parameters(), whole.parameters(), strict=True):
        assert torch.equal(given, expected), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_with_a_task_head(make_oracle: Any, kind: str, tmp_path: Path) -> None:
    oracle = make_oracle(kind, "large", model="ForCTC", vocab_size=7)
    oracle.save_pretrained(tmp_path)
    encoder = make(kind, "large", checkpoint=str(tmp_path))
    expected = oracle.base_model.encoder.layers[1].attention.k_proj.weight
    assert torch.equal(encoder.model.encoder.layers[1].attention.k_proj.weight, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 4}, "has 3 layers, but layer 4 is asked for"),
        ({"num_heads": 8}, "num_heads is 4 there and 8 here"),
        ({"layer_norm_first": True}, "layer_norm_first is False there and True here"),
        ({"dim": 32, "ffn_dim": 64}, "dim is 48 there and 32 here; ffn_dim is 96 there and 64 here"),
        ({"strides": (5, 2, 2, 2, 2, 2, 4)}, r"strides is \[5, 2, 2, 2, 2, 2, 2\] there"),
        ({"normalize_waveform": False}, "normalize_waveform is True there and False here"),
    ],
)
def test_what_does_not_fit_is_named(
    make_oracle: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    make_oracle("Hubert", "base").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true}')
    with pytest.raises(CheckpointError, match=message):
        make("Hubert", "base", checkpoint=str(tmp_path), **options)


def test_what_is_wrong_with_a_folder_is_named(make_oracle: Any, tmp_path: Path) -> None:
    make_oracle("Hubert", "base").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="of type 'hubert', a 'wav2vec2' is needed"):
        make("Wav2Vec2", "base", checkpoint=str(tmp_path))
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    state.pop("encoder.layers.1.final_layer_norm.weight")
    save_file(state | {"surprise": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"1 missing .*final_layer_norm.*1 unexpected .*surprise"):
        make("Hubert", "base", checkpoint=str(tmp_path))
    path.unlink()
    with pytest.raises(CheckpointError, match=r"holds neither model\.safetensors nor"):
        make("Hubert", "base", checkpoint=str(tmp_path))
    torch.save({"model": Path("/")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="other pickles are refused"):
        make("Hubert", "base", checkpoint=str(tmp_path))
    torch.save([torch.zeros(1)], tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="holds a list instead of named tensors"):
        make("Hubert", "base", checkpoint=str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    with pytest.raises(CheckpointError, match="hidden_act relu, which this encoder does not compute"):
        make("Hubert", "base", checkpoint=str(tmp_path))


def test_saved_models_do_not_ask_for_the_checkpoint() -> None:
    options = {"checkpoint": "/nowhere/at/all"}
    with SkipInitialisation():
        make("Hubert", "base", **options)
    with torch.device("meta"):
        make("Hubert", "base", **options)
    with pytest.raises(CheckpointError, match="no folder '/nowhere/at/all'"):
        make("Hubert", "base", **options)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(PluginError, match=r"pip install 'wavslm-speech-encoders\[transformers\]'"):
        load_registry().build(HubertConfig.model_validate(SMALL))


def test_full_context_does_not_stream() -> None:
    encoder = make("Hubert", "base")
    facts = encoder.config.facts()
    assert (facts.sample_rate_hz, facts.hop_samples, facts.output_dim) == (16000, 320, 48)
    assert (facts.causal, facts.streams, facts.window_frames) == (False, False, None)
    with pytest.raises(StreamingError, match="encoder 'hubert' does not stream"):
        encoder.init_state(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, "num_heads 5 must divide dim 48"),
        ({"conv_pos_groups": 5}, "conv_pos_groups 5 must divide dim 48"),
        ({"kernel_sizes": (3, 3)}, "one value per convolution"),
        ({"strides": (5, 2, 2, 2, 2, 2, 0)}, "must be 1 or more"),
    ],
)
def test_config_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HubertConfig.model_validate(SMALL | options)
