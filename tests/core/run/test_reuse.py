"""A run takes over the first stages of another one, and only what those left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe import Recipe
from wavslm_core.recipe.places import place
from wavslm_core.run.folder import prepare_run_folder
from wavslm_core.run.reuse import Adoption
from wavslm_core.run.stage_record import STAGES_FILE, StageRecord
from wavslm_core.testing.fakes import register_fakes


def recipe(*steps: int, **blocks: Any) -> Recipe:
    register_fakes()
    document = {
        "name": "one",
        **{role: {"name": "fake"} for role in ("encoder", "quantizer", "decoder")},
        "data": {"corpus": "folder", "path": "speech"},
        "stages": [{"run": "train_codec", "steps": count} for count in steps],
        **blocks,
    }
    return Recipe.from_dict(document)


def finished(recipe: Recipe, runs_dir: Path) -> Path:
    """Return a run's folder whose codec says which stage left it."""
    folder = prepare_run_folder(recipe, runs_dir)
    record = StageRecord(folder / STAGES_FILE)
    for name, _ in recipe.named_stages():
        record.begin(name)
        left = folder / place(recipe, "codec", stage=name)
        left.mkdir(parents=True)
        (left / "from").write_text(name)
        record.end(name, "finished", 1.0)
    return folder


def test_each_stages_codec_is_taken_to_where_the_run_that_takes_it_over_keeps_it(tmp_path: Path) -> None:
    donor = finished(recipe(2, 3), tmp_path)
    adoption = Adoption(tmp_path, registry=load_registry())
    shorter = prepare_run_folder(recipe(2), tmp_path)
    assert adoption.adopt(recipe(2), shorter) == (donor.name, ("train_codec",))
    assert (shorter / "codec" / "from").read_text() == "train_codec"
    longer = prepare_run_folder(recipe(2, 3, 4), tmp_path)
    assert adoption.adopt(recipe(2, 3, 4), longer) == (donor.name, ("train_codec", "train_codec_2"))
    assert (longer / "train_codec" / "codec" / "from").read_text() == "train_codec"
    assert (longer / "train_codec_2" / "codec" / "from").read_text() == "train_codec_2"
    assert not (longer / "codec").exists()


def test_the_first_stages_of_a_run_that_keeps_them_are_taken(tmp_path: Path) -> None:
    donor = finished(recipe(2), tmp_path)
    longer = prepare_run_folder(recipe(2, 3), tmp_path)
    adopted = Adoption(tmp_path, registry=load_registry()).adopt(recipe(2, 3), longer)
    assert adopted == (donor.name, ("train_codec",))
    assert (longer / "train_codec" / "codec" / "from").read_text() == "train_codec"
    assert StageRecord(longer / STAGES_FILE).finished("train_codec")
