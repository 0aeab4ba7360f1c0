"""Runs the trials of a sweep on this machine, in turn or several at once, a child process each.

Each trial is an ordinary run with a folder of its own beside the others, so the same command again skips
what is finished, and a trial added later costs only itself. The sweep's folder holds the comparison:
`results.json`, `table.md`, `report.html` and pictures.

As a program this is the child process of one trial, whose exit code says whether it failed; how it ended is
in the trial's folder: `python -m wavslm_core.sweep.local FOLDER TRIAL [STAGES]`.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from wavslm_core.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_MENDABLE, WavslmError
from wavslm_core.machine.files import open_in_place
from wavslm_core.machine.terminal import Say, echo, prepare_output
from wavslm_core.recipe.launch_block import DebugLaunch, LaunchConfig, LocalLaunch
from wavslm_core.run.failure import first_line
from wavslm_core.run.lock import RunLock
from wavslm_core.run.reuse import Adoption
from wavslm_core.sweep.comparison import Comparison
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.phases import TrialTask, plan_phases
from wavslm_core.sweep.results import write_results
from wavslm_core.sweep.study import SweepStudy
from wavslm_core.sweep.trial import run_trial
from wavslm_core.sweep.trial_state import noting_begin_error


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended."""

    comparison: Comparison
    interrupted: bool
    bug: bool
    """A trial failed in a way that no user can mend."""


def run_sweep(sweep: SweepFolder, say: Say, *, only: Sequence[int] = ()) -> SweepOutcome:
    """Run every unfinished trial on this machine, or some by their numbers, then compare them all.

    One that fails does not stop the others. Raises: WavslmError when the sweep's own folder is in use or
    cannot be written.
    """
    numbers = list(only) or list(range(1, sweep.count + 1))
    if sweep.sweep.sampler == "optuna":
        SweepStudy(sweep)  # Says now what is missing, not once for each trial.
    with RunLock(sweep.path, say=say):
        adoption = Adoption(sweep.path.parent, registry=sweep.recipe.registry)
        if sweep.sweep.max_parallel > 1 and _in_children(sweep):
            interrupted, bug = _run_at_once(sweep, numbers, adoption, say)
        else:
            if sweep.sweep.max_parallel > 1:
                say("trials run in turn: several at once are child processes, `launch.process=child`")
            interrupted, bug = _run_in_turn(sweep, numbers, adoption, say)
        comparison = write_results(sweep)
    return SweepOutcome(comparison, interrupted, bug)


def _in_children(sweep: SweepFolder) -> bool:
    launch = sweep.recipe.launch
    return isinstance(launch, LocalLaunch) and launch.process == "child"


def _run_in_turn(
    sweep: SweepFolder, numbers: Sequence[int], adoption: Adoption, say: Say
) -> tuple[bool, bool]:
    """Return whether the run was interrupted, and whether a trial failed by a bug."""
    bug = False
    for number in numbers:
        entry = sweep.entry(number)
        say(f"trial {number} of {sweep.count}" + (f": {entry.label}" if entry is not None else ""))
        try:
            outcome = run_trial(sweep, number, adoption, say)
        except Exception as error:
            bug = bug or not isinstance(error, WavslmError)
            say(f"trial {number} failed: {first_line(error)}")
        else:
            if outcome.status == "pruned":
                say(f"trial {number}: stopped during {outcome.stage}, being behind others")
            if outcome.status == "interrupted":
                return True, bug
    return False, bug


def _run_at_once(
    sweep: SweepFolder, numbers: Sequence[int], adoption: Adoption, say: Say
) -> tuple[bool, bool]:
    """Return the same as when they run in turn."""
    bug = False
    for number in numbers:
        entry = sweep.entry(number)
        if entry is not None:
            say(f"trial {number} of {sweep.count}: {entry.label}")
    for phase in plan_phases(sweep, numbers, adoption):
        pool = run_pool(sweep, phase, say)
        bug = bug or EXIT_BUG in pool.codes
        if pool.stopped:
            return True, bug
    return False, bug


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


def run_pool(sweep: SweepFolder, tasks: Sequence[TrialTask], say: Say) -> PoolOutcome:
    """Run tasks, at most `max_parallel` at once.

    Ctrl-C, SIGTERM and a terminal that is closed are passed on: every trial then saves and leaves. No trial
    outlives this call, however it ends. Raises: WavslmError.
    """
    waiting = list(tasks)
    running: dict[subprocess.Popen[bytes], TrialTask] = {}
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


def _log(sweep: SweepFolder, task: TrialTask) -> Path:
    return sweep.path / LOGS / f"{task.trial}.txt"


def _start(sweep: SweepFolder, task: TrialTask) -> subprocess.Popen[bytes]:
    cpus = max(1, (os.cpu_count() or 1) // sweep.sweep.max_parallel)
    stages = [] if task.stages is None else [",".join(task.stages)]
    try:
        (sweep.path / LOGS).mkdir(exist_ok=True)
        with os.fdopen(open_in_place(_log(sweep, task), os.O_WRONLY | os.O_APPEND), "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "wavslm_core.sweep.local", str(sweep.path), str(task.trial), *stages],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"OMP_NUM_THREADS": str(cpus), **os.environ},
                # Ctrl-C reaches whole process groups; these are told once, by us.
                start_new_session=True,
            )
    except OSError as error:
        raise WavslmError(f"trial {task.trial} cannot be started: {error.strerror or error}") from None


def main(arguments: list[str]) -> int:
    """Run a trial, or its stages with these names separated by commas; return the exit code."""
    prepare_output()
    folder, number, *stages = arguments
    try:
        with noting_begin_error(Path(folder), int(number)):
            sweep = SweepFolder.open(Path(folder))
            adoption = Adoption(sweep.path.parent, registry=sweep.recipe.registry)
        names = stages[0].split(",") if stages else None
        outcome = run_trial(sweep, int(number), adoption, echo, stages=names, launch=_launch(sweep))
    except Exception as error:
        echo(f"error: {error}", err=True)
        return EXIT_MENDABLE if isinstance(error, WavslmError) else EXIT_BUG
    return EXIT_INTERRUPTED if outcome.status == "interrupted" else 0


def _launch(sweep: SweepFolder) -> LaunchConfig:
    """Return where the trial runs: this is the child process that its recipe asks for, unless of several."""
    launch = sweep.recipe.launch
    several = isinstance(launch, LocalLaunch) and launch.processes > 1
    return launch if several else DebugLaunch(device=launch.device)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
