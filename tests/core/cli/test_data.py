import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.support import Command
from wavslm_core.data.corpora import Rejected
from wavslm_core.data.token_writer import ShardRecord, TokenWriter


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


def test_numbers_are_those_of_the_files(run: Command, speech: Path, tmp_path: Path) -> None:
    arguments = ["wavslm", "data", "stats", "corpus=folder", f"path={speech}", "speaker_separator='-'"]
    document = json.loads(run(*arguments, "--json").stdout)
    train = document["train"]
    assert train["utterances"] == 3
    assert train["hours"] * 3600 == pytest.approx(6)
    assert train["seconds"]["shortest"] == pytest.approx(1)
    assert train["seconds"]["median"] == pytest.approx(2)
    assert train["seconds"]["longest"] == pytest.approx(3)
    for by, keys in (("rate_hz", ["16000", "22050"]), ("channels", ["1", "2"]), ("speaker", ["anna", "bob"])):
        assert train[f"hours_by_{by}"] == pytest.approx(dict.fromkeys(keys, 3 / 3600))
    assert sum(train["histogram"]["utterances"]) == 3
    assert [item["id"] for item in train["rejected"]] == ["train/dan-1.wav"]
    assert document["valid"]["utterances"] == 1
    output = run(*arguments, "--split", "train", "--picture", "deep/p.png").stdout
    assert "valid" not in output
    assert "train/dan-1.wav" in output
    assert "is empty (0 bytes)" in output
    assert "█" * 40 in output
    assert (tmp_path / "deep" / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_recipe_names_the_corpus_and_cuts_count(run: Command, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"name: r\ndata: {{corpus: folder, path: '{speech}'}}\n")
    arguments = ["wavslm", "data", "stats", "r.yaml", "data.cut.by=fixed", "data.cut.seconds=1"]
    assert json.loads(run(*arguments, "--json").stdout)["train"]["utterances"] == 6
    assert "not known" in run(*arguments).stdout


def test_a_corpus_that_is_made_up_counts_too(run: Command) -> None:
    corpus = ["corpus=tiny_speech", "minutes=0.5", "valid_minutes=0.2"]
    output = run("wavslm", "data", "stats", *corpus, "--split", "valid", "--json").stdout
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
    run: Command, speech: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty.yaml").write_text("name: empty\n")
    arguments = [argument.replace("SPEECH", str(speech)) for argument in arguments]
    assert message in run("wavslm", "data", "stats", *arguments, code=2).stderr


def test_what_tokenising_left_out_is_listed_by_shard(run: Command, tmp_path: Path) -> None:
    store = tmp_path / "run" / "tokens" / "train"
    writer = TokenWriter(store, fingerprint={}, plan="p", shards=2, vocab_size=8, token_rate_hz=50.0, align=1)
    tokens = torch.arange(4).numpy()
    for number in (1, 0):
        record = ShardRecord([f"{number}"], [4], [Rejected(f"bad{number}", "is cut off")], 1.0, 1.0)
        writer.write(number, [tokens], record)
        (store / "records" / f".writing-0123456{number}-00002.json").write_text("{")
        if number == 1:
            done = run("wavslm", "data", "rejected", "run")
            assert done.stdout == "train\t00001\tbad1\tis cut off\n"
            assert "train: 1 left out" in done.stderr
    writer.finish(also_rejected=[Rejected("worse", "is empty")])
    for place in ("run", store):
        assert run("wavslm", "data", "rejected", place).stdout.splitlines() == [
            "train\tscan\tworse\tis empty",
            "train\t00000\tbad0\tis cut off",
            "train\t00001\tbad1\tis cut off",
        ]
    for place, message in (("nowhere", "does not exist"), (tmp_path, "holds no token store")):
        assert message in run("wavslm", "data", "rejected", place, code=2).stderr


def test_files_in_no_split_are_counted_and_named(run: Command, speech: Path, tmp_path: Path) -> None:
    shutil.copytree(speech, tmp_path / "more")
    shutil.copytree(speech / "valid", tmp_path / "more" / "extra")
    said = f"1 file is in no split: 1 in {tmp_path / 'more' / 'extra'}. Move them, or name"
    arguments = ["wavslm", "data", "stats", "corpus=folder", f"path={tmp_path / 'more'}"]
    assert run(*arguments).stdout.count(said) == 1
    done = run(*arguments, "--json")
    assert set(json.loads(done.stdout)) == {"train", "valid"}
    assert done.stderr.startswith(said)
