"""The launchers of this machine: `local`, in the process of the command or as jobs of submitit's local
executor, and `debug`, always in the process of the command.

The default is this process, for its live progress bars and because stopping the command then stops the run.
A child process costs both, and buys that a crash in native code is reported instead of just ending the
command. Several processes are always children. What submitit pickles carries only the path of the resolved
recipe, the names of stages and a share of the work.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from wavslm_core.errors import JobCrashed
from wavslm_core.launch.chain import PlannedJob, jobs_left, plan_jobs
from wavslm_core.launch.job import VISIBLE_GPUS, RunJob
from wavslm_core.launch.launchers import Launcher, Outcome
from wavslm_core.launch.runner import run_stages
from wavslm_core.machine.processes import Share
from wavslm_core.machine.terminal import Say
from wavslm_core.recipe.launch_block import LaunchConfig, LocalLaunch
from wavslm_core.run.environment import save_code
from wavslm_core.run.failure import (
    GrowingLog,
    clear_error,
    first_error,
    follow_logs,
    keeping_log,
    noting_failure,
    to_exception,
)
from wavslm_core.run.folder import RECIPE_FILE, saved_recipe
from wavslm_core.run.queued import refuse_taken
from wavslm_core.run.records import JOBS_FOLDER, add_jobs, new_record, read_jobs
from wavslm_core.run.stop import AT_A_TERMINAL, clear_stop, interrupts_blocked

YEARS_MIN = 10 * 365 * 24 * 60
"""submitit's local executor ends jobs after two minutes unless told otherwise."""
POLL_S = 0.1


def begin_launch(run_dir: Path, say: Say) -> None:
    """Get a run's folder ready for a launch on this machine. Raises: WavslmError when somebody has it."""
    refuse_taken(run_dir, say)
    clear_stop(run_dir)
    clear_error(run_dir)
    save_code(run_dir)


class InProcessLauncher(Launcher[LaunchConfig]):
    """Runs the stages in the process of the command, job after job: breakpoints and profilers work."""

    def launch(self, run_dir: Path, say: Say) -> Outcome:
        begin_launch(run_dir, say)
        with noting_failure(run_dir), keeping_log(run_dir, say) as say:
            recipe = saved_recipe(run_dir)
            if all(recipe.launch_for(stage).array is None for stage in recipe.stages):
                # One call, so that what earlier stages imported and locked serves the later ones.
                return run_stages(run_dir, say)
            for job in plan_jobs(recipe):
                for share in job.shares:
                    outcome = run_stages(run_dir, say, stages=job.stages, share=share)
                    if outcome.status != "finished":
                        return outcome
        return Outcome("finished")

    def where(self) -> str:
        return f"in this process, device {self.config.device}"


class LocalLauncher(InProcessLauncher):
    """Runs the stages on this machine: here, unless somebody asked for child processes."""

    def launch(self, run_dir: Path, say: Say) -> Outcome:
        recipe = saved_recipe(run_dir)
        if not any(_in_child(recipe.launch_for(stage)) for stage in recipe.stages):
            return super().launch(run_dir, say)
        begin_launch(run_dir, say)
        with noting_failure(run_dir):
            for job in jobs_left(run_dir, say):
                for share in job.shares:
                    outcome = run_in_child(run_dir, job, share, say)
                    if outcome.status != "finished":
                        return outcome
        return Outcome("finished")

    def where(self) -> str:
        place = "in a child process through submitit" if _in_child(self.config) else "in this process"
        if self.config.world_size > 1:
            place = f"in {self.config.world_size} child processes ({self.config.parallel}) through submitit"
        return f"on this machine, {place}, device {self.config.device}"


def _in_child(config: LaunchConfig) -> bool:
    return isinstance(config, LocalLaunch) and (config.process == "child" or config.world_size > 1)


def run_in_child(run_dir: Path, planned: PlannedJob, share: Share, say: Say) -> Outcome:
    """Run one job, or a share of it, in child processes and show what it says. Raises: as `launch`."""
    import submitit

    executor = submitit.AutoExecutor(folder=run_dir.absolute() / JOBS_FOLDER, cluster="local")
    executor.update_parameters(
        timeout_min=YEARS_MIN, tasks_per_node=planned.launch.world_size, stderr_to_stdout=True
    )
    _forget_earlier(run_dir)
    run = RunJob(str(run_dir.absolute() / RECIPE_FILE), stages=planned.stages, share=share)
    stops: list[int] = []
    started: list[Any] = []

    def forward(number: int, frame: FrameType | None) -> None:
        stops.append(number)
        _tell_to_stop(started)

    # A terminal's Ctrl-C reaches the whole process group: the job is told once, by us, through SIGTERM.
    handlers = {number: signal.signal(number, forward) for number in AT_A_TERMINAL}
    try:
        with interrupts_blocked(), _environment():
            job = executor.submit(run)
        started.append(job)
        try:
            add_jobs(run_dir, [new_record(job.job_id, "local", planned.stages)])
            if stops:
                # The signal came before there was a job.
                _tell_to_stop(started)
            follow_logs([("", GrowingLog(job.paths.stdout))], say, ended=job.done, every_s=POLL_S)
        except BaseException:
            # Nobody would look after it.
            _tell_to_stop(started)
            raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return _outcome(run_dir, job, stopped=bool(stops))


def _tell_to_stop(jobs: Sequence[Any]) -> None:
    for job in jobs:
        if not job.done():
            os.kill(int(job.job_id), signal.SIGTERM)


def _forget_earlier(run_dir: Path) -> None:
    """Remove calls, results and errors of earlier local jobs: their ids are process ids, which come again."""
    for record in read_jobs(run_dir):
        if record.launcher == "local":
            for kind in ("submitted.pkl", "*_result.pkl", "*_error.json"):
                for path in (run_dir / JOBS_FOLDER).glob(f"{record.job_id}_{kind}"):
                    path.unlink(missing_ok=True)


@contextmanager
def _environment() -> Iterator[None]:
    """Give the job variables that this process does not keep."""
    environment = {"SUBMITIT_LOG_LEVEL": "CRITICAL", "PYTHONUNBUFFERED": "1"}
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        environment[VISIBLE_GPUS] = os.environ["CUDA_VISIBLE_DEVICES"]
    before = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _outcome(run_dir: Path, job: Any, *, stopped: bool) -> Outcome:
    """Return how a job ended, from what rank 0 returned or the first error of any rank."""
    error = first_error(run_dir, job.job_id)
    if error is None:
        if job.paths.result_pickle.exists():
            result = job.task(0).result() if job.num_tasks > 1 else job.result()
            return Outcome(result["status"], result["stage"])
        if stopped:
            return Outcome("interrupted")
        raise JobCrashed(
            "the job ended without a result: it was killed (out of memory?) or crashed. "
            f"Its log is {job.paths.stdout}"
        )
    raise to_exception(error)
