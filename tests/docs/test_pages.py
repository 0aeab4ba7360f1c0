"""Every command in README and CONTRIBUTING runs, in the order in which a reader meets it.

Runs are cut down to seconds by overrides that are added to each `wavslm-run`; nothing else is changed. `make`
targets are checked with `make --dry-run`, because the tests themselves run under `make test`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import Block, blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md")
QUICK = [
    "data.minutes=1",
    "data.valid_minutes=0.3",
    "stages.train_codec.steps=3",
    "stages.train_codec.continuous_steps=1",
    "stages.train_lm.steps=3",
    "stages.generate.prompts=1",
    "stages.generate.new_seconds=0.5",
]
QUICK_FOLDER = [override for override in QUICK if not override.startswith("data.")]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that looks like a clone, with nothing in it yet but recipes."""
    folder = tmp_path_factory.mktemp("workspace")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    return folder


def shortened(command: str) -> str:
    """Return the command with its run cut down."""
    if not command.startswith("wavslm-run recipes/wavslm_tiny"):
        return command
    quick = QUICK_FOLDER if "data.corpus=folder" in command else QUICK
    return f"{command} {' '.join(quick)}"


def run(command: str, folder: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "installed"),
        "PIP_TARGET": str(folder / "installed"),
        "OMP_NUM_THREADS": "1",
    }
    if command.startswith("make "):
        command, folder = f"{command} --dry-run", ROOT
    done = subprocess.run(
        shortened(command),
        shell=True,
        executable="/bin/bash",
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def write_files(page: list[Block], folder: Path) -> None:
    for block in page:
        if block.title is not None:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs(page: str, workspace: Path) -> None:
    read = blocks(ROOT / page)
    write_files(read, workspace)
    commands = [command for block in read if block.language == "bash" for command in block.commands]
    assert commands
    for command in commands:
        run(command, workspace)


@pytest.mark.slow
def test_the_readme_python_runs(workspace: Path) -> None:
    """Needs the run that the README's commands left."""
    code = next(
        block.body for block in blocks(ROOT / "README.md") if "from wavslm_core import Codec" in block.body
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=workspace
    )
    assert done.returncode == 0, done.stderr


def test_commands_name_files_that_exist() -> None:
    for page in PAGES:
        for block in blocks(ROOT / page):
            for command in block.commands if block.language == "bash" else []:
                for word in shlex.split(command):
                    if word.startswith("recipes/"):
                        assert (ROOT / word).exists(), f"{page}: {word}"
