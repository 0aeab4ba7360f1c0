"""The Debian packages of SLURM, and whether this machine can run them."""

import os
import shutil
import subprocess

PROGRAMS = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurmdbd": "slurmdbd",
    "sbatch": "slurm-client",
    "mariadbd": "mariadb-server",
}
"""Program → the Debian package that has it."""


class CannotRunSlurm(Exception):
    """Says what this machine lacks."""


def install_packages() -> None:
    """Install what is missing. Raises: CannotRunSlurm.

    Nothing is started by the installation: a cluster of the tests has its own daemons, and a machine's own
    configuration in /etc stays as it is.
    """
    if os.geteuid() != 0:
        raise CannotRunSlurm("SLURM's daemons need root")
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise CannotRunSlurm(f"SLURM is missing and there is no apt-get to install {' '.join(missing)} with")
    # Runlevel 1 is what Debian's maintainer scripts take for "start no service".
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    # Another worker of the tests may be installing them right now.
    lock = ("-o", "DPkg::Lock::Timeout=300")
    install = ["apt-get", *lock, "install", "--yes", "--no-install-recommends", *missing]
    commands = (install, ["apt-get", "update"], install)
    done: subprocess.CompletedProcess[str] | None = None
    for command in commands:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        if command is install and done.returncode == 0:
            return
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise CannotRunSlurm(f"apt-get could not install {' '.join(missing)}: {last}")
