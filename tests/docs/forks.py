"""Commands as forks of one process that has imported what they all do: torch alone takes two seconds.

`Forks` starts this file as a script, with the Python of any environment in which `wavslm_core` is installed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen
from tempfile import TemporaryFile
from typing import IO

COMMANDS = {
    command.name: command
    for command in entry_points(group="console_scripts")
    if command.module.startswith("wavslm_core.")
}
IMPORTED = (
    *("torch", "torch._dynamo", "torch.utils.tensorboard"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("wavslm_core.model.speech_lm", "wavslm_core.training.loop"),
    *(command.module for command in COMMANDS.values()),
)
"""What commands import, some of it only in the middle of a run."""


class Forks:
    """Runs commands one after another, each in a process of its own: a fork of `python`."""

    def __init__(self, python: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self.written: IO[str] = TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self.server = Popen(
            [python, "-P", __file__, str(self.written.fileno())],
            stdin=PIPE,
            stdout=PIPE,
            text=True,
            cwd=folder,
            env={**environment},
            pass_fds=[self.written.fileno()],
        )

    def run(self, *words: str) -> CompletedProcess[str]:
        """Run a command; return its exit code and what it wrote to standard output and standard error."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.written.truncate(0)
        self.written.seek(0)
        self.server.stdin.write(json.dumps(words) + "\n")
        self.server.stdin.flush()
        code = int(self.server.stdout.readline())
        self.written.seek(0)
        return CompletedProcess(words, code, self.written.read(), "")

    def close(self) -> None:
        with self.server:
            pass


def serve(written: int) -> list[str]:
    """Fork for each line of JSON, and answer with the exit code; return the words in the fork alone."""
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for stream in (1, 2):
                os.dup2(written, stream)
            return list(json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()
    sys.exit()


def main() -> None:
    for name in IMPORTED:
        import_module(name)
    # What is imported stays: nobody has to look through it, or to copy it by counting references.
    gc.freeze()
    sys.argv = serve(int(sys.argv[1]))
    code = 1
    try:
        COMMANDS[sys.argv[0]].load()()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # To tear down what is imported takes a second.
        os._exit(code)


if __name__ == "__main__":
    main()
