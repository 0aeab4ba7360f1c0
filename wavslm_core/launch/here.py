"""Runs the jobs of a recipe one after another in this process, as the launcher `debug` always does."""

from __future__ import annotations

from pathlib import Path

from wavslm_core.launch.chain import plan_jobs
from wavslm_core.launch.launchers import Launcher, Outcome
from wavslm_core.launch.runner import run_stages
from wavslm_core.machine.terminal import Say
from wavslm_core.recipe.launch_block import LaunchConfig
from wavslm_core.run.environment import save_code
from wavslm_core.run.failure import clear_error, keeping_log, noting_failure
from wavslm_core.run.folder import saved_recipe
from wavslm_core.run.queued import refuse_taken
from wavslm_core.run.stop import clear_stop


def begin_launch(run_dir: Path, say: Say) -> None:
    """Get a run's folder ready for a launch on this machine. Raises: WavslmError when somebody has it."""
    refuse_taken(run_dir, say)
    clear_stop(run_dir)
    clear_error(run_dir)
    save_code(run_dir)


class DebugLauncher(Launcher[LaunchConfig]):
    """Runs the stages in this process, job after job, so that breakpoints and profilers work."""

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
