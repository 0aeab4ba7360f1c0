"""Launcher `slurm`: as jobs of a cluster, through submitit.

Submitting returns at once. Stages that want other machines than the ones before are jobs of their own that
wait for those, and a stage with `array` is a job array. What happens in a job is in `job.py`; here stand the
chain of jobs, and what sbatch is handed: which options, in which environment, and what its refusals mean.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from wavslm_core.errors import WavslmError
from wavslm_core.launch.chain import PlannedJob, jobs_left, plan_jobs
from wavslm_core.launch.job import RunJob
from wavslm_core.launch.launchers import Launcher, Outcome
from wavslm_core.machine.slurm import cancel
from wavslm_core.machine.terminal import Say
from wavslm_core.recipe.launch_block import SlurmLaunch
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.run.environment import CODE_FOLDER, save_code
from wavslm_core.run.failure import clear_error
from wavslm_core.run.folder import RECIPE_FILE, saved_recipe
from wavslm_core.run.queued import submitting
from wavslm_core.run.records import JOBS_FOLDER, JobRecord, add_jobs, drop_jobs, new_record
from wavslm_core.run.stop import clear_stop, interrupts_held


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

    def preview(self, recipe: ResolvedRecipe, run_dir: Path) -> str:
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


TOO_LARGE = (
    "A cluster takes arrays up to its MaxArraySize (`scontrol show config | grep MaxArraySize`): give the "
    "stage's launch.array, or the sweep, fewer tasks."
)
TOO_MANY = (
    "It also limits how many jobs of a user wait or run (`sacctmgr show qos format=name,"
    "maxsubmitjobsperuser`), and every task of an array counts: submit fewer, wait for others to end, or "
    "name another launch.qos."
)
HINTS = (
    ("job array", TOO_LARGE),
    ("submit ?(job ?)?limit|MaxSubmit|QOSMax|AssocMax|AssocGrp|QOSGrp|accounting/QOS policy", TOO_MANY),
    ("partition", "Partitions there are: `sinfo`; launch.partition names one."),
    ("account", "Accounts of yours: `sacctmgr show assoc user=$USER`; launch.account names one."),
    ("qos", "launch.qos names one of `sacctmgr show qos`."),
    ("wckey", "launch.extra={wckey: NAME} gives one of `sacctmgr show wckey`, {wckey: false} none."),
    (
        "node configuration|memory specification|node count|CPU count|gres|tres",
        "Ask for less (launch.nodes, gpus_per_node, cpus_per_task, memory_gb); `sinfo -o '%P %D %c %m %G'` "
        "shows what nodes have.",
    ),
    ("time limit", "Ask for a shorter launch.timeout_min; `sinfo -o '%P %l'` shows the longest."),
)
"""What sbatch says → what to do."""
NOT_THE_REASON = ("job-name", "kill-on-invalid-dep", "open-mode", "output", "requeue", "signal")
"""Options that no cluster refuses a job for."""
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
    # submitit would send its own name, which clusters with wckeys refuse; `extra` may give one.
    executor._executor.update_parameters(wckey=None)
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
    return _script(executor, count=count)


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

    script = ""
    try:
        tasks = at_once or len(jobs)
        executor = slurm_executor(launch, run_dir, name=name, after=after, need=need, tasks=tasks)
        script = _script(executor, count=len(jobs))
        # submitit shows what sbatch says, and raises it as well.
        with _outside_jobs(), redirect_stderr(StringIO()):
            submitted = executor.submit_array(list(jobs)) if len(jobs) > 1 else [executor.submit(jobs[0])]
    except (FailedJobError, FailedSubmissionError) as error:
        raise WavslmError(refusal(error, script, count=len(jobs))) from None
    except OSError as error:
        if error.filename != "sbatch":
            raise
        raise WavslmError(
            f"sbatch cannot be run: {error.strerror}. Run this on a login node of the cluster, or here with "
            "launch.on=local; --dry-run shows what would be submitted."
        ) from None
    except RuntimeError as error:
        if "srun" not in str(error):
            raise
        raise WavslmError(
            "launch.on is slurm, but there is no srun here. Run it on a login node of the cluster, or here "
            "with launch.on=local; --dry-run shows what would be submitted."
        ) from None
    return str(submitted[0].job_id).partition("_")[0]


def _script(executor: Any, *, count: int) -> str:
    """Return the script that submitit's executor gives sbatch for a job, or for an array of `count`."""
    inner = executor._executor
    before = dict(inner.parameters)
    if count > 1:
        inner.parameters["map_count"] = count
    try:
        return str(inner._make_submission_file_text(inner._submitit_command_str, ""))
    finally:
        inner.parameters = before


def refusal(error: Exception, script: str, *, count: int) -> str:
    """Return what sbatch was asked, what it said when it refused, and what to do about it.

    `script`: what it was given. `count`: how many tasks the job array has; 1 for a job.
    """
    said = [line.removeprefix("sbatch: error: ").strip() for line in str(error).splitlines()]
    said = [line for line in said if line]
    code = getattr(error.__cause__, "returncode", None)
    if not said:
        # Some submission filters say it to the standard output.
        said = [line.strip() for line in (getattr(error.__cause__, "output", "") or "").splitlines()]
    words = "; ".join(said) or "it gives no reason" + (f", only exit code {code}" if code else "")
    asked = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")]
    asked = [option for option in asked if option.partition("=")[0] not in NOT_THE_REASON]
    hints = [hint for pattern, hint in HINTS if re.search(pattern, words, re.IGNORECASE)]
    if count > 1 and (not said or hints == []):
        hints.append(f"{TOO_LARGE} {TOO_MANY}")
    advice = (
        " ".join(hints)
        or "See which partitions, accounts and limits there are: `sinfo`, `sacctmgr show assoc`."
    )
    what = "the job" if count == 1 else f"the array of {count} jobs"
    return (
        f"sbatch refuses {what}: {words.removesuffix('.')}. It was asked for {', '.join(asked)}. {advice} "
        "--dry-run shows the whole script."
    )


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
