"""Weights that others made: whole or in shards, plain numbers only, no larger than what they are for."""

import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wavslm_core.errors import CheckpointError, PluginError
from wavslm_core.machine import devices
from wavslm_core.model import weight_files
from wavslm_core.model.codec import Codec
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.model.weight_files import read_folder, read_weights
from wavslm_core.model.weights import load_part, load_state
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2), "b": torch.zeros(1)}


def write_shards(folder: Path, name: str, state: dict[str, Tensor] = WEIGHTS) -> Path:
    """Write one weight a shard, and the index, as the transformers library does; return the index."""
    stem, suffix = name.split(".")
    places = {
        key: f"{stem}-{place:05d}-of-{len(state):05d}.{suffix}" for place, key in enumerate(state, start=1)
    }
    for key, place in places.items():
        if suffix == "bin":
            torch.save({key: state[key]}, folder / place)
        else:
            save_file({key: state[key]}, folder / place)
    index = folder / f"{name}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 36}, "weight_map": places}))
    return index


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_shards_are_read_through_their_index(tmp_path: Path, name: str) -> None:
    write_shards(tmp_path, name)
    found = read_folder(tmp_path, "model.safetensors", "pytorch_model.bin")
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[key], value) for key, value in WEIGHTS.items())


def test_a_shard_that_is_missing_or_another_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, "model.safetensors")
    second = tmp_path / "model-00002-of-00003.safetensors"
    save_file({"other": torch.ones(1)}, second)
    with pytest.raises(CheckpointError, match=rf"{second} lacks 1 of its weights \(a\.bias\)"):
        read_folder(tmp_path, "model.safetensors")
    second.unlink()
    with pytest.raises(CheckpointError, match=f"{second} does not exist; the checkpoint folder"):
        read_folder(tmp_path, "model.safetensors")


@pytest.mark.parametrize("place", ["../stolen.safetensors", "/etc/passwd", "model.bin", "", "."])
def test_an_index_leads_nowhere_but_to_files_beside_it(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(WEIGHTS, tmp_path / "stolen.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"b": place}}))
    with pytest.raises(CheckpointError, match=r"is no \.safetensors file beside it"):
        read_folder(folder, "model.safetensors")


def test_pipes_devices_and_files_beyond_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "zero.bin").symlink_to("/dev/zero")
    for name in ("pipe.safetensors", "zero.bin"):
        with pytest.raises(CheckpointError, match="it is no regular file"):
            read_weights(tmp_path / name)
    for name in ("large.safetensors", "large.bin"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(1 << 43)
        with pytest.raises(CheckpointError, match=r"is 8796\.1 GB large, this machine has"):
            read_weights(tmp_path / name)


def test_a_packed_archive_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 16)}, tmp_path / "plain.bin")
    with (
        zipfile.ZipFile(tmp_path / "plain.bin") as plain,
        zipfile.ZipFile(tmp_path / "packed.bin", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    assert read_weights(tmp_path / "plain.bin")["a"].shape == (1 << 16,)
    with pytest.raises(CheckpointError, match="it is packed, which torch never does"):
        read_weights(tmp_path / "packed.bin")


class Touch:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.ones(2)], "holds a list instead of named tensors"),
        ({"a": [1.0]}, "holds list 'a' among its weights"),
        ({3: torch.ones(1)}, "holds Tensor '3' among its weights"),
        ({"a": torch.ones(1).expand(10**12)}, "a is no plain tensor, or stands for more numbers"),
        ({"a": torch.ones(2, 2).to_sparse()}, "a is no plain tensor"),
        ({"a": torch.ones(3, device="meta")}, "a is no plain tensor"),
    ],
    ids=["a list", "no tensor", "no name", "a million from one", "sparse", "meta"],
)
def test_what_is_no_mapping_to_plain_tensors_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / "model.bin")
    with pytest.raises(CheckpointError, match=re.escape(said)):
        read_weights(tmp_path / "model.bin")


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path) -> None:
    torch.save({"a": Touch(tmp_path / "ran")}, tmp_path / "model.bin")
    with pytest.raises(CheckpointError, match="other pickles are refused"):
        read_weights(tmp_path / "model.bin")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.full((2, 3), torch.nan), "NaN or infinite numbers: 1 weights (weight)"),
        (torch.tensor([[1.0, 2, 3], [4, -torch.inf, 6]]), "NaN or infinite numbers: 1 weights (weight)"),
        (torch.full((2, 3), torch.inf, dtype=torch.bfloat16), "NaN or infinite numbers: 1 weights (weight)"),
        (torch.ones(2, 3, dtype=torch.int64), "1 of another kind (weight is int64, expected float32)"),
        (torch.ones(2, 3, dtype=torch.complex64), "of another kind (weight is complex64, expected float32)"),
        (torch.ones(2, 3, dtype=torch.bool), "1 of another kind (weight is bool, expected float32)"),
    ],
    ids=["nan", "inf", "inf in bf16", "int64", "complex", "bool"],
)
def test_numbers_that_are_no_weights_are_refused_by_name(value: Tensor, said: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(said)):
        load_state(nn.Linear(3, 2, bias=False), {"weight": value}, source="the file")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float32])
def test_weights_of_any_precision_are_loaded(dtype: torch.dtype) -> None:
    linear = nn.Linear(3, 2, bias=False)
    load_state(linear, {"weight": torch.full((2, 3), 0.5, dtype=dtype)}, source="the file")
    assert linear.weight.eq(0.5).all()
    assert linear.weight.dtype == torch.float32


class Deep(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(layers))


class Wide(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)


class Buffered(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.ones(size), persistent=False)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Deep(10**9), "its options ask for far more"),
        (lambda: Wide(10**9), "linear.weight is [2, 2], expected [1000000000, 1000000000]"),
        (lambda: Buffered(10**12), "its options ask for far more numbers in buffers"),
    ],
    ids=["layers", "width", "buffers"],
)
def test_options_that_ask_for_more_than_the_weights_hold_make_nothing(build: Any, said: str) -> None:
    state = {"linear.weight": torch.ones(2, 2), "linear.bias": torch.ones(2)}
    with pytest.raises(CheckpointError, match=re.escape(said)):
        load_part(build, state, source="the part")
    # Nothing of the watching stays behind.
    assert len(Deep(2000).layers) == 2000


def test_a_codec_and_a_language_model_say_which_weight_is_no_number(tmp_path: Path) -> None:
    codec = fake_codec()
    codec.save(tmp_path / "codec")
    fake_speech_lm(codec).save(tmp_path / "lm")
    for name, load in (("codec", Codec.load), ("lm", lambda path: SpeechLM.load(path, codec=codec))):
        path = tmp_path / name / weight_files.WEIGHTS_FILE
        state = load_file(path)
        key = next(key for key, value in state.items() if value.is_floating_point())
        state[key].view(-1)[0] = torch.nan
        save_file(state, path)
        with pytest.raises(CheckpointError, match=re.escape(f"({key.partition('.')[2]})")):
            load(tmp_path / name)


@pytest.mark.parametrize("value", [3, [], "x"])
def test_a_language_model_whose_codec_is_no_name_is_refused(tmp_path: Path, value: Any) -> None:
    codec = fake_codec()
    fake_speech_lm(codec).save(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    for key, wrong in (("codec", 3), ("codec_fingerprint", value)):
        (tmp_path / "config.json").write_text(json.dumps(document | {key: wrong}))
        with pytest.raises(CheckpointError, match=r"names its codec by .* must be a text and an object"):
            SpeechLM.load(tmp_path, codec=codec)


class Scheduled(nn.Module):
    """Reads numbers off a tensor as it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        self.linear = nn.Linear(2, 2)


def test_a_part_that_does_not_build_on_the_meta_device_is_told_what_to_do() -> None:
    state = Scheduled().state_dict()
    with pytest.raises(PluginError) as caught:
        load_part(Scheduled, state, source="the encoder in x")
    said = str(caught.value)
    assert said.startswith("the encoder in x cannot be loaded: it does not build on the meta device, where")
    assert said.endswith("must come from plain Python or tensors with device='cpu'")

    def broken() -> nn.Module:
        raise RuntimeError("a wheel came off")

    with pytest.raises(RuntimeError, match="a wheel came off"):
        load_part(broken, state, source="the encoder in x")


def test_a_container_has_no_more_memory_than_it_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    (tmp_path / "memory.max").write_text("100\n")
    monkeypatch.setattr(devices, "CGROUP_LIMITS", (tmp_path / "memory.max",))
    with pytest.raises(CheckpointError, match=r"GB large, this machine has 0\.0 GB of memory"):
        read_weights(tmp_path / "model.safetensors")
