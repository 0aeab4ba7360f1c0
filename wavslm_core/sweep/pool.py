"""Several trials at once on this machine, a child process each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from wavslm_core.errors import WavslmError
from wavslm_core.machine.files import open_in_place
from wavslm_core.machine.terminal import Say
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.phases import Task

LOGS = "logs"
"""In the sweep's folder: a log for each trial."""
POLL_S = 0.1
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class PoolOutcome:
    """How the processes of a phase ended."""

    stopped: bool
    """They were asked to."""
    codes: frozenset[int]
    """Exit codes that any left with."""


def run_pool(sweep: SweepFolder, tasks: Sequence[Task], say: Say) -> PoolOutcome:
    """Run tasks, at most `max_parallel` at once.

    Ctrl-C, SIGTERM and a terminal that is closed are passed on: every trial then saves and leaves. No trial
    outlives this call, however it ends. Raises: WavslmError.
    """
    waiting = list(tasks)
    running: dict[subprocess.Popen[bytes], Task] = {}
    stops: list[int] = []
    codes: set[int] = set()

    def forward(number: int, frame: FrameType | None) -> None:
        stops.append(number)
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    handlers = {number: signal.signal(number, forward) for number in PASSED_ON}
    try:
        while running or (waiting and not stops):
            while waiting and len(running) < sweep.sweep.max_parallel and not stops:
                task = waiting.pop(0)
                process = _start(sweep, task)
                running[process] = task
                if stops:
                    # The signal came before this one was known.
                    process.send_signal(signal.SIGTERM)
                what = "" if task.stages is None else f" ({', '.join(task.stages)}, for others too)"
                say(f"trial {task.trial}{what}: started, log {_log(sweep, task)}")
            for process in [process for process in running if process.poll() is not None]:
                task = running.pop(process)
                codes.add(process.returncode)
                ended = {0: "ended", 130: "interrupted"}.get(process.returncode, "failed")
                say(f"trial {task.trial}: {ended}")
            time.sleep(POLL_S)
    finally:
        # Some only when this loop itself failed, such as at saying something to a closed terminal.
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return PoolOutcome(bool(stops), frozenset(codes))


def _log(sweep: SweepFolder, task: Task) -> Path:
    return sweep.path / LOGS / f"{task.trial}.txt"


def _start(sweep: SweepFolder, task: Task) -> subprocess.Popen[bytes]:
    cpus = max(1, (os.cpu_count() or 1) // sweep.sweep.max_parallel)
    stages = [] if task.stages is None else [",".join(task.stages)]
    try:
        (sweep.path / LOGS).mkdir(exist_ok=True)
        with os.fdopen(open_in_place(_log(sweep, task), os.O_WRONLY | os.O_APPEND), "ab") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "wavslm_core.sweep.process",
                    str(sweep.path),
                    str(task.trial),
                    *stages,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"OMP_NUM_THREADS": str(cpus), **os.environ},
                # Ctrl-C reaches whole process groups; these are told once, by us.
                start_new_session=True,
            )
    except OSError as error:
        raise WavslmError(f"trial {task.trial} cannot be started: {error.strerror or error}") from None
