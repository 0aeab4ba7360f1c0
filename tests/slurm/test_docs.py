"""The five lines of docs/slurm.md, on a real SLURM: only the recipe and the cluster's names are others."""

import shlex
from pathlib import Path

from tests.docs.markdown import blocks
from tests.slurm.cluster import Cluster
from tests.slurm.shell import Shell

PAGE = Path(__file__).resolve().parents[2] / "docs" / "slurm.md"


def test_the_five_lines_work(slurm: Cluster, tmp_path: Path) -> None:
    shell = Shell(slurm, tmp_path)
    shell.write("[{run: count, steps: 2000, pause_s: 0.5}]")
    commands = next(block.commands for block in blocks(PAGE) if block.language == "bash")
    assert len(commands) == 5
    run = ""
    for command in commands:
        for given, here in (
            ("recipes/wavslm_base.yaml", "r.yaml"),
            ("launch.partition=gpu launch.account=speech", "launch.partition=main"),
            ("wavslm_base-1a2b3c4d5e6f", run),
        ):
            command = command.replace(given, here)
        program, *arguments = shlex.split(command, comments=True)
        shell.run(program, *arguments)
        for folder in (tmp_path / "runs").glob("*-*"):
            run = folder.name
    assert run
    # Everything else that the page tells people to type is a command that there is.
    for block in blocks(PAGE):
        for command in block.commands if block.language == "bash" else []:
            program, *arguments = shlex.split(command, comments=True)
            verbs = [word for word in arguments if word.isalpha()][: 2 if arguments[0] == "sweep" else 1]
            if program == "wavslm":
                shell.run(program, *verbs, "--help")
