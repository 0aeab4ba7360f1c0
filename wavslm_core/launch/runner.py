"""Runs the stages of a run folder in order: finished ones are skipped, the interrupted one continues.

Every process of a job is here, with the same stages; rank 0 alone holds the lock and keeps the record.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from wavslm_core.errors import WavslmError
from wavslm_core.launch.launchers import Outcome
from wavslm_core.machine.devices import AUTO, choose_device
from wavslm_core.machine.files import remove_leftovers
from wavslm_core.machine.processes import ALONE, WHOLE, Interrupted, Processes, Pruned, Share
from wavslm_core.machine.progress import ProgressFile, Reporter, progress_path, reporting
from wavslm_core.machine.terminal import Say
from wavslm_core.parts.configs import StageConfig
from wavslm_core.parts.registry import Registry, imported
from wavslm_core.recipe.checks import absent_modules
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.run.context import StageContext
from wavslm_core.run.folder import saved_recipe
from wavslm_core.run.lock import RunLock
from wavslm_core.run.records import JUDGE, PRUNE_FILE, STAGES_FILE, StageRecord
from wavslm_core.run.stop import StopRequest
from wavslm_core.stages.base import Stage


def run_stages(
    run_dir: Path,
    say: Say,
    *,
    processes: Processes = ALONE,
    stages: Sequence[str] | None = None,
    share: Share = WHOLE,
    stop: Callable[[], bool] | None = None,
    registry: Registry | None = None,
) -> Outcome:
    """Run every unfinished stage of `run_dir/recipe.yaml`; `stages.json` records which are done.

    `stages`: the names of those to run; none: all. `share`: what to do of their work. A partial share is
    not recorded, for nothing is finished by it. `stop`: asked at safe points; none: signals and the file
    `stop`.
    Raises: WavslmError, and whatever a stage raises.
    """
    leads = processes.rank == 0
    with ExitStack() as stack:
        if stop is None:
            stop = stack.enter_context(StopRequest(run_dir))
        lock: RunLock | None = None
        if leads:
            lock = stack.enter_context(RunLock(run_dir, share=share, say=say))
            if not share.partial:
                # Others write small files into a run's folder, too.
                remove_leftovers(run_dir, others_write="files")
        processes.barrier()
        recipe = saved_recipe(run_dir, registry=registry)
        asked = stop if lock is None else _either(stop, lock)
        run = _Run(run_dir, recipe, say if leads else _say_nothing, processes, share, asked)
        run.refuse_without_modules(stages)
        for name, config in recipe.named_stages():
            if stages is not None and name not in stages:
                continue
            stage: Stage[Any] = recipe.registry.build(config)
            context = run.context(name, config)
            if run.is_done(stage, context):
                continue
            if processes.any(asked()):
                _refuse_lost(lock, run_dir)
                return Outcome("interrupted", name)
            if recipe.launch_for(config).device not in (AUTO, "cpu"):
                # What is not there is told before anything begins; these two always are.
                _ = context.device
            with run.recorded(context) as ended:
                stage.run(context)
            _refuse_lost(lock, run_dir)
            if ended.status != "finished":
                return Outcome(ended.status, name)
    return Outcome("finished")


def _refuse_lost(lock: RunLock | None, run_dir: Path) -> None:
    """Raises: WavslmError once another process has the run."""
    if lock is not None and lock.lost_to is not None:
        raise WavslmError(
            f"{run_dir} was taken over by {lock.lost_to}, which found this process silent. "
            "The run goes on there."
        )


@dataclass
class _Ended:
    """How a stage ended."""

    status: Literal["finished", "interrupted", "pruned"] = "finished"


class _Run:
    """What the stages of one call have in common."""

    def __init__(
        self,
        run_dir: Path,
        recipe: ResolvedRecipe,
        say: Say,
        processes: Processes,
        share: Share,
        stop: Callable[[], bool],
    ) -> None:
        self.run_dir, self.recipe, self.say = run_dir, recipe, say
        self.processes, self.share, self.stop = processes, share, stop
        self.record = StageRecord(run_dir / STAGES_FILE)
        self.keeps_record = processes.rank == 0 and not share.partial
        self.progress = ProgressFile(progress_path(run_dir, share))

    def refuse_without_modules(self, stages: Sequence[str] | None) -> None:
        """Tell now what the last of these stages would find missing hours later. Raises: WavslmError."""
        absent = [
            line
            for name, config in self.recipe.named_stages()
            if (stages is None or name in stages) and not self.record.finished(name)
            for line in absent_modules(config, name)
        ]
        # All leave together, also where one machine of several lacks something.
        found = [line for lines in self.processes.gather(absent) for line in lines]
        if found:
            raise WavslmError("\n".join(dict.fromkeys(found)))

    def context(self, name: str, config: StageConfig) -> StageContext:
        wanted = self.recipe.launch_for(config).device
        return StageContext(
            recipe=self.recipe,
            run_dir=self.run_dir,
            choose_device=partial(
                choose_device, wanted, option="launch.device", alone=self.processes.world_size == 1
            ),
            stop_requested=self.stop,
            pruned=_judge(self.run_dir),
            stage_name=name,
            processes=self.processes,
            share=self.share,
            progress=Reporter(name, file=self.progress),
        )

    def is_done(self, stage: Stage[Any], context: StageContext) -> bool:
        """Tell whether nothing is left to do."""
        name = context.stage_name
        # What rank 0 sees counts: a shared file system may show others an older state.
        if self.processes.broadcast(self.record.finished(name) and stage.left_results(context)):
            self.say(f"stage {name}: finished before, skipped")
            return True
        return False

    @contextmanager
    def recorded(self, context: StageContext) -> Iterator[_Ended]:
        """Keep the record while the block runs a stage; how it ended is what all processes agree on."""
        name, began = context.stage_name, time.monotonic()
        part = f", part {self.share.index + 1} of {self.share.count}" if self.share.partial else ""
        self.say(f"stage {name}: running{part}")
        if self.keeps_record:
            self.record.begin(name)
        ended = _Ended()
        try:
            try:
                with reporting(context.progress):
                    yield ended
            except Interrupted as error:
                ended.status = "pruned" if isinstance(error, Pruned) else "interrupted"
            self._agree(ended, name)
        except Exception:
            # A full disk may be why the stage failed; its own message is the one to show.
            with suppress(WavslmError):
                self._end(name, "failed", began)
            raise
        self._end(name, "finished" if ended.status == "finished" else "interrupted", began)
        if ended.status == "finished":
            self.say(f"stage {name}: finished{part} in {time.monotonic() - began:.1f} s")

    def _agree(self, ended: _Ended, name: str) -> None:
        with self.processes.rank_0_first(f"end of {name}"):
            # What rank 0 does alone, such as the report, may take longer than processes are waited for.
            pass
        # All leave together when the run is behind others; a stop may reach some of them only.
        if ended.status != "pruned" and self.processes.any(ended.status == "interrupted"):
            ended.status = "interrupted"

    def _end(self, name: str, status: str, began: float) -> None:
        if self.keeps_record:
            self.record.end(name, status, time.monotonic() - began)


def _judge(run_dir: Path) -> Callable[[str, int, Mapping[str, float]], bool]:
    """Return the question whether a validation shows that a trial is behind the others of its sweep."""

    def is_behind(stage: str, step: int, valid: Mapping[str, float]) -> bool:
        if not (run_dir / PRUNE_FILE).exists():
            return False
        # By name: sweeps are made of runs, and a run knows nothing of them.
        return bool(imported(JUDGE)(run_dir)(stage, step, valid))

    return is_behind


def _either(stop: Callable[[], bool], lock: RunLock) -> Callable[[], bool]:
    """Return the question whether to stop, be it because another process has taken the run over."""
    return lambda: lock.lost_to is not None or stop()


def _say_nothing(line: str) -> None:
    """Rank 0 talks for all."""
