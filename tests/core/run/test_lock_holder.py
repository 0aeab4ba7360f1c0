"""Who holds a lock: a process and when it started, never an id alone."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import fake_programs
from wavslm_core.run import lock_holder
from wavslm_core.run.lock import RunLock
from wavslm_core.run.lock_holder import (
    LOCK_FILE,
    Holder,
    living_holder,
    process_start,
    read_holder,
    runs_here,
    send_signal,
    this_holder,
)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any run."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def of_process(pid: int, **changes: Any) -> Holder:
    now = time.time()
    holder = Holder(pid, socket.gethostname(), None, now, now, process_start(pid))
    return replace(holder, **changes)


def write(folder: Path, holder: Holder, **changes: Any) -> Path:
    path = folder / LOCK_FILE
    path.write_text(json.dumps({**asdict(holder), **changes}))
    return path


def test_a_process_is_known_by_its_start(stranger: subprocess.Popen[bytes]) -> None:
    assert runs_here(this_holder())
    assert runs_here(of_process(stranger.pid))
    assert process_start(stranger.pid) != process_start(os.getpid())
    stranger.kill()
    stranger.wait()
    assert runs_here(of_process(stranger.pid)) is False


def test_a_process_is_known_by_its_start_without_proc(
    stranger: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = f"[ $4 = {stranger.pid} ] && echo 'Sat Nov 29 18:26:09 2025'"
    fake_programs(tmp_path, monkeypatch, ps=known)
    monkeypatch.setattr(lock_holder, "_PROC", tmp_path / "nothing")
    assert process_start(stranger.pid) == "Sat Nov 29 18:26:09 2025"
    assert runs_here(of_process(stranger.pid))
    assert runs_here(of_process(stranger.pid, started="Sat Nov 29 18:26:08 2025")) is False
    assert runs_here(of_process(os.getpid(), started=None)) is None


def test_a_stranger_that_has_the_id_now_is_neither_the_holder_nor_signalled(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    for holder in (
        of_process(stranger.pid, started=process_start(os.getpid())),
        # From before locks said when their process started: this one started after the lock was taken.
        of_process(stranger.pid, started=None, since=time.time() - 30 * 24 * 3600),
    ):
        write(tmp_path, holder)
        assert living_holder(tmp_path) is None
        assert runs_here(holder) is False
        assert not send_signal(holder, signal.SIGTERM)
    time.sleep(0.1)
    assert stranger.poll() is None
    assert send_signal(of_process(stranger.pid), signal.SIGTERM)
    assert stranger.wait(timeout=60) == -signal.SIGTERM


@pytest.mark.parametrize("pid", [0, -1, -42, 2**31, 2**80, 1.5, True, "7", None])
def test_an_id_that_is_not_of_one_process_names_nobody(tmp_path: Path, pid: object) -> None:
    path = write(tmp_path, this_holder(), pid=pid)
    assert read_holder(path) is None
    assert living_holder(tmp_path) is None


@pytest.mark.parametrize("pid", [0, -1])
def test_no_group_of_processes_is_ever_signalled(pid: int) -> None:
    assert not send_signal(replace(this_holder(), pid=pid), signal.SIGTERM)


@pytest.mark.parametrize("text", ["", "[]", "null", "7", "{", '{"pid": 7}', "[" * 100_000, "\udcff"])
def test_a_damaged_lock_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_FILE).write_bytes(text.encode(errors="surrogateescape"))
    assert read_holder(tmp_path / LOCK_FILE) is None


def test_what_newer_versions_add_to_a_lock_is_left_out(tmp_path: Path) -> None:
    holder = this_holder()
    assert read_holder(write(tmp_path, holder, counter=3)) == holder


def test_who_has_the_kernels_lock_lives_whatever_the_file_says(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        found = living_holder(tmp_path)
        assert found.pid == os.getpid()
        (tmp_path / LOCK_FILE).write_text("{")
        found = living_holder(tmp_path)
        assert found is not None
        assert str(found).startswith("a process on ")
        assert not send_signal(found, signal.SIGTERM)
    assert living_holder(tmp_path) is None


def test_of_a_holder_elsewhere_one_look_believes_what_clocks_allow(tmp_path: Path) -> None:
    now = time.time()
    for beat, lives in ((now - 200, True), (now + 200, True), (now - 7200, False)):
        write(tmp_path, Holder(1, "elsewhere", None, beat, beat))
        assert (living_holder(tmp_path) is not None) == lives
    write(tmp_path, Holder(1, "elsewhere", "12", now, now))
    assert living_holder(tmp_path, jobs_active=lambda job: False) is None


def test_a_holder_elsewhere_that_stays_silent_while_it_is_watched_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_holder, "STALE_S", 0.05)
    now = time.time()
    write(tmp_path, Holder(1, "elsewhere", None, now, now))
    assert living_holder(tmp_path) is not None
    time.sleep(0.1)
    assert living_holder(tmp_path) is None
    write(tmp_path, Holder(1, "elsewhere", None, now, now + 15))
    assert living_holder(tmp_path) is not None
