"""What names a model: a folder, a name that a plugin registered, or a hub id; in this order."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.support import bring
from wavslm_core import Codec, SpeechLM
from wavslm_core.errors import CheckpointError
from wavslm_core.model import references
from wavslm_core.model.references import find_folder
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm, register_fakes


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A distribution with a codec and a language model `tiny`, and a codec `other`; the folder it lies in."""
    torch.manual_seed(0)
    codec = fake_codec()
    model = fake_speech_lm(codec)
    model.checkpoint_codec = "tiny"
    codec.save(tmp_path / "codec")
    fake_codec().save(tmp_path / "other")
    model.save(tmp_path / "lm")
    made = {"tiny/codec": "codec", "tiny/speech_lm": "lm", "other/codec": "other"}
    package = bring(monkeypatch, tmp_path / "site", {key: tmp_path / name for key, name in made.items()})
    register_fakes()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return package


def test_models_are_loaded_by_name(box: Path) -> None:
    codec, model = Codec.load("tiny"), SpeechLM.load("tiny")
    assert codec.fingerprint() == Codec.load(box / "tiny" / "codec").fingerprint()
    assert model.codec.fingerprint() == codec.fingerprint(), "the codec that it names, by name"
    other = Codec.load("other")
    with pytest.raises(CheckpointError, match=r"tiny was trained with another codec: .*quantizer_weights"):
        SpeechLM.load("tiny", codec=other)


def test_a_codec_that_took_the_place_of_another_under_its_name_is_refused(box: Path) -> None:
    shutil.rmtree(box / "tiny" / "codec")
    shutil.copytree(box / "other" / "codec", box / "tiny" / "codec")
    with pytest.raises(CheckpointError, match=r"tiny was trained with another codec: .*quantizer_weights"):
        SpeechLM.load("tiny")


def test_a_folder_goes_before_a_name_and_that_is_said(box: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_folder("tiny", kind="codec") == box / "tiny" / "codec"
    assert caplog.text == ""
    shutil.copytree(box / "other" / "codec", "tiny")
    assert Codec.load("tiny").fingerprint() == Codec.load("other").fingerprint()
    assert (
        f"'tiny' is taken for the folder {Path.cwd() / 'tiny'}, not for a codec of wavslm-box" in caplog.text
    )
    caplog.clear()
    Codec.load("./tiny")
    assert caplog.text == "", "who gives a path means a path"


def test_a_file_is_no_folder(box: Path) -> None:
    Path("tiny").touch()
    assert find_folder("tiny", kind="codec") == box / "tiny" / "codec"
    with pytest.raises(
        CheckpointError, match=r"'\./tiny' is a file; give the folder that holds config\.json"
    ):
        find_folder("./tiny", kind="codec")


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (
            "tinny",
            "brings a checkpoint of that name. Did you mean 'tiny'? There are: other (wavslm-box 1.0), ",
        ),
        (
            "qqqq",
            "tiny (wavslm-box 1.0). Give one of them, a folder that holds config.json, or a hub id: owner",
        ),
        (
            "large",
            "'large' comes with wavslm-large-models, in a clone of wavslm: pip install ./plugins/wavslm",
        ),
        ("./tinny", "no folder './tinny' exists. Check the path, or give a folder that holds config.json"),
    ],
)
def test_a_name_that_nobody_brings(monkeypatch: pytest.MonkeyPatch, reference: str, said: str) -> None:
    monkeypatch.setattr(references, "known_providers", lambda role: {"large": "wavslm-large-models"})
    with pytest.raises(CheckpointError) as caught:
        Codec.load(reference)
    assert said in str(caught.value)


@pytest.mark.usefixtures("box")
def test_a_model_of_another_kind_is_named() -> None:
    with pytest.raises(CheckpointError) as caught:
        SpeechLM.load("other")
    assert str(caught.value) == (
        "'other' is a codec of wavslm-box 1.0, but a language model is needed here. There are: tiny "
        "(wavslm-box 1.0)."
    )
    with pytest.raises(
        CheckpointError, match=r"an encoder is needed here. No installed plugin brings an enc"
    ):
        find_folder("tiny")


def test_a_run_on_a_codec_from_elsewhere_has_that_codec(box: Path) -> None:
    shutil.copytree(box / "tiny" / "speech_lm", "run/speech_lm")
    assert Codec.load("run").fingerprint() == Codec.load("tiny").fingerprint()
