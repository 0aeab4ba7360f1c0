"""A daemon of a cluster folder: started once, recognised later by another process, stopped."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

WAIT_S = 120.0
"""A daemon that is not there after this long has failed."""


class DaemonFailed(Exception):
    """Says which, and the end of its log."""


class Daemon:
    """One long-running program. Its process id stands in `<folder>/<name>.pid`."""

    def __init__(self, folder: Path, name: str, *command: str) -> None:
        self.folder = folder
        self.name = name
        self.command = command
        self.log = folder / "log" / f"{name}.log"
        self._pid_file = folder / f"{name}.pid"

    def start(self, environment: dict[str, str]) -> None:
        """Start it in the foreground of a session of its own, so that it outlives whoever starts it."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._pid_file.write_text(str(process.pid))

    def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until it answers. Raises: DaemonFailed."""
        end = time.monotonic() + WAIT_S
        while not ready():
            if not self.running() or time.monotonic() > end:
                lines = self.log.read_text(errors="replace").strip().splitlines()
                raise DaemonFailed(
                    f"{self.name} does not answer; the end of {self.log}:\n" + "\n".join(lines[-8:])
                )
            time.sleep(0.05)

    def running(self) -> bool:
        return self.pid() is not None

    def pid(self) -> int | None:
        """Return its process, unless that has ended or the number belongs to another program by now."""
        try:
            pid = int(self._pid_file.read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            # Some overwrite their arguments with a title, some find the folder by SLURM_CONF alone.
            words = b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
        except (OSError, ValueError, IndexError):
            return None
        return pid if str(self.folder).encode() in words and state != "Z" else None

    def kill(self) -> None:
        """End it at once."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            # A child would stay as a zombie; another's is not ours to wait for.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._pid_file.unlink(missing_ok=True)
