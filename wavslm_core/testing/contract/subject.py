"""What a contract is held against: a config, the part built from it, and what its author exempts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from wavslm_core.errors import summary
from wavslm_core.parts.configs import Config, PartConfig, Role
from wavslm_core.parts.facts import PartFacts
from wavslm_core.parts.registry import Registry

TOLERANCE = 1e-4
"""Largest difference, relative to the largest magnitude, between two ways to compute the same in fp32."""


@dataclass(frozen=True)
class Subject:
    """A part under test; see `wavslm_core.testing.contract_tests` for the fields."""

    config: Config
    registry: Registry
    no_gradient: Mapping[str, str]
    no_export: str | None
    prepare: Callable[[Any], None] | None
    splits: tuple[str, ...]
    parts: Mapping[Role, PartConfig]

    def __post_init__(self) -> None:
        unset = [
            f"{field} (the {source})"
            for field, source in type(self.config).links().items()
            if getattr(self.config, field) in (0, None)
        ]
        if unset:
            raise ValueError(
                f"{self.described}: a recipe fills linked fields in, a contract cannot. "
                f"Give {', '.join(unset)} in the config"
            )
        if self.config.role == "format" and not self.parts:
            raise ValueError(f"{self.described}: give `parts`, role → config, that the format can hold")
        reasons = {**self.no_gradient, "no_export": self.no_export}
        empty = [key for key, reason in reasons.items() if reason is not None and not reason.strip()]
        if empty:
            raise ValueError(f"{self.described}: say why for {', '.join(empty)}; the reason is empty")

    @property
    def described(self) -> str:
        """What it is and whose."""
        return self.registry.described(self.config)

    def facts(self) -> PartFacts:
        """Return what the config of a part states."""
        return cast(PartConfig, self.config).facts()

    def build(self, *, seed: int = 0) -> Any:
        """Return the part for inference, with random weights none of which is left at its initial value."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            part = self.registry.build(self.config)
            if isinstance(part, nn.Module):
                stir(part)
            if self.prepare is not None:
                self.prepare(part)
        return part.eval() if isinstance(part, nn.Module) else part


@torch.no_grad()
def stir(module: nn.Module) -> None:
    """Add noise to every parameter, so that a branch that starts at zero hides nothing."""
    for parameter in module.parameters():
        spread = float(parameter.std(correction=0)) if parameter.numel() else 0.0
        parameter.add_(torch.randn_like(parameter) * max(0.3 * spread, 0.02 if spread else 0.1))


class Contract:
    """Base of the classes of tests. Messages say what was found and what the contract asks."""

    subject: ClassVar[Subject]

    def part(self, *, seed: int = 0) -> Any:
        """Return a part of its own for each test, so that none sees what another left."""
        return self.subject.build(seed=seed)

    def require(self, holds: bool, found: str, rule: str) -> None:
        __tracebackhide__ = True
        assert holds, f"{self.subject.described}: {found}. The contract: {rule}"

    @contextmanager
    def attempt(self, what: str, rule: str) -> Iterator[None]:
        """Say of any exception inside what failed and what the contract asks."""
        try:
            yield
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(
                f"{self.subject.described}: {what} fails: {summary(error)}. The contract: {rule}"
            ) from error

    def require_same(
        self, given: Tensor, expected: Tensor, found: str, rule: str, *, tolerance: float = TOLERANCE
    ) -> None:
        """Floats within `tolerance` of the largest one, NaN and infinity in the same places; ids equal."""
        __tracebackhide__ = True
        shapes = f"{list(given.shape)} {given.dtype} against {list(expected.shape)} {expected.dtype}"
        alike = given.shape == expected.shape and given.is_floating_point() == expected.is_floating_point()
        self.require(alike, f"{found}: {shapes}", rule)
        if not given.is_floating_point():
            wrong = int((given != expected).sum())
            self.require(wrong == 0, f"{found}: {wrong} of {given.numel()} ids differ", rule)
            return
        given, expected = given.float(), expected.float()
        special = [
            torch.equal(kind(given), kind(expected)) for kind in (torch.isnan, torch.isposinf, torch.isneginf)
        ]
        self.require(all(special), f"{found}: NaN or infinite in different places", rule)
        finite = expected.isfinite()
        if not bool(finite.any()):
            return
        error = float((given - expected)[finite].abs().max())
        scale = float(expected[finite].abs().max())
        self.require(
            error <= tolerance * max(scale, 1e-6),
            f"{found}: they differ by {error:.2g} where the largest value is {scale:.2g}",
            rule,
        )


def generator(seed: int = 0) -> torch.Generator:
    """Return a source of random inputs that nothing else draws from."""
    return torch.Generator().manual_seed(seed)
