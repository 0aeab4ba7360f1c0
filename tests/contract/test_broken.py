"""The contract can fail: parts broken in one way each are caught by the check for it, and by no other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.contract.broken import (
    BACKBONE,
    BROKEN,
    DISCRIMINATOR,
    ENCODER,
    HEAD,
    MERGING,
    QUANTIZER,
    SAMPLER,
    Broken,
)
from wavslm_core.parts.configs import Config
from wavslm_core.parts.registry import Entry, Registry
from wavslm_core.testing import contract_tests, fake_configs as good, fakes


def failures(broken: Broken, folder: Path) -> dict[str, str]:
    """Return check → message of every check that this part fails."""
    registry = Registry()
    target = f"{broken.part.__module__}:{broken.part.__qualname__}"
    config = broken.config
    registry.add(Entry(config.role, "fake", type(config), target, "wavslm-broken", "1.0"))
    tests = contract_tests(config, registry=registry)()
    found = {}
    for name in dir(tests):
        # Exporting takes seconds, and few of them are about it.
        check = name.removeprefix("test_")
        if not name.startswith("test_") or ("export" in check and check not in (broken.check, *broken.also)):
            continue
        # One of them has a chance of its own, which must not be whether it is caught.
        torch.manual_seed(0)
        try:
            getattr(tests, name)(*([folder] if name == "test_weights_survive_saving" else []))
        except pytest.skip.Exception:
            continue
        except Exception as error:
            found[check] = str(error)
    return found


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken.part.__name__}-{broken.check}")
def test_what_is_broken_is_caught(broken: Broken, tmp_path: Path) -> None:
    found = failures(broken, tmp_path)
    assert set(found) == {broken.check, *broken.also}, found
    assert broken.says in found[broken.check]
    assert "The contract: " in found[broken.check]


WHOLE = [
    (fakes.FakeEncoder, ENCODER),
    (fakes.FakeQuantizer, QUANTIZER),
    (fakes.FakeQuantizer, MERGING),
    (fakes.FakeDecoder, good.FakeDecoderConfig(input_dim=6, hop_samples=40, delay_samples=90)),
    (fakes.FakeBackbone, BACKBONE),
    (fakes.FakeHead, HEAD),
    (fakes.FakeSampler, SAMPLER),
    (fakes.FakeDiscriminator, DISCRIMINATOR),
]


@pytest.mark.parametrize(("part", "config"), WHOLE, ids=lambda value: getattr(value, "__name__", ""))
def test_the_parts_that_these_were_made_from_are_whole(part: type, config: Config, tmp_path: Path) -> None:
    assert not failures(Broken(part, config, "export", ""), tmp_path)
