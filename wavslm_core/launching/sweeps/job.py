"""What a task of a sweep's job array does: get its trial ready, then run it as any other job runs."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from wavslm_core.errors import WavslmError
from wavslm_core.launching.adoption import Adoption
from wavslm_core.launching.base import say_here
from wavslm_core.launching.finished import is_finished
from wavslm_core.launching.job import EXIT_MENDABLE, RunJob
from wavslm_core.launching.job_record import add_jobs, log_path, new_record, read_jobs
from wavslm_core.launching.prune_files import read_pruned
from wavslm_core.launching.run_folder import RECIPE_FILE, saved_recipe
from wavslm_core.launching.sweeps.folder import SweepFolder
from wavslm_core.launching.sweeps.phases import Task
from wavslm_core.launching.sweeps.study import SweepStudy
from wavslm_core.launching.sweeps.trial import begin_trial
from wavslm_core.launching.sweeps.trial_state import note_begin_error
from wavslm_core.terminal import echo, prepare_output

LONGEST_WAIT_S = 600.0
"""How long the other processes of a trial wait for the first one to choose its values."""


class TrialJob:
    """A call that submitit pickles: the path of a sweep, the number of a trial, and names of stages."""

    def __init__(self, sweep: str, task: Task) -> None:
        self.sweep = sweep
        self.trial = task.trial
        self.stages = task.stages

    def __call__(self) -> dict[str, Any]:
        """Run the trial, or some of its stages; return how it ended as plain values."""
        from submitit import JobEnvironment

        prepare_output()
        job = JobEnvironment()
        try:
            sweep = SweepFolder.open(Path(self.sweep))
            run_dir = self._begin(sweep, job.job_id) if job.global_rank == 0 else self._wait(sweep)
        except Exception as error:
            if job.global_rank == 0:
                # The trial may have no folder that this could be left in.
                note_begin_error(Path(self.sweep), self.trial, error)
            if not isinstance(error, WavslmError):
                raise
            echo(f"error: {error}", err=True)
            sys.exit(EXIT_MENDABLE)
        if run_dir is None:
            return {"status": "finished", "stage": None}
        try:
            result = RunJob(str(run_dir / RECIPE_FILE), stages=self.stages)()
        finally:
            if job.global_rank == 0 and sweep.sweep.sampler == "optuna":
                with suppress(WavslmError):
                    SweepStudy(sweep).tell_results()
        return result

    def checkpoint(self) -> Any:
        """Return what submitit runs when the job comes back: the same call."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _begin(self, sweep: SweepFolder, job_id: str) -> Path | None:
        adoption = Adoption(sweep.path.parent, registry=sweep.recipe.registry)
        run_dir = begin_trial(sweep, self.trial, adoption, say_here)
        if run_dir is not None:
            record_job(sweep, run_dir, job_id, self.stages)
        return run_dir

    def _wait(self, sweep: SweepFolder) -> Path | None:
        """Return the folder once the first process has chosen the trial."""
        end = time.monotonic() + LONGEST_WAIT_S
        while time.monotonic() < end:
            entry = sweep.entry(self.trial)
            if entry is not None:
                run_dir = sweep.run_dir(entry)
                if run_dir is None or entry.same_as is not None:
                    return None
                if sweep.prunes(entry) and read_pruned(run_dir) is not None:
                    return None
                return None if is_finished(run_dir, registry=sweep.recipe.registry) else run_dir
            time.sleep(0.5)
        raise WavslmError(f"trial {self.trial} was not chosen within {LONGEST_WAIT_S:.0f} s")


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
