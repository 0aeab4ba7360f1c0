"""Submits the trials of a sweep to SLURM: one job array, of which `max_parallel` tasks run at once.

Stages that several trials share are an array of their own in front, a task for each different result; the
trials wait for it to end, however that was, and take over what it left.
"""

import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from wavslm_core.errors import WavslmError
from wavslm_core.launch.slurm import script_text, submit
from wavslm_core.machine.slurm import JobState, cancel
from wavslm_core.machine.terminal import Say
from wavslm_core.recipe.launch_block import SlurmLaunch
from wavslm_core.run.environment import save_code
from wavslm_core.run.lock_holder import Holder, living_holder, send_signal
from wavslm_core.run.queued import submitting
from wavslm_core.run.records import log_path
from wavslm_core.run.reuse import Adoption
from wavslm_core.run.stop import clear_stop, interrupts_held, request_stop
from wavslm_core.sweep.folder import SweepFolder, note_tasks, trial_jobs
from wavslm_core.sweep.job import TrialJob, record_job
from wavslm_core.sweep.phases import TrialTask, plan_phases
from wavslm_core.sweep.study import SweepStudy
from wavslm_core.sweep.trial_state import TrialRun, read_trials


def submit_sweep(sweep: SweepFolder, say: Say, *, only: Sequence[int] = ()) -> tuple[str, ...]:
    """Submit every unfinished trial, or some by their numbers; return the ids of the arrays.

    Raises: WavslmError when jobs of these trials wait or run, or sbatch refuses.
    """
    sweep = replace(sweep, path=sweep.path.absolute())
    launch = _launch(sweep)
    wanted = list(only) or list(range(1, sweep.count + 1))
    if sweep.sweep.sampler == "optuna":
        SweepStudy(sweep)  # Says now what is missing, not in each job.
    with submitting(sweep.path, say):
        refuse_submitted(sweep, wanted)
        trials = read_trials(sweep, wanted)
        if trials.problem:
            raise WavslmError(trials.problem)
        left = [trial for trial in trials.runs if not _is_done(trial)]
        if not left:
            say("every trial has ended before")
            return ()
        numbers = [trial.number for trial in left if _is_free(trial, say)]
        if not numbers:
            return ()
        save_code(sweep.path, copy=launch.copy_code)
        adoption = Adoption(sweep.path.parent, registry=sweep.recipe.registry)
        arrays: list[str] = []
        noted: dict[int, list[str]] = {}
        try:
            for phase in plan_phases(sweep, numbers, adoption):
                with interrupts_held():
                    arrays.append(_submit_phase(sweep, phase, launch, arrays[-1:], noted, say))
        except BaseException:
            # Nothing that others were to wait for.
            if arrays:
                cancel(reversed(arrays))
            raise
        return tuple(arrays[-1:])


def refuse_submitted(sweep: SweepFolder, wanted: Sequence[int]) -> None:
    """Raises: WavslmError when SLURM says that jobs of any of these trials wait or run, naming them."""
    known: dict[int, list[JobState]] = {}
    # One that does not answer is for whoever submits to notice.
    with suppress(WavslmError):
        known = trial_jobs(sweep)
    active = [(number, job) for number in wanted for job in known.get(number, ()) if job.active]
    if active:
        named = ", ".join(f"trial {number}: job {job.job_id} ({job.state})" for number, job in active)
        raise WavslmError(
            f"{sweep.path} was submitted before: {named}. See how it does with `wavslm sweep status "
            f"{sweep.path}`, or stop it first: wavslm sweep stop {sweep.path}"
        )


def stop_sweep(sweep: SweepFolder, say: Say) -> None:
    """Cancel trials that wait, and ask those that run, here or on SLURM, to save and to end.

    Raises: WavslmError when none does, or SLURM does not answer.
    """
    active = {
        number: [job for job in jobs if job.active]
        for number, jobs in trial_jobs(sweep).items()
        if any(job.active for job in jobs)
    }
    runs = {trial.number: trial.run for trial in read_trials(sweep).runs}
    held = {number for number, run in runs.items() if run is not None and run.holder is not None}
    conductor = living_holder(sweep.path)
    if not active and not held and conductor is None:
        raise WavslmError(f"no trial of {sweep.path} waits or runs.")
    for number in sorted({*active, *held}):
        run = runs.get(number)
        if run is not None and run.run_dir.exists():
            request_stop(run.run_dir)
    waiting = [job.job_id for jobs in active.values() for job in jobs if job.waits]
    if waiting:
        cancel(waiting)
    running = held | {number for number, jobs in active.items() if not all(job.waits for job in jobs)}
    cancelled = sorted(active.keys() - running)
    if cancelled:
        say(f"cancelled before they ran: trial {_listed(cancelled)}")
    if running:
        say(f"asked to save and to end: trial {_listed(sorted(running))}")
    if conductor is not None:
        _stop_conductor(sweep, conductor, say)


def _stop_conductor(sweep: SweepFolder, holder: Holder, say: Say) -> None:
    """Ask the command that runs trials one after the other to start no more of them."""
    if send_signal(holder, signal.SIGTERM):
        say(f"asked to start no more trials: process {holder.pid}")
    else:
        say(f"{sweep.path} is run by {holder}, which starts the next trials: stop it there")


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def preview_sweep(sweep: SweepFolder) -> str:
    """Return the script that sbatch would be given for the trials' array."""
    name, at_once = sweep.recipe.name, sweep.sweep.max_parallel
    return script_text(_launch(sweep), sweep.path, name=name, count=sweep.count, at_once=at_once)


def _launch(sweep: SweepFolder) -> SlurmLaunch:
    launch = sweep.recipe.launch
    if not isinstance(launch, SlurmLaunch):
        raise TypeError(f"launch.on of {sweep.recipe.name} is {launch.registered_name()}")
    return launch


def _submit_phase(
    sweep: SweepFolder,
    phase: Sequence[TrialTask],
    launch: SlurmLaunch,
    before: Sequence[str],
    noted: dict[int, list[str]],
    say: Say,
) -> str:
    """Submit what runs at once. `noted`: number of a trial → its jobs, of all phases so far."""
    for task in phase:
        run_dir = _run_dir(sweep, task.trial)
        if run_dir is not None:
            clear_stop(run_dir)
    array = submit(
        [TrialJob(str(sweep.path), task) for task in phase],
        launch,
        sweep.path,
        name=sweep.recipe.name,
        after=before,
        need="afterany",
        at_once=min(sweep.sweep.max_parallel, len(phase)),
    )
    # submitit makes an ordinary job of an array of one.
    ids = [array] if len(phase) == 1 else [f"{array}_{place}" for place in range(len(phase))]
    for task, job_id in zip(phase, ids, strict=True):
        noted.setdefault(task.trial, []).append(job_id)
    note_tasks(sweep, noted)
    for task, job_id in zip(phase, ids, strict=True):
        run_dir = _run_dir(sweep, task.trial)
        if run_dir is not None:
            record_job(sweep, run_dir, job_id, task.stages, tuple(before))
    stages = phase[0].stages
    what = "trial" if stages is None else ", ".join(stages) + " for those that share it, trial"
    waits = f", after job {before[0]}" if before else ""
    shown = ", ".join(str(task.trial) for task in phase)
    log = log_path(f"{array}_*" if len(phase) > 1 else array)
    say(f"job {array}: {what} {shown}{waits}, logs {sweep.path / log}")
    return array


def _is_done(trial: TrialRun) -> bool:
    """Tell whether a trial has ended, or never can begin."""
    return trial.state.is_over or (trial.entry is not None and trial.entry.run is None)


def _is_free(trial: TrialRun, say: Say) -> bool:
    """Tell whether nobody has a trial, such as another sweep of which it is part, too; say who has."""
    run = trial.run
    if run is None or (not run.active and run.holder is None):
        return True
    who = f"job {', '.join(job.job_id for job in run.active)}" if run.active else "a process"
    say(f"trial {trial.number}: left to {who}, which has {run.run_dir}")
    return False


def _run_dir(sweep: SweepFolder, number: int) -> Path | None:
    entry = sweep.entry(number)
    return None if entry is None else sweep.run_dir(entry)
