"""Launcher `debug`: in the process of the command, whatever else is configured."""

from __future__ import annotations

from pathlib import Path

from wavslm_core.launch.here import run_in_process
from wavslm_core.launch.launchers import Launcher, Outcome
from wavslm_core.machine.terminal import Say
from wavslm_core.recipe.launch_block import LaunchConfig


class DebugLauncher(Launcher[LaunchConfig]):
    """Runs the stages here, so that breakpoints and profilers work."""

    def launch(self, run_dir: Path, say: Say) -> Outcome:
        return run_in_process(run_dir, say)

    def where(self) -> str:
        return f"in this process, device {self.config.device}"
