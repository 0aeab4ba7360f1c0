"""Checkpoints that survive a kill at any moment: written beside, synced, renamed; the last few are kept.

One that rank 0 wrote alone is a file; one to which every process added its shards is a folder. A truncated
or damaged one is refused by name and the one before it is used.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wavslm_core.errors import CheckpointError
from wavslm_core.machine.files import remove, remove_leftovers
from wavslm_core.machine.processes import ALONE, Processes
from wavslm_core.model.weights import load_state
from wavslm_core.training.checkpoint_files import read_checkpoint, write_checkpoint
from wavslm_core.training.sharded_checkpoints import read_about, write_sharded

logger = logging.getLogger(__name__)

FILE, FOLDER = ".pt", ".shards"
_NAME = re.compile(r"(?P<kind>step|best)-(?P<step>\d{8})(?:\.pt|\.shards)")


def load_modules(
    modules: Mapping[str, nn.Module], states: Mapping[str, dict[str, Tensor]], *, source: str
) -> None:
    """Load a state dict into each module. Raises: CheckpointError when names, keys or shapes differ."""
    if set(states) != set(modules):
        raise CheckpointError(
            f"{source} holds {', '.join(sorted(states))}, but this stage trains "
            f"{', '.join(sorted(modules))}. Delete that folder to start this stage again"
        )
    for name, module in modules.items():
        load_state(module, states[name], source=f"{name} in {source}")


class Checkpoints:
    """The checkpoints of one stage: `step-00000500.pt` to resume from, `best-00000400.pt` to select.

    With FSDP, checkpoints to resume from are folders, `step-00000500.shards`. Every process calls every
    method; what is not in shards is read by all and written by rank 0.
    """

    def __init__(
        self, folder: Path, *, keep: int, processes: Processes = ALONE, sharded: bool = False
    ) -> None:
        self.folder = folder
        self.keep = keep
        self.processes = processes
        self.sharded = sharded

    def save(self, step: int, content: dict[str, Any]) -> None:
        """Write the state after `step` steps, then delete what no kept checkpoint needs.

        Raises: CheckpointError.
        """
        name = f"step-{step:08d}"
        if self.sharded:
            write_sharded(self.folder / f"{name}{FOLDER}", content, processes=self.processes)
        if self.processes.rank == 0:
            if not self.sharded:
                write_checkpoint(self.folder / f"{name}{FILE}", content)
            # Of the same step there may be one that another number of processes wrote in its own way.
            remove(self.folder / f"{name}{FILE if self.sharded else FOLDER}")
            self._remove_old()
        self.processes.barrier()

    def _remove_old(self) -> None:
        steps = self.steps("step")
        for old in steps[: -self.keep]:
            remove(self.path("step", old))
        # The oldest kept checkpoint may be resumed from, and the best weights so far may be older than it.
        oldest_kept = steps[-self.keep :][0]
        for old in [best for best in self.steps("best") if best < oldest_kept][:-1]:
            remove(self.path("best", old))

    def save_best(self, step: int, modules: dict[str, Any]) -> None:
        """Write the weights with the lowest validation loss so far. Raises: CheckpointError."""
        if self.processes.rank == 0:
            write_checkpoint(self.path("best", step), {"modules": modules})

    def read_best(self, step: int) -> dict[str, Any]:
        """Return the weights that `save_best` wrote after `step` steps. Raises: CheckpointError."""
        return read_checkpoint(self.path("best", step))["modules"]

    def latest(self) -> dict[str, Any] | None:
        """Return the newest checkpoint that can be read, or None when there is none.

        Of a folder, what is not in shards, and its `folder`. Each newer one that cannot be read is warned
        about and renamed to `….damaged`. Raises: CheckpointError when there are some but none can be read.
        """
        problems: dict[int, str] = {}
        for step in reversed(self.processes.broadcast(self.steps("step"))):
            content, problem = self._read(self.path("step", step))
            if problem:
                problems[step] = problem
                continue
            self._forget_after(step, problems)
            return content
        if problems:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read: {'; '.join(problems.values())}. "
                "Restore one, or delete the folder to start this stage again"
            )
        self._forget_after(0, {})
        return None

    def _read(self, path: Path) -> tuple[dict[str, Any], str]:
        """Return a checkpoint and what is wrong with it in any process, "" for nothing."""
        content: dict[str, Any] = {}
        problem = ""
        try:
            content = (
                read_about(path, processes=self.processes) if path.suffix == FOLDER else read_checkpoint(path)
            )
        except CheckpointError as error:
            problem = str(error)
        return content, next(filter(None, self.processes.gather(problem)), "")

    def _forget_after(self, step: int, damaged: Mapping[int, str]) -> None:
        """Put away what cannot be read, and what a killed process left: best weights from after `step`."""
        if self.processes.rank == 0:
            for newer, problem in damaged.items():
                logger.warning("%s; going on from step %d instead", problem, step)
                path = self.path("step", newer)
                remove(path.with_name(f"{path.name}.damaged"))
                path.rename(path.with_name(f"{path.name}.damaged"))
            for best in self.steps("best"):
                if best > step:
                    remove(self.path("best", best))
            remove_leftovers(self.folder)
        self.processes.barrier()

    def path(self, kind: str, step: int) -> Path:
        """Return where that checkpoint is: the folder, if there is one, else the file."""
        folder = self.folder / f"{kind}-{step:08d}{FOLDER}"
        return folder if folder.exists() else folder.with_suffix(FILE)

    def steps(self, kind: str) -> list[int]:
        """Return the steps for which there is a checkpoint of that kind, ascending."""
        if not self.folder.is_dir():
            return []
        matches = [_NAME.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted(
            {int(match["step"]) for match in matches if match is not None and match["kind"] == kind}
        )
