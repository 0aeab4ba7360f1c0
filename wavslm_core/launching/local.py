"""Launcher `local`: on this machine, in the process of the command or as a job of submitit's local executor.

The default is this process, for its live progress bars and because stopping the command then stops the run.
A child process costs both, and buys that a crash in native code is reported instead of just ending the
command. The job that submitit pickles carries only the path of the resolved recipe.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from wavslm_core.errors import WavslmError
from wavslm_core.launching.base import JobCrashed, Launcher, Outcome, Say
from wavslm_core.launching.runner import run_stages
from wavslm_core.recipe.launch import LaunchConfig, LocalLaunch

YEARS_MIN = 10 * 365 * 24 * 60
"""submitit's local executor ends jobs after two minutes unless told otherwise."""
VISIBLE_GPUS = "WAVSLM_VISIBLE_GPUS"
"""Hands CUDA_VISIBLE_DEVICES on to the job: submitit's local executor hides every GPU."""
POLL_S = 0.1


class LocalLauncher(Launcher[LaunchConfig]):
    """Runs the stages on this machine."""

    def launch(self, run_dir: Path, say: Say) -> Outcome:
        return _run_in_child(run_dir, say) if self._in_child() else run_stages(run_dir, say)

    def where(self) -> str:
        place = "in a child process through submitit" if self._in_child() else "in this process"
        return f"on this machine, {place}, device {self.config.device}"

    def _in_child(self) -> bool:
        return isinstance(self.config, LocalLaunch) and self.config.process == "child"


def run_job(recipe_path: str) -> dict[str, Any]:
    """Run a run folder's stages inside a job and return how it ended as plain values."""
    gpus = os.environ.pop(VISIBLE_GPUS, None)
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    try:
        outcome = run_stages(Path(recipe_path).parent, _say_here)
    except WavslmError as error:
        return {"status": "error", "message": str(error)}
    except OSError as error:
        return {"status": "os_error", "arguments": (error.errno, error.strerror, error.filename)}
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        return {"status": "crashed", "message": message, "details": traceback.format_exc()}
    return {"status": outcome.status, "stage": outcome.stage}


def _say_here(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _run_in_child(run_dir: Path, say: Say) -> Outcome:
    import submitit

    executor = submitit.LocalExecutor(folder=run_dir / "jobs")
    executor.update_parameters(timeout_min=YEARS_MIN, stderr_to_stdout=True)
    environment = {"SUBMITIT_LOG_LEVEL": "CRITICAL", "PYTHONUNBUFFERED": "1"}
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        environment[VISIBLE_GPUS] = os.environ["CUDA_VISIBLE_DEVICES"]
    before = {key: os.environ.get(key) for key in environment}
    # Ctrl-C reaches the whole process group: the job ignores it, and is told through SIGTERM instead.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(environment)
    try:
        job = executor.submit(run_job, str(run_dir / "recipe.yaml"))
        pid = int(job.job_id)
        stops: list[int] = []

        def forward(number: int, frame: FrameType | None) -> None:
            stops.append(number)
            if not job.done():
                os.kill(pid, signal.SIGTERM)

        signal.signal(signal.SIGINT, forward)
        terminate = signal.signal(signal.SIGTERM, forward)
        try:
            _follow(job, say)
        finally:
            signal.signal(signal.SIGTERM, terminate)
    finally:
        signal.signal(signal.SIGINT, handler)
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
    return _outcome(job, stopped=bool(stops))


def _follow(job: Any, say: Say) -> None:
    """Show the job's log until the job ends."""
    log: Path = job.paths.stdout
    position = 0
    rest = ""
    while True:
        ended = job.done()
        if log.exists():
            with log.open(encoding="utf-8", errors="replace", newline="") as stream:
                stream.seek(position)
                *lines, rest = (rest + stream.read()).split("\n")
                position = stream.tell()
            for line in lines:
                say(line)
        if ended:
            if rest:
                say(rest)
            return
        time.sleep(POLL_S)


def _outcome(job: Any, *, stopped: bool) -> Outcome:
    if not job.paths.result_pickle.exists():
        if stopped:
            return Outcome("interrupted")
        raise JobCrashed(
            "the job ended without a result: it was killed (out of memory?) or crashed. "
            f"Its log is {job.paths.stdout}"
        )
    result = job.result()
    if result["status"] == "error":
        raise WavslmError(result["message"])
    if result["status"] == "os_error":
        raise OSError(*result["arguments"])
    if result["status"] == "crashed":
        raise JobCrashed(result["message"], result["details"])
    return Outcome(result["status"], result["stage"])
