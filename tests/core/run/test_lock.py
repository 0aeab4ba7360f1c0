"""One job at a time per run folder, on this machine and between machines."""

import fcntl
import json
import os
import socket
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support import held_elsewhere, until
from wavslm_core.errors import WavslmError
from wavslm_core.launch.runner import run_stages
from wavslm_core.machine.locks import is_locked
from wavslm_core.machine.processes import WHOLE, Share
from wavslm_core.parts.registry import Registry
from wavslm_core.run import lock_holder
from wavslm_core.run.lock import RunLock
from wavslm_core.run.lock_holder import LOCK_FILE, Holder, read_holder
from wavslm_core.run.queued import SUBMIT_LOCK, refuse_running, submitting


def left_behind(folder: Path, *, silent_s: float, host: str = "elsewhere", job_id: str | None = None) -> None:
    """Write what a holder that did not end well leaves."""
    then = time.time() - silent_s
    holder = Holder(pid=1, host=host, job_id=job_id, since=then, heartbeat=then)
    path = folder / LOCK_FILE
    path.touch()
    # Written over, as by a lock, not emptied first.
    with path.open("r+") as file:
        file.write(json.dumps(asdict(holder)).ljust(512))


def hurry(monkeypatch: pytest.MonkeyPatch, *, beat_s: float = 0.1, stale_s: float = 0.4) -> None:
    """Let holders beat often, and look at one for less than a minute."""
    monkeypatch.setattr(lock_holder, "BEAT_S", beat_s)
    monkeypatch.setattr(lock_holder, "STALE_S", stale_s)
    monkeypatch.setattr(lock_holder, "LOOK_EVERY_S", 0.02)


def beat(folder: Path) -> Holder:
    holder = read_holder(folder / LOCK_FILE)
    assert holder is not None
    return holder


def test_another_process_is_named_and_its_death_frees_the_run(tmp_path: Path) -> None:
    with (
        held_elsewhere(tmp_path) as process,
        pytest.raises(WavslmError, match=rf"in use by process {process.pid} on {socket.gethostname()}"),
        RunLock(tmp_path),
    ):
        pass
    with RunLock(tmp_path):
        holder = read_holder(tmp_path / LOCK_FILE)
        assert holder.pid == os.getpid()
    assert read_holder(tmp_path / LOCK_FILE) is None


def test_the_heartbeat_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_holder, "BEAT_S", 0.05)
    with RunLock(tmp_path):
        first = beat(tmp_path)
        until("another beat", lambda: beat(tmp_path).heartbeat > first.heartbeat)
        assert beat(tmp_path).pid == first.pid


@pytest.mark.parametrize("skew_s", [-200, 200, 3 * 24 * 3600])
def test_a_holder_elsewhere_that_beats_is_believed_whatever_its_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    hurry(monkeypatch, beat_s=30.0, stale_s=60.0)
    left_behind(tmp_path, silent_s=skew_s)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        left_behind(tmp_path, silent_s=skew_s)

    with (
        pytest.raises(WavslmError, match=r"in use by process 1 on elsewhere .last heartbeat \d+ s ago"),
        RunLock(tmp_path, say=say),
    ):
        pass
    assert "waiting up to 60 s for a sign of process 1 on elsewhere" in said[0]
    assert read_holder(tmp_path / LOCK_FILE) is not None, "whoever it is still has it"


@pytest.mark.parametrize("skew_s", [-200, 0, 200])
def test_a_holder_elsewhere_that_stays_silent_is_taken_over_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    hurry(monkeypatch)
    left_behind(tmp_path, silent_s=skew_s)
    said: list[str] = []
    began = time.monotonic()
    with RunLock(tmp_path, say=said.append):
        assert time.monotonic() - began > 0.4
    assert len(said) == 2
    assert "was held by process 1 on elsewhere (last heartbeat " in said[1]
    assert said[1].endswith("which is gone: taking over")


def test_who_has_watched_a_holder_before_does_not_wait_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    left_behind(tmp_path, silent_s=0)
    refuse_running(tmp_path, lambda line: None)
    said: list[str] = []
    with RunLock(tmp_path, say=said.append):
        pass
    assert len(said) == 1


@pytest.mark.parametrize(("active", "taken"), [(False, True), (True, False), (None, False)])
def test_slurm_knows_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, active: bool | None, taken: bool
) -> None:
    hurry(monkeypatch, stale_s=60.0)
    left_behind(tmp_path, silent_s=0, job_id="12")
    monkeypatch.setattr("wavslm_core.machine.slurm.is_active", lambda job_id: active)

    def beat_on(line: str) -> None:
        if active is None:
            left_behind(tmp_path, silent_s=0, job_id="12")

    if taken:
        with RunLock(tmp_path):
            pass
    else:
        with pytest.raises(WavslmError, match="job 12"), RunLock(tmp_path, say=beat_on):
            pass


def test_a_job_that_slurm_does_not_know_has_to_be_silent_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, beat_s=0.5, stale_s=60.0)
    monkeypatch.setattr("wavslm_core.machine.slurm.is_active", lambda job_id: False)
    left_behind(tmp_path, silent_s=0, job_id="12")
    began = time.monotonic()
    with RunLock(tmp_path):
        assert time.monotonic() - began > 0.9
    left_behind(tmp_path, silent_s=0, job_id="12")
    with (
        pytest.raises(WavslmError, match="in use by process 1 on elsewhere, job 12"),
        RunLock(tmp_path, say=lambda line: left_behind(tmp_path, silent_s=0, job_id="12")),
    ):
        pass


def test_whoever_only_looks_keeps_nobody_from_starting(tmp_path: Path) -> None:
    path = tmp_path / LOCK_FILE
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    threading.Timer(0.2, os.close, [descriptor]).start()
    with RunLock(tmp_path):
        assert is_locked(path)
    assert is_locked(path) is False


def test_a_lock_that_cannot_be_given_back_does_not_hide_how_the_run_ended(tmp_path: Path) -> None:
    held = RunLock(tmp_path)

    def end_badly() -> None:
        with held:
            # As by a file server that is gone.
            for descriptor in held._descriptors:
                os.close(descriptor)
            raise RuntimeError("the loss is not a number")

    with pytest.raises(RuntimeError, match="the loss is not a number"):
        end_badly()


def test_who_was_taken_for_dead_notices_and_leaves_the_other_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_holder, "BEAT_S", 0.05)
    with RunLock(tmp_path) as held:
        assert held.lost_to is None

        def noticed() -> Holder | None:
            left_behind(tmp_path, silent_s=0, job_id="12")
            return held.lost_to

        assert until("the holder to notice", noticed).host == "elsewhere"
    assert beat(tmp_path).host == "elsewhere", "still the other's"


def test_a_run_that_was_taken_over_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example_registry: Registry
) -> None:
    monkeypatch.setattr(lock_holder, "BEAT_S", 0.05)
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
        refuse_running(tmp_path, lambda line: None)
    (tmp_path / SUBMIT_LOCK).symlink_to(mine)
    with pytest.raises(WavslmError, match=r"\.submitting is a link"), submitting(tmp_path, print):
        pass
    assert mine.read_text() == "precious"
