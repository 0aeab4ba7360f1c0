"""A user of the cluster at a terminal."""

import re
import signal
import sys
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen

from tests.slurm.cluster import Cluster
from tests.support import EXAMPLE_PATH, ONLY_EXAMPLE


class Shell:
    """Runs commands in a folder, as a user of the cluster who has the example plugin."""

    def __init__(self, slurm: Cluster, folder: Path) -> None:
        self.slurm, self.folder = slurm, folder
        self.environment = {**slurm.environment, **ONLY_EXAMPLE, "PYTHONPATH": str(EXAMPLE_PATH)}

    def start(self, name: str, *arguments: str | Path, folder: Path | None = None) -> Popen[str]:
        return Popen(
            [Path(sys.executable).with_name(name), *arguments],
            stdout=PIPE,
            stderr=PIPE,
            text=True,
            cwd=folder or self.folder,
            env=self.environment,
            # Tests that were started in the background have inherited that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(
        self, name: str, *arguments: str | Path, code: int = 0, folder: Path | None = None
    ) -> CompletedProcess[str]:
        """Run a command in this or another folder."""
        process = self.start(name, *arguments, folder=folder)
        output, errors = process.communicate(timeout=600)
        assert "Traceback" not in errors, errors
        assert process.returncode == code, (process.returncode, output, errors)
        return CompletedProcess([], code, output, errors)

    def submit(self, stages: str, launch: str = "") -> Path:
        """Submit a recipe and return the run's folder."""
        self.write(stages, launch)
        done = self.run("wavslm-run", "r.yaml")
        found = re.search(r"run folder: (\S+)", done.stdout)
        assert found, done.stdout
        return self.folder / found[1]

    def write(self, stages: str, launch: str = "") -> None:
        block = "{on: slurm, device: cpu, timeout_min: 30" + (f", {launch}" if launch else "") + "}"
        (self.folder / "r.yaml").write_text(f"name: one\nstages: {stages}\nlaunch: {block}\n")
