"""Runs of parts that cost milliseconds, submitted to the cluster with the command that a user types."""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.slurm.cluster import Cluster
from tests.slurm.shell import Shell
from tests.support import FAKES, SMALL_CODEC, noise_corpus, until
from wavslm_core.run.metrics_file import read_metrics
from wavslm_core.run.records import JobRecord, read_jobs

CODEC = SMALL_CODEC | {"log_every": 1, "checkpoint_every": 10**6, "valid_utterances": 1}
"""Saves only when it is told to stop."""
PATIENT = CODEC | {"run": "train_patiently", "waits_before": [20]}
"""The same, and is still before its step 20 whenever a test gets round to stopping it."""


class Submitted:
    """Writes recipes into a folder and runs them there."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = folder
        self.cluster = cluster
        self.shell = Shell(cluster, folder)
        self.wavslm = partial(self.shell.run, "wavslm")
        self.command = partial(self.shell.run, "wavslm-run")
        noise_corpus(folder / "corpus")

    def recipe(self, name: str, stages: Sequence[Any], **launch: Any) -> Path:
        """Write a recipe that runs on SLURM, on the CPU."""
        document: dict[str, Any] = {
            "name": name,
            **FAKES,
            "data": {"corpus": "folder", "path": str(self.folder / "corpus")},
            "stages": list(stages),
            "launch": {"on": "slurm", "device": "cpu", "cpus_per_task": 1, "timeout_min": 5, **launch},
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def submit(self, recipe: Path, *overrides: str) -> tuple[Path, list[JobRecord]]:
        """Submit; return the run's folder and the jobs that were queued."""
        known = {record.job_id for run in self.runs(recipe) for record in read_jobs(run)}
        self.command(recipe, *overrides)
        (run,) = self.runs(recipe)
        return run, [record for record in read_jobs(run) if record.job_id not in known]

    def run_here(self, recipe: Path, *overrides: str) -> Path:
        """Run the recipe without SLURM, uninterrupted, in another folder; return the run's."""
        self.hurry(recipe.stem, self.folder / "here")
        self.command(recipe, "launch.on=local", "launch.device=cpu", "--runs-dir", "here", *overrides)
        (run,) = (self.folder / "here").glob(f"{recipe.stem}-*")
        return run

    def hurry(self, name: str, runs_dir: Path | None = None) -> None:
        """Let runs whose names begin like this no longer wait or pause."""
        folder = runs_dir or self.folder / "runs"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.hurry").touch()

    def runs(self, recipe: Path) -> list[Path]:
        return list((self.folder / "runs").glob(f"{recipe.stem}-*"))

    def wait_for_step(self, run: Path, step: int) -> None:
        """Wait until a training has made so many steps."""

        def last() -> int:
            return max((line["step"] for line in read_metrics(run / "metrics.jsonl")), default=0)

        self.until(f"step {step} of {run}", lambda: last() >= step)

    def until(self, what: str, condition: Callable[[], object]) -> None:
        """Wait for something that jobs do."""

        def seen() -> str:
            logs = (path.read_text() for path in self.folder.glob("runs/*/jobs/*_log.out"))
            return "\n".join([self.cluster.status(), *logs])

        until(what, condition, seen=seen, every_s=0.05)

    def restarts(self, job_id: str) -> int:
        return int(self.cluster.run("squeue", "-h", "--states=all", "-O", "RestartCnt:9", "-j", job_id))

    def wait_for_restart(self, job_id: str, count: int) -> None:
        """Wait until SLURM has started a job again `count` times."""

        def there() -> bool:
            return self.restarts(job_id) == count and self.cluster.state(job_id) == "RUNNING"

        self.until(f"restart {count} of job {job_id}", there)


def assert_same_training(run: Path, reference: Path, *, stage: str = "train_patiently") -> None:
    """The weights are equal bit for bit, and every step was logged once, with the same numbers."""
    weights = "codec/model.safetensors"
    assert (run / weights).read_bytes() == (reference / weights).read_bytes()
    assert _curve(run, stage) == _curve(reference, stage)
    steps = [step for step, split, _ in _curve(run, stage) if split == "train"]
    assert steps == sorted(set(steps))
    ours, theirs = (_events(folder, stage) for folder in (run, reference))
    assert ours == theirs
    assert [step for step, _ in ours] == steps


def _curve(run: Path, stage: str) -> list[tuple[int, str, float]]:
    lines = [line for line in read_metrics(run / "metrics.jsonl") if line["stage"] == stage]
    return [(line["step"], line["split"], line["loss"]) for line in lines]


def _events(run: Path, stage: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run / "tensorboard" / stage), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("train/loss")]


def rank_pids(cluster: Cluster, job_id: str, rank: int) -> list[int]:
    """Return the Python processes of a rank of a job."""
    wanted = {
        b"SLURM_CONF=" + os.fsencode(cluster.exports["SLURM_CONF"]),
        f"SLURM_JOB_ID={job_id}".encode(),
        f"SLURM_PROCID={rank}".encode(),
    }
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = set((process / "environ").read_bytes().split(b"\0"))
            program, *arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted <= variables and b"submitit.core._submit" in arguments and b"python" in program:
            pids.append(int(process.name))
    return pids


def stages_of(run: Path) -> dict[str, str]:
    """Return stage → status."""
    document = json.loads((run / "stages.json").read_text())
    return {name: entry["status"] for name, entry in document.items()}
