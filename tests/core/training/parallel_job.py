"""Jobs for several processes: `python parallel_job.py GROUPS.json`.

The file holds lists of jobs. Each list is done by two processes of its own, one job after another. They are
forks of this one, which has imported everything: that takes longer than most jobs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch.distributed.distributed_c10d import _set_pg_timeout
from torch.distributed.fsdp import FSDPModule

from wavslm_core.data.token_store import TokenStore
from wavslm_core.data.token_writer import ShardRecord, TokenWriter
from wavslm_core.errors import WavslmError
from wavslm_core.machine.joining import join_processes
from wavslm_core.machine.processes import ALONE, WHOLE, Interrupted, Processes, Share, divide
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.configs import Role
from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.testing.fakes import (
    FakeSampler,
    FakeSamplerConfig,
    fake_codec,
    register_fakes,
)
from wavslm_core.training.config import TrainingConfig
from wavslm_core.training.device import seed_torch
from wavslm_core.training.guards import TrainingError
from wavslm_core.training.lm_task import LanguageModelTask
from wavslm_core.training.loop import fit

WORLD_SIZE = 2
VOCAB_SIZE = 32
TRAIN_OPTIONS: dict[str, Any] = {
    "steps": 20,
    "batch_size": 8,
    "lr": 3e-3,
    "clip_norm": 0.5,
    "schedule": "constant",
    "validate_every": 10,
    "checkpoint_every": 10,
    "show_every": 20,
    "log_every": 1,
    "precision": "fp32",
}


class LmConfig(TrainingConfig):
    run: str = "lm"


def make_store(folder: Path, size: int, *, seed: int) -> TokenStore:
    """Utterances of 3 to 15 chunks, so that processes predict different numbers of tokens in each step."""
    random = np.random.default_rng(seed)
    items = [random.integers(0, VOCAB_SIZE, 4 * int(random.integers(3, 16))) for _ in range(size)]
    writer = TokenWriter(
        folder, fingerprint={}, plan="0", shards=1, vocab_size=VOCAB_SIZE, token_rate_hz=50.0, align=4
    )
    ids = [f"utterance-{number}" for number in range(size)]
    lengths = [len(item) for item in items]
    writer.write(0, items, ShardRecord(ids, lengths, [], audio_seconds=1.0, work_seconds=1.0))
    return writer.finish()


WAVLM_UPPER = {
    "name": "wavlm_upper",
    "num_layers": 3,
    "dim": 24,
    "ffn_dim": 37,
    "num_heads": 4,
    "num_buckets": 16,
    "max_distance": 32,
    "window_size": 32,
    "lookahead_size": 3,
}
NEXT_CHUNK = {"name": "next_chunk", "chunk_tokens": 4}


def make_model(parts: dict[str, Any]) -> SpeechLM:
    """A language model of small parts, the reference ones if none are named, over a fake codec."""
    seed_torch(0, "init")
    registry = load_registry()

    def build(role: Role, options: dict[str, Any]) -> Any:
        config_class = registry.entry(role, options["name"]).config_class
        return registry.build(config_class.model_validate({**options, "vocab_size": VOCAB_SIZE}))

    codec = fake_codec(bits=5)
    backbone = build("backbone", {**parts.get("backbone", WAVLM_UPPER), "input_dim": 16})
    head = build("head", {**parts.get("head", NEXT_CHUNK), "input_dim": 24})
    return SpeechLM(codec, backbone, head, FakeSampler(FakeSamplerConfig())).eval()


def context_for(job: dict[str, Any], processes: Processes, **options: Any) -> StageContext:
    launch = {"on": "local", "parallel": job.get("parallel", "ddp")}
    recipe = resolve(recipe_from_dict({"name": "tiny", "seed": 7, "launch": launch}))
    return StageContext(recipe=recipe, run_dir=Path(job["run_dir"]), processes=processes, **options)


def keep_mean(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
    """What a batch norm does: keep a statistic of what this process sees."""
    module.mean.copy_(inputs[0].mean())


def train_lm(job: dict[str, Any], processes: Processes) -> dict[str, Any]:
    """Train; return the steps that this process made and what became of it."""
    made: list[int] = []
    sliced: set[int] = set()

    class Task(LanguageModelTask):
        def loss(self, step: int, micro_batch: int) -> Any:
            if torch.is_grad_enabled():
                made.append(step)
            sliced.add(sum(isinstance(module, FSDPModule) for module in self.model.modules()))
            if job.get("die_at") == [processes.rank, step]:
                os.kill(os.getpid(), signal.SIGKILL)
            if job.get("fail_at") == [processes.rank, step]:
                raise WavslmError("the dog ate this batch")
            output = super().loss(step, micro_batch)
            if job.get("nan_at") == [processes.rank, step]:
                output.loss = output.loss * torch.nan
            return output

    def stop() -> bool:
        return bool(made) and job.get("stop_at") == [processes.rank, made[-1]]

    config = LmConfig(**TRAIN_OPTIONS | job.get("options", {}))
    context = context_for(job, processes, stop_requested=stop)
    model = make_model(job.get("parts", {}))
    stores = [TokenStore.open(Path(job["stores"]) / split) for split in ("train", "valid")]
    batching = config.batching(context)
    task = Task(model, *stores, crop_tokens=32, batching=batching, processes=processes)
    if job.get("idle"):
        model.backbone.idle = torch.nn.Linear(2, 2)
    if job.get("learns_alone"):
        model.backbone.register_buffer("mean", torch.zeros(()))
        model.backbone.register_forward_pre_hook(keep_mean)
    try:
        state = fit(task, config, context, stage="lm")
    except Interrupted as error:
        return {"made": made, "interrupted": str(error)}
    except TrainingError as error:
        return {"made": made, "failed": str(error)}
    weights = {name: module.state_dict() for name, module in task.modules.items()}
    torch.save(weights, context.run_dir / f"final-{processes.rank}.pt")
    model.save(context.run_dir / f"speech_lm-{processes.rank}")
    with torch.no_grad():
        model(torch.arange(16)[None] % VOCAB_SIZE)
    return {
        "made": made,
        "results": state.results(),
        "class": type(model.backbone).__name__,
        "sliced": max(sliced, default=0),
    }


def stage_recipe(job: dict[str, Any]) -> ResolvedRecipe:
    """A recipe of fakes over a folder of recordings; `job["recipe"]` goes over it."""
    register_fakes()
    roles = ("encoder", "quantizer", "decoder", "backbone", "head", "sampler")
    document = {
        "name": "small",
        "seed": 3,
        **{role: {"name": "fake"} for role in roles},
        "data": {"corpus": "folder", "path": job["corpus"], "speaker_separator": "-"},
        "stages": [job["stage"]],
        "launch": {"on": "local", "parallel": job.get("parallel", "ddp")},
        **job.get("recipe", {}),
    }
    return resolve(recipe_from_dict(document))


def run_stage(job: dict[str, Any], processes: Processes) -> dict[str, Any]:
    """Run one stage and return nothing: what it leaves in the run's folder is what counts."""
    recipe = stage_recipe(job)
    share = Share(*job["share"], partial=True) if "share" in job else WHOLE
    context = StageContext(recipe, Path(job["run_dir"]), processes=processes, share=share)
    if "stop_at" in job:
        asked = count()
        rank, limit = job["stop_at"]
        context.stop_requested = lambda: processes.rank == rank and next(asked) >= limit
    stage: Any = recipe.registry.build(recipe.stages[0])
    interrupted = False
    try:
        stage.run(context)
    except Interrupted:
        interrupted = True
    # As between the stages of a run: what rank 0 does alone is done before anybody goes on.
    processes.barrier()
    return {"interrupted": True} if interrupted else {}


def divide_sleep(job: dict[str, Any], processes: Processes) -> list[float]:
    """Sleep, each process for as long as the job says, in a group that has two seconds' patience."""
    processes.barrier()
    _set_pg_timeout(timedelta(seconds=2), processes.talk)

    def sleep(seconds: float) -> float:
        time.sleep(seconds)
        if job.get("die") == processes.rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return seconds

    return divide(processes, job["seconds"], sleep)


def train_gan(job: dict[str, Any], processes: Processes) -> dict[str, Any]:
    """Train two players; return the steps that this process made."""
    sys.path.append(str(Path(__file__).parent))
    from tiny_job import TinyGan, TinyGanConfig

    options = {"starts_at_step": 3, "checkpoint_every": 5, "log_every": 1, "select": "last"}
    config = TinyGanConfig(**options | job.get("options", {}))
    asked = count()
    stop = job.get("stop_at")
    context = context_for(job, processes, stop_requested=lambda: stop == [processes.rank, next(asked)])
    task = TinyGan(config, dropout=0.0, share=(processes.rank, processes.world_size))
    interrupted = False
    try:
        fit(task, config, context, stage="gan")
    except Interrupted:
        interrupted = True
    else:
        weights = {name: module.state_dict() for name, module in task.modules.items()}
        torch.save(weights, context.run_dir / f"final-{processes.rank}.pt")
    return {"made": sorted({step for _, step, _ in task.turns}), "interrupted": interrupted}


JOBS = {"train_gan": train_gan, "train_lm": train_lm, "run_stage": run_stage, "divide_sleep": divide_sleep}


def do_jobs(jobs: list[dict[str, Any]], processes: Processes = ALONE) -> list[Any]:
    return [JOBS[job["do"]](job, processes) for job in jobs]


def do_as(rank: int, port: int, jobs: list[dict[str, Any]], path: Path) -> NoReturn:
    """Be one of the processes: results go to `path`, what is said to a file beside it."""
    code = 1
    try:
        os.dup2(os.open(path.with_name(f"{path.stem}.err.{rank}"), os.O_WRONLY | os.O_CREAT), 2)
        who = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD_SIZE)}
        os.environ.update(who, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        with join_processes("cpu") as processes:
            results = do_jobs(jobs, processes)
            path.write_text(json.dumps(results))
        code = 0
    except WavslmError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        code = 2
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def do_group(jobs: list[dict[str, Any]], path: Path) -> dict[str, Any]:
    """Return the exit code of each process, and when it ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks: dict[int, int] = {}
    for rank in range(WORLD_SIZE):
        pid = os.fork()
        if not pid:
            do_as(rank, port, jobs, path.with_name(f"{path.name}.{rank}"))
        ranks[pid] = rank
    ends: dict[str, Any] = {}
    while len(ends) < WORLD_SIZE:
        pid, status = os.wait()
        ends[str(ranks[pid])] = {"code": os.waitstatus_to_exitcode(status), "time": time.monotonic()}
    return ends


def main() -> None:
    path = Path(sys.argv[1])
    # What training imports only when it comes to it: once here, instead of in each process of each list.
    for late in ("torch._dynamo", "torch.utils.tensorboard", "matplotlib.figure", "sklearn.cluster"):
        if find_spec(late.partition(".")[0]) is not None:
            import_module(late)
    torch.set_num_threads(1)
    groups = json.loads(path.read_text())
    ends = {name: do_group(jobs, path.with_name(name)) for name, jobs in groups.items()}
    path.with_name("ends.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    main()
