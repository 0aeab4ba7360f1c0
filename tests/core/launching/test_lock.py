"""One job at a time per run folder, on this machine and between machines."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from wavslm_core.errors import WavslmError
from wavslm_core.launching import lock
from wavslm_core.launching.lock import BEAT_S, LOCK_FILE, STALE_S, Holder, RunLock, read_holder
from wavslm_core.launching.queued import SUBMIT_LOCK, refuse_running, submitting
from wavslm_core.launching.runner import run_stages
from wavslm_core.processes import WHOLE, Share
from wavslm_core.registry import Registry

HOLD = """
import sys, time
from pathlib import Path
from wavslm_core.launching.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def left_behind(folder: Path, *, silent_s: float, host: str = "elsewhere", job_id: str | None = None) -> None:
    """Write what a holder that did not end well leaves."""
    then = time.time() - silent_s
    holder = Holder(pid=1, host=host, job_id=job_id, since=then, heartbeat=then)
    path = folder / LOCK_FILE
    path.touch()
    # Written over, as by a lock, not emptied first.
    with path.open("r+") as file:
        file.write(json.dumps(asdict(holder)).ljust(512))


def stop_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no second pass before it is told how many there were."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)


def beat(folder: Path) -> Holder:
    holder = read_holder(folder / LOCK_FILE)
    assert holder is not None
    return holder


def test_another_process_is_named_and_its_death_frees_the_run(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with (
        pytest.raises(WavslmError, match=rf"in use by process {process.pid} on {socket.gethostname()}"),
        RunLock(tmp_path),
    ):
        pass
    process.kill()
    process.communicate()
    with RunLock(tmp_path):
        holder = read_holder(tmp_path / LOCK_FILE)
        assert holder is not None
        assert holder.pid == os.getpid()
    assert read_holder(tmp_path / LOCK_FILE) is None


def test_the_heartbeat_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    with RunLock(tmp_path):
        first = beat(tmp_path)
        end = time.monotonic() + 60
        while beat(tmp_path).heartbeat == first.heartbeat and time.monotonic() < end:
            time.sleep(0.05)
        assert beat(tmp_path).heartbeat > first.heartbeat
        assert beat(tmp_path).pid == first.pid


def test_a_silent_holder_on_another_machine_is_taken_over_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_clock(monkeypatch)
    left_behind(tmp_path, silent_s=STALE_S + 60)
    said: list[str] = []
    with RunLock(tmp_path, say=said.append):
        pass
    assert len(said) == 1
    assert (
        "was held by process 1 on elsewhere (last heartbeat 240 s ago), which is gone: taking over" in said[0]
    )


def test_a_holder_on_another_machine_that_beats_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_clock(monkeypatch)
    left_behind(tmp_path, silent_s=20)
    with (
        pytest.raises(WavslmError, match=r"in use by process 1 on elsewhere .last heartbeat 20 s ago"),
        RunLock(tmp_path),
    ):
        pass
    assert read_holder(tmp_path / LOCK_FILE) is not None, "whoever it is still has it"


@pytest.mark.parametrize(("active", "taken"), [(False, True), (True, False), (None, False)])
def test_slurm_knows_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, active: bool | None, taken: bool
) -> None:
    left_behind(tmp_path, silent_s=2 * BEAT_S + 10, job_id="12")
    monkeypatch.setattr("wavslm_core.launching.slurm_state.is_active", lambda job_id: active)
    if taken:
        with RunLock(tmp_path):
            pass
    else:
        with pytest.raises(WavslmError, match="job 12"), RunLock(tmp_path):
            pass


@pytest.mark.parametrize("beats", [True, False])
def test_a_job_that_slurm_does_not_know_has_to_be_silent_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beats: bool
) -> None:
    # Whoever beats is heard at once; waiting for nothing costs twice as much.
    monkeypatch.setattr(lock, "BEAT_S", 60.0 if beats else 0.5)
    monkeypatch.setattr("wavslm_core.launching.slurm_state.is_active", lambda job_id: False)
    began = time.monotonic()
    left_behind(tmp_path, silent_s=0, job_id="12")
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if beats:
            left_behind(tmp_path, silent_s=0, job_id="12")

    if beats:
        with (
            pytest.raises(WavslmError, match="in use by process 1 on elsewhere, job 12"),
            RunLock(tmp_path, say=say),
        ):
            pass
        assert "waiting for a sign of process 1 on elsewhere" in said[0]
        return
    with RunLock(tmp_path, say=say):
        assert time.monotonic() - began > 0.9
    assert "which is gone: taking over" in said[-1]


def test_who_was_taken_for_dead_notices_and_leaves_the_other_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    with RunLock(tmp_path) as held:
        assert held.lost_to is None
        end = time.monotonic() + 60
        while held.lost_to is None and time.monotonic() < end:
            left_behind(tmp_path, silent_s=0, job_id="12")
            time.sleep(0.03)
        assert held.lost_to is not None
        assert held.lost_to.host == "elsewhere"
    assert beat(tmp_path).host == "elsewhere", "still the other's"


def test_a_run_that_was_taken_over_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example_registry: Registry
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    (tmp_path / "recipe.yaml").write_text("name: one\nstages: [{run: count, steps: 5000, pause_s: 0.02}]\n")
    ended = threading.Event()

    def take_over() -> None:
        while not (tmp_path / "count.txt").exists() and not ended.wait(0.01):
            pass
        # Beats, as a living one does: a single one may be lost against one of ours.
        while not ended.wait(0.03):
            left_behind(tmp_path, silent_s=0, job_id="12")

    other = threading.Thread(target=take_over)
    other.start()
    try:
        with pytest.raises(WavslmError, match="was taken over by process 1 on elsewhere, job 12"):
            run_stages(tmp_path, lambda line: None, registry=example_registry)
    finally:
        ended.set()
        other.join()
    assert 0 < len((tmp_path / "count.txt").read_text().split()) < 5000


def test_a_restarted_job_finds_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(tmp_path, silent_s=2, job_id="12_3")
    monkeypatch.setenv("SLURM_JOB_ID", "15")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with RunLock(tmp_path):
        holder = read_holder(tmp_path / LOCK_FILE)
    assert holder is not None
    assert holder.job_id == "12_3"


def test_shares_of_an_array_hold_a_run_together(tmp_path: Path) -> None:
    with (
        RunLock(tmp_path, share=Share(0, 2, partial=True)),
        RunLock(tmp_path, share=Share(1, 2, partial=True)),
    ):
        with pytest.raises(WavslmError, match=rf"in use by process {os.getpid()}"), RunLock(tmp_path):
            pass
        with pytest.raises(WavslmError, match="in use"), RunLock(tmp_path, share=Share(1, 2, partial=True)):
            pass
    with RunLock(tmp_path):
        pass


@pytest.mark.parametrize("share", [WHOLE, Share(0, 2, partial=True)])
def test_a_lock_that_is_a_link_empties_nothing(tmp_path: Path, share: Share) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    (tmp_path / LOCK_FILE).symlink_to(mine)
    with pytest.raises(WavslmError, match=r"\.lock is a link.*Remove it"), RunLock(tmp_path, share=share):
        pass
    with pytest.raises(WavslmError, match=r"\.lock is a link.*Remove it"):
        refuse_running(tmp_path)
    (tmp_path / SUBMIT_LOCK).symlink_to(mine)
    with pytest.raises(WavslmError, match=r"\.submitting is a link"), submitting(tmp_path):
        pass
    assert mine.read_text() == "precious"
