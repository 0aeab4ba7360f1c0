"""Several samplers in a row: in recipes, in calls, and what they do to a distribution."""

from typing import Any

import pytest
import torch

from wavslm_core.errors import RecipeError
from wavslm_core.model.chain import ChainConfig
from wavslm_core.model.sampling import SamplerChain
from wavslm_core.parts.facts import HeadFacts, SamplerFacts, sampler_problem
from wavslm_core.parts.interfaces import SamplingContext
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm

STEPS = [{"name": "top_k", "k": 3, "temperature": 1}, {"name": "top_p", "p": 0.5, "temperature": 1}]


def chain(*steps: dict[str, Any]) -> SamplerChain:
    return SamplerChain(ChainConfig.model_validate({"steps": steps}))


def test_each_sees_what_the_one_before_left() -> None:
    logits = torch.tensor([[0.3, 0.25, 0.2, 0.15, 0.1]]).log()
    context = SamplingContext(torch.zeros(1, dtype=torch.int64), torch.zeros(1, 0, dtype=torch.int64))
    kept = chain(*STEPS).adjust(logits, context).isfinite()
    # Of 0.75 that top_k leaves, 0.3 is 0.4 and 0.55 is 0.73: two stay; of all five, three would.
    assert kept.tolist() == [[True, True, False, False, False]]


def test_a_list_in_a_recipe_is_a_chain() -> None:
    recipe = resolve(recipe_from_dict({"name": "x", "sampler": STEPS}))
    assert recipe.sampler == ChainConfig.model_validate({"steps": STEPS})
    assert recipe_from_dict(recipe.to_dict()).sampler == recipe.sampler
    assert recipe.to_dict()["sampler"]["steps"][0]["k"] == 3


def test_wrong_steps_are_named() -> None:
    with pytest.raises(RecipeError, match="no sampler is called 'top_q'"):
        recipe_from_dict({"name": "x", "sampler": [{"name": "top_q"}]})
    with pytest.raises(RecipeError, match="heat: no such key"):
        recipe_from_dict({"name": "x", "sampler": [{"name": "top_p", "heat": 2}]})


def test_generation_takes_a_list() -> None:
    model = fake_speech_lm(fake_codec())
    prompt = torch.randint(0, 32, (2, 8))
    greedy = model.generate(prompt, new_tokens=8, sampler={"name": "greedy"})
    chained = model.generate(prompt, new_tokens=8, sampler=[{"name": "fake"}, {"name": "greedy"}])
    assert torch.equal(greedy, chained)
    assert ChainConfig.model_validate({"steps": [{"name": "fake"}, {"name": "greedy"}]}).facts().greedy


def test_a_history_needs_whole_tokens() -> None:
    head = HeadFacts(input_dim=4, vocab_size=4, chunk_tokens=1, draws="symbols")
    assert sampler_problem(head, SamplerFacts()) is None
    assert "looks at the tokens before" in str(sampler_problem(head, SamplerFacts(history_tokens=2)))
