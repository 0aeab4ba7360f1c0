"""Which first stages of a run another one could take over, and how far that is safe."""

from __future__ import annotations

from typing import Any

from wavslm_core.recipe import Recipe
from wavslm_core.run.identity import stage_identities
from wavslm_core.testing.fakes import register_fakes

ROLES = ("encoder", "quantizer", "decoder", "backbone", "head", "sampler")
CODEC = {"run": "train_codec", "steps": 2}
TOKENIZE = {"run": "tokenize"}
SPEECH_LM = {"run": "train_lm", "steps": 2, "crop_tokens": 32}


def recipe(stages: list[dict[str, Any]], **blocks: Any) -> Recipe:
    register_fakes()
    document = {
        "name": "one",
        **{role: {"name": "fake"} for role in ROLES},
        "data": {"corpus": "folder", "path": "speech"},
        "stages": stages,
        **blocks,
    }
    return Recipe.from_dict(document).resolve()


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
