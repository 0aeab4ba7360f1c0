"""When two runs have stages in common, and what the later one takes over."""

from pathlib import Path
from typing import Any

from tests.support import FAKES
from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.places import place
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.folder import prepare_run_folder
from wavslm_core.run.records import STAGES_FILE, StageRecord
from wavslm_core.run.reuse import Adoption, stage_identities
from wavslm_core.testing.fakes import register_fakes

CODEC = {"run": "train_codec", "steps": 2}
TOKENIZE = {"run": "tokenize"}
SPEECH_LM = {"run": "train_lm", "steps": 2, "crop_tokens": 32}


def recipe(stages: list[dict[str, Any]], **blocks: Any) -> Recipe:
    register_fakes()
    document = {
        "name": "one",
        **FAKES,
        "data": {"corpus": "folder", "path": "speech"},
        "stages": stages,
        **blocks,
    }
    return resolve(recipe_from_dict(document))


def digests(stages: list[dict[str, Any]], **blocks: Any) -> dict[str, str]:
    return {stage.name: stage.digest for stage in stage_identities(recipe(stages, **blocks))}


def test_a_stage_is_the_same_when_all_that_it_follows_from_is() -> None:
    plain = digests([CODEC, TOKENIZE, {"run": "evaluate"}, SPEECH_LM])
    assert list(plain) == ["train_codec", "tokenize", "train_lm"]
    assert digests([CODEC, TOKENIZE, SPEECH_LM], name="two") == plain
    other_head = digests([CODEC, TOKENIZE, SPEECH_LM], head={"name": "fake", "chunk_tokens": 8})
    assert {name for name in plain if other_head[name] != plain[name]} == {"train_lm"}
    for changed in (
        digests([{**CODEC, "steps": 3}, TOKENIZE, SPEECH_LM]),
        digests([CODEC, TOKENIZE, SPEECH_LM], seed=1),
        digests([CODEC, TOKENIZE, SPEECH_LM], quantizer={"name": "fake", "bits": 4}),
        digests([CODEC, TOKENIZE, SPEECH_LM], data={"corpus": "folder", "path": "other"}),
    ):
        assert not set(changed.values()) & set(plain.values())


def test_what_a_stage_left_is_kept_in_a_place_of_its_own() -> None:
    stages = stage_identities(
        recipe([CODEC, TOKENIZE, SPEECH_LM, {"run": "evaluate"}, {**SPEECH_LM, "seed": 1}])
    )
    assert all(stage.kept for stage in stages)
    assert {stage.name: stage.places for stage in stages} == {
        "train_codec": ("codec",),
        "tokenize": ("tokens/train", "tokens/valid"),
        "train_lm": ("train_lm/speech_lm",),
        "train_lm_2": ("speech_lm",),
    }


def codecs(*steps: int) -> Recipe:
    """Trains a codec several times."""
    return recipe([{"run": "train_codec", "steps": count} for count in steps])


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
    donor = finished(codecs(2, 3), tmp_path)
    adoption = Adoption(tmp_path, registry=load_registry())
    shorter = prepare_run_folder(codecs(2), tmp_path)
    assert adoption.adopt(codecs(2), shorter) == (donor.name, ("train_codec",))
    assert (shorter / "codec" / "from").read_text() == "train_codec"
    longer = prepare_run_folder(codecs(2, 3, 4), tmp_path)
    assert adoption.adopt(codecs(2, 3, 4), longer) == (donor.name, ("train_codec", "train_codec_2"))
    assert (longer / "train_codec" / "codec" / "from").read_text() == "train_codec"
    assert (longer / "train_codec_2" / "codec" / "from").read_text() == "train_codec_2"
    assert not (longer / "codec").exists()


def test_the_first_stages_of_a_run_that_keeps_them_are_taken(tmp_path: Path) -> None:
    donor = finished(codecs(2), tmp_path)
    longer = prepare_run_folder(codecs(2, 3), tmp_path)
    adopted = Adoption(tmp_path, registry=load_registry()).adopt(codecs(2, 3), longer)
    assert adopted == (donor.name, ("train_codec",))
    assert (longer / "train_codec" / "codec" / "from").read_text() == "train_codec"
    assert StageRecord(longer / STAGES_FILE).finished("train_codec")
