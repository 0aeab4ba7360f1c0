"""Every command in README and CONTRIBUTING runs, in the order in which a reader meets it; parts are named.

Commands run in an environment as `make run` makes it: packages are linked into it from that of the tests, all
but pytest. Runs are cut down to seconds by overrides that are added to each `wavslm-run` and to the doctor;
nothing else is changed. `make` targets are checked with `make --dry-run`, because the tests themselves run
under `make test`.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.docs.forks import Forks
from tests.docs.markdown import blocks
from tests.support import environment_without
from wavslm_core.parts.checkpoints import HOOK as CHECKPOINTS
from wavslm_core.parts.commands import HOOK as COMMANDS
from wavslm_core.parts.engines import HOOK as ENGINES
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.roles import ROLES

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md")
SMALL_LM = [
    "backbone.num_layers=1",
    "stages.train_lm.batch_size=2",
    "stages.train_lm.crop_tokens=64",
    "stages.train_lm.valid_utterances=2",
]
SMALL = [
    *SMALL_LM,
    "stages.train_codec.batch_size=2",
    "stages.train_codec.crop_seconds=0.5",
    "stages.train_codec.valid_utterances=2",
]
SHORT_LM = [
    "stages.train_lm.steps=3",
    "stages.evaluate.utterances=2",
    "stages.generate.prompts=1",
    "stages.generate.new_seconds=0.5",
]
SHORT = ["stages.train_codec.steps=3", "stages.train_codec.continuous_steps=1", *SHORT_LM]
UNJUDGED = ["stages.evaluate.continuations=null", "stages.generate.metrics=[]"]
ONE_SUITE = "stages.score_suites.suites=[{name: tiny_salmon, pairs: 2}]"
QUICK = {
    "recipes/wavslm_tiny.yaml": [*SMALL_LM, *SHORT_LM, *UNJUDGED, ONE_SUITE],
    "recipes/wavslm_scratch.yaml": [*SMALL, *SHORT],
}
CORPUS = ["data.minutes=1", "data.valid_minutes=0.3"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that looks like a clone, with nothing in it yet but recipes."""
    folder = tmp_path_factory.mktemp("workspace")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    return folder


def shortened(command: str) -> str:
    """Return the command with its run cut down."""
    program, *words = shlex.split(command)
    if words[:2] == ["doctor", "recipes/wavslm_scratch.yaml"]:
        return f"{command} {' '.join([*CORPUS, *SMALL])} --steps 25"
    if program != "wavslm-run" or words[0] not in QUICK:
        return command
    corpus = [] if "data.corpus=folder" in words else CORPUS
    return f"{command} {shlex.join([*corpus, *QUICK[words[0]]])}"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` folder of an environment as `make run` leaves it: without pytest."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, symlinks=True)
    packages = next((folder / "lib").glob("python*")) / "site-packages"
    for place in Path(sysconfig.get_path("purelib")).iterdir():
        if place.name != "__pycache__" and not re.match(r"_?pytest\b|_pytest|py\.py|iniconfig", place.name):
            (packages / place.name).symlink_to(place)
    programs = folder / "bin"
    commands = {
        "wavslm": "from wavslm_core.cli.main import main; main()",
        "wavslm-run": "from wavslm_core.cli.run import main; main()",
        "pip": "import runpy; runpy.run_module('pip', run_name='__main__')",
    }
    for name, code in commands.items():
        # What pip would write.
        (programs / name).write_text(f"#!{programs / 'python'}\n{code}\n")
        (programs / name).chmod(0o755)
    return programs


def environment(programs: Path) -> dict[str, str]:
    return {
        **environment_without("WAVSLM"),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        # The build backend is there, as after `make run`; fetching it again for each package takes long.
        "PIP_NO_BUILD_ISOLATION": "0",
        "OMP_NUM_THREADS": "1",
    }


def in_shell(command: str, folder: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        shell=True,
        executable="/bin/bash",
        cwd=folder,
        env=environment(programs),
        capture_output=True,
        text=True,
        check=False,
    )


def run(
    command: str, folder: Path, programs: Path, settings: Sequence[str] = (), forks: Forks | None = None
) -> None:
    """Run a command as a reader's shell does, or, where there are `forks`, have its words from the shell."""
    if command.startswith("make "):
        command, folder = f"{command} --dry-run", ROOT
    command = shortened(command)
    if forks is None:
        done = in_shell("; ".join([*settings, command]), folder, programs)
    else:
        words = in_shell("; ".join([*settings, f"printf '%s\\0' {command}"]), folder, programs)
        done = forks.run(*words.stdout.split("\0")[:-1])
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def typed(page: str, folder: Path) -> list[list[str]]:
    """Write the files that a page shows into a folder; return the commands of each block."""
    read = blocks(ROOT / page)
    for block in read:
        if block.title is not None:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body, encoding="utf-8")
    found = [block.commands for block in read if block.language == "bash"]
    assert found
    return found


@pytest.fixture
def forks(workspace: Path, programs: Path) -> Iterator[Forks]:
    found = Forks(programs / "python", workspace, environment(programs))
    yield found
    found.close()


ITSELF = ("wavslm-run recipes/wavslm_tiny.yaml", "wavslm generate $RUN ", "wavslm plugins")
"""How commands of the README begin that are started as a shell does it. The others are forks."""


def test_every_command_of_the_readme_runs(workspace: Path, programs: Path, forks: Forks) -> None:
    itself = []
    for commands in typed("README.md", workspace):
        # A reader has one shell: what a line sets, the next ones of its block use.
        settings: list[str] = []
        for command in commands:
            if re.match(r"[A-Z]+=", command):
                settings.append(command)
            elif command == ITSELF[0] or command.startswith((*ITSELF[1:], "make ")):
                itself.append(command)
                run(command, workspace, programs, settings)
            else:
                run(command, workspace, programs, settings, forks)
    assert len(itself) == len(ITSELF) + 2
    # A newcomer has it from what the page says, and from nowhere else.
    assert not (programs / "pytest").exists()


def test_every_command_for_contributors_runs(workspace: Path, programs: Path) -> None:
    for command in [command for commands in typed("CONTRIBUTING.md", workspace) for command in commands]:
        run(command, workspace, programs)
    assert (programs / "pytest").exists()


def test_the_readme_python_runs(workspace: Path) -> None:
    """Needs the run that the README's commands left."""
    code = next(
        block.body for block in blocks(ROOT / "README.md") if "from wavslm_core import Codec" in block.body
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=workspace
    )
    assert done.returncode == 0, done.stderr


def test_pip_is_told_to_install_only_what_it_can_find() -> None:
    """Our packages are on no index: a folder works, or an extra of what is installed."""
    extras = {}
    for project in (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")):
        about = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        extras[about["name"]] = {"", *about.get("optional-dependencies", {})}
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/README.md")]
    texts += [*(ROOT / "wavslm_core").rglob("*.py"), *(ROOT / "wavslm_core").rglob("*.txt")]
    texts += [*ROOT.glob("plugins/*/wavslm_*/**/*.py")]
    promised = 0
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert "pypi.org/project/wavslm" not in text, path
        for line in re.findall(r"pip install ([^`\n]*)", text):
            for name, extra in re.findall(r"(?<![\w./-])(wavslm-[a-z-]+)(?:\[(\w+)\])?", line):
                # Without an extra: what a package depends on, which is installed as it says so itself.
                assert extra in extras[name], f"{path}: {line}"
                assert extra or name.replace("-", "_") in path.parts, f"{path}: {line}"
                promised += 1
            for folder in re.findall(r"\./plugins/([a-z-]+)", line):
                assert folder in extras, f"{path}: {line}"
    assert promised >= 5


def test_commands_name_files_that_exist() -> None:
    for page in PAGES:
        for block in blocks(ROOT / page):
            for command in block.commands if block.language == "bash" else []:
                for word in shlex.split(command):
                    if word.startswith("recipes/"):
                        assert (ROOT / word).exists(), f"{page}: {word}"


def test_every_promise_names_a_test_that_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) >= 15
    missing = [
        f"{path}::{name}"
        for path, name in named
        if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert not missing


def test_every_role_says_what_it_is_and_contributors_find_its_hook() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for spec in ROLES.values():
        assert spec.about
    for hook in (*(spec.hook for spec in ROLES.values()), CHECKPOINTS, COMMANDS, ENGINES):
        assert f"`{hook}`" in page, f"CONTRIBUTING does not name {hook}"


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_lists_what_is_registered(role: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    ours = {"wavslm-core", *(path.name for path in (ROOT / "plugins").iterdir())}
    for entry in load_registry():
        if entry.role == role and entry.distribution in ours and entry.name != "fake":
            assert f"`{entry.name}`" in text, f"README does not list {role} `{entry.name}`"


def test_every_option_is_documented() -> None:
    for entry in load_registry():
        for name, text in entry.config_class.descriptions().items():
            if name != entry.config_class.tag:
                assert text, f"{entry.role} {entry.name}: field {name} has no docstring"
