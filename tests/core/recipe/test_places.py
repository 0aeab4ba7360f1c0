"""Where stages leave things and find them, whichever of them run again."""

from typing import Any, Literal

from wavslm_core.parts.configs import StageConfig
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Entry, Registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.places import earlier_place, found_place, place

CODEC = {"run": "train_codec", "steps": 2}
TOKENIZE = {"run": "tokenize", "splits": ["train"]}


class UnstatedConfig(StageConfig):
    """A stage that does not say what it leaves."""

    run: Literal["unstated"] = "unstated"


def recipe(*stages: dict[str, Any]) -> Recipe:
    registry = Registry()
    unstated = Entry("stage", "unstated", UnstatedConfig, "somewhere:Stage", "odd", "1")
    registry.add(*load_registry(), unstated)
    return recipe_from_dict({"name": "one", "stages": list(stages)}, registry=registry)


def test_the_last_stage_has_the_plain_name_and_each_earlier_one_a_folder() -> None:
    three = recipe(CODEC, TOKENIZE, CODEC, TOKENIZE, CODEC)
    assert [place(three, "codec", stage=f"train_codec{end}") for end in ("", "_2", "_3")] == [
        "train_codec/codec",
        "train_codec_2/codec",
        "codec",
    ]
    assert place(three, "tokens/train", stage="tokenize") == "tokenize/tokens/train"
    assert place(three, "tokens/train", stage="tokenize_2") == "tokens/train"
    alone = recipe(CODEC, TOKENIZE)
    assert place(alone, "codec", stage="train_codec") == "codec"


def test_each_stage_finds_what_was_left_before_it() -> None:
    stages = recipe(TOKENIZE, CODEC, TOKENIZE, CODEC, {"run": "evaluate"})
    found = {name: found_place(stages, "codec", stage=name) for name, _ in stages.named_stages()}
    assert found == {
        "tokenize": None,
        "train_codec": None,
        "tokenize_2": "train_codec/codec",
        "train_codec_2": "train_codec/codec",
        "evaluate": "codec",
    }
    assert earlier_place(stages, "codec", stage="train_codec") is None
    assert earlier_place(stages, "codec", stage="train_codec_2") == "train_codec/codec"
    # Whoever is not a stage of it comes after all.
    assert found_place(stages, "codec", stage="") == "codec"


def test_what_no_stage_is_known_to_leave_is_looked_for_under_the_plain_name() -> None:
    assert found_place(recipe(TOKENIZE), "codec", stage="tokenize") == "codec"
    assert earlier_place(recipe(TOKENIZE), "codec", stage="tokenize") is None
    unstated = recipe({"run": "unstated"}, TOKENIZE, CODEC)
    assert found_place(unstated, "codec", stage="tokenize") == "codec"
    # What a stage starts from must not be what it left itself when it ran before.
    assert earlier_place(unstated, "codec", stage="train_codec") is None


def test_what_a_certain_stage_left_is_found_by_its_name() -> None:
    stages = recipe(CODEC, TOKENIZE, CODEC, CODEC)
    assert earlier_place(stages, "train_codec/codec", stage="train_codec_3") == "train_codec/codec"
    assert found_place(stages, "train_codec_2/codec", stage="train_codec_3") == "train_codec_2/codec"
    assert found_place(stages, "train_codec_3/codec", stage="") == "codec"
    assert earlier_place(stages, "train_codec_3/codec", stage="train_codec_2") is None
    assert earlier_place(stages, "tokenize/codec", stage="train_codec_2") is None
