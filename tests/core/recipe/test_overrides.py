"""Overrides: where they go, what they start afresh, and what they may not do."""

from pathlib import Path
from typing import Any

import pytest

from wavslm_core.errors import RecipeError
from wavslm_core.parts.registry import Registry
from wavslm_core.recipe.loading import load_recipe
from wavslm_core.recipe.overrides import apply_overrides, merged, parse_override

DOCUMENT: dict[str, Any] = {
    "name": "one",
    "head": {"name": "fake"},
    "sampler": {"name": "warm", "temperature": 2},
    "data": {"corpus": "tone", "minutes": 3},
    "stages": [{"run": "count", "steps": 3}, {"run": "learn"}, {"run": "count"}],
}
STAGES = DOCUMENT["stages"]


def applied(*texts: str) -> dict[str, Any]:
    return apply_overrides(DOCUMENT, [parse_override(text) for text in texts])[0]


@pytest.mark.parametrize(
    ("texts", "result"),
    [
        (
            ["data.augment.gain.probability=1"],
            {"corpus": "tone", "minutes": 3, "augment": {"gain": {"probability": 1}}},
        ),
        (["data.corpus=shelf", "data.augment={gain: {}}"], {"corpus": "shelf", "augment": {"gain": {}}}),
        (
            ["data.augment={gain: {}}", "data.train.corpus=shelf"],
            {"augment": {"gain": {}}, "train": {"corpus": "shelf"}},
        ),
    ],
)
def test_augmentation_stays_whatever_becomes_of_the_corpora(texts: list[str], result: object) -> None:
    assert applied(*texts)["data"] == result


def test_recipes_that_extend_others_keep_their_augmentation_or_give_their_own() -> None:
    gain, noise = {"augment": {"gain": {}}}, {"augment": {"noise": {}}}
    tone, shelf = {"corpus": "tone", "minutes": 3}, {"corpus": "shelf"}
    splits = {"train": shelf}
    for base, top, result in [
        ({**tone, **gain}, shelf, {**shelf, **gain}),
        ({**tone, **gain}, splits, {**splits, **gain}),
        ({**splits, **gain}, tone, {**tone, **gain}),
        (tone, gain, {**tone, **gain}),
        ({**tone, **gain}, noise, {**tone, "augment": {"gain": {}, "noise": {}}}),
        ({**tone, **gain}, {"augment": None}, {**tone, "augment": None}),
    ]:
        assert merged({"data": base}, {"data": top}) == {"data": result}


@pytest.mark.parametrize(
    ("texts", "key", "result"),
    [
        (["seed=3"], "seed", 3),
        (["name=a=b"], "name", "a=b"),
        (["head.chunk_tokens=8"], "head", {"name": "fake", "chunk_tokens": 8}),
        (["head="], "head", None),
        (["head={name: x, y: [1, 2]}"], "head", {"name": "x", "y": [1, 2]}),
        (["encoder.name=fake", "encoder.dim=3"], "encoder", {"name": "fake", "dim": 3}),
        (["sampler.name=fake"], "sampler", {"name": "fake"}),
        (["sampler.name=warm"], "sampler", {"name": "warm", "temperature": 2}),
        (["data.corpus=shelf", "data.path=x"], "data", {"corpus": "shelf", "path": "x"}),
        (["data.path=x", "data.corpus=shelf"], "data", {"corpus": "shelf", "path": "x"}),
        (["data.minutes=9"], "data", {"corpus": "tone", "minutes": 9}),
        (
            ["data.train.corpus=shelf", "data.train.path=x", "data.valid.corpus=tone"],
            "data",
            {"train": {"corpus": "shelf", "path": "x"}, "valid": {"corpus": "tone"}},
        ),
        (["stages.learn.steps=7"], "stages", [STAGES[0], {"run": "learn", "steps": 7}, STAGES[2]]),
        (["stages.2.steps=7"], "stages", [*STAGES[:2], {"run": "count", "steps": 7}]),
        (["stages.count_2.steps=7"], "stages", [*STAGES[:2], {"run": "count", "steps": 7}]),
        (["stages=[]"], "stages", []),
    ],
)
def test_overrides_go_where_they_say(texts: list[str], key: str, result: object) -> None:
    before = repr(DOCUMENT)
    assert applied(*texts)[key] == result
    assert repr(DOCUMENT) == before, "the document that was given must stay as it is"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed", "is no override"),
        ("=3", "is no override"),
        ("a..b=3", "is no override"),
        ("name.x=3", "name is 'one', not a block"),
        ("stages.lern.steps=3", "no entry of stages is called 'lern'. Did you mean 'learn'?"),
        ("stages.count.steps=3", "2 entries called 'count'. Say which one: stages.0, stages.count_2."),
        ("stages.3.steps=3", "stages has 3 entries, numbered from 0"),
        ("stages.-1.steps=3", "numbered from 0"),
        ("extends=x.yaml", "cannot be overridden"),
        ("seed=[1", "override 'seed=[1': line 1"),
    ],
)
def test_an_override_that_matches_nothing_says_so(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        applied(text)
    assert said in str(caught.value)


def test_a_wrong_override_is_named(tmp_path: Path, example_registry: Registry) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: one\nhead: {name: fake}\nstages: [{run: count}]\nsede: 3\n")
    texts = ["head.chunk_token=8", "stages.count.steps=many", "hed.chunk_tokens=4"]
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, texts, registry=example_registry)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    for said in [
        "override 'head.chunk_token=8': head.fake.chunk_token: no such key. Did you mean 'chunk_tokens'?",
        "override 'stages.count.steps=many': stages.0.count.steps: given 'many'; it should be a valid int",
        "override 'hed.chunk_tokens=4': hed: no such key. Did you mean 'head'?",
        f"{path}: sede: no such key. Did you mean 'seed'?",
    ]:
        assert any(line.startswith(said) for line in lines), f"{said!r} not among {lines}"


@pytest.mark.parametrize(
    ("texts", "blamed"),
    [
        (["steps=6", "freeze=[encoder, quantizer, decoder]"], "override 'stages.train_codec.freeze=[e"),
        (["freeze=[encoder, quantizer, decoder]"], "override 'stages.train_codec.freeze=[e"),
        (["steps=6", "batch_size=2"], "r.yaml: "),
    ],
)
def test_what_is_wrong_with_a_block_names_the_override_that_it_is_about(
    tmp_path: Path, texts: list[str], blamed: str
) -> None:
    path = tmp_path / "r.yaml"
    frozen = "" if any("freeze" in text for text in texts) else ", freeze: [encoder, quantizer, decoder]"
    path.write_text(f"name: one\nstages: [{{run: train_codec, steps: 9{frozen}}}]\n")
    with pytest.raises(RecipeError, match="freeze names all three parts") as caught:
        load_recipe(path, [f"stages.train_codec.{text}" for text in texts])
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(blamed)
