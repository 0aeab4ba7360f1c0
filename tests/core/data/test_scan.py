import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import until
from wavslm_core.data.manifest import Manifest, ManifestWriter, Recording
from wavslm_core.data.scan import BLOCK, update_manifest
from wavslm_core.errors import DataError

COUNT = 5 * BLOCK + 17


def name(number: int) -> str:
    return f"{number // 100:04d}/ä{number % 100:03d}.wav"


class Storage:
    """Recordings that count how often each is read."""

    def __init__(self, count: int = COUNT) -> None:
        self.there = {name(number): 1 for number in range(count)}
        self.reads: list[str] = []
        self.fail_at: str | None = None

    def present(self) -> Iterator[Recording]:
        for item, stamp in sorted(self.there.items()):
            yield Recording(item, len(item), stamp)

    def read(self, recording: Recording) -> Recording:
        if recording.name == self.fail_at:
            raise KeyboardInterrupt
        self.reads.append(recording.name)
        number = int(recording.name[:4]) * 100 + int(recording.name[6:9])
        if number % 50 == 7:
            return replace(recording, reason=f"{recording.name} is empty")
        pieces = ((0, 10), (20, 5)) if number % 3 == 0 else None
        return replace(recording, samples=100 + number, sample_rate_hz=16000, channels=1, pieces=pieces)

    def update(self, folder: Path, *, key: str = "k", rescan: bool = True) -> Manifest:
        return update_manifest(
            folder, key=key, present=self.present, read=self.read, label="x", rescan=rescan
        )


def contents(manifest: Manifest) -> list[Recording]:
    return list(manifest)


def test_a_manifest_gives_back_what_was_read(tmp_path: Path) -> None:
    storage = Storage()
    manifest = storage.update(tmp_path / "m")
    assert [item.name for item in manifest] == sorted(storage.there)
    assert sorted(storage.reads) == sorted(storage.there)
    for number, item in enumerate(manifest):
        if number % 50 == 7:
            assert (item.samples, item.reason, item.pieces) == (0, f"{item.name} is empty", ())
        else:
            assert (item.samples, item.channels, item.reason) == (100 + number, 1, "")
            assert item.pieces == (((0, 10), (20, 5)) if number % 3 == 0 else ((0, 100 + number),))
    below = manifest.range_below("0003/")
    assert (below.start, below.stop) == (300, 400)
    utterances = manifest.utterances_of(below)
    assert set(manifest.recording[utterances.start : utterances.stop]) == {
        number for number in below if number % 50 != 7
    }


def test_nothing_is_read_twice(tmp_path: Path) -> None:
    storage = Storage()
    first = storage.update(tmp_path / "m")
    storage.reads.clear()
    assert storage.update(tmp_path / "m").digest == first.digest
    assert storage.reads == []
    storage.there[name(30)] = 2
    storage.there["0002/new.wav"] = 1
    del storage.there[name(40)]
    storage.read = lambda recording: replace(recording, samples=9, sample_rate_hz=8000)  # type: ignore[method-assign]
    changed = storage.update(tmp_path / "m")
    assert changed.digest != first.digest
    lengths = {item.name: item.samples for item in changed}
    assert [item for item, samples in lengths.items() if samples == 9] == [name(30), "0002/new.wav"]
    assert name(40) not in lengths
    assert [item for item in contents(changed) if item.samples != 9] == [
        item for item in contents(first) if item.name not in (name(30), name(40))
    ]


def test_an_interrupted_scan_continues(tmp_path: Path) -> None:
    storage = Storage()
    storage.fail_at = name(4 * BLOCK + 3)
    with pytest.raises(KeyboardInterrupt):
        storage.update(tmp_path / "m")
    assert Manifest.open(tmp_path / "m", key="k") is None
    storage.fail_at = name(5 * BLOCK + 3)
    storage.reads.clear()
    with pytest.raises(KeyboardInterrupt):
        storage.update(tmp_path / "m")
    assert set(storage.reads).isdisjoint(name(number) for number in range(4 * BLOCK))
    # The end of a journal of a process that was killed while it wrote, and a journal made for another key.
    (first, _) = sorted(tmp_path.glob("m.journal-*"))
    with first.open("a") as stream:
        stream.write('{"name": "9999/x')
    (tmp_path / "m.journal-0.jsonl").write_text('other\n{"name": "0000/ä000.wav"}\n')
    storage.fail_at = None
    storage.reads.clear()
    manifest = storage.update(tmp_path / "m")
    assert set(storage.reads).isdisjoint(name(number) for number in range(5 * BLOCK))
    assert contents(manifest) == contents(Storage().update(tmp_path / "fresh"))
    assert list(tmp_path.glob("m.journal-*")) == []


def test_null_characters_in_what_is_said_cost_no_reading(tmp_path: Path) -> None:
    """No reader of JSON takes them: a journal would end at the first."""
    storage = Storage(2 * BLOCK)
    read = storage.read
    storage.read = lambda item: replace(read(item), text="o\0n\0e", speaker="\0")  # type: ignore[method-assign]
    storage.fail_at = name(BLOCK + 3)
    with pytest.raises(KeyboardInterrupt):
        storage.update(tmp_path / "m")
    storage.fail_at = None
    storage.reads.clear()
    assert {item.text for item in storage.update(tmp_path / "m")} == {"one"}
    assert len(storage.reads) == BLOCK


def test_another_key_is_another_manifest(tmp_path: Path) -> None:
    storage = Storage(3)
    storage.update(tmp_path / "m")
    storage.reads.clear()
    storage.update(tmp_path / "m", key="other")
    assert len(storage.reads) == 3


def test_of_two_at_once_one_scans(tmp_path: Path) -> None:
    storage = Storage()
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.append(storage.update(tmp_path / "m").digest)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(storage.reads) == COUNT
    assert len(set(made)) == 1


def test_names_must_rise(tmp_path: Path) -> None:
    writer = ManifestWriter(tmp_path, key="k")
    writer.append(Recording("b", 1, 1))
    with pytest.raises(ValueError, match="a comes after b"):
        writer.append(Recording("a", 1, 1))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot write"):
        Storage(3).update(tmp_path / "file" / "m")


def test_a_killed_scan_continues(tmp_path: Path) -> None:
    """A real process, killed with SIGKILL in the middle."""
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom dataclasses import replace\n"
        "from wavslm_core.data.manifest import Recording\nfrom wavslm_core.data.scan import update_manifest\n"
        "def read(item):\n    time.sleep(0.02)\n"
        "    return replace(item, samples=5, sample_rate_hz=16000, channels=1)\n"
        "update_manifest(Path(sys.argv[1]) / 'm', key='k', read=read, label='x',\n"
        f"    present=lambda: (Recording(f'{{i:06d}}', 1, 1) for i in range({4 * BLOCK})))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    until(
        "a block of the journal",
        lambda: any(path.read_bytes().count(b"\n") > BLOCK + 1 for path in tmp_path.glob("m.journal-*")),
        process,
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    (journal,) = tmp_path.glob("m.journal-*")
    kept = [json.loads(line)["name"] for line in journal.read_text().splitlines()[1:-1]]
    reads: list[str] = []

    def read(item: Recording) -> Recording:
        reads.append(item.name)
        return replace(item, samples=5, sample_rate_hz=16000, channels=1)

    manifest = update_manifest(
        tmp_path / "m",
        key="k",
        present=lambda: (Recording(f"{number:06d}", 1, 1) for number in range(4 * BLOCK)),
        read=read,
        label="x",
    )
    assert len(manifest) == 4 * BLOCK
    assert len(kept) >= BLOCK - 1
    assert set(kept).isdisjoint(reads)


def test_no_journal_is_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavslm_core.data.scan.time.time_ns", lambda: 7)
    (tmp_path / f"m.journal-{7:020d}.jsonl").symlink_to(tmp_path / "made")
    with pytest.raises(DataError, match="is a link"):
        Storage().update(tmp_path / "m")
    assert not (tmp_path / "made").exists()
