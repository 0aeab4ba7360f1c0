"""Against a random `transformers.WavLMModel`: every layer, and every way its weights are stored."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from wavslm_core.errors import CheckpointError
from wavslm_wavlm.encoder import WavLM, load_wavlm, normalize
from wavslm_wavlm.original_format import conv_layers
from wavslm_wavlm.weights import fuse_qkv, read_wavlm

STYLE_NAMES = ["base", "large"]
LENGTHS = [16000, 9777, 12345, 3000]


def hidden_of(oracle: Any, waveform: Tensor) -> list[Tensor]:
    """The input of the first layer, what each layer gives, the last one as the model returns it."""
    with torch.no_grad():
        output = oracle(waveform, output_hidden_states=True)
    return [*output.hidden_states[:-1], output.last_hidden_state]


def compare(model: WavLM, oracle: Any, waveform: Tensor) -> None:
    """Every hidden state, the waveform normalised first where the model says so."""
    given = normalize(waveform) if model.config.normalize_waveform else waveform
    with torch.no_grad():
        found = model.hidden_states(waveform)
    for ours, theirs in zip(found, hidden_of(oracle, given), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0.0)


@pytest.fixture
def waveform() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(len(LENGTHS), 16000)


@pytest.mark.parametrize(
    "options", [{}, {"conv_bias": True, "num_conv_pos_embeddings": 9}], ids=["usual", "odd"]
)
@pytest.mark.parametrize("style", STYLE_NAMES)
def test_every_layer(
    make_oracle: Any, style: str, options: dict[str, Any], waveform: Tensor, tmp_path: Path
) -> None:
    oracle = make_oracle(style, **options)
    oracle.save_pretrained(tmp_path)
    model = load_wavlm(tmp_path)
    assert model.config.layer_norm_first == (style == "large")
    assert model.config.normalize_waveform == (style == "large")
    compare(model, oracle, waveform)


@pytest.mark.parametrize("style", STYLE_NAMES)
@torch.no_grad()
def test_batches_with_padding(make_oracle: Any, style: str, waveform: Tensor, tmp_path: Path) -> None:
    oracle = make_oracle(style)
    oracle.save_pretrained(tmp_path)
    model = load_wavlm(tmp_path)
    lengths = torch.tensor(LENGTHS)
    batch = model.hidden_states(waveform, lengths=lengths)
    frames = model.frame_lengths(lengths).tolist()
    for item, (length, count) in enumerate(zip(LENGTHS, frames, strict=True)):
        alone = waveform[item : item + 1, :length]
        given = normalize(alone) if model.config.normalize_waveform else alone
        for ours, theirs in zip(batch, hidden_of(oracle, given), strict=True):
            assert theirs.shape[1] == count
            torch.testing.assert_close(ours[item : item + 1, :count], theirs, atol=1e-4, rtol=0.0)


@torch.no_grad()
def test_padding_as_the_library_masks_it(make_oracle: Any, waveform: Tensor, tmp_path: Path) -> None:
    oracle = make_oracle("large")
    oracle.save_pretrained(tmp_path)
    model = load_wavlm(tmp_path)
    lengths = torch.tensor(LENGTHS)
    mask = (torch.arange(16000) < lengths[:, None]).long()
    theirs = oracle(normalize(waveform, lengths=lengths), attention_mask=mask).last_hidden_state
    ours = model(waveform, lengths=lengths)
    for item, count in enumerate(model.frame_lengths(lengths).tolist()):
        torch.testing.assert_close(ours[item, :count], theirs[item, :count], atol=1e-4, rtol=0.0)


def old_names(folder: Path) -> None:
    """Rewrite a folder as older releases saved it: a pickle, weight norm under its former names."""
    state = load_file(folder / "model.safetensors")
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in names.items():
        prefix = "encoder.pos_conv_embed.conv"
        state[f"{prefix}.{old}"] = state.pop(f"{prefix}.{new}")
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def test_old_pickle_and_preprocessor(make_oracle: Any, waveform: Tensor, tmp_path: Path) -> None:
    oracle = make_oracle("large")
    oracle.save_pretrained(tmp_path)
    old_names(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false}')
    model = load_wavlm(tmp_path)
    assert not model.config.normalize_waveform
    compare(model, oracle, waveform)


def test_a_model_in_shards_is_read_whole(make_oracle: Any, waveform: Tensor, tmp_path: Path) -> None:
    oracle = make_oracle("base")
    oracle.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    compare(load_wavlm(tmp_path), oracle, waveform)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_hidden_layers": 10**9}, "its options ask for far more weights"),
        ({"conv_dim": 3}, r"config\.json: 'int' object is not iterable"),
        ({"hidden_act": []}, r"config\.json: unhashable"),
        ({"hidden_size": "large"}, r"config\.json: dim: "),
    ],
)
def test_a_config_of_another_shape_or_size_is_refused(
    make_oracle: Any, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    make_oracle("base").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | options))
    with pytest.raises(CheckpointError, match=said):
        load_wavlm(tmp_path)


def test_model_inside_a_task_model(make_oracle: Any, waveform: Tensor, tmp_path: Path) -> None:
    oracle = make_oracle("base")
    oracle.save_pretrained(tmp_path)
    state = {f"wavlm.{key}": value for key, value in load_file(tmp_path / "model.safetensors").items()}
    save_file(state | {"lm_head.weight": torch.zeros(3, 48)}, tmp_path / "model.safetensors")
    compare(load_wavlm(tmp_path), oracle, waveform)


def original_file(oracle: Any, path: Path) -> None:
    """Write an oracle's weights as the original release lays them out."""
    config = oracle.config
    group = config.feat_extract_norm == "group"
    patterns = {
        r"masked_spec_embed": "mask_emb",
        r"(.*conv_layers\.\d+)\.conv\.(.*)": r"\1.0.\2",
        r"(.*conv_layers\.\d+)\.layer_norm\.(.*)": r"\1.2.\2" if group else r"\1.2.1.\2",
        r"feature_projection\.layer_norm\.(.*)": r"layer_norm.\1",
        r"feature_projection\.projection\.(.*)": r"post_extract_proj.\1",
        r"encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original0": "encoder.pos_conv.0.weight_g",
        r"encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original1": "encoder.pos_conv.0.weight_v",
        r"encoder\.pos_conv_embed\.conv\.bias": "encoder.pos_conv.0.bias",
        r"(.*\d)\.attention\.rel_attn_embed\.(.*)": r"\1.self_attn.relative_attention_bias.\2",
        r"(.*\d)\.attention\.gru_rel_pos_const": r"\1.self_attn.grep_a",
        r"(.*\d)\.attention\.gru_rel_pos_linear\.(.*)": r"\1.self_attn.grep_linear.\2",
        r"(.*\d)\.attention\.(.*)": r"\1.self_attn.\2",
        r"(.*\d)\.layer_norm\.(.*)": r"\1.self_attn_layer_norm.\2",
        r"(.*\d)\.feed_forward\.intermediate_dense\.(.*)": r"\1.fc1.\2",
        r"(.*\d)\.feed_forward\.output_dense\.(.*)": r"\1.fc2.\2",
    }
    model = {}
    for key, value in oracle.state_dict().items():
        for pattern, template in patterns.items():
            if re.fullmatch(pattern, key):
                key = re.sub(pattern, template, key)
                break
        model[key] = value
    cfg = {
        "extractor_mode": "default" if group else "layer_norm",
        "encoder_layers": config.num_hidden_layers,
        "encoder_embed_dim": config.hidden_size,
        "encoder_ffn_embed_dim": config.intermediate_size,
        "encoder_attention_heads": config.num_attention_heads,
        "activation_fn": "gelu",
        "layer_norm_first": config.do_stable_layer_norm,
        "conv_feature_layers": "[(24,10,5)] + [(24,3,2)] * 4 + [(24,2,2)] * 2",
        "conv_bias": config.conv_bias,
        "normalize": not group,
        "conv_pos": config.num_conv_pos_embeddings,
        "conv_pos_groups": config.num_conv_pos_embedding_groups,
        "relative_position_embedding": True,
        "num_buckets": config.num_buckets,
        "max_distance": config.max_bucket_distance,
        "gru_rel_pos": True,
    }
    torch.save({"cfg": cfg, "model": model}, path)


@pytest.mark.parametrize("as_folder", [False, True])
@pytest.mark.parametrize("style", STYLE_NAMES)
def test_original_file(
    make_oracle: Any, style: str, as_folder: bool, waveform: Tensor, tmp_path: Path
) -> None:
    oracle = make_oracle(style)
    original_file(oracle, tmp_path / "WavLM.pt")
    compare(load_wavlm(tmp_path if as_folder else tmp_path / "WavLM.pt"), oracle, waveform)


def test_conv_layers_are_read_not_evaluated() -> None:
    text = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
    expected = [(512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2]
    assert conv_layers(text, source="x.pt") == expected
    assert conv_layers("[(8, 10, 5), (4, 3, 2)]", source="x.pt") == [(8, 10, 5), (4, 3, 2)]
    with pytest.raises(CheckpointError, match=r"x\.pt: conv_feature_layers '__import__"):
        conv_layers("__import__('os')", source="x.pt")


def test_what_is_wrong_is_named(make_oracle: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        read_wavlm(tmp_path / "missing")
    oracle = make_oracle("large")
    oracle.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    removed = "encoder.layers.1.final_layer_norm.weight"
    changed = {key: value for key, value in state.items() if key != removed}
    save_file(changed | {"surprise": torch.zeros(1), "masked_spec_embed": torch.zeros(48)}, path)
    with pytest.raises(
        CheckpointError, match=r"1 missing .*layers\.1\.feed_forward_norm\.weight.*1 unexpected .*surprise"
    ):
        load_wavlm(tmp_path)
    save_file(state | {"feature_projection.projection.weight": torch.zeros(48, 7)}, path)
    with pytest.raises(CheckpointError, match=r"1 of another shape \(feature_proj\.weight is \[48, 7\]"):
        load_wavlm(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_wavlm(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match="holds neither"):
        load_wavlm(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
    with pytest.raises(CheckpointError, match="'hubert', a 'wavlm' is needed"):
        load_wavlm(tmp_path)


def test_bad_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "WavLM.pt"
    path.write_bytes(b"\x80\x04not a pickle")
    with pytest.raises(CheckpointError, match="is truncated, damaged or holds more than tensors"):
        read_wavlm(path)
    torch.save({"model": {}, "cfg": Path("/")}, path)
    with pytest.raises(CheckpointError, match="other pickles are refused"):
        read_wavlm(path)
    torch.save({"weights": {}}, path)
    with pytest.raises(CheckpointError, match="`cfg` and `model`"):
        read_wavlm(path)
    torch.save({"cfg": {}, "model": {}}, path)
    with pytest.raises(CheckpointError, match="`cfg` has no option 'conv_feature_layers'"):
        read_wavlm(path)


def test_fuse_qkv_needs_all_three() -> None:
    state = {f"a.{letter}_proj.weight": torch.full((2, 2), float(i)) for i, letter in enumerate("qkv")}
    fused = fuse_qkv(state)
    assert list(fused) == ["a.qkv_proj.weight"]
    assert fused["a.qkv_proj.weight"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    del state["a.k_proj.weight"]
    with pytest.raises(CheckpointError, match=r"but not a\.k_proj\.weight"):
        fuse_qkv(state)
