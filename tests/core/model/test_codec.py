"""The codec assembly: shapes, lengths, streaming, saving, bad input."""

from __future__ import annotations

import copy
import json
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.export import Dim, export

from wavslm_core import Codec
from wavslm_core.errors import CheckpointError, StreamingError
from wavslm_core.model import codec as codec_module
from wavslm_core.testing.fakes import fake_codec


@pytest.fixture
def waveform() -> torch.Tensor:
    return torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)) * 0.1


def test_shapes(waveform: torch.Tensor) -> None:
    codec = fake_codec()
    tokens = codec.encode(waveform)
    assert tokens.shape == (2, 50)
    assert tokens.dtype == torch.int64
    assert codec.dequantize(tokens).shape == (2, 50, 16)
    assert codec.decode(tokens).shape == (2, 16000)
    assert codec.facts.latency_ms == 80


def test_padding_changes_nothing(waveform: torch.Tensor) -> None:
    codec = fake_codec()
    lengths = torch.tensor([16000, 9000])
    batch = codec.encode(waveform, lengths=lengths)
    alone = codec.encode(waveform[1:, :9000])
    valid = int(codec.token_lengths(lengths)[1])
    assert alone.shape[1] == valid
    assert torch.equal(batch[1:, :valid], alone)
    assert bool((batch[1, valid:] == 0).all())
    padded = codec.reconstruct(waveform, lengths=lengths)
    assert torch.allclose(padded[1, :9000], codec.reconstruct(waveform[1:, :9000])[0], atol=1e-6)


@pytest.mark.parametrize("max_run", [1, 3])
def test_what_a_language_model_reads_does_not_depend_on_the_batch(
    waveform: torch.Tensor, max_run: int
) -> None:
    codec = fake_codec(max_run=max_run)
    lengths = torch.tensor([16000, 9000])
    for multiple_of, expected in ((1, [50, 29]), (4, [48, 28]), (32, [32, 0])):
        tokens, counts = codec.tokens(waveform, lengths=lengths, multiple_of=multiple_of)
        assert codec.expand(tokens, lengths=counts)[1].tolist() == expected
        assert max_run > 1 or counts.tolist() == expected
        for row, length in enumerate(lengths.tolist()):
            alone, count = codec.tokens(waveform[row, :length], multiple_of=multiple_of)
            assert torch.equal(alone[0], tokens[row, : int(count)])
            whole = codec.encode(waveform[row, :length])[:, : expected[row]]
            assert torch.equal(codec.compact(whole)[0], alone)
    none, counts = codec.tokens(waveform[:, :1], multiple_of=4)
    assert (none.shape, counts.tolist()) == ((2, 0), [0, 0])


def test_a_frozen_codec_is_read_once_and_again_when_a_weight_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[nn.Module] = []
    digest = codec_module.weights_digest

    def counted(module: nn.Module) -> str:
        read.append(module)
        return digest(module)

    monkeypatch.setattr(codec_module, "weights_digest", counted)
    codec = fake_codec()
    assert codec.fingerprint() == codec.fingerprint()
    assert len(read) == 4, "what learns is read each time"
    codec.requires_grad_(False)
    seen = [codec.fingerprint()]
    weight = codec.encoder.linear.weight

    def load() -> None:
        codec.quantizer.load_state_dict(fake_codec().quantizer.state_dict())

    def replace() -> None:
        weight.data = weight.data * 2

    def assign() -> None:
        codec.encoder.load_state_dict(fake_codec().encoder.state_dict(), assign=True)

    for change in (lambda: weight.mul_(2), load, replace, lambda: codec.half().float(), assign):
        assert codec.fingerprint() == codec.fingerprint() == seen[-1]
        read.clear()
        change()
        seen.append(codec.fingerprint())
        assert len(read) == 2
        assert len({json.dumps(each) for each in seen}) == len(seen)
        codec.requires_grad_(False)
        codec.fingerprint()
    copied = copy.deepcopy(codec)
    copied.encoder.linear.weight.zero_()
    assert copied.fingerprint() != codec.fingerprint() == seen[-1]


def test_reconstruction_has_the_duration_of_the_input(waveform: torch.Tensor) -> None:
    assert fake_codec().reconstruct(waveform[:, :15999]).shape == (2, 15999)


@pytest.mark.parametrize("delay", [0, 200, 700])
@pytest.mark.parametrize("chunks", [1, 2])
def test_stream_equals_offline(waveform: torch.Tensor, delay: int, chunks: int) -> None:
    codec = fake_codec(delay_samples=delay)
    whole = waveform[:, : 12 * 1280]
    stream = codec.stream(batch_size=2)
    pieces = whole.split(1280 * chunks, dim=1)
    tokens = [stream.encode(piece) for piece in pieces]
    assert torch.equal(torch.cat(tokens, 1), codec.encode(whole))
    audio = torch.cat([*(stream.decode(piece) for piece in tokens), stream.flush()], 1)[:, delay:]
    assert torch.allclose(audio, codec.decode(torch.cat(tokens, 1)), atol=1e-5)


def test_stream_refuses_part_of_a_chunk(waveform: torch.Tensor) -> None:
    with pytest.raises(StreamingError, match=r"takes \(1, n·1280\) samples"):
        fake_codec().stream().encode(waveform[:1, :1000])


class Reconstruction(nn.Module):
    """`torch.export` takes modules: a codec's methods are exported in one that calls them."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, waveform_BS: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens_BT = self.codec.encode(waveform_BS)
        return tokens_BT, self.codec.decode(tokens_BT)


@pytest.mark.slow
def test_an_exported_codec_serves_every_batch_and_length(waveform: torch.Tensor) -> None:
    codec = fake_codec()
    any_shape = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC},)
    exported = export(Reconstruction(codec), (waveform,), dynamic_shapes=any_shape).module()
    for given in (waveform, torch.randn(3, 9000) / 9, torch.randn(1, 20001) / 9):
        tokens, audio = exported(given)
        assert torch.equal(tokens, codec.encode(given))
        torch.testing.assert_close(audio, codec.decode(tokens))


def test_save_and_load(tmp_path: Path, waveform: torch.Tensor) -> None:
    codec = fake_codec()
    codec.save(tmp_path / "codec")
    loaded = Codec.load(tmp_path / "codec")
    assert torch.equal(loaded.encode(waveform), codec.encode(waveform))
    assert loaded.fingerprint() == codec.fingerprint()
    codec.save(tmp_path / "codec")
    assert [path.name for path in tmp_path.iterdir()] == ["codec"]


@pytest.mark.parametrize(("dtype", "lost"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
def test_weights_are_stored_in_half_and_loaded_whole(tmp_path: Path, dtype: torch.dtype, lost: float) -> None:
    codec = fake_codec(dim=64)
    codec.save(tmp_path / "whole")
    codec.save(tmp_path / "half", dtype=dtype)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.55 * sizes[1]
    loaded = Codec.load(tmp_path / "half")
    for key, value in loaded.state_dict().items():
        assert value.dtype == codec.state_dict()[key].dtype
        torch.testing.assert_close(value, codec.state_dict()[key], rtol=lost, atol=1e-7)
    assert "quantizer_weights" in loaded.changed_since(codec.fingerprint())


def test_a_weight_that_half_does_not_hold_is_named(tmp_path: Path) -> None:
    codec = fake_codec()
    with torch.no_grad():
        codec.encoder.linear.bias[0] = 1e5
    with pytest.raises(CheckpointError, match=r"beyond what float16 holds: 1 weights \(linear\.bias\)"):
        codec.save(tmp_path / "half", dtype=torch.float16)
    assert not (tmp_path / "half").exists()
    codec.save(tmp_path / "half", dtype=torch.bfloat16)


def test_a_colleague_may_read_what_is_saved(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        fake_codec().save(tmp_path / "codec")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "codec").iterdir()}
    assert modes == {"config.json": 0o644, "model.safetensors": 0o644}


def test_weights_that_may_not_be_read_are_not_said_to_be_missing(
    shared_folder: Path, somebody_else: Callable[[], AbstractContextManager[None]]
) -> None:
    fake_codec().save(shared_folder / "codec")
    weights = shared_folder / "codec" / "model.safetensors"
    weights.chmod(0o600)
    said = f"{weights} cannot be read: Permission denied, {weights} belongs to root. Choose another folder"
    with somebody_else(), pytest.raises(CheckpointError, match=said):
        Codec.load(shared_folder / "codec")


def test_truncated_weights(tmp_path: Path) -> None:
    fake_codec().save(tmp_path / "codec")
    weights = tmp_path / "codec" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        Codec.load(tmp_path / "codec")


def test_weights_of_another_size(tmp_path: Path) -> None:
    fake_codec(bits=5).save(tmp_path / "codec")
    fake_codec(bits=6).save(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "codec" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"3 of another shape \(compress.weight is \[6, 16\], expected"):
        Codec.load(tmp_path / "codec")


@pytest.mark.parametrize("reference", ["nowhere", "./no/where/at/all"])
def test_missing_folder(reference: str) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        Codec.load(reference)


def test_unknown_format(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": "other"}')
    with pytest.raises(CheckpointError, match="in no known checkpoint format"):
        Codec.load(tmp_path)


def test_saving_never_deletes_what_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"holds other things \(thesis.txt, 1 in all\)"):
        fake_codec().save(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "thesis.txt").read_text() == "years of work"


def test_a_save_that_fails_midway_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waveform: torch.Tensor
) -> None:
    codec = fake_codec()
    codec.save(tmp_path / "codec")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.startswith(".writing-"):
            raise OSError("the file system went away")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(CheckpointError, match="went away"):
        fake_codec(bits=6).save(tmp_path / "codec")
    monkeypatch.undo()
    assert torch.equal(Codec.load(tmp_path / "codec").encode(waveform), codec.encode(waveform))


def test_a_packed_copy_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="save the model that it was made from"):
        fake_codec().for_inference(weights="fp32").save(tmp_path / "codec")
