"""Submits the trials of a sweep to SLURM: one job array, of which `max_parallel` tasks run at once.

Stages that several trials share are an array of their own in front, a task for each different result; the
trials wait for it to end, however that was, and take over what it left.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wavslm_core.errors import WavslmError
from wavslm_core.launching.adoption import Adoption
from wavslm_core.launching.base import Say
from wavslm_core.launching.code_snapshot import save_code
from wavslm_core.launching.job_record import log_path
from wavslm_core.launching.queued import submitting
from wavslm_core.launching.slurm import script_text, submit
from wavslm_core.launching.slurm_state import cancel
from wavslm_core.launching.stop_file import clear_stop, request_stop
from wavslm_core.launching.sweeps.folder import SweepFolder
from wavslm_core.launching.sweeps.job import TrialJob, record_job
from wavslm_core.launching.sweeps.jobs import known_jobs, note_tasks, sweep_jobs
from wavslm_core.launching.sweeps.phases import Task, plan_phases
from wavslm_core.launching.sweeps.study import SweepStudy
from wavslm_core.launching.sweeps.trial_state import trial_state
from wavslm_core.recipe.launch import SlurmLaunch


def submit_sweep(sweep: SweepFolder, say: Say, *, only: Sequence[int] = ()) -> tuple[str, ...]:
    """Submit every unfinished trial, or some by their numbers; return the ids of the arrays.

    Raises: WavslmError when jobs of these trials wait or run, or sbatch refuses.
    """
    sweep = SweepFolder(sweep.path.absolute(), sweep.recipe)
    launch = _launch(sweep)
    wanted = list(only) or list(range(1, sweep.count + 1))
    if sweep.sweep.sampler == "optuna":
        SweepStudy(sweep)  # Says now what is missing, not in each job.
    with submitting(sweep.path):
        refuse_submitted(sweep, wanted)
        numbers = [number for number in wanted if not _is_done(sweep, number)]
        if not numbers:
            say("every trial has ended before")
            return ()
        save_code(sweep.path, copy=launch.copy_code)
        adoption = Adoption(sweep.path.parent, registry=sweep.recipe.registry)
        before: tuple[str, ...] = ()
        for phase in plan_phases(sweep, numbers, adoption):
            before = (_submit_phase(sweep, phase, launch, before, say),)
        return before


def refuse_submitted(sweep: SweepFolder, wanted: Sequence[int]) -> None:
    """Raises: WavslmError when jobs of any of these trials wait or run, naming them."""
    active = {number: job for number, job in known_jobs(sweep).items() if job.active and number in wanted}
    if active:
        jobs = ", ".join(f"trial {number}: job {job.job_id} ({job.state})" for number, job in active.items())
        raise WavslmError(
            f"{sweep.path} was submitted before: {jobs}. See how it does with `wavslm sweep status "
            f"{sweep.path}`, or stop it first: wavslm sweep stop {sweep.path}"
        )


def stop_sweep(sweep: SweepFolder, say: Say) -> None:
    """Cancel trials that wait, and ask those that run to save and to end. Raises: WavslmError."""
    active = {number: job for number, job in sweep_jobs(sweep).items() if job.active}
    if not active:
        raise WavslmError(f"no trial of {sweep.path} waits or runs.")
    for number, job in active.items():
        entry = sweep.entry(number)
        run_dir = None if entry is None else sweep.run_dir(entry)
        if run_dir is not None and run_dir.exists():
            request_stop(run_dir)
        if job.waits:
            cancel([job.job_id])
    waiting = [str(number) for number, job in active.items() if job.waits]
    running = [str(number) for number, job in active.items() if not job.waits]
    if waiting:
        say(f"cancelled before they ran: trial {', '.join(waiting)}")
    if running:
        say(f"asked to save and to end: trial {', '.join(running)}")


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
    sweep: SweepFolder, phase: Sequence[Task], launch: SlurmLaunch, before: tuple[str, ...], say: Say
) -> str:
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
    note_tasks(sweep, {task.trial: job_id for task, job_id in zip(phase, ids, strict=True)})
    for task, job_id in zip(phase, ids, strict=True):
        run_dir = _run_dir(sweep, task.trial)
        if run_dir is not None:
            record_job(sweep, run_dir, job_id, task.stages, before)
    stages = phase[0].stages
    what = "trial" if stages is None else ", ".join(stages) + " for those that share it, trial"
    waits = f", after job {before[0]}" if before else ""
    shown = ", ".join(str(task.trial) for task in phase)
    log = log_path(f"{array}_*" if len(phase) > 1 else array)
    say(f"job {array}: {what} {shown}{waits}, logs {sweep.path / log}")
    return array


def _is_done(sweep: SweepFolder, number: int) -> bool:
    entry = sweep.entry(number)
    if entry is None:
        return False
    if entry.run is None:
        return True
    return trial_state(sweep, entry).status in ("finished", "pruned")


def _run_dir(sweep: SweepFolder, number: int) -> Path | None:
    entry = sweep.entry(number)
    return None if entry is None else sweep.run_dir(entry)
