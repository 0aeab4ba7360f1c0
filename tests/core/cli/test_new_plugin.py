"""`wavslm new-plugin`: names that it refuses, and code that passes our own rules."""

import os
import re
import sys
import tomllib
from pathlib import Path
from string import Template

import pytest

from tests.support import Command, run_program
from wavslm_core.cli import new_plugin
from wavslm_core.cli.new_plugin import LONGEST_NAME, PluginRole, name_of
from wavslm_core.parts.roles import ROLES as ALL_ROLES

ROOT = Path(__file__).resolve().parents[3]
ROLES = [role.value for role in PluginRole]


def tool(*arguments: str | Path, cwd: Path, path: str = "") -> None:
    """Run a Python tool of this environment, which has to find nothing wrong."""
    run_program(sys.executable, "-m", *arguments, cwd=cwd, env={**os.environ, "MYPYPATH": path})


def test_there_is_a_template_for_every_role_but_formats() -> None:
    """A checkpoint format needs parts to put into it."""
    assert {*ROLES, "format"} == set(ALL_ROLES)


def test_what_all_roles_share_has_room_for_longer_ones() -> None:
    role, name = "r" * 16, "x" * LONGEST_NAME
    values = {
        **{"role": role, "name": name, "package": name_of(name), "hook": f"register_{role}s"},
        **{"config": f"{name}Config", "part": f"{name}{role}", "example": ""},
    }
    for template in (Path(new_plugin.__file__).parent / "templates" / "common").glob("*.py.txt"):
        lines = Template(template.read_text()).substitute(values).splitlines()
        assert max(map(len, lines)) <= 110, template.name


@pytest.mark.slow
def test_what_it_writes_is_formatted_linted_and_typed(command: Command, tmp_path: Path) -> None:
    packages = []
    for role in ROLES:
        for name in (role[:2], f"my_{role}", "x" * (LONGEST_NAME - len(role)) + role):
            command("main", "new-plugin", name, "--role", role)
            packages.append(tmp_path / f"wavslm-{name.replace('_', '-')}" / f"wavslm_{name}")
            assert (packages[-1] / f"{role}.py").exists()
    tool("ruff", "check", ".", cwd=tmp_path)
    tool("ruff", "format", "--check", ".", cwd=tmp_path)
    own = [package for package in packages if package.name.startswith("wavslm_my_")]
    names = [argument for package in own for argument in ("-p", package.name)]
    config = ["--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache"]
    tool("mypy", *config, *names, cwd=tmp_path, path=os.pathsep.join(str(package.parent) for package in own))


def test_the_same_rules_as_ours(command: Command, tmp_path: Path) -> None:
    command("main", "new-plugin", "mine", "--role", "head")
    theirs = tomllib.loads((tmp_path / "wavslm-mine" / "pyproject.toml").read_text())["tool"]["ruff"]
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert theirs["line-length"] == ours["line-length"]
    assert theirs["lint"]["select"] == ours["lint"]["select"]
    assert set(theirs["lint"]["ignore"]) <= set(ours["lint"]["ignore"])


def test_it_says_what_to_do_next(command: Command, tmp_path: Path) -> None:
    done = command("main", "new-plugin", "my_codes", "--role", "quantizer", "--into", "some where")
    for said in [
        "pip install -e './some where/wavslm-my-codes[test]'",
        "pytest 'some where/wavslm-my-codes'",
        "wavslm recipe check recipes/wavslm_scratch.yaml 'quantizer={name: my_codes}'",
        "`quantizer: {name: my_codes}`",
    ]:
        assert said in done.stdout
    written = {str(path.relative_to(tmp_path / "some where")) for path in tmp_path.rglob("*.*")}
    assert "wavslm-my-codes/tests/test_my_codes.py" in written
    assert not [path for path in written if path.startswith(".")]


@pytest.mark.parametrize(
    ("role", "shown", "override"),
    [
        ("stage", "`stages: [{run: mine}]`", "'stages=[{run: mine}]'"),
        ("metric", "`stages: [{run: evaluate, metrics: [mine]}]`", "'stages.evaluate.metrics=[mine]'"),
        ("corpus", "`data: {corpus: mine}`", "'data={corpus: mine}'"),
    ],
)
def test_it_says_how_a_recipe_names_it(
    command: Command, tmp_path: Path, role: str, shown: str, override: str
) -> None:
    done = command("main", "new-plugin", "mine", "--role", role)
    assert f"In a recipe: {shown}" in done.stdout
    assert f"wavslm recipe check recipes/wavslm_scratch.yaml {override}" in done.stdout
    assert shown.strip("`") in (tmp_path / "wavslm-mine" / "README.md").read_text()


def test_nothing_links_to_where_nothing_is(command: Command, tmp_path: Path) -> None:
    for role in ROLES:
        command("main", "new-plugin", f"my_{role}", "--role", role)
    links = {
        (path.name, link)
        for path in tmp_path.rglob("wavslm-*/**/*")
        if path.is_file()
        for link in re.findall(r"https?://[^\s)\"']+", path.read_text())
    }
    assert links == set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["My-Head", "--role", "head"], "'My-Head' cannot be the name of a part: small letters"),
        (["My-Head", "--role", "head"], "Try 'my_head'"),
        (["wavslm-foo", "--role", "head"], "Try 'foo'"),
        (["2nd", "--role", "head"], "Try 'my_part'"),
        (["class", "--role", "head"], "no word of Python's. Try 'my_part'"),
        (["a__b", "--role", "head"], "Try 'a_b'"),
        (["a" * (LONGEST_NAME + 1), "--role", "head"], f"{LONGEST_NAME} are the most, so shorten it"),
        (["fake", "--role", "head"], "head 'fake' of wavslm-example 1.0 is installed already; choose"),
        (["example", "--role", "head"], "the plugin name 'example' is taken by wavslm-example"),
        (["core", "--role", "head"], "a package wavslm_core is installed already"),
        (["there", "--role", "head"], "wavslm-there exists already; choose another name, remove it, or"),
        (["new", "--role", "haed"], "'haed' is not one of"),
        (["new", "--role", "head", "--into", "file"], "is a file, not a folder"),
        (["new"], "Missing option '--role'"),
    ],
)
def test_what_it_refuses(command: Command, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "wavslm-there").mkdir()
    (tmp_path / "file").touch()
    done = command("main", "new-plugin", *arguments, code=2)
    assert said in done.stderr
    assert {path.name for path in tmp_path.rglob("*")} == {"wavslm-there", "file"}
