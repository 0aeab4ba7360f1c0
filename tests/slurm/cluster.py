"""A real SLURM on this machine: controller, accounting with its data base, several virtual nodes.

    python -m tests.slurm.cluster start|stop|status [--folder F] [--nodes N]

`start` prints what to export, so that sbatch, squeue and `wavslm-run` find it. It needs root and Debian's
SLURM 22.05, which it installs. Neither systemd nor cgroups are used; ports are free ones, and everything,
munge's key and socket too, is in one folder. A cluster that this machine belongs to is never touched.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.slurm import configuration
from tests.slurm.daemon import Daemon, DaemonFailed
from tests.slurm.packages import CannotRunSlurm, install_packages
from tests.support import environment_without, run_program, until

DEFAULT_FOLDER = Path(tempfile.gettempdir()) / "wavslm-slurm"


class Cluster:
    """The cluster of a folder, running or not."""

    def __init__(self, folder: Path = DEFAULT_FOLDER, *, nodes: int = 3) -> None:
        self.folder = folder.resolve()
        self.nodes = tuple(f"node{number}" for number in range(1, nodes + 1))

    @property
    def exports(self) -> dict[str, str]:
        """Return what commands need to find this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a shell that is no job itself and uses this cluster."""
        return {**environment_without("SLURM", "SBATCH"), **self.exports}

    def start(self) -> None:
        """Start every daemon and wait until all nodes are idle; return at once when they run.

        Raises: CannotRunSlurm, DaemonFailed, AssertionError.
        """
        install_packages()
        if self.running():
            return
        self.stop()
        for name in ("log", "state", "munge", "temporary", *(f"spool/{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        configuration.write(self.folder, self.nodes)
        munge, mariadb, slurmdbd, slurmctld, *slurmds = self.daemons()
        self.run(
            "mariadb-install-db",
            f"--defaults-file={self.folder}/mariadb.cnf",
            "--user=root",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )
        munge.start(self.environment)
        mariadb.start(self.environment)
        munge.wait(lambda: self._answers("munge", "--no-input", f"--socket={self.folder}/munge/socket"))
        ping = ("mariadb-admin", "--no-defaults", f"--socket={self.folder}/data/socket", "ping")
        mariadb.wait(lambda: self._answers(*ping))
        slurmdbd.start(self.environment)
        add = ("sacctmgr", "--immediate", "--quiet", "add", "cluster", configuration.CLUSTER)
        slurmdbd.wait(lambda: self._answers(*add))
        slurmctld.start(self.environment)
        slurmctld.wait(lambda: self._answers("scontrol", "ping"))
        for daemon in slurmds:
            daemon.start(self.environment)
        for daemon, node in zip(slurmds, self.nodes, strict=True):
            daemon.wait(lambda node=node: self.node_state(node) == "idle")

    def stop(self) -> None:
        """End every job and daemon and remove the folder, also of a cluster that others left behind."""
        if Daemon(self.folder, "slurmctld").running():
            self._answers("scancel", "--user=root", "--signal=KILL", "--full", "--state=RUNNING")
            self._answers("scancel", "--user=root")
        # Nothing is kept, so nobody needs the time to write it down.
        for path in self.folder.glob("*.pid"):
            Daemon(self.folder, path.stem).kill()
        self._end_steps()
        shutil.rmtree(self.folder, ignore_errors=True)

    def running(self) -> bool:
        """Tell whether every daemon is there and the controller answers."""
        return all(daemon.running() for daemon in self.daemons()) and self._answers("scontrol", "ping")

    def daemons(self) -> list[Daemon]:
        """Return all of them in the order in which they need one another."""
        folder, conf = self.folder, str(self.folder / "slurm.conf")
        return [
            Daemon(
                folder,
                "munged",
                "munged",
                "--foreground",
                "--force",
                f"--key-file={folder}/munge/key",
                f"--socket={folder}/munge/socket",
                f"--pid-file={folder}/munge/pid",
                f"--log-file={folder}/log/munge.log",
                f"--seed-file={folder}/munge/seed",
            ),
            Daemon(folder, "mariadbd", "mariadbd", f"--defaults-file={folder}/mariadb.cnf", "--user=root"),
            # slurmdbd takes its configuration from beside the slurm.conf that SLURM_CONF names.
            Daemon(folder, "slurmdbd", "slurmdbd", "-D"),
            Daemon(folder, "slurmctld", "slurmctld", "-D", "-f", conf),
            *(
                Daemon(folder, f"slurmd-{node}", "slurmd", "-D", "-f", conf, "-N", node)
                for node in self.nodes
            ),
        ]

    def run(self, *command: str | Path, timeout_s: float = 300, **options: Any) -> str:
        """Run a command of SLURM, or any other, and return what it prints.

        Raises: AssertionError with what it said when it failed.
        """
        return run_program(*command, env=self.environment, timeout=timeout_s, **options).stdout.strip()

    def submit(self, script: str, *options: str, folder: Path) -> str:
        """Submit a shell script with sbatch's options and return the job id; its log is `<folder>/ID.log`."""
        path = folder / "job.sh"
        path.write_text(f"#!/bin/bash\n{script}\n")
        name = "%A_%a" if any("--array" in one for one in options) else "%j"
        log = f"--output={folder}/{name}.log"
        return self.run("sbatch", "--parsable", f"--chdir={folder}", log, *options, path)

    def state(self, job_id: str) -> str:
        """Return a job's state in the controller's words, such as "PENDING"; "" when it knows it no more."""
        return self._output("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job_id}")

    def wait(self, job_id: str, *states: str) -> str:
        """Wait until a job is in one of the states, and return which."""

        def there() -> str | None:
            state = self.state(job_id)
            return state if state in states else None

        what = f"job {job_id} to be {' or '.join(states)}"
        return until(what, there, seen=lambda: f"{self.state(job_id)}\n{self.status()}", every_s=0.1)

    def clear(self) -> None:
        """End all jobs and make all nodes usable again."""
        self._answers("scancel", "--user=root", "--signal=KILL", "--full", "--state=RUNNING")
        self._answers("scancel", "--user=root")
        end = time.monotonic() + 30
        while self._output("squeue", "--noheader") and time.monotonic() < end:
            time.sleep(0.1)
        for node in self.nodes:
            if self.node_state(node) != "idle":
                self._answers("scontrol", "update", f"nodename={node}", "state=resume")

    def node_state(self, node: str) -> str:
        """Return "idle", "mixed", "allocated", "drained", … in SLURM's words; "" when it is not known."""
        return self._output("sinfo", "--noheader", "--nodes", node, "--partition", "main", "--format", "%T")

    def status(self) -> str:
        """Return SLURM's own tables of nodes and jobs."""
        return self._output("sinfo", "--Node", "--long") + "\n" + self._output("squeue", "--long")

    def _output(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        return done.stdout.strip()

    def _answers(self, *command: str) -> bool:
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            return False
        return done.returncode == 0

    def _end_steps(self) -> None:
        """Kill what jobs of this cluster have left behind: the environment names the folder and the job."""
        mark = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = (process / "environ").read_bytes().split(b"\0")
                program = (process / "comm").read_text().strip()
            except OSError:
                continue
            in_job = program == "slurmstepd" or any(name.startswith(b"SLURM_JOB_ID=") for name in variables)
            if mark in variables and in_job and int(process.name) != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process.name), signal.SIGKILL)


def main() -> int:
    """Start, stop or show the cluster of a folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.slurm.cluster", description="A SLURM for tests.")
    parser.add_argument("action", choices=["start", "stop", "status"])
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--nodes", type=int, default=3, help="virtual nodes, 2 CPUs each")
    options = parser.parse_args()
    cluster = Cluster(options.folder, nodes=options.nodes)
    if options.action == "start":
        began = time.monotonic()
        try:
            cluster.start()
        except (CannotRunSlurm, DaemonFailed) as error:
            sys.stderr.write(f"{error}\n")
            return 1
        sys.stderr.write(f"SLURM answers after {time.monotonic() - began:.1f} s\n")
        sys.stdout.write("".join(f"export {name}={value}\n" for name, value in cluster.exports.items()))
    elif options.action == "stop":
        cluster.stop()
    elif not cluster.running():
        sys.stderr.write(f"no cluster runs in {cluster.folder}\n")
        return 1
    else:
        sys.stdout.write(cluster.status() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
