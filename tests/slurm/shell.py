"""A user of the cluster at a terminal."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen

from tests.slurm.cluster import Cluster

EXAMPLE = Path(__file__).resolve().parents[1] / "core" / "plugin_path"


class Shell:
    """Runs commands in a folder, as a user of the cluster who has the example plugin."""

    def __init__(self, slurm: Cluster, folder: Path) -> None:
        self.slurm, self.folder = slurm, folder
        self.environment = {
            **slurm.environment,
            "PYTHONPATH": str(EXAMPLE),
            "WAVSLM_PLUGINS": "example",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }

    def start(self, name: str, *arguments: str) -> Popen[str]:
        command = [str(Path(sys.executable).with_name(name)), *arguments]
        return Popen(
            command,
            stdout=PIPE,
            stderr=PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment,
            # Tests that were started in the background have inherited that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, name: str, *arguments: str) -> CompletedProcess[str]:
        process = self.start(name, *arguments)
        output, errors = process.communicate(timeout=300)
        assert "Traceback" not in errors, errors
        return CompletedProcess([], process.returncode, output, errors)

    def submit(self, stages: str, launch: str = "") -> Path:
        """Submit a recipe and return the run's folder."""
        self.write(stages, launch)
        done = self.run("wavslm-run", "r.yaml")
        assert done.returncode == 0, done.stderr
        found = re.search(r"run folder: (\S+)", done.stdout)
        assert found, done.stdout
        return self.folder / found[1]

    def write(self, stages: str, launch: str = "") -> None:
        block = "{on: slurm, device: cpu, timeout_min: 30" + (f", {launch}" if launch else "") + "}"
        (self.folder / "r.yaml").write_text(f"name: one\nstages: {stages}\nlaunch: {block}\n")
