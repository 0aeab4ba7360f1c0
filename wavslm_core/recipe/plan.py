"""What a recipe would do, for `--dry-run`: sizes, latencies, amounts. The only module here that needs torch,
to build the parts on the meta device and count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wavslm_core.configs import CODEC_ROLES, PartConfig, Role, StageConfig
from wavslm_core.facts import CodecFacts
from wavslm_core.recipe.links import link_recipe
from wavslm_core.recipe.model import Recipe

FROZEN_BYTES, TRAINED_BYTES = 4, 16
"""Per parameter in fp32: the weight; the weight, its gradient and AdamW's two moments."""
SMALL_VOCAB = 2**16
"""Token stores hold two bytes a token up to this many codes, four above."""


@dataclass
class PartPlan:
    """One part, and its size when it can be built."""

    role: Role
    name: str
    parameters: int | None
    problem: str | None
    facts: dict[str, Any]


@dataclass
class StagePlan:
    """One stage: what it says of itself, and the memory of the weights that it holds."""

    run: str
    details: dict[str, Any]
    state_bytes: int | None
    """Weights, gradients and optimizer state; None when a part's size is not known."""


@dataclass
class SplitPlan:
    """Speech of one split; None where it is known only once the corpus is read."""

    split: str
    corpus: str
    hours: float | None
    tokens: int | None
    bytes: int | None


@dataclass
class Plan:
    """The whole of it."""

    parts: list[PartPlan]
    codec: CodecFacts | None
    bits_per_second: float | None
    head_chunk_tokens: int | None
    stages: list[StagePlan]
    splits: list[SplitPlan] = field(default_factory=list)


def make_plan(recipe: Recipe) -> Plan:
    """Return the plan of a checked recipe. Parts that cannot be built say why instead of their size."""
    links = link_recipe(recipe)
    parts = [_part(recipe, role, config) for role, config in links.parts.items()]
    for part in parts:
        if part.role in links.facts:
            part.facts = dict(vars(links.facts[part.role]))
    codec = recipe.codec_facts() if all(role in links.facts for role in CODEC_ROLES) else None
    head = links.facts.get("head")
    return Plan(
        parts=parts,
        codec=codec,
        bits_per_second=None if codec is None else codec.token_rate_hz * codec.quantizer.bits_per_token,
        head_chunk_tokens=getattr(head, "chunk_tokens", None),
        stages=[_stage(recipe, stage, parts) for stage in recipe.resolve().stages],
        splits=_splits(recipe, codec),
    )


def _part(recipe: Recipe, role: Role, config: PartConfig) -> PartPlan:
    import torch
    from torch import nn

    parameters, problem = None, None
    try:
        with torch.device("meta"):
            part = recipe.registry.build(config)
        parameters = sum(p.numel() for p in part.parameters()) if isinstance(part, nn.Module) else 0
    except Exception as error:
        # A plan is also for finding out what is wrong, so whatever a plugin raises becomes a line of it.
        problem = f"cannot be built: {type(error).__name__}: {error}"
    return PartPlan(role, config.registered_name(), parameters, problem, {})


def _stage(recipe: Recipe, config: StageConfig, parts: list[PartPlan]) -> StagePlan:
    details: dict[str, Any] = {}
    for key in ("steps", "batch_size"):
        if hasattr(config, key):
            details[key] = getattr(config, key)
    try:
        details |= recipe.registry.build(config).plan(recipe)
    except Exception as error:
        details["problem"] = f"{type(error).__name__}: {error}"
    held = [part for part in parts if part.role in {*config.needs, *config.trains}]
    if any(part.parameters is None for part in held):
        return StagePlan(config.registered_name(), details, None)
    state_bytes = sum(
        (part.parameters or 0) * (TRAINED_BYTES if part.role in config.trains else FROZEN_BYTES)
        for part in held
    )
    return StagePlan(config.registered_name(), details, state_bytes)


def _splits(recipe: Recipe, codec: CodecFacts | None) -> list[SplitPlan]:
    if recipe.data is None:
        return []
    plans = []
    for split in recipe.data.splits:
        corpus = recipe.data.corpus_for(split)
        seconds = corpus.expected_seconds(split)
        hours, tokens, size = None, None, None
        if seconds is not None:
            hours = seconds / 3600
        if seconds is not None and codec is not None:
            tokens = round(seconds * codec.token_rate_hz)
            size = tokens * (2 if codec.quantizer.vocab_size <= SMALL_VOCAB else 4)
        plans.append(SplitPlan(split, corpus.registered_name(), hours, tokens, size))
    return plans
