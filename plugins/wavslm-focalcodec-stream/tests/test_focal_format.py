"""Official folders: round trips, old files, and clear refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from wavslm_core import Codec, SpeechLM
from wavslm_core.errors import CheckpointError
from wavslm_core.parts.checkpoints import Checkpoint
from wavslm_core.parts.interfaces import CheckpointParts
from wavslm_core.parts.plugins import load_registry
from wavslm_focalcodec_stream.decoder_config import IstftConfig, WaveNeXtConfig
from wavslm_focalcodec_stream.format_config import FocalCodecFormatConfig
from wavslm_focalcodec_stream.official_format import FocalCodecFormat, fuse_projections

Find = Callable[[str], Path]
FORMAT = FocalCodecFormatConfig()

pytestmark = pytest.mark.skipif(
    "wavlm" not in load_registry().names("encoder"), reason="needs the plugin wavslm-wavlm"
)


def read(folder: Path) -> CheckpointParts:
    return FocalCodecFormat(FORMAT).read(folder)


@pytest.mark.parametrize(
    "name", ["codec_50hz_causal", "codec_50hz_causal_ragged", "codec_12_5hz_offline", "wavslm"]
)
def test_written_folder_is_the_one_that_was_read(name: str, parity_folder: Find, tmp_path: Path) -> None:
    parts = read(parity_folder(name))
    FocalCodecFormat(FORMAT).write(tmp_path, parts)
    given, written = (load_file(folder / "model.safetensors") for folder in (parity_folder(name), tmp_path))
    assert given.keys() == written.keys()
    assert all(torch.equal(given[key], written[key]) for key in given)
    again = read(tmp_path)
    assert again.configs == parts.configs
    document = json.loads((parity_folder(name) / "config.json").read_text())
    rewritten = json.loads((tmp_path / "config.json").read_text())
    for key, section in document.items():
        if isinstance(section, dict):
            kept = {option: value for option, value in section.items() if option != "max_cached_steps"}
            assert kept == {option: rewritten[key][option] for option in kept}


def test_old_projections_are_fused_in_order() -> None:
    q, k, v = torch.randn(3, 4, 4)
    weights = {
        f"encoder.attention.{name}_proj.weight": value for name, value in zip("qkv", (q, k, v), strict=True)
    }
    fused = fuse_projections({**weights, "encoder.norm.bias": q[0]})
    assert fused.keys() == {"encoder.attention.qkv_proj.weight", "encoder.norm.bias"}
    assert torch.equal(fused["encoder.attention.qkv_proj.weight"], torch.cat([q, k, v]))
    del weights["encoder.attention.k_proj.weight"]
    with pytest.raises(CheckpointError, match=r"lacks encoder\.attention\.k_proj\.weight"):
        fuse_projections(weights)


@pytest.mark.parametrize("nested", [True, False])
def test_torch_files(nested: bool, parity_folder: Find, tmp_path: Path) -> None:
    folder = parity_folder("codec_50hz_causal")
    weights = load_file(folder / "model.safetensors")
    torch.save({"model": weights} if nested else weights, tmp_path / "model.pt")
    shutil.copyfile(folder / "config.json", tmp_path / "config.json")
    expected = read(folder).states
    for role, state in read(tmp_path).states.items():
        assert state.keys() == expected[role].keys()
        assert all(torch.equal(state[key], expected[role][key]) for key in state)


class Harmful:
    """Would run code when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("unpickled"),))


def test_torch_files_are_never_unpickled(parity_folder: Find, tmp_path: Path) -> None:
    shutil.copyfile(parity_folder("codec_50hz_causal") / "config.json", tmp_path / "config.json")
    torch.save({"model": Harmful()}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        read(tmp_path)


def test_truncated_and_foreign_weights_are_refused(parity_folder: Find, tmp_path: Path) -> None:
    folder = parity_folder("codec_50hz_causal")
    shutil.copyfile(folder / "config.json", tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="incomplete"):
        read(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="truncated"):
        read(tmp_path)
    save_file({"discriminator.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 keys that belong to no part: discriminator\.weight"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compressor_config": {"focal_windw": 7}}, "focal_windw.*Did you mean 'focal_window'"),
        ({"decoder_name": "HiFiGAN"}, "HiFiGAN.*WaveNeXt or Vocos"),
        ({"encoder_config": {"layers": 6}}, "encoder_config has 1 unknown key: layers"),
        ({"quantizer_config": {"codebook_size": 1000}}, "1000 is not a power of two: use 512 or 1024"),
        ({"quantizer_config": {"codebook_size": 8192}}, "must both be 13"),
        ({"compressor_config": {"causal": True}}, "differ in `causal`"),
        ({"compressor_config": {"downscale_factors": [2, 1, 1]}}, "both products must be equal"),
        ({"compressor_config": {"hidden_dims": [8]}}, "one factor per block"),
        ({"decoder_config": 3}, "decoder_config must be an object"),
    ],
)
def test_wrong_documents_are_explained(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        FORMAT.part_configs({"encoder_name": "WavLM", **changes})


def test_sampling_rate_follows_from_the_hop() -> None:
    for name, rate_hz in (("focalcodec_50hz", 16000), ("focalcodec_50hz_4k_causal", 24000)):
        document = FORMAT.known_document(f"lucadellalib/{name}")
        assert document is not None
        assert FORMAT.part_configs(document)["decoder"].facts().sample_rate_hz == rate_hz


@pytest.mark.parametrize(
    ("name", "frames_per_token"), [("focalcodec_50hz", 1), ("focalcodec_25hz", 2), ("focalcodec_12_5hz", 4)]
)
def test_known_offline_codecs(name: str, frames_per_token: int) -> None:
    document = FORMAT.known_document(f"lucadellalib/{name}")
    assert document is not None
    assert FORMAT.holds(document) == "codec"
    quantizer = FORMAT.part_configs(document)["quantizer"]
    assert quantizer.facts().frames_per_token == frames_per_token
    assert quantizer.facts().vocab_size == 8192


def test_known_language_models_and_unknown_ids() -> None:
    document = FORMAT.known_document("lucadellalib/wavslm_65k")
    assert document is not None
    assert FORMAT.holds(document) == "speech_lm"
    assert FORMAT.part_configs(document)["head"].facts().vocab_size == 65536
    assert document["codec_config"] == "lucadellalib/focalcodec_50hz_65k_causal"
    assert FORMAT.known_document("lucadellalib/other") is None
    assert FORMAT.known_document("someone/wavslm_65k") is None
    assert FORMAT.holds({"model_type": "wavlm"}) is None


def test_parts_that_the_format_cannot_hold_are_left_to_others() -> None:
    document = FORMAT.known_document("lucadellalib/focalcodec_50hz_4k_causal")
    assert document is not None
    parts = FORMAT.part_configs(document)
    assert isinstance(FORMAT.document(parts), dict)
    istft, wavenext = IstftConfig(input_dim=1024), WaveNeXtConfig(input_dim=1024, sample_rate_hz=22050)
    quantizer = parts["quantizer"].model_copy(update={"entropy_group_bits": 1})
    for other, why in [
        ({"decoder": istft}, "holds the decoder wavenext or vocos, not 'istft'"),
        ({"decoder": wavenext}, "has no place for decoder.sample_rate_hz as it is"),
        ({"quantizer": quantizer}, "has no place for quantizer.entropy_group_bits as it is"),
        ({"head": parts["encoder"]}, "holds no model of encoder, quantizer, decoder, head"),
    ]:
        assert FORMAT.document({**parts, **other}) == why
    encoder = parts["encoder"].model_copy(update={"checkpoint": "microsoft/wavlm-large"})
    assert isinstance(FORMAT.document({**parts, "encoder": encoder}), dict)


@pytest.mark.parametrize(
    "sampler",
    [{"name": "top_p"}, {"name": "greedy"}, [{"name": "temperature", "end": 2}, {"name": "greedy"}]],
)
def test_a_sampler_decides_no_format_and_is_kept(sampler: Any, parity_folder: Find, tmp_path: Path) -> None:
    codec = Codec.load(parity_folder("codec_50hz_causal"))
    model = SpeechLM.load(parity_folder("wavslm"), codec=codec)
    changed = SpeechLM(codec, model.backbone, model.head, model.make_sampler(sampler))
    said = changed.save(tmp_path / "lm")
    assert "lm is saved in format 'focalcodec' of wavslm-focalcodec-stream" in said
    assert said.endswith("which holds its parts")
    official = load_file(parity_folder("wavslm") / "model.safetensors")
    assert load_file(tmp_path / "lm" / "model.safetensors").keys() == official.keys()
    loaded = SpeechLM.load(tmp_path / "lm", codec=codec)
    assert loaded.sampler.config == changed.sampler.config
    # Saved again over itself; and the codec is still told from another one.
    loaded.save(tmp_path / "lm")
    with torch.no_grad():
        next(codec.quantizer.parameters()).add_(1)
    with pytest.raises(CheckpointError, match="another codec: quantizer_weights differ"):
        SpeechLM.load(tmp_path / "lm", codec=codec)


def test_codec_of_a_language_model(
    parity_folder: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = read(parity_folder("wavslm"))
    assert parts.codec is None  # the file holds a remark there
    named = CheckpointParts(parts.configs, parts.states, codec="lucadellalib/focalcodec_50hz_2k_causal")
    FocalCodecFormat(FORMAT).write(tmp_path, named)
    assert read(tmp_path).codec == named.codec
    boxed = CheckpointParts(parts.configs, parts.states, codec="boxed")
    FocalCodecFormat(FORMAT).write(tmp_path, boxed)
    assert read(tmp_path).codec is None
    held = Checkpoint("boxed", "codec", tmp_path, "for tests", "Apache-2.0", "wavslm-box", "1.0", "box")
    monkeypatch.setattr(load_registry(), "_checkpoints", {("boxed", "codec"): held})
    assert read(tmp_path).codec == "boxed", "a name that a plugin brings"
