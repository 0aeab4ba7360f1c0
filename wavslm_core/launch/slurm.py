"""Launcher `slurm`: as jobs of a cluster, through submitit.

Submitting returns at once. Stages that want other machines than the ones before are jobs of their own that
wait for those, and a stage with `array` is a job array. What happens in a job is in `job.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wavslm_core.launch.chain import PlannedJob, jobs_left, plan_jobs
from wavslm_core.launch.job import RunJob
from wavslm_core.launch.launchers import Launcher, Outcome
from wavslm_core.launch.sbatch import script_text, submit
from wavslm_core.machine.slurm import cancel
from wavslm_core.machine.terminal import Say
from wavslm_core.recipe import Recipe
from wavslm_core.recipe.launch_block import SlurmLaunch
from wavslm_core.run.code_snapshot import save_code
from wavslm_core.run.folder import RECIPE_FILE, saved_recipe
from wavslm_core.run.job_record import JobRecord, add_jobs, drop_jobs, new_record
from wavslm_core.run.queued import submitting
from wavslm_core.run.run_error import clear_error
from wavslm_core.run.signals import interrupts_held
from wavslm_core.run.stop_file import clear_stop


class SlurmLauncher(Launcher[SlurmLaunch]):
    """Submits the chain of jobs of a run."""

    def launch(self, run_dir: Path, say: Say) -> Outcome:
        run_dir = run_dir.absolute()
        recipe = saved_recipe(run_dir)
        jobs = jobs_left(run_dir, say)
        if not jobs:
            return Outcome("finished")
        with submitting(run_dir, say):
            clear_stop(run_dir)
            clear_error(run_dir)
            save_code(run_dir, copy=any(_slurm(job).copy_code for job in jobs))
            records: list[JobRecord] = []
            try:
                for job in jobs:
                    after = [record.job_id for record in records[-1:]]
                    with interrupts_held():
                        records.append(_submit_planned(job, run_dir, name=recipe.name, after=after))
                        # At once: this process may be killed before the last one.
                        add_jobs(run_dir, records[-1:])
            except BaseException:
                # No half of a chain.
                if records:
                    cancel([record.job_id for record in reversed(records)])
                    drop_jobs(run_dir, records)
                raise
        for job, record in zip(jobs, records, strict=True):
            waits = f", after job {record.depends_on[0]}" if record.depends_on else ""
            say(f"job {record.job_id}: {job}{waits}, log {run_dir / record.logs[0]}")
        return Outcome("submitted")

    def where(self) -> str:
        config = self.config
        processes = config.world_size
        amount = f"{config.nodes} node{'s' * (config.nodes > 1)}"
        if config.gpus_per_node:
            each = " each" if config.nodes > 1 else ""
            amount += f" with {config.gpus_per_node} GPU{'s' * (config.gpus_per_node > 1)}{each}"
        partition = f", partition {config.partition}" if config.partition else ""
        return f"on SLURM{partition}: {amount}, {processes} process{'es' * (processes > 1)}"

    def preview(self, recipe: Recipe, run_dir: Path) -> str:
        """Return the scripts that sbatch would be given, the ones that submitit writes."""
        texts = []
        for number, job in enumerate(plan_jobs(recipe), start=1):
            after = () if number == 1 else (f"JOB_{number - 1}",)
            script = script_text(_slurm(job), run_dir, name=recipe.name, after=after, count=job.array or 1)
            texts.append(f"job {number}: {job}\n\n{script}")
        return "\n".join(texts)


def _submit_planned(job: PlannedJob, run_dir: Path, *, name: str, after: Sequence[str]) -> JobRecord:
    recipe_path = str(run_dir / RECIPE_FILE)
    calls = [RunJob(recipe_path, stages=job.stages, share=share) for share in job.shares]
    job_id = submit(calls, _slurm(job), run_dir, name=name, after=after)
    # submitit makes an ordinary job of an array of one.
    array = job.array if len(calls) > 1 else None
    return new_record(job_id, "slurm", job.stages, array=array, depends_on=after)


def _slurm(job: PlannedJob) -> SlurmLaunch:
    if not isinstance(job.launch, SlurmLaunch):
        raise TypeError(f"the launch block of {job} is {job.launch!r}")
    return job.launch
