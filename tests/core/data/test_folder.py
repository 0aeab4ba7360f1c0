import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.support import sound_bytes
from wavslm_core.data import audio_files
from wavslm_core.data.audio import write_audio
from wavslm_core.data.audio_files import proven_info
from wavslm_core.data.audio_tree import walk
from wavslm_core.data.corpora import open_split, outside_in_words
from wavslm_core.data.folder import Folder, FolderConfig
from wavslm_core.data.manifest import Strings
from wavslm_core.errors import DataError
from wavslm_core.parts.configs import EVERY_SPLIT, DataConfig

SHARED = Path(os.environ.get("WAVSLM_SHARED", Path(__file__).resolve().parents[3] / "../shared"))


def write(path: Path, seconds: float = 0.2, rate_hz: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.ones(round(seconds * rate_hz), np.float32), rate_hz)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the corpus will be, with nothing there yet."""
    return tmp_path / "speech"


def open_folder(root: Path, cache: Path | None = None, **options: Any) -> Folder:
    """Open a corpus, by default with the cache beside it."""
    return Folder(FolderConfig(path=str(root), **options), cache_dir=cache or root.parent / "cache")


def ids(folder: Folder, split: str) -> list[str]:
    return [utterance.id for utterance in folder.utterances(split)]


def test_usual_subfolders_are_splits(root: Path) -> None:
    for name in (
        "train/a/x.wav",
        "train/y.flac",
        "dev/z.ogg",
        "test/w.mp3",
        "train/notes.txt",
        ".hidden/h.wav",
    ):
        if name.endswith(".txt"):
            (root / name).write_text("not audio")
        else:
            write(root / name)
    folder = open_folder(root)
    assert ids(folder, "train") == ["train/a/x.wav", "train/y.flac"]
    assert ids(folder, "valid") == ["dev/z.ogg"]
    assert ids(folder, "test") == ["test/w.mp3"]
    with pytest.raises(DataError, match="no split 'tset'"):
        folder.utterances("tset")


def test_a_flat_tree_is_divided_by_a_stable_hash(root: Path) -> None:
    for number in range(60):
        write(root / f"{number:03d}.wav", 0.01)
    folder = open_folder(root, valid_fraction=0.3)
    train, valid = set(ids(folder, "train")), set(ids(folder, "valid"))
    assert train | valid == {f"{number:03d}.wav" for number in range(60)}
    assert not train & valid
    assert 8 <= len(valid) <= 28
    for number in range(60, 80):
        write(root / f"{number:03d}.wav", 0.01)
    grown = open_folder(root, valid_fraction=0.3)
    assert train < set(ids(grown, "train"))
    assert valid < set(ids(grown, "valid"))


def test_speakers_are_never_divided(root: Path) -> None:
    for speaker in range(12):
        for number in range(3):
            write(root / f"{speaker}-{number}.wav", 0.01)
            write(root / "by-folder" / f"s{speaker}" / f"{number}.wav", 0.01)
    folder = open_folder(root, valid_fraction=0.4, speaker_separator="-")
    train = {u.speaker for u in folder.utterances("train") if "/" not in u.id}
    valid = {u.speaker for u in folder.utterances("valid") if "/" not in u.id}
    assert train | valid == {str(speaker) for speaker in range(12)}
    assert not train & valid
    assert valid
    nested = open_folder(root / "by-folder", root.parent / "cache", valid_fraction=0.4, speaker_separator="/")
    assert {u.speaker for u in nested.utterances("train")}.isdisjoint(
        u.speaker for u in nested.utterances("valid")
    )


def test_bad_files_are_listed_not_fatal(root: Path) -> None:
    write(root / "good.wav")
    (root / "empty.wav").write_bytes(b"")
    (root / "text.flac").write_text("certainly not audio")
    (root / "gone.wav").symlink_to(root / "nowhere.wav")
    folder = open_folder(root, valid_fraction=0)
    assert ids(folder, "train") == ["good.wav"]
    reasons = {item.id: item.reason for item in folder.rejected("train")}
    assert set(reasons) == {"empty.wav", "gone.wav", "text.flac"}
    assert "link to nothing" in reasons["gone.wav"]
    assert "is empty" in reasons["empty.wav"]


def test_manifest_is_remembered_and_follows_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.wav", "b.wav"):
        write(root / name)
    first = open_folder(root, valid_fraction=0)
    fingerprint = first.fingerprint("train")
    read: list[str] = []

    def counting(path: Path) -> Any:
        read.append(path.name)
        return proven_info(path)

    monkeypatch.setattr("wavslm_core.data.audio_files.proven_info", counting)
    again = open_folder(root, valid_fraction=0)
    assert again.utterances("train") == first.utterances("train")
    assert again.fingerprint("train") == fingerprint
    assert read == []
    write(root / "b.wav", 0.5)
    write(root / "c.wav")
    changed = open_folder(root, valid_fraction=0)
    assert [round(u.seconds, 3) for u in changed.utterances("train")] == [0.2, 0.5, 0.2]
    assert sorted(read) == ["b.wav", "c.wav"]
    assert changed.fingerprint("train") != fingerprint
    (root / "a.wav").unlink()
    assert ids(open_folder(root, valid_fraction=0), "train") == ["b.wav", "c.wav"]


@pytest.mark.parametrize("file", ["manifest.json", "names.txt", "samples.npy", "reasons_offsets.npy"])
def test_a_damaged_manifest_is_made_again(root: Path, tmp_path: Path, file: str) -> None:
    write(root / "a.wav")
    before = open_folder(root).fingerprint("train")
    (damaged,) = (tmp_path / "cache").glob(f"folder-*/{file}")
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    assert open_folder(root).fingerprint("train") == before
    assert damaged.read_bytes() == whole


def test_without_rescan_the_manifest_is_trusted(root: Path) -> None:
    write(root / "a.wav")
    assert ids(open_folder(root, valid_fraction=0, rescan=False), "train") == ["a.wav"]
    write(root / "b.wav")
    assert ids(open_folder(root, valid_fraction=0, rescan=False), "train") == ["a.wav"]
    assert len(ids(open_folder(root, valid_fraction=0), "train")) == 2


def written(kind: str, seconds: float = 1.0) -> bytes:
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * 16000))
    return sound_bytes(noise, format=kind)


@pytest.mark.parametrize(
    ("name", "data", "plain"),
    [
        ("x.wav", written("WAV"), True),
        ("x.flac", written("FLAC"), True),
        ("x.mp3", written("MP3"), False),
        ("x.ogg", written("OGG"), False),
        ("joined.flac", written("FLAC") * 2, False),
        ("unclosed.wav", written("WAV")[:40] + bytes(4) + written("WAV")[44:], False),
    ],
)
def test_tokens_of_files_that_are_read_anew_are_out_of_date_and_of_no_others(
    root: Path, name: str, data: bytes, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.mkdir()
    (root / name).write_bytes(data)
    write(root / "other.wav")
    before = open_folder(root, valid_fraction=0).fingerprint("train")
    monkeypatch.setattr(audio_files, "READER_VERSION", audio_files.READER_VERSION + 1)
    assert (open_folder(root, valid_fraction=0).fingerprint("train") == before) == plain


def test_a_scan_remembers_of_which_files_libsndfile_reads_something_else(root: Path) -> None:
    """Crops of a damaged file are those of the whole; libsndfile alone goes on differently behind damage."""
    root.mkdir()
    mp3 = written("MP3", 2.0)
    (root / "damaged.mp3").write_bytes(mp3[:2000] + bytes(300) + mp3[2300:])
    (root / "whole.mp3").write_bytes(mp3)
    (root / "joined.flac").write_bytes(written("FLAC") * 2)
    folder = open_folder(root, valid_fraction=0)
    assert folder.manifest.mended.tolist() == [1, 1, 0]
    for utterance in open_folder(root, valid_fraction=0).utterances("train"):
        whole = folder.load(utterance, sample_rate_hz=16000)
        for start in range(0, utterance.samples - 500, 1500):
            crop = folder.load_crop(utterance, start=start, samples=500, sample_rate_hz=16000)
            torch.testing.assert_close(crop, whole[start : start + 500], atol=1e-6, rtol=0)


def test_other_splits_do_not_touch_the_fingerprint(root: Path) -> None:
    for name in ("train/b.wav", "valid/c.wav"):
        write(root / name)
    before = open_folder(root).fingerprint("train")
    write(root / "another" / "a.wav")
    write(root / "valid" / "d.wav")
    after = open_folder(root)
    assert after.fingerprint("train") == before
    write(root / "train" / "e.wav")
    assert open_folder(root).fingerprint("train") != before


def test_long_recordings_are_cut_and_only_the_piece_is_read(root: Path) -> None:
    root.mkdir()
    random = np.random.default_rng(0)
    for suffix in ("wav", "flac"):
        soundfile.write(root / f"long.{suffix}", 0.3 * random.standard_normal(16000 * 7), 16000)
    write(root / "short.wav", 0.4)
    cut = {"by": "fixed", "seconds": 3.0, "shortest_seconds": 0.5}
    folder = open_folder(root, valid_fraction=0, cut=cut)
    utterances = folder.utterances("train")
    assert [u.id for u in utterances[:3]] == ["long.flac@0", "long.flac@48000", "long.flac@96000"]
    assert [u.seconds for u in utterances] == [3, 3, 1, 3, 3, 1]
    (rejected,) = folder.rejected("train")
    assert rejected.id == "short.wav"
    assert "is 0.40 s long, cut.shortest_seconds is 0.5" in rejected.reason
    for utterance in utterances:
        name, _, start = utterance.id.partition("@")
        whole = folder.load(utterance, sample_rate_hz=16000)
        there, _ = soundfile.read(root / name, dtype="float32")
        np.testing.assert_array_equal(whole, there[int(start) : int(start) + utterance.samples])
        for rate_hz in (16000, 24000):
            whole = folder.load(utterance, sample_rate_hz=rate_hz)
            crop = folder.load_crop(utterance, start=5000, samples=4000, sample_rate_hz=rate_hz)
            torch.testing.assert_close(crop, whole[5000:9000], atol=1e-5, rtol=0)
    assert folder.fingerprint("train") != open_folder(root, valid_fraction=0).fingerprint("train")


def test_a_piece_is_read_in_the_same_time_wherever_it_lies(root: Path) -> None:
    root.mkdir()
    with soundfile.SoundFile(root / "long.flac", "w", 16000, 1) as file:
        for seed in range(20):
            file.write(0.1 * np.random.default_rng(seed).standard_normal(16000 * 60))
    cut = {"by": "fixed", "seconds": 2.0}
    folder = open_folder(root, valid_fraction=0, cut=cut)
    utterances = folder.utterances("train")

    def fastest(index: int) -> float:
        def once() -> float:
            start = time.perf_counter()
            folder.load(utterances[index], sample_rate_hz=16000)
            return time.perf_counter() - start

        return min(once() for _ in range(5))

    fastest(0)
    started = time.perf_counter()
    soundfile.read(root / "long.flac", dtype="float32")
    whole = time.perf_counter() - started
    assert fastest(590) < whole / 10


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda root: None, {}, "does not exist"),
        (lambda root: root.write_text("x"), {}, "is a file"),
        (lambda root: root.mkdir(), {}, "holds no WAV"),
        (lambda root: write(root / "a.wav"), {"valid": "vaild"}, "no sub-folder 'vaild'"),
    ],
)
def test_what_a_user_can_get_wrong(root: Path, make: Any, options: dict[str, str], message: str) -> None:
    make(root)
    with pytest.raises(DataError, match=message):
        open_folder(root, **options).utterances("train")


def test_loads_at_another_rate(root: Path) -> None:
    write(root / "a.wav", 1.0, 44100)
    folder = open_folder(root, valid_fraction=0)
    (utterance,) = folder.utterances("train")
    assert (utterance.samples, utterance.sample_rate_hz) == (44100, 44100)
    assert len(folder.load(utterance, sample_rate_hz=16000)) == 16000
    crop = folder.load_crop(utterance, start=15000, samples=4000, sample_rate_hz=16000)
    assert len(crop) == 1000


def test_real_speech(tmp_path: Path) -> None:
    if not (SHARED / "speech").is_dir():
        pytest.skip("no speech excerpts beside the repository (set WAVSLM_SHARED)")
    folder = open_folder(SHARED / "speech", tmp_path / "cache", speaker_separator="-")
    train, valid = folder.utterances("train"), folder.utterances("valid")
    assert sum(u.seconds for u in train) / 60 == pytest.approx(52, abs=1)
    assert len(valid) == 50
    assert {u.speaker for u in train}.isdisjoint(u.speaker for u in valid)
    assert float(folder.load(valid[0], sample_rate_hz=24000).abs().max()) > 0.05


def test_a_handful_of_files_still_has_one_for_validation(tmp_path: Path) -> None:
    for name in "abc":
        write_audio(tmp_path / "few" / f"{name}.wav", torch.rand(1600) - 0.5, 16000)
    corpus = Folder(
        FolderConfig(path=str(tmp_path / "few"), valid_fraction=0.001), cache_dir=tmp_path / "cache"
    )
    train, valid = corpus.utterances("train"), corpus.utterances("valid")
    assert len(valid) == 1
    assert len(train) == 2
    assert {item.id for item in train}.isdisjoint(item.id for item in valid)


def test_a_single_file_leaves_nothing_to_validate_and_says_so(tmp_path: Path) -> None:
    write_audio(tmp_path / "one" / "only.wav", torch.rand(1600) - 0.5, 16000)
    config = FolderConfig(path=str(tmp_path / "one"), valid_fraction=0.001)
    with pytest.raises(DataError, match=r"split 'valid' of corpus 'folder' has no usable audio\. Check"):
        open_split(DataConfig(((EVERY_SPLIT, config),)), "valid", cache_dir=tmp_path / "cache")


class Away(Folder):
    """Its files can be listed but not read, as when a mount is lost in between."""

    def source(self, name: str) -> Path:
        return self.root.with_name("away") / name


def test_what_the_system_could_not_read_is_tried_again(root: Path, tmp_path: Path) -> None:
    write(root / "a.wav")
    (root / "b.wav").write_bytes(b"no audio")
    config = FolderConfig(path=str(root), valid_fraction=0)
    away = Away(config, cache_dir=tmp_path / "cache")
    assert [item.id for item in away.rejected("train")] == ["a.wav", "b.wav"]
    trusting = open_folder(root, valid_fraction=0, rescan=False)
    assert ids(trusting, "train") == []
    back = Folder(config, cache_dir=tmp_path / "cache")
    assert ids(back, "train") == ["a.wav"]
    assert [item.id for item in back.rejected("train")] == ["b.wav"]
    # What was made without it is out of date.
    assert back.fingerprint("train") != away.fingerprint("train")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_tried_again(tmp_path: Path) -> None:
    write(root / "a.wav")
    (root / "a.wav").chmod(0)
    assert ids(open_folder(root, valid_fraction=0), "train") == []
    (root / "a.wav").chmod(0o600)
    assert ids(open_folder(root, valid_fraction=0), "train") == ["a.wav"]


@pytest.mark.parametrize("name", ["val", "validation", "Valid", "VAL", "Dev", "eval", "evaluation", "dev"])
def test_usual_names_of_splits_in_any_case(root: Path, name: str) -> None:
    for path in ("Training/a.wav", f"{name}/b.wav", "TEST/c.wav"):
        write(root / path, 0.01)
    folder = open_folder(root)
    assert [ids(folder, split) for split in ("train", "valid", "test")] == [
        ["Training/a.wav"], [f"{name}/b.wav"], ["TEST/c.wav"]
    ]  # fmt: skip
    assert folder.outside_splits() == {}
    assert outside_in_words(folder) == ""


def test_of_several_names_that_with_audio_counts(root: Path) -> None:
    for path in ("train/a.wav", "dev/b.wav", "dev/c.wav"):
        write(root / path, 0.01)
    (root / "valid").mkdir()
    (root / "valid" / "notes.txt").write_text("to be filled")
    assert ids(open_folder(root), "valid") == ["dev/b.wav", "dev/c.wav"]
    write(root / "valid" / "d.wav", 0.01)
    both = open_folder(root)
    assert ids(both, "valid") == ["valid/d.wav"]
    assert both.outside_splits() == {str(root / "dev"): 2}


def test_what_no_split_takes_is_counted_and_named(root: Path) -> None:
    for path in ("train/a.wav", "valid/b.wav", "extra/in/c.wav", "extra/d.wav", "loose.wav", "more/e.wav"):
        write(root / path, 0.01)
    (root / "more" / "bad.wav").touch()
    folder = open_folder(root)
    assert folder.outside_splits() == {str(root / "extra"): 2, str(root / "more"): 2, str(root): 1}
    assert outside_in_words(folder) == (
        f"5 files are in no split: 2 in {root / 'extra'}, 2 in {root / 'more'}, 1 in {root}. Move them, or "
        "name the folders of the splits in `data.train`, `data.valid`, `data.test`"
    )
    # With the training split in a deeper folder, what is beside it is in none.
    deep = open_folder(root, train="extra/in", valid="valid")
    assert deep.outside_splits() == {
        str(root / "extra"): 1, str(root / "more"): 2, str(root): 1, str(root / "train"): 1
    }  # fmt: skip


def test_where_every_file_is_in_a_split_no_name_is_looked_at_to_say_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdefgh":
        write(root / f"{name}.wav", 0.01)
    folder = open_folder(root, valid_fraction=0)
    assert len(folder.recordings_of("train")) == 8
    looked_at: list[int] = []
    monkeypatch.setattr(Strings, "__getitem__", lambda names, index: looked_at.append(index))
    assert folder.outside_splits() == {}
    assert looked_at == []


def test_without_a_folder_for_training_nothing_else_is_lost_but_what_is_meant_for_validation(
    root: Path,
) -> None:
    for path in ("valid/a.wav", "dev/b.wav", "extra/c.wav", "d.wav"):
        write(root / path, 0.01)
    folder = open_folder(root)
    assert ids(folder, "train") == ["d.wav", "extra/c.wav"]
    assert ids(folder, "valid") == ["valid/a.wav"]
    assert folder.outside_splits() == {str(root / "dev"): 1}


def test_linked_folders_are_part_of_the_tree_and_circles_end(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    write(root / "a.wav", 0.01)
    write(elsewhere / "b.wav", 0.01)
    (root / "linked").symlink_to(elsewhere)
    (root / "up").symlink_to(root)
    (elsewhere / "back").symlink_to(root)
    (root / "itself.wav").symlink_to("itself.wav")
    (root / "gone").symlink_to(tmp_path / "unmounted")
    (root / "notes.txt").symlink_to(tmp_path / "nothing")
    folder = open_folder(root, valid_fraction=0)
    assert ids(folder, "train") == ["a.wav", "linked/b.wav"]
    assert {item.id: item.reason for item in folder.rejected("train")} == {
        "gone": "gone is a link to nothing; mend or remove it",
        "itself.wav": "itself.wav is a link to itself; mend or remove it",
    }


def test_a_folder_that_may_not_be_opened_does_not_end_the_rest(
    shared_folder: Path, somebody_else: Callable[[], AbstractContextManager[None]]
) -> None:
    for path in ("a.wav", "closed/b.wav", "z.wav"):
        write(shared_folder / path, 0.01)
    (shared_folder / "closed").chmod(0o700)
    with somebody_else():
        found = list(walk(shared_folder))
    assert [(item.name, item.reason) for item in found] == [
        ("a.wav", ""), ("closed/", "closed/ cannot be opened: Permission denied"), ("z.wav", "")
    ]  # fmt: skip


def test_names_that_look_alike_are_listed_once(root: Path, tmp_path: Path) -> None:
    for name in (b"\xff", rb"\udcff"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/speech/" + name))
        path.mkdir(parents=True)
        (path / "a.wav").touch()
    assert [item.name for item in walk(root)] == [r"\udcff/a.wav"]


def odd_files(root: Path) -> dict[str, float]:
    """Write files, many with headers that say something else than what they hold; return name → seconds."""
    root.mkdir()
    noise = 0.2 * np.random.default_rng(0).standard_normal(16000 * 3)
    noise[8000:] *= 0.01
    for name in ("a.mp3", "b.flac", "c.ogg", "d.wav"):
        soundfile.write(root / name, noise, 16000)
    soundfile.write(root / "gsm.wav", noise, 16000, subtype="GSM610")
    soundfile.write(root / "new.opus", noise, 16000, format="OGG", subtype="OPUS")
    indexed = (root / "a.mp3").read_bytes()
    (root / "joined.mp3").write_bytes(indexed * 2)
    (root / "no-index.mp3").write_bytes(indexed[indexed.index(indexed[:2], 40) :])
    (root / "chain.oga").write_bytes((root / "c.ogg").read_bytes() * 2)
    flac = bytearray((root / "b.flac").read_bytes())
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    (root / "piped.flac").write_bytes(flac)
    wav = bytearray((root / "d.wav").read_bytes())
    wav[40:44] = bytes(4)
    (root / "unclosed.wav").write_bytes(wav)
    return {
        "a.mp3": 3.0,
        "b.flac": 3.0,
        "c.ogg": 3.0,
        "chain.oga": 6.0,
        "d.wav": 3.0,
        "gsm.wav": 3.0,
        "joined.mp3": 6.0,
        "new.opus": 3.0,
        "no-index.mp3": 3.0,
        "piped.flac": 3.0,
        "unclosed.wav": 3.0,
    }


def test_the_length_of_a_recording_is_what_decodes_whatever_its_header_says(root: Path) -> None:
    seconds = odd_files(root)
    folder = open_folder(root, valid_fraction=0)
    utterances = {utterance.id: utterance for utterance in folder.utterances("train")}
    assert folder.rejected("train") == []
    assert {name: round(item.seconds, 1) for name, item in utterances.items()} == pytest.approx(
        seconds, abs=0.15
    )
    for utterance in utterances.values():
        whole = folder.load(utterance, sample_rate_hz=16000)
        assert len(whole) == utterance.samples
        for start in (100, utterance.samples - 4000):
            crop = folder.load_crop(utterance, start=start, samples=3000, sample_rate_hz=16000)
            torch.testing.assert_close(crop, whole[start : start + 3000], atol=1e-3, rtol=0)


@pytest.mark.parametrize("by", ["fixed", "voice_activity"])
def test_cuts_reach_the_end_of_what_decodes(root: Path, by: str) -> None:
    seconds = odd_files(root)
    cut = {"by": by, "seconds": 2.0, "shortest_seconds": 0.5, "margin_seconds": 0.01}
    folder = open_folder(root, valid_fraction=0, cut=cut)
    ends: dict[str, float] = {}
    for utterance in folder.utterances("train"):
        name, _, start = utterance.id.rpartition("@")
        ends[name] = (int(start) + utterance.samples) / 16000
        assert len(folder.load(utterance, sample_rate_hz=16000)) == utterance.samples
    if by == "fixed":
        assert ends == pytest.approx(seconds, abs=0.15)
    else:
        # Loud for half a second, where each part of a joined file starts.
        assert {name for name, end in ends.items() if end > 3} == {"joined.mp3", "chain.oga"}


def test_audio_that_cannot_be_read_is_counted_and_named(root: Path) -> None:
    write(root / "a.wav")
    for name in ("b.m4a", "c.WMA", "d.webm", "e.amr"):
        (root / name).write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    (root / "notes.pdf").write_bytes(b"no audio")
    folder = open_folder(root, valid_fraction=0)
    assert ids(folder, "train") == ["a.wav"]
    reasons = {item.id: item.reason for item in folder.rejected("train")}
    assert set(reasons) == {"b.m4a", "c.WMA", "d.webm", "e.amr"}
    for name, reason in reasons.items():
        assert f"{name} cannot be read as audio" in reason
        assert "convert it to FLAC" in reason


def test_antiphase_stereo_is_remembered_as_what_it_is(root: Path) -> None:
    root.mkdir()
    left = 0.3 * np.sin(np.arange(16000) / 7)
    soundfile.write(root / "a.wav", np.stack([left, -left], axis=1), 16000)
    for _ in range(2):
        folder = open_folder(root, valid_fraction=0)
        (utterance,) = folder.utterances("train")
        waveform = folder.load(utterance, sample_rate_hz=16000)
        np.testing.assert_allclose(waveform, left, atol=1e-4)
        crop = folder.load_crop(utterance, start=50, samples=60, sample_rate_hz=16000)
        torch.testing.assert_close(crop, waveform[50:110])


def test_no_exception_of_one_file_ends_the_scan(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        write(root / name)

    def failing(path: Path) -> Any:
        if path.name == "b.wav":
            raise ZeroDivisionError("nobody thought of it")
        return proven_info(path)

    monkeypatch.setattr("wavslm_core.data.audio_files.proven_info", failing)
    folder = open_folder(root, valid_fraction=0)
    assert ids(folder, "train") == ["a.wav", "c.wav"]
    (rejected,) = folder.rejected("train")
    assert rejected.reason == (
        "b.wav cannot be read: ZeroDivisionError: nobody thought of it; leave it out, or convert it"
    )
