"""The interface of launchers: each runs the stages of a run folder somewhere, and says how that ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from wavslm_core.machine.terminal import Say
from wavslm_core.parts.registry import imported
from wavslm_core.recipe.launch_block import LaunchConfig

if TYPE_CHECKING:
    from wavslm_core.recipe.model import ResolvedRecipe

LaunchConfigT = TypeVar("LaunchConfigT", bound=LaunchConfig)


@dataclass(frozen=True)
class Outcome:
    """How a run ended, when it did not end in an error."""

    status: Literal["finished", "interrupted", "pruned", "submitted"]
    """`pruned`: a sweep found it behind its other trials. `submitted`: jobs that others run were queued."""
    stage: str | None = None
    """Where it was interrupted or found behind."""


class Launcher(ABC, Generic[LaunchConfigT]):
    """Runs the stages of a run folder. Built as `Class(config)`."""

    def __init__(self, config: LaunchConfigT) -> None:
        self.config = config

    @abstractmethod
    def launch(self, run_dir: Path, say: Say) -> Outcome:
        """Run all unfinished stages of `run_dir/recipe.yaml`, or hand them to whoever will.

        Raises: WavslmError for what a user can mend, such as a run that somebody else has; JobCrashed for
        the rest when it happened elsewhere.
        """

    @abstractmethod
    def where(self) -> str:
        """Return where the stages would run, for plans."""

    def preview(self, recipe: ResolvedRecipe, run_dir: Path) -> str:
        """Return what exactly would be submitted, for plans; empty when nothing is."""
        return ""


def launcher_for(config: LaunchConfig) -> Launcher[LaunchConfig]:
    """Return the launcher of a `launch:` block."""
    launcher: type[Launcher[LaunchConfig]] = imported(config.launcher)
    return launcher(config)
