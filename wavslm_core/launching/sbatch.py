"""Hands jobs to sbatch through submitit: which options, in which environment, and what its refusals mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from wavslm_core.errors import WavslmError
from wavslm_core.launching.code_snapshot import CODE_FOLDER
from wavslm_core.launching.job_record import JOBS_FOLDER
from wavslm_core.recipe.launch import SlurmLaunch

ANY_NUMBER = 2**31
"""How often submitit lets a job run out of time; `max_restarts` bounds those that get nowhere."""


def slurm_executor(
    launch: SlurmLaunch,
    run_dir: Path,
    *,
    name: str,
    after: Sequence[str] = (),
    need: Literal["afterok", "afterany"] = "afterok",
    tasks: int | None = None,
) -> Any:
    """Return submitit's executor for jobs that log to `<run>/jobs`.

    `after`: jobs that have to succeed first, or only to end. `tasks`: how many of an array run at once.
    """
    import submitit

    extra = {key.lstrip("-").replace("_", "-"): value for key, value in launch.extra.items()}
    additional: dict[str, Any] = {"requeue": True, "kill-on-invalid-dep": "yes"} | extra
    # Since version 22.05 srun does not ask sbatch how many CPUs a process has.
    cpus = () if launch.cpus_per_task is None else (f"--cpus-per-task={launch.cpus_per_task}",)
    setup = list(launch.setup)
    if launch.copy_code:
        # Safe: else `python -m` looks where the job was submitted first, which may be the checkout.
        setup.append("export PYTHONSAFEPATH=1")
        setup.append(f'export PYTHONPATH="{run_dir / CODE_FOLDER}${{PYTHONPATH:+:$PYTHONPATH}}"')
    executor = submitit.AutoExecutor(
        folder=run_dir / JOBS_FOLDER, cluster="slurm", slurm_max_num_timeout=ANY_NUMBER
    )
    executor.update_parameters(
        name=name,
        nodes=launch.nodes,
        tasks_per_node=launch.tasks,
        gpus_per_node=launch.gpus_per_node or None,
        cpus_per_task=launch.cpus_per_task,
        mem_gb=launch.memory_gb,
        timeout_min=launch.timeout_min,
        stderr_to_stdout=True,
        slurm_partition=launch.partition,
        slurm_account=launch.account,
        slurm_qos=launch.qos,
        slurm_constraint=launch.constraint,
        slurm_exclude=launch.exclude,
        slurm_signal_delay_s=launch.signal_delay_s,
        slurm_dependency=f"{need}:{':'.join(after)}" if after else None,
        slurm_array_parallelism=tasks,
        slurm_setup=setup or None,
        slurm_srun_args=["--kill-on-bad-exit=1", *cpus],
        slurm_additional_parameters={key: value for key, value in additional.items() if value is not False},
    )
    return executor


def script_text(
    launch: SlurmLaunch,
    run_dir: Path,
    *,
    name: str,
    count: int = 1,
    after: Sequence[str] = (),
    need: Literal["afterok", "afterany"] = "afterok",
    at_once: int | None = None,
) -> str:
    """Return the script that sbatch would be given for a job, or for an array of `count`."""
    with _slurm_or_not():
        executor = slurm_executor(
            launch, run_dir.absolute(), name=name, after=after, need=need, tasks=at_once or count
        )
    inner = executor._executor
    if count > 1:
        inner.parameters["map_count"] = count
    return str(inner._make_submission_file_text(inner._submitit_command_str, ""))


def submit(
    jobs: Sequence[Callable[[], Any]],
    launch: SlurmLaunch,
    run_dir: Path,
    *,
    name: str,
    after: Sequence[str] = (),
    need: Literal["afterok", "afterany"] = "afterok",
    at_once: int | None = None,
) -> str:
    """Submit one job, or several as a job array; return the id of the job or of the array.

    `at_once`: how many tasks of the array may run at the same time; none: all.
    Raises: WavslmError with what sbatch said.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        tasks = at_once or len(jobs)
        executor = slurm_executor(launch, run_dir, name=name, after=after, need=need, tasks=tasks)
        # submitit shows what sbatch says, and raises it as well.
        with _outside_jobs(), redirect_stderr(StringIO()):
            submitted = executor.submit_array(list(jobs)) if len(jobs) > 1 else [executor.submit(jobs[0])]
    except (FailedJobError, FailedSubmissionError) as error:
        lines = [line.removeprefix("sbatch: error: ") for line in str(error).splitlines()]
        raise WavslmError(f"sbatch refuses the job: {'; '.join(lines)}") from None
    except RuntimeError as error:
        if "srun" not in str(error):
            raise
        raise WavslmError(
            "launch.on is slurm, but there is no srun here. Run it on a login node of the cluster, or here "
            "with launch.on=local; --dry-run shows what would be submitted."
        ) from None
    return str(submitted[0].job_id).partition("_")[0]


@contextmanager
def _outside_jobs() -> Iterator[None]:
    """Hide variables of a job in which this process runs: sbatch would hand them on, and srun obey them."""
    before = {
        key: value
        for key, value in os.environ.items()
        if key.startswith(("SLURM_", "SRUN_", "SUBMITIT_")) and key != "SLURM_CONF"
    }
    for key in before:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(before)


@contextmanager
def _slurm_or_not() -> Iterator[None]:
    """Let submitit write scripts where no SLURM is installed."""
    from submitit.slurm.slurm import SlurmExecutor

    affinity = SlurmExecutor.affinity
    SlurmExecutor.affinity = classmethod(lambda cls: 1)
    try:
        yield
    finally:
        SlurmExecutor.affinity = affinity
