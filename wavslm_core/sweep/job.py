"""What a task of a sweep's job array does: get its trial ready, then run it as any other job runs."""

import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from wavslm_core.errors import EXIT_MENDABLE, WavslmError
from wavslm_core.launch.job import RunJob
from wavslm_core.machine.files import write_json
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.regular_files import read_regular
from wavslm_core.machine.terminal import echo, prepare_output
from wavslm_core.run.failure import first_line
from wavslm_core.run.folder import RECIPE_FILE, saved_recipe
from wavslm_core.run.records import JOBS_FOLDER, add_jobs, log_path, new_record, read_jobs
from wavslm_core.run.reuse import Adoption
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.phases import TrialTask
from wavslm_core.sweep.study import SweepStudy
from wavslm_core.sweep.trial import begin_trial
from wavslm_core.sweep.trial_state import noting_begin_error

POLL_S = 0.5


class TrialJob:
    """A call that submitit pickles: the path of a sweep, the number of a trial, and names of stages."""

    def __init__(self, sweep: str, task: TrialTask) -> None:
        self.sweep = sweep
        self.trial = task.trial
        self.stages = task.stages

    def __call__(self) -> dict[str, Any]:
        """Run the trial, or some of its stages; return how it ended as plain values."""
        from submitit import JobEnvironment

        prepare_output()
        job = JobEnvironment()
        told = _decision_path(Path(self.sweep), job.job_id)
        several = job.num_tasks > 1
        try:
            if job.global_rank == 0:
                run_dir = self._begin(job.job_id)
                if several:
                    write_json(told, {"start": _start(), "run": None if run_dir is None else run_dir.name})
            else:
                run_dir = self._wait(told)
        except Exception as error:
            if several and job.global_rank == 0:
                write_json(told, {"start": _start(), "error": first_line(error)})
            if not isinstance(error, WavslmError):
                raise
            echo(f"error: {error}", err=True)
            sys.exit(EXIT_MENDABLE)
        if run_dir is None:
            return {"status": "finished", "stage": None}
        try:
            result = RunJob(str(run_dir / RECIPE_FILE), stages=self.stages)()
        finally:
            if job.global_rank == 0:
                with suppress(WavslmError):
                    sweep = SweepFolder.open(Path(self.sweep))
                    if sweep.sweep.sampler == "optuna":
                        SweepStudy(sweep).tell_results()
        return result

    def checkpoint(self) -> Any:
        """Return what submitit runs when the job comes back: the same call."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _begin(self, job_id: str) -> Path | None:
        with noting_begin_error(Path(self.sweep), self.trial):
            sweep = SweepFolder.open(Path(self.sweep))
            adoption = Adoption(sweep.path.parent, registry=sweep.recipe.registry)
            run_dir = begin_trial(sweep, self.trial, adoption, echo)
            if run_dir is not None:
                record_job(sweep, run_dir, job_id, self.stages)
        return run_dir

    def _wait(self, told: Path) -> Path | None:
        """Return the folder that the first process has decided on, None if there is nothing to do.

        It decides alone: others may see an older state of the file system. It is waited for however long it
        takes to copy what other runs have computed; should it die, SLURM ends the job.
        Raises: WavslmError when it could not begin the trial.
        """
        while True:
            with suppress(OSError, ValueError):
                decision = parse_json(read_regular(told), _Decision)
                if decision["start"] == _start():
                    break
            time.sleep(POLL_S)
        if "error" in decision:
            raise WavslmError(f"trial {self.trial} did not begin in process 0: {decision['error']}")
        run = decision.get("run")
        return None if run is None else Path(self.sweep).parent / run


class _Decision(TypedDict):
    """What the first process of a trial's job tells the others."""

    start: str
    """How often SLURM had started the job again, as `_start`."""
    run: NotRequired[str | None]
    """Name of the run's folder; None when there is nothing to do."""
    error: NotRequired[str]


def _decision_path(sweep: Path, job_id: str) -> Path:
    """Return where the first process of a trial's job tells the others what to do."""
    return sweep / JOBS_FOLDER / f"{job_id}_decision.json"


def _start() -> str:
    """Return what all processes of a job have in common until it is started again."""
    return os.environ.get("SLURM_RESTART_COUNT", "0")


def record_job(
    sweep: SweepFolder,
    run_dir: Path,
    job_id: str,
    stages: tuple[str, ...] | None,
    after: tuple[str, ...] = (),
) -> None:
    """Take note of a trial's job in its folder, where `wavslm jobs` and `wavslm stop` look for it."""
    if any(record.job_id == job_id for record in read_jobs(run_dir)):
        return
    if stages is None:
        stages = tuple(name for name, _ in saved_recipe(run_dir).named_stages())
    record = new_record(job_id, "slurm", stages, depends_on=after)
    # The array's logs are the sweep's.
    add_jobs(run_dir, [replace(record, logs=(f"../{sweep.path.name}/{log_path(job_id)}",))])
