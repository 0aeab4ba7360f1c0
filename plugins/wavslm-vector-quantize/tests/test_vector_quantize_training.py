"""Every quantizer learns on easy features and uses its codes; training goes on from a state dict exactly."""

import copy
from typing import Any

import pytest
import torch

from wavslm_core.parts.facts import QuantizerFacts
from wavslm_core.parts.interfaces import Quantizer

pytestmark = pytest.mark.slow


def distance(given: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    return (given - features).square().mean() / features.square().mean()


def train(quantizer: Quantizer[Any], features: Any, steps: range) -> list[float]:
    """Train like the codec's task, with the weights that the facts state; return the distances."""
    facts = quantizer.config.facts()
    assert isinstance(facts, QuantizerFacts)
    parameters = list(quantizer.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.1) if parameters else None
    distances = []
    for step in steps:
        torch.manual_seed(step)
        x = features(step)
        output = quantizer.train()(x, bypass_codes=step < 20)
        reconstruction = distance(output.features_BTD, x)
        losses = [weight * output.losses[name] for name, weight in facts.losses.items()]
        if optimizer is not None:
            optimizer.zero_grad()
            torch.stack([reconstruction, *losses]).sum().backward()
            optimizer.step()
        distances.append(float(reconstruction.detach()))
    return distances


@torch.no_grad()
def test_it_learns_and_uses_its_codes(quantizer: Quantizer[Any], features: Any) -> None:
    x = features(10**6, batch=32)
    untrained = distance(quantizer.eval().decode(quantizer.encode(x)), x)
    with torch.enable_grad():
        train(quantizer, features, range(120))
    tokens = quantizer.eval().encode(x)
    trained = distance(quantizer.decode(tokens), x)
    assert trained < 0.5 * untrained
    assert trained < 0.5
    assert len(tokens.unique()) > 32


def test_training_goes_on_from_a_state_dict_exactly(quantizer: Quantizer[Any], features: Any) -> None:
    train(quantizer, features, range(16, 22))
    other = copy.deepcopy(quantizer)
    for value in other.state_dict().values():
        value.zero_()
    other.load_state_dict({key: value.clone() for key, value in quantizer.state_dict().items()})
    train(quantizer, features, range(22, 28))
    train(other, features, range(22, 28))
    expected = quantizer.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in other.state_dict().items())
