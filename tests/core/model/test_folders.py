"""Folders in the formats of others: which is chosen, and what a format that fails may break."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
import torch

from wavslm_core import Codec, SpeechLM
from wavslm_core.errors import CheckpointError
from wavslm_core.model.folders import load_encoder, save_encoder
from wavslm_core.model.weights import write_document, write_weights
from wavslm_core.parts.configs import FormatConfig, PartConfig, Role
from wavslm_core.parts.interfaces import CheckpointFormat, CheckpointParts
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Entry
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm


class FlakyConfig(FormatConfig):
    """Holds codecs, in a format that can fail anywhere."""

    format: Literal["flaky"] = "flaky"

    def holds(self, document: dict[str, Any]) -> Literal["codec", "speech_lm"] | None:
        return "codec" if "flaky" in document else None

    def part_configs(self, document: dict[str, Any]) -> dict[Role, PartConfig]:
        return {}

    def document(self, parts: dict[Role, PartConfig]) -> dict[str, Any] | str | None:
        if FAILING["place"] == "document":
            raise KeyError("bits")
        if "encoder" not in parts:
            return "holds codecs only"
        return {"flaky": True} if FAILING["place"] else None

    def known_document(self, checkpoint: str) -> dict[str, Any] | None:
        return None


class Flaky(CheckpointFormat):
    def read(self, folder: Path) -> CheckpointParts:
        raise KeyError("scale")

    def write(self, folder: Path, parts: CheckpointParts) -> None:
        write_document(folder, {"flaky": True})
        if FAILING["place"] == "write":
            raise KeyError("bits")
        write_weights(folder, {})


FAILING = {"place": ""}
"""Where the format fails; nowhere: it does not hold the parts."""


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_registry()
    module = ModuleType("wavslm_flaky")
    module.Flaky = Flaky
    monkeypatch.setitem(sys.modules, "wavslm_flaky", module)
    entry = Entry("format", "flaky", FlakyConfig, "wavslm_flaky:Flaky", "wavslm-flaky", "1.2")
    monkeypatch.setattr(registry, "_entries", {**registry._entries, ("format", "flaky"): entry})
    monkeypatch.setitem(FAILING, "place", "")


@pytest.mark.usefixtures("fails")
def test_saving_says_which_format_and_why(tmp_path: Path) -> None:
    said = fake_codec().save(tmp_path / "codec")
    assert said.startswith(f"{tmp_path / 'codec'} is saved in our own format: ")
    assert "format 'flaky' of wavslm-flaky 1.2 cannot hold these parts" in said
    assert "flaky 1.2 holds codecs only" in fake_speech_lm(fake_codec()).save(tmp_path / "lm")


@pytest.mark.usefixtures("fails")
@pytest.mark.parametrize(("place", "how"), [("document", "fails"), ("write", "fails to write")])
def test_a_format_that_fails_is_named_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str, how: str
) -> None:
    FAILING["place"] = place
    codec = fake_codec()
    said = codec.save(tmp_path / "codec")
    named = f"format 'flaky' of wavslm-flaky 1.2 {how}: KeyError: 'bits'; update, reinstall or uninstall it"
    assert "in our own format: " in said
    assert named in said
    assert [record.levelname for record in caplog.records if named in record.message] == ["WARNING"]
    assert json.loads((tmp_path / "codec" / "config.json").read_text())["format"] == "wavslm-codec"
    assert Codec.load(tmp_path / "codec").fingerprint() == codec.fingerprint()
    assert [path.name for path in tmp_path.iterdir()] == ["codec"]


@pytest.mark.usefixtures("fails")
def test_a_format_that_fails_to_read_is_named(tmp_path: Path) -> None:
    FAILING["place"] = "read"
    assert "in format 'flaky' of wavslm-flaky 1.2, which holds its parts" in fake_codec().save(tmp_path / "c")
    with pytest.raises(CheckpointError, match=r"cannot be read: format 'flaky' .* fails: KeyError: 'scale'"):
        Codec.load(tmp_path / "c")


def test_a_model_without_a_codec_tells_python_how_to_give_one(tmp_path: Path) -> None:
    fake_speech_lm(fake_codec()).save(tmp_path / "lm")
    with pytest.raises(CheckpointError, match=r"names no codec; load one .* codec=Codec\.load\("):
        SpeechLM.load(tmp_path / "lm")


def test_an_encoder_alone_comes_back_from_its_folder_and_from_a_run(tmp_path: Path) -> None:
    encoder = fake_codec().encoder
    save_encoder(tmp_path / "run" / "encoder", encoder)
    for reference in (tmp_path / "run", tmp_path / "run" / "encoder"):
        loaded = load_encoder(reference)
        assert loaded.config == encoder.config
        assert not loaded.training
        assert all(
            torch.equal(value, encoder.state_dict()[key]) for key, value in loaded.state_dict().items()
        )
    fake_codec().save(tmp_path / "codec")
    with pytest.raises(CheckpointError, match=r"codec holds a codec, but an encoder is needed here"):
        load_encoder(tmp_path / "codec")
    with pytest.raises(CheckpointError, match=r"run holds an encoder, but no codec yet"):
        Codec.load(tmp_path / "run")
