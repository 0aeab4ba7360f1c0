"""Numbers that flow against the order of the parts: what a backbone takes from the head."""

from typing import Any, Literal

import pytest

from wavslm_core.errors import RecipeError
from wavslm_core.parts.configs import linked
from wavslm_core.parts.facts import BackboneFacts, HeadFacts
from wavslm_core.parts.registry import Entry, Registry
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.testing.fake_configs import FakeBackboneConfig, FakeHeadConfig
from wavslm_core.testing.fakes import register_fakes


class FollowingConfig(FakeBackboneConfig):
    """A backbone whose chunk is the head's."""

    name: Literal["following"] = "following"  # type: ignore[assignment]
    lookahead: int | None = linked("head.lookahead_tokens", open_value=None, must_agree=False, ge=0)

    def facts(self) -> BackboneFacts:
        facts = super().facts()
        return BackboneFacts(**{**vars(facts), "chunk_tokens": (self.lookahead or 0) + 1})


class WidthChunkConfig(FakeHeadConfig):
    """A head whose chunk follows from what comes before it."""

    name: Literal["width_chunk"] = "width_chunk"  # type: ignore[assignment]

    def facts(self) -> HeadFacts:
        return HeadFacts(**{**vars(super().facts()), "chunk_tokens": 2 + self.input_dim // 4})


class SilentConfig(FakeHeadConfig):
    """A head that can say nothing before it knows what comes before it."""

    name: Literal["silent"] = "silent"  # type: ignore[assignment]

    def facts(self) -> HeadFacts:
        return HeadFacts(**{**vars(super().facts()), "chunk_tokens": 64 // self.input_dim})


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    register_fakes(registry)
    registry.add(
        *(
            Entry(config.role, config.registered_name(), config, "a:B", "dist", "1.0")
            for config in (FollowingConfig, WidthChunkConfig, SilentConfig)
        )
    )
    return registry


def resolved(registry: Registry, head: dict[str, Any] | None, **backbone: Any) -> ResolvedRecipe:
    parts: dict[str, Any] = {
        role: {"name": "fake"} for role in ("encoder", "quantizer", "decoder", "sampler")
    }
    parts["backbone"] = {"name": "following", **backbone}
    if head is not None:
        parts["head"] = head
    return check(recipe_from_dict({"name": "one", **parts}, registry=registry))


def lookahead(recipe: ResolvedRecipe) -> Any:
    return recipe.part_configs["backbone"].model_dump()["lookahead"]


def test_a_backbone_takes_its_chunk_from_the_head_that_comes_after_it(registry: Registry) -> None:
    for chunk in (1, 4, 8):
        recipe = resolved(registry, {"name": "fake", "chunk_tokens": chunk})
        assert lookahead(recipe) == chunk - 1
        assert recipe.facts["backbone"].chunk_tokens == chunk
        again = resolve(recipe_from_dict(recipe.to_dict(), registry=registry))
        assert again.digest() == recipe.digest()


def test_a_given_chunk_counts_even_where_it_is_another(registry: Registry) -> None:
    assert lookahead(resolved(registry, {"name": "fake", "chunk_tokens": 8}, lookahead=3)) == 3
    assert lookahead(resolved(registry, {"name": "fake", "chunk_tokens": 8}, lookahead=0)) == 0
    with pytest.raises(RecipeError, match=r"head\.chunk_tokens is 8, but the backbone works in chunks of 3"):
        resolved(registry, {"name": "fake", "chunk_tokens": 8}, lookahead=2)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (None, "is taken from head.lookahead_tokens, but the recipe has no head. Add a `head:`"),
        (
            {"name": "width_chunk"},
            "backbone.lookahead is 1, taken from head.lookahead_tokens, which is 5 once",
        ),
        (
            {"name": "silent"},
            "but the head cannot say it before it knows what comes before it. Give backbone.",
        ),
    ],
)
def test_a_head_that_cannot_say_its_chunk_beforehand_is_named(
    registry: Registry, head: dict[str, Any] | None, said: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        resolved(registry, head)
    assert said in str(caught.value)
    if head is not None:
        with pytest.raises(RecipeError, match=r"head\.chunk_tokens is"):
            resolved(registry, head, lookahead=6)
