import gzip
import io
import json
import os
import sys
import tarfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from made_corpora import Host, encoded, noise, write_tar
from pydantic import ValidationError

from wavslm_core.errors import AudioError, DataError, PluginError
from wavslm_corpora import tar_index
from wavslm_corpora.config import WebDatasetConfig
from wavslm_corpora.tar_index import offset_of
from wavslm_corpora.tar_shelf import TarShelf
from wavslm_corpora.tars import Tars


def seconds_of(number: int) -> float:
    return 0.3 + 0.1 * (number % 5)


def members(first: int, count: int = 6, *, kind: str = "flac") -> dict[str, bytes]:
    """Return samples as the library writes them, the recording after its notes, numbers falling."""
    found: dict[str, bytes] = {}
    for number in reversed(range(first, first + count)):
        found[f"{number:06d}.json"] = json.dumps({"speaker": number // 4, "text": f"json {number}"}).encode()
        if number % 2:
            found[f"{number:06d}.txt"] = f"txt {number}\n".encode()
        found[f"{number:06d}.{kind}"] = encoded(noise(seconds_of(number), seed=number), kind=kind)
        found[f"{number:06d}.cls"] = b"3"
    return found


def tars(folder: Path, count: int = 3, **options: Any) -> list[Path]:
    return [
        write_tar(folder / f"part-{index:03d}.tar", members(6 * index, **options)) for index in range(count)
    ]


def open_tars(tmp_path: Path, train: Any, **options: Any) -> Tars:
    return Tars(WebDatasetConfig(train=train, **options), cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("kind", ["flac", "wav", "ogg", "mp3"])
def test_any_member_is_read_at_random(tmp_path: Path, kind: str) -> None:
    tars(tmp_path / "tars", kind=kind)
    corpus = open_tars(tmp_path, f"{tmp_path}/tars/part-{{000..002}}.tar", valid_fraction=0)
    utterances = corpus.utterances("train")
    assert [item.id for item in utterances] == [
        f"part-{number // 6:03d}.tar/{number:06d}.{kind}" for number in range(18)
    ]
    assert [item.speaker for item in utterances] == [str(number // 4) for number in range(18)]
    assert [item.text for item in utterances[:2]] == ["json 0", "txt 1"]
    for number in (17, 3, 8, 0):
        assert utterances[number].seconds == pytest.approx(seconds_of(number), abs=0.1)
        waveform = corpus.load(utterances[number], sample_rate_hz=16000)
        if kind in ("flac", "wav"):
            expected = torch.from_numpy(noise(seconds_of(number), seed=number))
            torch.testing.assert_close(waveform, expected, atol=1e-4, rtol=0)
            crop = corpus.load_crop(utterances[number], start=1000, samples=500, sample_rate_hz=16000)
            torch.testing.assert_close(crop, waveform[1000:1500])


def test_reading_one_touches_only_its_bytes(tmp_path: Path) -> None:
    (tar,) = tars(tmp_path, 1)
    corpus = open_tars(tmp_path, str(tar), valid_fraction=0, rescan=False)
    utterances = corpus.utterances("train")
    last = corpus.load(utterances[0], sample_rate_hz=16000)
    data = bytearray(tar.read_bytes())
    manifest = corpus.manifest
    place = manifest.find(utterances[0].id)
    assert place is not None
    start = offset_of(int(manifest.stamps[place]))
    end = start + int(manifest.sizes[place])
    for index in range(len(data)):
        if not start <= index < end:
            data[index] = 0
    tar.write_bytes(data)
    assert torch.equal(corpus.load(utterances[0], sample_rate_hz=16000), last)


def test_splits_and_speakers(tmp_path: Path) -> None:
    paths = tars(tmp_path / "tars", 8)
    divided = open_tars(tmp_path, f"{tmp_path}/tars/part-*.tar", valid_fraction=0.3)
    train, valid = divided.utterances("train"), divided.utterances("valid")
    assert len(train) + len(valid) == 48
    assert {item.speaker for item in train}.isdisjoint(item.speaker for item in valid)
    with pytest.raises(DataError, match=r"no split 'test'; name its tars in `data.test`"):
        divided.utterances("test")
    with pytest.raises(DataError, match="no split 'tset'"):
        divided.utterances("tset")
    named = open_tars(tmp_path, [str(path) for path in paths[:6]], valid=str(paths[6]), test=[str(paths[7])])
    assert [len(named.utterances(split)) for split in ("train", "valid", "test")] == [36, 6, 6]


def test_a_changed_tar_is_read_again_and_the_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = tars(tmp_path / "tars")
    pattern = f"{tmp_path}/tars/*.tar"
    before = open_tars(tmp_path, pattern, valid_fraction=0).fingerprint("train")
    read: list[str] = []
    original = Tars.source_of

    def counting(self: Tars, recording: Any) -> Any:
        read.append(recording.name)
        return original(self, recording)

    monkeypatch.setattr(Tars, "source_of", counting)
    assert open_tars(tmp_path, pattern, valid_fraction=0).fingerprint("train") == before
    assert read == []
    write_tar(paths[1], members(6, 7))
    again = open_tars(tmp_path, pattern, valid_fraction=0)
    assert len(again.utterances("train")) == 19
    assert again.fingerprint("train") != before
    assert {name.partition("/")[0] for name in read} == {"part-001.tar"}


def test_another_recording_in_the_same_place_is_another_content(tmp_path: Path) -> None:
    content = {f"{name}.wav": encoded(noise(0.5, seed=seed), kind="wav") for seed, name in enumerate("abc")}
    tar = write_tar(tmp_path / "a.tar", content)
    before = open_tars(tmp_path, str(tar), valid_fraction=0)
    fingerprint, utterances = before.fingerprint("train"), before.utterances("train")
    os.utime(tar, (1, 1))
    assert open_tars(tmp_path, str(tar), valid_fraction=0).fingerprint("train") == fingerprint
    content["b.wav"] = encoded(noise(0.5, seed=9), kind="wav")
    write_tar(tar, content)
    with pytest.raises(AudioError, match=r"has changed since it was scanned: a\.tar/b\.wav"):
        before.load(utterances[1], sample_rate_hz=16000)
    again = open_tars(tmp_path, str(tar), valid_fraction=0)
    assert again.fingerprint("train") != fingerprint
    assert [item.samples for item in again.utterances("train")] == [8000] * 3
    waveform = again.load(again.utterances("train")[1], sample_rate_hz=16000)
    torch.testing.assert_close(waveform, torch.from_numpy(noise(0.5, seed=9)), atol=1e-4, rtol=0)


def test_opening_again_fetches_nothing(host: Host, tmp_path: Path) -> None:
    paths = tars(host.folder)
    url = f"{host.url}/part-{{000..002}}.tar"
    room = 1.5 * max(path.stat().st_size for path in paths)
    options = {"valid_fraction": 0, "keep_gb": room / 1e9}
    fingerprint = open_tars(tmp_path, url, **options).fingerprint("train")
    host.asked.clear()
    assert open_tars(tmp_path, url, **options).fingerprint("train") == fingerprint
    assert host.asked == []


def test_a_copy_that_made_room_is_fetched_again(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tars(host.folder, 1)
    original, deleted = TarShelf.local, []

    def gone_once(self: TarShelf, place: str) -> Path:
        copy = original(self, place)
        if not deleted:
            deleted.append(copy)
            copy.unlink()
        return copy

    monkeypatch.setattr(TarShelf, "local", gone_once)
    corpus = open_tars(tmp_path, f"{host.url}/part-000.tar", valid_fraction=0)
    assert len(corpus.utterances("train")) == 6
    assert len(deleted) == 1


def test_bad_members_are_left_out_with_a_reason(tmp_path: Path) -> None:
    content = members(0, 2) | {"000007.flac": b"", "000008.wav": b"no audio", "000009.json": b"{broken"}
    write_tar(tmp_path / "a.tar", content | {"000009.flac": encoded(noise(0.3))})
    corpus = open_tars(tmp_path, f"{tmp_path}/a.tar", valid_fraction=0)
    assert len(corpus.utterances("train")) == 3
    reasons = {item.id: item.reason for item in corpus.rejected("train")}
    assert list(reasons) == ["a.tar/000007.flac", "a.tar/000008.wav"]
    assert "is empty" in reasons["a.tar/000007.flac"]
    assert "cannot be read as audio" in reasons["a.tar/000008.wav"]


def test_members_are_cut_like_files(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"long.flac": encoded(noise(5.0))})
    cut = {"by": "fixed", "seconds": 2, "shortest_seconds": 0.5}
    corpus = open_tars(tmp_path, f"{tmp_path}/a.tar", valid_fraction=0, cut=cut)
    utterances = corpus.utterances("train")
    assert [item.seconds for item in utterances] == [2, 2, 1]
    waveform = corpus.load(utterances[1], sample_rate_hz=16000)
    torch.testing.assert_close(waveform, torch.from_numpy(noise(5.0)[32000:64000]), atol=1e-4, rtol=0)


def test_tars_elsewhere_are_fetched_once_and_room_is_bounded(host: Host, tmp_path: Path) -> None:
    paths = tars(host.folder)
    room = 2.5 * max(path.stat().st_size for path in paths)
    url = f"{host.url}/part-{{000..002}}.tar"
    kept = open_tars(tmp_path / "kept", url, valid_fraction=0)
    first = [kept.load(item, sample_rate_hz=16000) for item in kept.utterances("train")]
    assert [path for path, _ in host.asked] == ["/part-000.tar", "/part-001.tar", "/part-002.tar"]
    bounded = open_tars(tmp_path / "bounded", url, valid_fraction=0, keep_gb=room / 1e9)
    copies = tmp_path / "bounded" / "cache" / "webdataset-tars"
    for item, expected in zip(bounded.utterances("train"), first, strict=True):
        assert torch.equal(bounded.load(item, sample_rate_hz=16000), expected)
        assert sum(path.stat().st_size for path in copies.glob("*.tar")) <= room
    local = open_tars(tmp_path / "local", f"{host.folder}/*.tar", valid_fraction=0)
    assert local.fingerprint("train") == kept.fingerprint("train")
    with pytest.raises(DataError, match=r"the server answers 404\. Check the URL, or copy the tars"):
        open_tars(tmp_path, f"{host.url}/nowhere.tar").utterances("train")


def test_other_schemes_go_through_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tar,) = tars(tmp_path, 1)
    # `file:` is the one scheme of the library that needs no host.
    gopen = import_module("webdataset.gopen")
    monkeypatch.setitem(gopen.gopen_schemes, "file", gopen.gopen_schemes["http"])
    corpus = open_tars(tmp_path, f"file://{tar}", valid_fraction=0)
    assert len(corpus.utterances("train")) == 6
    with pytest.raises(DataError, match="cannot be fetched"):
        open_tars(tmp_path, f"file://{tmp_path}/nowhere.tar").utterances("train")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("pipe:cat x.tar", "would run a command, which recipes may not"),
        ("s3://bucket/x.tar", r"'s3' is not among .*https.*For S3 give the bucket's https:// URLs"),
        ("htps://x/y.tar", "'htps' is not among .*Did you mean 'https'"),
        ("x.tar.gz", "compressed tars have no random access. Unpack it with gunzip"),
        ("nowhere/x.tar", "no file is nowhere/x.tar"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, place: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_tars(tmp_path, place).utterances("train")


def test_damaged_tars_are_refused(tmp_path: Path) -> None:
    (tar,) = tars(tmp_path, 1)
    whole = tar.read_bytes()
    for damaged, message in (
        (whole[: len(whole) // 2], "cut off|damaged"),
        (whole[:-10240], "damaged or cut off|cut off"),
        (b"no tar at all" * 100, "is no plain tar"),
        (gzip.compress(whole), "is no plain tar.*gunzip"),
        (b"", "is no plain tar"),
    ):
        tar.write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            open_tars(tmp_path, str(tar)).utterances("train")
    write_tar(tar, {"notes.txt": b"x"})
    with pytest.raises(DataError, match=r"hold no WAV, FLAC, .* or NIST member"):
        open_tars(tmp_path, str(tar)).utterances("train")


def test_two_tars_of_one_name_are_refused(tmp_path: Path) -> None:
    first, second = (tars(tmp_path / name, 1)[0] for name in "ab")
    with pytest.raises(DataError, match="have the same name"):
        open_tars(tmp_path, [str(first), str(second)]).utterances("train")


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset.shardlists", None)
    with pytest.raises(PluginError, match=r"needs the package webdataset.*pip install 'wavslm-corpora\[web"):
        open_tars(tmp_path, "x.tar").utterances("train")


@pytest.mark.parametrize(
    "options", [{"train": []}, {"train": "x", "keep_gb": 0}, {"train": "x", "shuffle": 3}]
)
def test_what_a_recipe_can_get_wrong(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WebDatasetConfig(**options)


def test_lengths_are_what_decodes_in_tars_too(tmp_path: Path) -> None:
    mp3, ogg = encoded(noise(1.0), kind="mp3"), encoded(noise(1.0), kind="ogg")
    flac = bytearray(encoded(noise(1.0)))
    flac[21:26] = bytes((flac[21] & 0xF0, 0, 0, 0, 0))
    write_tar(tmp_path / "a.tar", {"a.mp3": mp3 + mp3, "b.ogg": ogg * 3, "c.flac": bytes(flac)})
    corpus = open_tars(tmp_path, f"{tmp_path}/a.tar", valid_fraction=0)
    utterances = corpus.utterances("train")
    assert [item.seconds for item in utterances] == [2, 3, 1]
    for item in utterances:
        whole = corpus.load(item, sample_rate_hz=16000)
        assert len(whole) == item.samples
        crop = corpus.load_crop(item, start=item.samples - 900, samples=500, sample_rate_hz=16000)
        torch.testing.assert_close(crop, whole[-900:-400], atol=1e-3, rtol=0)


def test_a_sample_is_what_has_one_name_up_to_the_first_point(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audio = encoded(noise(0.3))
    content = {
        "in.v1/u1.speech.flac": audio,
        "in.v1/u1.json": b'{"speaker": "anna", "text": "one"}',
        "in.v1/u2.near.flac": audio,
        "in.v1/u2.far.flac": audio,
        "in.v1/u2.far.json": b'{"speaker": "bob"}',
        "in.v1/u2.txt": b"two",
        "in.v1/u2.json": b'{"speaker": "cy"}',
        "u3.meta.json": b'{"speaker": "dan"}',
        "u3.flac": audio,
        "u4.json": b"{broken",
        "u4.flac": audio,
    }
    write_tar(tmp_path / "a.tar", content)
    utterances = open_tars(tmp_path, f"{tmp_path}/a.tar", valid_fraction=0).utterances("train")
    assert {item.id.partition("/")[2]: (item.speaker, item.text) for item in utterances} == {
        "in.v1/u1.speech.flac": ("anna", "one"),
        "in.v1/u2.far.flac": ("bob", "two"),
        "in.v1/u2.near.flac": ("cy", "two"),
        "u3.flac": (None, None),
        "u4.flac": (None, None),
    }
    assert "a.tar: 1 notes tell of no recording: u3.meta" in caplog.text
    assert "a.tar: u4.json is no JSON object" in caplog.text


def test_of_two_members_of_one_name_the_second_is_left_out_with_a_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_tar(tmp_path / "a.tar", {"u.flac": encoded(noise(0.3)), "u.json": b'{"speaker": "anna"}'})
    write_tar(tmp_path / "a.tar", {"u.flac": encoded(noise(0.5)), "u.json": b'{"speaker": "bob"}'}, mode="a")
    corpus = open_tars(tmp_path, f"{tmp_path}/a.tar", valid_fraction=0)
    (utterance,) = corpus.utterances("train")
    assert (utterance.id, utterance.seconds, utterance.speaker) == ("a.tar/u.flac", 0.3, "anna")
    (rejected,) = corpus.rejected("train")
    assert rejected.id == "a.tar/u.flac#2"
    assert "holds 2 members called u.flac: only the first counts; rename the others" in rejected.reason
    assert "of members of one name only the first counts: u.flac, u.json" in caplog.text


def test_notes_and_names_with_null_characters_leave_an_index_that_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"u1.txt": b"one\0 t\0wo", "u1.flac": encoded(noise(0.3))}
    tar = write_tar(tmp_path / "a.tar", content)
    with tarfile.open(tar, "a") as archive:
        member = tarfile.TarInfo("u2")
        member.pax_headers, member.size = {"path": "u2\0.flac"}, len(content["u1.flac"])
        archive.addfile(member, io.BytesIO(content["u1.flac"]))
    corpus = open_tars(tmp_path, str(tar), valid_fraction=0)
    (utterance,) = corpus.utterances("train")
    assert (utterance.id, utterance.text) == ("a.tar/u1.flac", "one two")
    assert [item.id for item in corpus.rejected("train")] == [r"a.tar/u2\x00.flac"]
    monkeypatch.setattr(tar_index, "_recordings", None)
    again = open_tars(tmp_path, str(tar), valid_fraction=0)
    assert [item.text for item in again.utterances("train")] == ["one two"]
    assert not caplog.text


def test_an_index_that_cannot_be_read_is_made_again_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tar,) = tars(tmp_path, 1)
    assert len(open_tars(tmp_path, str(tar), valid_fraction=0).utterances("train")) == 6
    assert not caplog.text
    (index,) = (tmp_path / "cache" / "webdataset-index").iterdir()
    whole = index.read_bytes()
    index.write_bytes(whole[:-10])
    assert len(open_tars(tmp_path, str(tar), valid_fraction=0).utterances("train")) == 6
    assert f"{index} cannot be read (" in caplog.text
    assert "all of part-000.tar is read to make it again" in caplog.text
    assert index.read_bytes() == whole
