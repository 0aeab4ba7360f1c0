"""Every recipe that is shipped loads, fits together and says what each of its blocks is for."""

from pathlib import Path

import pytest
import yaml

from tests.support import Command
from wavslm_core.errors import RecipeError
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import load_recipe, recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.sweep.expansion import expand_sweep, sweep_of, trial_count

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_recipes() -> None:
    assert {"wavslm_scratch", "wavslm_tiny", "wavslm_base"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_fits_together(path: Path) -> None:
    loaded = load_recipe(path)
    recipes = [loaded] if loaded.sweep is None else [trial.recipe for trial in expand_sweep(loaded)]
    assert loaded.name == path.stem
    for recipe in recipes:
        checked = check(recipe)
        assert resolve(recipe_from_dict(checked.to_dict())).digest() == checked.digest()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_block_has_a_comment(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    for number, line in enumerate(lines):
        key, colon, _ = line.partition(":")
        if colon and key.isidentifier() and key not in ("name", "seed", "stages"):
            assert lines[number - 1].startswith("# "), f"{path.name}: no comment above `{key}:`"
        if line.startswith("  - ") and "run:" in line:
            assert lines[number - 1].startswith("  # "), f"{path.name}: no comment above `{line.strip()}`"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_plan_shows_every_stage_or_trial(path: Path, run: Command, tmp_path: Path) -> None:
    printed = run("wavslm-run", path, "--dry-run").stdout
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "sweep" in document:
        assert all(trial["label"] in printed for trial in document["sweep"].get("trials", ()))
        assert printed.count(" new ") == trial_count(sweep_of(load_recipe(path)))
    else:
        assert all(stage["run"] in printed for stage in document["stages"])
    assert "cannot be built" not in printed
    assert "not known" not in printed
    assert not list(tmp_path.iterdir())


def test_a_backbone_that_reads_features_needs_one_per_token() -> None:
    halved = ["quantizer.compressor.downscale_factors=[2,1]", "quantizer.decompressor.upscale_factors=[1,2]"]
    with pytest.raises(RecipeError, match=r"gives 2 for 1 token\. Use a backbone with `input: embedding`"):
        check(load_recipe(FOLDER / "wavslm_scratch.yaml", halved))
    check(load_recipe(FOLDER / "wavslm_scratch.yaml", [*halved, "backbone.input=embedding"]))
