"""What a job does, in each of its processes: join the others, run stages, and make of how that ended what the
cluster understands.

A signal only asks for a stop. Once every process agreed and rank 0 has saved, submitit's own handler, which
was there before, queues the job again with this same call. A job that is stopped for good (`wavslm stop`,
Ctrl-C, scancel) or that fails ends with an exit code, so that what depends on it does not start.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any, NoReturn

from wavslm_core.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_MENDABLE, WavslmError
from wavslm_core.launch.launchers import Outcome
from wavslm_core.machine.processes import Share
from wavslm_core.machine.terminal import echo, prepare_output
from wavslm_core.recipe.launch_block import LaunchConfig, SlurmLaunch
from wavslm_core.run.environment import changed_since
from wavslm_core.run.failure import RankError, describe, error_path, first_error, write_error
from wavslm_core.run.folder import saved_recipe
from wavslm_core.run.progress import count_start
from wavslm_core.run.stop import IN_A_JOB, StopRequest

FIRST_PORT, PORTS = 12_000, 20_000
LOOK_FOR_OTHERS_S = 2.0
VISIBLE_GPUS = "WAVSLM_VISIBLE_GPUS"
"""Hands CUDA_VISIBLE_DEVICES on to the job: submitit's local executor hides every GPU."""


class RunJob:
    """A call that submitit pickles: the path of a resolved recipe, names of stages, a share of the work."""

    def __init__(
        self, recipe_path: str, *, stages: tuple[str, ...] | None = None, share: Share | None = None
    ) -> None:
        self.recipe_path = recipe_path
        self.stages = stages
        self.share = (0, 1, False) if share is None else (share.index, share.count, share.partial)

    def __call__(self) -> dict[str, Any]:
        """Run the stages; return how it ended as plain values. Leaves through an exit code if not well."""
        prepare_output()
        requeue = signal.getsignal(signal.SIGUSR2)
        run_dir = Path(self.recipe_path).parent
        on_slurm = os.environ.get("SUBMITIT_EXECUTOR") == "slurm"
        with StopRequest(run_dir, signals=IN_A_JOB, patient=on_slurm) as stop:
            _prepare_environment()
            from submitit import JobEnvironment

            job = JobEnvironment()
            rank, several = job.global_rank, job.num_tasks > 1
            error_path(run_dir, job.job_id, rank).unlink(missing_ok=True)
            try:
                if rank == 0:
                    echo(f"code: {Path(__file__).parents[1]}")
                    # A sweep's jobs have one folder for all trials.
                    _clear_half_pickles(job.paths.folder, job.job_id)
                    self._count_start(run_dir, job.job_id, on_slurm=on_slurm)
                _export_addresses(several, port=port_of(run_dir, job.job_id))
                outcome = self._run(run_dir, stop)
            except Exception as error:
                _fail(error, run_dir, job.job_id, rank, several=several)
            if outcome.status == "interrupted":
                for_good = stop.filed() or stop.number == signal.SIGINT
                if on_slurm and (for_good or _slurm_ends_it(job.raw_job_id)):
                    echo("stopped; the same command continues")
                    sys.exit(EXIT_INTERRUPTED if rank == 0 else 0)
                if (on_slurm or stop.number == signal.SIGUSR2) and not for_good and callable(requeue):
                    # Rank 0 leaves here; the others have nothing left to do.
                    requeue(signal.SIGUSR2, None)
        return {"status": outcome.status, "stage": outcome.stage}

    def checkpoint(self) -> Any:
        """Return what submitit runs when the job comes back: the same call."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _run(self, run_dir: Path, stop: StopRequest) -> Outcome:
        from wavslm_core.launch.runner import run_stages
        from wavslm_core.machine.joining import join_processes

        with join_processes(self._launch(run_dir).device) as processes:
            return run_stages(
                run_dir, echo, processes=processes, stages=self.stages, share=Share(*self.share), stop=stop
            )

    def _launch(self, run_dir: Path) -> LaunchConfig:
        """Return what this job was asked for: the first of its stages may only be put together here."""
        recipe = saved_recipe(run_dir)
        own = [stage for name, stage in recipe.named_stages() if self.stages is None or name in self.stages]
        return recipe.launch_for(own[-1]) if own else recipe.launch

    def _count_start(self, run_dir: Path, job_id: str, *, on_slurm: bool) -> None:
        if changed_since(run_dir):
            echo("the code is not the one that was submitted: launch.copy_code=true would have kept it")
        if not on_slurm:
            # Nobody starts it again, and its id is only that of a process.
            return
        launch = self._launch(run_dir)
        allowed = launch.max_restarts if isinstance(launch, SlurmLaunch) else 0
        starts = count_start(run_dir, job_id, max_restarts=allowed)
        if starts.restarts:
            echo(f"restart {starts.restarts} of job {job_id} on {socket.gethostname()}")


def _prepare_environment() -> None:
    """Set what has to be set before torch is imported."""
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        gpus = os.environ.pop(VISIBLE_GPUS, None)
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus
        tasks = int(os.environ.get("SUBMITIT_LOCAL_NTASKS", "1"))
        if tasks > 1:
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // tasks)))
    elif "SLURM_CPUS_PER_TASK" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", os.environ["SLURM_CPUS_PER_TASK"])


def port_of(run_dir: Path, job_id: str) -> int:
    """Return where rank 0 listens: the same for all ranks, another one for another run or job.

    submitit goes by the number of the job alone, so that jobs of two clusters meet on one machine, and takes
    ports that systems give to connections as they come, from 32768 on.
    """
    return FIRST_PORT + zlib.crc32(f"{run_dir}/{job_id}".encode()) % PORTS


def _export_addresses(several: bool, *, port: int) -> None:
    """Tell torch.distributed who is who. Every process sees all GPUs of its node and takes one of them."""
    if not several:
        # What the submitting shell may have had.
        os.environ.pop("WORLD_SIZE", None)
        return
    from submitit.helpers import TorchDistributedEnvironment

    environment = TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    os.environ["MASTER_PORT"] = str(port)
    try:
        socket.getaddrinfo(environment.master_addr, port)
    except OSError:
        # Node names that no name server knows; srun ran on the first node, where rank 0 is.
        address = os.environ.get("SLURM_LAUNCH_NODE_IPADDR")
        if address:
            os.environ["MASTER_ADDR"] = address


def _clear_half_pickles(folder: Path, job_id: str) -> None:
    """Remove what submitit refuses to overwrite: it was killed while it queued this job again."""
    for path in folder.glob(f"{job_id}_*.save_tmp"):
        path.unlink(missing_ok=True)


def _slurm_ends_it(job_id: str) -> bool:
    """Tell whether SLURM is already ending this job, or starting it again, by itself."""
    if shutil.which("scontrol") is None:
        return False
    try:
        shown = subprocess.run(
            ["scontrol", "show", "job", "-o", job_id], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    state = next((word for word in shown.split() if word.startswith("JobState=")), "JobState=RUNNING")
    return state != "JobState=RUNNING"


def _first_of_all(run_dir: Path, job_id: str) -> RankError | None:
    """Return why the process that was lost failed, if it told within two seconds."""
    end = time.monotonic() + LOOK_FOR_OTHERS_S
    while True:
        first = first_error(run_dir, job_id)
        if first is not None and first.kind != "lost":
            return first
        if time.monotonic() > end:
            return None
        time.sleep(0.1)


def _fail(error: Exception, run_dir: Path, job_id: str, rank: int, *, several: bool) -> NoReturn:
    """Say why in the log and in a file, and leave with an exit code."""
    told = describe(error, rank)
    write_error(run_dir, job_id, told)
    if os.environ.get("SUBMITIT_EXECUTOR") != "local":
        # There the command that started the job tells it.
        first = _first_of_all(run_dir, job_id) if told.kind == "lost" else told
        if first is not None and first.kind == "bug":
            echo(f"{first.title}\n{first.details}" if several else first.details, err=True)
        prefix = f"rank {rank}: " if several else ""
        for line in told.message.rstrip("\n").split("\n"):
            echo(f"{prefix}error: {line}", err=True)
    sys.stdout.flush()
    code = EXIT_MENDABLE if isinstance(error, WavslmError) else EXIT_BUG
    if several:
        # Threads of a collective that waits for a lost process would keep this one alive.
        os._exit(code)
    sys.exit(code)
