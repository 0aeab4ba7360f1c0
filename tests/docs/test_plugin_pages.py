"""What the pages of the plugins show works: every YAML block with parts or data, every recipe command."""

import shlex
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tests.docs.markdown import Block, blocks
from tests.support import Command
from wavslm_core.parts.configs import Role
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import read_extended, recipe_from_dict

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "plugins").glob("*/README.md"))
SCRATCH = ROOT / "recipes" / "wavslm_scratch.yaml"
KEYS = {*get_args(Role), "data"}
EXAMPLES = [
    pytest.param(example, id=f"{page.parent.name}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page))
    if block.language == "yaml" and KEYS & (example := yaml.safe_load(block.body)).keys()
]
RECIPES = [
    pytest.param(block, id=f"{page.parent.name}-{block.title}")
    for page in PAGES
    for block in blocks(page)
    if (block.title or "").startswith("recipes/")
]
COMMANDS = [
    pytest.param(command, id=f"{page.parent.name}-{number}")
    for page in PAGES
    for block in blocks(page)
    if block.language == "bash"
    for number, command in enumerate(block.commands)
    if command.startswith(("wavslm ", "wavslm-run "))
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_blocks_take_the_place_of_those_of_a_recipe(example: dict[str, Any]) -> None:
    shown = {key: value for key, value in example.items() if key in KEYS}
    check(recipe_from_dict({**read_extended(SCRATCH), **shown}, source="README"))


@pytest.mark.parametrize("block", RECIPES)
def test_recipes_check(block: Block, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    path = tmp_path / str(block.title)
    path.write_text(block.body, encoding="utf-8")
    check(recipe_from_dict(read_extended(path), source=str(block.title)))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command: str, run: Command) -> None:
    """In this process: the same verbs have one of their own where those of README run."""
    _, *arguments = words = shlex.split(command)
    assert "check" in arguments or "--dry-run" in arguments, "a page of a plugin starts no run"
    run(*words, cwd=ROOT)
