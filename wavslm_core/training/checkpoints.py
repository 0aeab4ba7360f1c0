"""Checkpoints that survive a kill at any moment: written beside, synced, renamed; the last few are kept.

A file is one `torch.save` archive of plain values and tensors, so that it loads with `weights_only=True`
and nothing in it is ever executed. Its zip container carries a checksum per tensor, which is verified
before loading: a truncated or damaged file is refused by name and the one before it is used.
"""

from __future__ import annotations

import errno
import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavslm_core.checkpoint_io import load_state
from wavslm_core.data.atomic import remove_leftovers, replacing
from wavslm_core.errors import CheckpointError

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(?P<kind>step|best)-(?P<step>\d{8})\.pt")


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (nested dicts and lists of tensors and plain values) to `path`; all or nothing.

    Raises: CheckpointError when the disk is full or not writable; the old file, if any, stays.
    """
    with replacing(path, error=_cannot_write) as beside, beside.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: Exception) -> CheckpointError:
    # torch's archive writer may wrap the system's error in one of its own.
    causes = [error, error.__context__, error.__cause__]
    if any(getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for cause in causes):
        return CheckpointError(
            f"the disk is full: {path} was not saved, earlier checkpoints are kept. "
            "Free some space and run the same command again"
        )
    return CheckpointError(
        f"{path} cannot be written: {error}. Earlier checkpoints are kept. "
        "Mend the folder and run the same command again"
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Raises: CheckpointError when it is missing, truncated or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path} is damaged: the checksum of {damaged} is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


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
    """The checkpoints of one stage: `step-00000500.pt` to resume from, `best-00000400.pt` to select."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, step: int, content: dict[str, Any]) -> None:
        """Write the state after `step` steps, then delete what no kept checkpoint needs.

        Raises: CheckpointError.
        """
        write_checkpoint(self.path("step", step), content)
        steps = self.steps("step")
        for old in steps[: -self.keep]:
            self.path("step", old).unlink(missing_ok=True)
        # The oldest kept checkpoint may be resumed from, and the best weights so far may be older than it.
        oldest_kept = steps[-self.keep :][0]
        for old in [best for best in self.steps("best") if best < oldest_kept][:-1]:
            self.path("best", old).unlink(missing_ok=True)

    def save_best(self, step: int, modules: dict[str, Any]) -> None:
        """Write the weights with the lowest validation loss so far. Raises: CheckpointError."""
        write_checkpoint(self.path("best", step), {"modules": modules})

    def read_best(self, step: int) -> dict[str, Any]:
        """Return the weights that `save_best` wrote after `step` steps. Raises: CheckpointError."""
        return read_checkpoint(self.path("best", step))["modules"]

    def latest(self) -> dict[str, Any] | None:
        """Return the newest checkpoint that can be read, or None when there is none.

        Each newer one that cannot be read is warned about and renamed to `….pt.damaged`.
        Raises: CheckpointError when there are some but none can be read.
        """
        problems: dict[int, str] = {}
        for step in reversed(self.steps("step")):
            try:
                content = read_checkpoint(self.path("step", step))
            except CheckpointError as error:
                problems[step] = str(error)
                continue
            for damaged, problem in problems.items():
                logger.warning("%s; going on from step %d instead", problem, step)
                self.path("step", damaged).rename(self.path("step", damaged).with_suffix(".pt.damaged"))
            self._forget_after(step)
            return content
        if problems:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read: {'; '.join(problems.values())}. "
                "Restore one, or delete the folder to start this stage again"
            )
        self._forget_after(0)
        return None

    def _forget_after(self, step: int) -> None:
        """Delete what a killed process left behind: best weights from after `step`, half-written files."""
        for best in self.steps("best"):
            if best > step:
                self.path("best", best).unlink(missing_ok=True)
        remove_leftovers(self.folder)

    def path(self, kind: str, step: int) -> Path:
        return self.folder / f"{kind}-{step:08d}.pt"

    def steps(self, kind: str) -> list[int]:
        """Return the steps for which there is a file of that kind, ascending."""
        if not self.folder.is_dir():
            return []
        matches = [_NAME.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted(int(match["step"]) for match in matches if match is not None and match["kind"] == kind)
