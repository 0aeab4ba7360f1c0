from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavslm_core.cli.main import main
from wavslm_core.data.corpora import Rejected
from wavslm_core.data.token_writer import ShardRecord, TokenWriter

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    for name, seconds, rate_hz, channels in [
        ("train/anna-1.wav", 1.0, 16000, 1),
        ("train/anna-2.wav", 2.0, 16000, 1),
        ("train/bob-1.flac", 3.0, 22050, 2),
        ("valid/cy-1.wav", 4.0, 16000, 1),
    ]:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(0).standard_normal((round(seconds * rate_hz), channels))
        soundfile.write(path, 0.1 * noise, rate_hz)
    (folder / "train" / "dan-1.wav").write_bytes(b"")
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Call the entry point of `wavslm` in this process; return exit code, output and standard error."""

    def wavslm(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr(sys, "argv", ["wavslm", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            main()
        shown = capsys.readouterr()
        return int(leaving.value.code or 0), shown.out, shown.err

    return wavslm


def test_numbers_are_those_of_the_files(call: Call, speech: Path, tmp_path: Path) -> None:
    arguments = ["data", "stats", "corpus=folder", f"path={speech}", "speaker_separator='-'", "--json"]
    code, output, error = call(*arguments)
    assert code == 0, error
    document = json.loads(output)
    train = document["train"]
    assert train["utterances"] == 3
    assert train["hours"] * 3600 == pytest.approx(6)
    assert train["seconds"]["shortest"] == pytest.approx(1)
    assert train["seconds"]["median"] == pytest.approx(2)
    assert train["seconds"]["longest"] == pytest.approx(3)
    assert {rate: hours * 3600 for rate, hours in train["hours_by_rate_hz"].items()} == pytest.approx(
        {"16000": 3, "22050": 3}
    )
    assert {key: hours * 3600 for key, hours in train["hours_by_channels"].items()} == pytest.approx(
        {"1": 3, "2": 3}
    )
    assert {key: hours * 3600 for key, hours in train["hours_by_speaker"].items()} == pytest.approx(
        {"anna": 3, "bob": 3}
    )
    assert sum(train["histogram"]["utterances"]) == 3
    assert [item["id"] for item in train["rejected"]] == ["train/dan-1.wav"]
    assert document["valid"]["utterances"] == 1
    code, output, _ = call(*arguments[:-1], "--split", "train", "--picture", "deep/p.png")
    assert code == 0
    assert "valid" not in output
    assert "train/dan-1.wav" in output
    assert "is empty (0 bytes)" in output
    assert "█" * 40 in output
    assert (tmp_path / "deep" / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_recipe_names_the_corpus_and_cuts_count(call: Call, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"name: r\ndata: {{corpus: folder, path: '{speech}'}}\n")
    code, output, error = call("data", "stats", "r.yaml", "data.cut.by=fixed", "data.cut.seconds=1", "--json")
    assert code == 0, error
    assert json.loads(output)["train"]["utterances"] == 6
    code, output, _ = call("data", "stats", "r.yaml", "data.cut.by=fixed", "data.cut.seconds=1")
    assert code == 0
    assert "not known" in output


def test_a_corpus_that_is_made_up_counts_too(call: Call) -> None:
    code, output, error = call(
        "data",
        "stats",
        "corpus=tiny_speech",
        "minutes=0.5",
        "valid_minutes=0.2",
        "--split",
        "valid",
        "--json",
    )
    assert code == 0, error
    valid = json.loads(output)["valid"]
    assert valid["hours"] * 60 > 0.2
    assert valid["hours_by_speaker"]
    assert valid["hours_by_channels"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["path=x"], "names no corpus: add corpus=NAME"),
        (["corpus=foldr", "path=x"], "Did you mean 'folder'"),
        (["corpus=folder"], "path"),
        (["corpus=folder", "path=nowhere"], "corpus folder nowhere does not exist"),
        (["corpus=folder", "path=SPEECH", "cut.by=pause"], "cut.by"),
        (["corpus=folder", "path=SPEECH", "--split", "test"], "no split 'test'"),
        (["corpus=folder", "path=SPEECH", "--picture", "p.jpg"], "ends in .png"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["empty.yaml"], "has no `data:` block"),
    ],
)
def test_what_a_user_can_get_wrong(
    call: Call, speech: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty.yaml").write_text("name: empty\n")
    code, _, error = call(
        "data", "stats", *(argument.replace("SPEECH", str(speech)) for argument in arguments)
    )
    assert code == 2
    assert message in error


def test_what_tokenising_left_out_is_listed_by_shard(call: Call, tmp_path: Path) -> None:
    store = tmp_path / "run" / "tokens" / "train"
    writer = TokenWriter(store, fingerprint={}, plan="p", shards=2, vocab_size=8, token_rate_hz=50.0, align=1)
    tokens = torch.arange(4).numpy()
    for number in (1, 0):
        record = ShardRecord([f"{number}"], [4], [Rejected(f"bad{number}", "is cut off")], 1.0, 1.0)
        writer.write(number, [tokens], record)
        (store / "records" / f".writing-0123456{number}-00002.json").write_text("{")
        if number == 1:
            code, output, error = call("data", "rejected", "run")
            assert (code, output) == (0, "train\t00001\tbad1\tis cut off\n")
            assert "train: 1 left out" in error
    writer.finish(also_rejected=[Rejected("worse", "is empty")])
    for place in ("run", store):
        code, output, _ = call("data", "rejected", place)
        assert code == 0
        assert output.splitlines() == [
            "train\tscan\tworse\tis empty",
            "train\t00000\tbad0\tis cut off",
            "train\t00001\tbad1\tis cut off",
        ]
    for place, message in (("nowhere", "does not exist"), (tmp_path, "holds no token store")):
        code, _, error = call("data", "rejected", place)
        assert code == 2
        assert message in error


def test_files_in_no_split_are_counted_and_named(call: Call, speech: Path, tmp_path: Path) -> None:
    shutil.copytree(speech, tmp_path / "more")
    shutil.copytree(speech / "valid", tmp_path / "more" / "extra")
    said = f"1 file is in no split: 1 in {tmp_path / 'more' / 'extra'}. Move them, or name"
    code, output, error = call("data", "stats", "corpus=folder", f"path={tmp_path / 'more'}")
    assert code == 0, error
    assert output.count(said) == 1
    code, output, error = call("data", "stats", "corpus=folder", f"path={tmp_path / 'more'}", "--json")
    assert set(json.loads(output)) == {"train", "valid"}
    assert error.startswith(said)
