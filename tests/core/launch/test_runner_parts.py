"""A stage that several tasks share, each a part, on this machine: one after another, with the same result."""

from pathlib import Path
from typing import Any

from tests.support import FAKES, SMALL_CODEC, noise_corpus
from wavslm_core.launch.launchers import launcher_for
from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.folder import prepare_run_folder
from wavslm_core.run.records import STAGES_FILE, StageRecord
from wavslm_core.testing.fakes import register_fakes


def recipe(corpus: Path, launch: Any) -> ResolvedRecipe:
    document = {
        "name": "shared",
        **{role: FAKES[role] for role in ("encoder", "quantizer", "decoder")},
        "data": {"corpus": "folder", "path": str(corpus)},
        "stages": [{**SMALL_CODEC, "steps": 1}, {"run": "tokenize", "shard_minutes": 0.1, **launch}],
        "launch": {"on": "debug", "device": "cpu"},
    }
    return resolve(recipe_from_dict(document, registry=load_registry()))


def run(recipe: ResolvedRecipe, runs_dir: Path) -> tuple[Path, list[str]]:
    said: list[str] = []
    folder = prepare_run_folder(recipe, runs_dir)
    assert launcher_for(recipe.launch).launch(folder, said.append).status == "finished"
    return folder, said


def test_parts_one_after_another_are_the_whole(tmp_path: Path) -> None:
    register_fakes()
    noise_corpus(tmp_path / "corpus")
    whole, _ = run(recipe(tmp_path / "corpus", {}), tmp_path / "whole")
    parts, said = run(recipe(tmp_path / "corpus", {"launch": {"array": 2}}), tmp_path / "parts")
    assert whole.name == parts.name
    assert [line.partition(" in ")[0] for line in said if "tokenize" in line] == [
        "stage tokenize: running, part 1 of 2",
        "stage tokenize: finished, part 1 of 2",
        "stage tokenize: running, part 2 of 2",
        "stage tokenize: finished, part 2 of 2",
        "stage tokenize: running",
        "stage tokenize: finished",
    ]
    assert StageRecord(parts / STAGES_FILE).finished("tokenize")
    tokens = sorted(path.relative_to(whole) for path in whole.glob("tokens/*/*.bin"))
    assert len(tokens) > 2
    for path in tokens:
        assert (parts / path).read_bytes() == (whole / path).read_bytes()
