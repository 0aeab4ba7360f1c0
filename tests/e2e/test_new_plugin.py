"""What `wavslm new-plugin` writes, really installed: listed, checked, trained, and green by its own tests."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.conftest import installed_command
from tests.support import Command, environment_without, run_program
from wavslm_core.cli.new_plugin import SKETCHES, PluginRole
from wavslm_core.parts.roles import PART_ROLES

ROOT = Path(__file__).resolve().parents[2]
ROLES = [role.value for role in PluginRole]
BLOCKS = "\n".join(f"{role}: {{name: my_{role}}}" for role in PART_ROLES)
IN_TURN = """
import json, sys
from wavslm_core.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["wavslm", *arguments]
    try:
        main()
    except SystemExit as leaving:
        assert not leaving.code, arguments
"""
RECIPE = f"""
name: mine
{BLOCKS}
data: {{corpus: my_corpus, minutes: 1}}
stages:
  - run: train_codec
    steps: 6
    batch_size: 2
    crop_seconds: 0.5
    continuous_steps: 2
    valid_utterances: 2
    adversarial: {{discriminators: [{{name: my_discriminator}}]}}
  - {{run: tokenize}}
  - {{run: train_lm, steps: 6, batch_size: 2, crop_tokens: 32}}
  - {{run: generate, prompts: 1, new_seconds: 0.4}}
  - {{run: evaluate, metrics: [my_metric], utterances: 2, baseline_tokens: 0}}
  - {{run: score_suites, suites: [{{name: my_suite, items: 4, seconds: 0.4}}]}}
  - {{run: my_stage}}
launch: {{device: cpu}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("new_plugin")


@pytest.fixture(scope="module")
def call(folder: Path) -> Command:
    """Write a plugin for each role and install them; return what runs a command that sees them."""
    environment = {
        **environment_without("WAVSLM"),
        "PYTHONPATH": str(folder / "installed"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }

    def run(program: str, *arguments: str | Path) -> CompletedProcess[str]:
        return run_program(installed_command(program), *arguments, cwd=folder, env=environment)

    writing = [["new-plugin", f"my_{role}", "--role", role] for role in ROLES]
    run("python", "-c", IN_TURN, json.dumps(writing))
    folders = [folder / f"wavslm-my-{role}" for role in ROLES]
    install = ["install", "--quiet", "--no-build-isolation", "--no-deps", "--target", folder / "installed"]
    run("python", "-m", "pip", *install, *folders)
    (folder / "mine.yaml").write_text(RECIPE)
    return run


def test_it_is_listed_and_fits_into_a_recipe(call: Command) -> None:
    listed = {plugin["name"]: plugin for plugin in json.loads(call("wavslm", "plugins", "--json").stdout)}
    checks = []
    for role in ROLES:
        plugin = listed[f"my_{role}"]
        assert plugin["distribution"] == f"wavslm-my-{role}"
        assert plugin["roles"] == {role: [f"my_{role}"]}
        assert plugin["error"] is None
        override = SKETCHES[PluginRole(role)].override.format(role=role, name=f"my_{role}")
        checks.append(["recipe", "check", str(ROOT / "recipes" / "wavslm_scratch.yaml"), override])
    checked = call("python", "-c", IN_TURN, json.dumps(checks)).stdout
    assert checked.count(": ok") == len(ROLES)
    assert all(f"{role} my_{role}" in checked for role in PART_ROLES)


def test_a_recipe_of_nothing_else_trains_and_speaks(call: Command, folder: Path) -> None:
    done = call("wavslm-run", "mine.yaml")
    assert "stage my_stage: finished" in done.stdout
    run = next((folder / "runs").glob("mine-*"))
    scores = json.loads((run / "results" / "evaluate.json").read_text())["codec"]["metrics"]
    assert (scores["my_metric"]["count"], scores["my_metric"]["failed"]) == (2, 0)
    assert json.loads((run / "results" / "my_stage.json").read_text())["recordings"] == 3


def test_every_part_learns(call: Command) -> None:
    done = call(
        "wavslm",
        "doctor",
        "mine.yaml",
        "--steps",
        "20",
        "stages.train_codec.lr=0.003",
        "stages.train_lm.lr=0.01",
    )
    assert "codec       learns" in done.stdout
    assert "LM          learns" in done.stdout


def test_their_own_tests_pass(call: Command) -> None:
    # Together: nothing in one may disturb another, and torch is imported once.
    folders = [f"wavslm-my-{role}" for role in ROLES]
    call("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *folders)
