import hashlib
import io
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from made_corpora import Host, libri_members, noise, write_tar
from pydantic import ValidationError

from wavslm_core.data.corpora import open_split
from wavslm_core.errors import DataError
from wavslm_core.parts.configs import DataConfig
from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_corpora.config import LibriLightConfig, LibriSpeechConfig, LibriTtsConfig, MiniLibriSpeechConfig
from wavslm_corpora.libri import Libri


def write(root: Path, members: dict[str, bytes]) -> None:
    for name, data in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def mini(tmp_path: Path, **options: Any) -> Libri:
    options = {"path": str(tmp_path / "data")} | options
    return Libri(MiniLibriSpeechConfig(**options), cache_dir=tmp_path / "cache")


def serve(host: Host, name: str, members: dict[str, bytes], *, mode: str = "w:gz") -> str:
    data = write_tar(host.folder / name, members, mode=mode).read_bytes()
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.mark.parametrize("inside", ["LibriSpeech", ""])
def test_speakers_splits_and_transcripts(tmp_path: Path, inside: str) -> None:
    root = tmp_path / "data" / inside
    write(root, libri_members("", "train-clean-5", speakers=3))
    write(root, libri_members("", "dev-clean-2", speakers=1))
    write(root, libri_members("", "not-asked-for"))
    corpus = mini(tmp_path, transcripts=True)
    train, valid = corpus.utterances("train"), corpus.utterances("valid")
    assert (len(train), len(valid)) == (12, 4)
    assert [utterance.speaker for utterance in train] == ["100"] * 4 + ["101"] * 4 + ["102"] * 4
    assert train[5].id == "train-clean-5/101/1/101-1-0001.flac"
    assert train[5].text == "SPEAKER 101 SAYS 1"
    assert train[5].seconds == 1.5
    waveform = corpus.load(train[5], sample_rate_hz=16000)
    torch.testing.assert_close(waveform, torch.from_numpy(noise(1.5, seed=112)), atol=1e-4, rtol=0)
    assert mini(tmp_path).utterances("train")[5].text is None
    with pytest.raises(DataError, match="no split 'test' here, only train, valid"):
        corpus.utterances("test")


def test_transcripts_of_libritts_are_beside_each_file(tmp_path: Path) -> None:
    folder = tmp_path / "LibriTTS" / "dev-clean" / "84" / "1"
    write(tmp_path, libri_members("LibriTTS/", "dev-clean", suffix="wav"))
    folder.mkdir(parents=True)
    soundfile.write(folder / "84_1_0.wav", noise(1, rate_hz=24000), 24000)
    (folder / "84_1_0.normalized.txt").write_text("Hello there.\n")
    config = LibriTtsConfig(path=str(tmp_path), transcripts=True)
    (found,) = [
        item
        for item in Libri(config, cache_dir=tmp_path / "cache").utterances("valid")
        if item.speaker == "84"
    ]
    assert (found.text, found.sample_rate_hz) == ("Hello there.", 24000)


def test_missing_subsets_are_downloaded_when_their_split_is_opened(host: Host, tmp_path: Path) -> None:
    sums = {
        subset: serve(host, f"{subset}.tar.gz", libri_members("LibriSpeech/", subset))
        for subset in ("train-clean-5", "dev-clean-2")
    }
    corpus = mini(tmp_path, download=True, url=host.url, checksums=sums)
    assert len(corpus.utterances("valid")) == 8
    assert [path for path, _ in host.asked] == ["/dev-clean-2.tar.gz"]
    before = corpus.fingerprint("valid")
    assert len(corpus.utterances("train")) == 8
    assert corpus.fingerprint("valid") == before
    root = tmp_path / "data" / "LibriSpeech"
    assert sorted(path.name for path in root.iterdir() if path.name[0] != ".") == [
        "dev-clean-2",
        "train-clean-5",
    ]
    host.asked.clear()
    again = mini(tmp_path, download=True, url=host.url, checksums=sums, rescan=False)
    assert len(again.utterances("train")) == 8
    # A path to the corpus's own folder is as good.
    inner = mini(tmp_path, path=str(root), download=True, url=host.url)
    assert inner.fingerprint("train") == again.fingerprint("train")
    assert host.asked == []


def test_a_subset_that_comes_later_is_seen_without_rescan(tmp_path: Path) -> None:
    write(tmp_path / "data", libri_members("", "train-clean-5"))
    assert len(mini(tmp_path, rescan=False).utterances("train")) == 8
    write(tmp_path / "data", libri_members("", "dev-clean-2"))
    assert len(mini(tmp_path, rescan=False).utterances("valid")) == 8


def test_of_two_at_once_one_downloads(host: Host, tmp_path: Path) -> None:
    serve(host, "train-clean-5.tar.gz", libri_members("LibriSpeech/", "train-clean-5"))
    lengths: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: lengths.append(
                len(mini(tmp_path, download=True, url=host.url).utterances("train"))
            )
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lengths == [8, 8, 8]
    assert len(host.asked) == 1


def test_a_wrong_archive_is_refused(host: Host, tmp_path: Path) -> None:
    corpus = mini(tmp_path, download=True, url=host.url, checksums={"train-clean-5": f"md5:{'0' * 32}"})
    with pytest.raises(DataError, match=r"the server answers 404.*put it to .*train-clean-5.tar.gz.*mirror"):
        corpus.utterances("train")
    serve(host, "train-clean-5.tar.gz", libri_members("LibriSpeech/", "train-clean-5"))
    with pytest.raises(DataError, match="is not the file that is expected"):
        corpus.utterances("train")
    unchecked = mini(tmp_path, download=True, url=host.url)
    serve(host, "train-clean-5.tar.gz", libri_members("LibriSpeech/", "something-else"))
    with pytest.raises(DataError, match="holds no folder 'train-clean-5'"):
        unchecked.utterances("train")
    archive = tmp_path / "data" / "LibriSpeech" / "train-clean-5.tar.gz"
    whole = serve_bytes(libri_members("LibriSpeech/", "train-clean-5"))
    for damaged in (whole[: len(whole) // 2], b"no archive", whole[:2000] + b"x" * 2000 + whole[4000:]):
        archive.write_bytes(damaged)
        with pytest.raises(DataError, match=r"cannot be unpacked.*Delete it and run again"):
            unchecked.utterances("train")
        assert not (archive.parent / "train-clean-5").exists()
    archive.write_bytes(whole)
    assert len(unchecked.utterances("train")) == 8


def serve_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_an_archive_cannot_write_outside(host: Host, tmp_path: Path) -> None:
    members = libri_members("LibriSpeech/", "train-clean-5") | {"../../escaped.txt": b"x"}
    serve(host, "train-clean-5.tar.gz", members)
    with pytest.raises(DataError, match="cannot be unpacked"):
        mini(tmp_path, download=True, url=host.url).utterances("train")
    assert list(tmp_path.rglob("escaped.txt")) == []


def test_libri_light_is_cut_and_keeps_speakers_apart(host: Host, tmp_path: Path) -> None:
    members = {
        f"small/{speaker}/book/{number}.flac": data
        for speaker in range(20)
        for number, data in enumerate([*libri_members("", "x", speakers=1).values()][:2])
    }
    serve(host, "small.tar", members, mode="w")
    options = {"path": str(tmp_path / "data"), "download": True, "url": host.url, "valid_fraction": 0.2}
    config = LibriLightConfig(cut={"by": "fixed", "seconds": 0.5, "shortest_seconds": 0.4}, **options)
    corpus = Libri(config, cache_dir=tmp_path / "cache")
    train, valid = corpus.utterances("train"), corpus.utterances("valid")
    assert len(train) + len(valid) == 20 * (1 + 3)
    assert {item.speaker for item in train}.isdisjoint(item.speaker for item in valid)
    assert {item.seconds for item in train} == {0.5}
    assert len(corpus.load(train[3], sample_rate_hz=24000)) == 12000
    assert LibriLightConfig(path="x").cut is not None


def test_recipes_name_them(tmp_path: Path) -> None:
    names = {"librispeech", "mini_librispeech", "libritts", "libri_light", "hub", "webdataset"}
    assert names <= set(load_registry().names("corpus"))
    recipe = resolve(
        recipe_from_dict(
            {"name": "r", "data": {"corpus": "librispeech", "path": "x", "train": ["train-clean-100"]}},
            source="test",
        )
    )
    assert recipe.data.corpus_for("train").expected_seconds("train") == pytest.approx(100.6 * 3600)
    assert LibriLightConfig(path="x", train=("small", "medium", "large")).expected_seconds("train") == (
        pytest.approx(57704 * 3600)
    )
    assert MiniLibriSpeechConfig(path="x").expected_seconds("train") is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": ("train-clean-10",)}, "train-clean-100"),
        ({"train": ("dev-clean",)}, "'dev-clean' is in train and in valid"),
        ({"test": ("dev-other", "dev-other")}, "'dev-other' is twice in test"),
        ({"url": "ftp://somewhere"}, "url"),
        ({"checksums": {"dev-clean": "md5:12"}}, "allowed are sha256: and 64 hex digits"),
    ],
)
def test_what_a_recipe_can_get_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LibriSpeechConfig(path="x", **options)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"subset 'train-clean-5' is not in .*data.download: true"):
        mini(tmp_path).utterances("train")
    (tmp_path / "data" / "train-clean-5").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no audio file; delete it"):
        mini(tmp_path).utterances("train")
    write(tmp_path / "data", {"train-clean-5/1/1/1-1-0.flac": b""})
    data = DataConfig((("train", MiniLibriSpeechConfig(path=str(tmp_path / "data"))),))
    with pytest.raises(DataError, match=r"no usable audio \(1 files were left out"):
        open_split(data, "train", cache_dir=tmp_path / "cache")
