"""What `wavslm new-plugin` writes, really installed: listed, checked, trained, and green by its own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wavslm_core.cli.new_plugin import SKETCHES, PluginRole
from wavslm_core.parts.roles import PART_ROLES

ROOT = Path(__file__).resolve().parents[2]
ROLES = [role.value for role in PluginRole]
BLOCKS = "\n".join(f"{role}: {{name: my_{role}}}" for role in PART_ROLES)
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
  - {{run: my_stage}}
launch: {{device: cpu}}
"""

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("new_plugin")


@pytest.fixture(scope="module")
def call(folder: Path) -> Call:
    """Write a plugin for each role and install them; return what runs a command that sees them."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("WAVSLM")},
        "PYTHONPATH": str(folder / "installed"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }

    def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name(program), *arguments]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    for role in ROLES:
        written = run("wavslm", "new-plugin", f"my_{role}", "--role", role)
        assert written.returncode == 0, written.stderr
    folders = [folder / f"wavslm-my-{role}" for role in ROLES]
    install = ["install", "--quiet", "--no-build-isolation", "--no-deps", "--target", folder / "installed"]
    installed = run("python", "-m", "pip", *install, *folders)
    assert installed.returncode == 0, installed.stderr
    (folder / "mine.yaml").write_text(RECIPE)
    return run


def test_it_is_listed_and_fits_into_a_recipe(call: Call) -> None:
    listed = {plugin["name"]: plugin for plugin in json.loads(call("wavslm", "plugins", "--json").stdout)}
    for role in ROLES:
        plugin = listed[f"my_{role}"]
        assert plugin["distribution"] == f"wavslm-my-{role}"
        assert plugin["roles"] == {role: [f"my_{role}"]}
        assert plugin["error"] is None
        override = SKETCHES[PluginRole(role)].override.format(role=role, name=f"my_{role}")
        checked = call("wavslm", "recipe", "check", ROOT / "recipes" / "wavslm_tiny.yaml", override)
        assert checked.returncode == 0, checked.stderr
        assert f"{role} my_{role}" in checked.stdout or role not in PART_ROLES


def test_a_recipe_of_nothing_else_trains_and_speaks(call: Call, folder: Path) -> None:
    done = call("wavslm-run", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert "stage my_stage: finished" in done.stdout
    run = next((folder / "runs").glob("mine-*"))
    scores = json.loads((run / "results" / "evaluate.json").read_text())["codec"]["metrics"]
    assert (scores["my_metric"]["count"], scores["my_metric"]["failed"]) == (2, 0)
    assert json.loads((run / "results" / "my_stage.json").read_text())["recordings"] == 3


def test_every_part_learns(call: Call) -> None:
    done = call("wavslm", "doctor", "mine.yaml", "stages.train_codec.lr=0.003", "stages.train_lm.lr=0.01")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "codec       learns" in done.stdout
    assert "LM          learns" in done.stdout


def test_their_own_tests_pass(call: Call) -> None:
    # Together: nothing in one may disturb another, and torch is imported once.
    folders = [f"wavslm-my-{role}" for role in ROLES]
    done = call("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *folders)
    assert done.returncode == 0, done.stdout
