"""What a recipe would do, for `--dry-run`: sizes, latencies, amounts. Needs torch, to build the parts on the
meta device and count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavslm_core.errors import WavslmError
from wavslm_core.machine.devices import choose_device, memory_bytes
from wavslm_core.machine.regular_files import size_below
from wavslm_core.machine.terminal import byte_text
from wavslm_core.model.documents import DISCRIMINATORS, inside_run
from wavslm_core.model.references import local_folder, registered
from wavslm_core.parts.augment_config import augment_of
from wavslm_core.parts.checkpoints import Kind
from wavslm_core.parts.configs import Config, PartConfig, Role, StageConfig
from wavslm_core.parts.facts import CodecFacts
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.recipe.checks import absent_modules
from wavslm_core.recipe.launch_block import LaunchConfig, SlurmLaunch
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.places import earlier_place

FROZEN_BYTES, TRAINED_BYTES = 4, 16
"""Per parameter in fp32: the weight; the weight, its gradient and AdamW's two moments."""
LARGEST_GPU_BYTES, LARGEST_NODE_BYTES = 300 * 10**9, 24 * 10**12
"""What a machine that is not this one has at most."""
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
    warning: str = ""
    """Why it cannot run as things are: what is not installed, or does not fit where it would run."""


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
    augment: str = ""
    """How what is trained on is changed."""
    codec_checkpoint: str = ""
    """Which codec the recipe names, where it is and how large."""


def make_plan(recipe: ResolvedRecipe) -> Plan:
    """Return the plan of a checked recipe. Parts that cannot be built say why instead of their size."""
    parts = [_part(recipe, role, config) for role, config in recipe.part_configs.items()]
    codec = recipe.codec_facts() if all(role in recipe.facts for role in CODEC_ROLES) else None
    head = recipe.facts.get("head")
    augment = augment_of(recipe.data)
    return Plan(
        parts=parts,
        codec=codec,
        bits_per_second=None if codec is None else codec.token_rate_hz * codec.quantizer.bits_per_token,
        head_chunk_tokens=getattr(head, "chunk_tokens", None),
        stages=[_stage(recipe, name, stage, parts) for name, stage in recipe.named_stages()],
        splits=_splits(recipe, codec),
        augment="" if augment is None else augment.described(),
        codec_checkpoint=""
        if recipe.codec is None
        else checkpoint_text(recipe.codec.checkpoint, recipe.registry, kind="codec"),
    )


def checkpoint_text(reference: str, registry: Registry, *, kind: Kind) -> str:
    """Return what names a checkpoint with whose it is, where it lies and how large it is."""
    folder = local_folder(reference, registry, kind=kind)
    if folder is None:
        return f"{reference} (not here yet, to be fetched from the hub)"
    held = inside_run(folder, kind).resolve()
    named = None if Path(reference).expanduser().is_dir() else registered(reference, registry, kind=kind)
    origin = "" if named is None else f"of {named.origin}, "
    return f"{reference} ({origin}{held}, {byte_text(size_below(held))})"


def _part(recipe: ResolvedRecipe, role: Role, config: PartConfig) -> PartPlan:
    parameters, problem = None, None
    try:
        parameters = parameter_count(recipe, config)
    except Exception as error:
        # A plan is also for finding out what is wrong, so whatever a plugin raises becomes a line of it.
        problem = f"cannot be built: {type(error).__name__}: {error}"
    return PartPlan(role, config.registered_name(), parameters, problem, dict(vars(recipe.facts[role])))


def parameter_count(recipe: ResolvedRecipe, config: Config) -> int:
    """Return how many numbers a part learns. Raises: whatever building it raises."""
    import torch
    from torch import nn

    from wavslm_core.model.weights import Undrawn

    with Undrawn(), torch.device("meta"):
        part = recipe.registry.build(config)
    return sum(p.numel() for p in part.parameters()) if isinstance(part, nn.Module) else 0


def _stage(recipe: ResolvedRecipe, name: str, config: StageConfig, parts: list[PartPlan]) -> StagePlan:
    details: dict[str, Any] = {}
    for key in ("steps", "batch_size"):
        if hasattr(config, key):
            details[key] = getattr(config, key)
    try:
        details |= recipe.registry.build(config).plan(recipe)
    except Exception as error:
        details["problem"] = f"{type(error).__name__}: {error}"
    if config.trains and "starts from" not in details:
        models = [path for path in config.leaves() or () if path != DISCRIMINATORS]
        earlier = [earlier_place(recipe, path, stage=name) for path in models]
        details |= {"starts from": ", ".join(filter(None, earlier))} if any(earlier) else {}
    absent = "; ".join(absent_modules(config, name))
    held = [part for part in parts if part.role in {*config.needs, *config.trains}]
    if any(part.parameters is None for part in held):
        return StagePlan(config.registered_name(), details, None, absent)
    state_bytes = sum(
        (part.parameters or 0) * (TRAINED_BYTES if part.role in config.trains else FROZEN_BYTES)
        for part in held
    )
    state_bytes += sum(TRAINED_BYTES * parameter_count(recipe, beside) for beside in config.trains_beside())
    warning = absent or _does_not_fit(recipe, config, state_bytes)
    return StagePlan(config.registered_name(), details, state_bytes, warning)


def _does_not_fit(recipe: ResolvedRecipe, config: StageConfig, state_bytes: int) -> str:
    """Return why a stage cannot fit into the memory that is there; empty if it may."""
    launch = recipe.launch_for(config)
    state = state_bytes // launch.world_size if launch.parallel == "fsdp" else state_bytes
    batch, items = 0, 0
    if hasattr(config, "micro_batch_size"):
        items = -(-int(config.micro_batch_size) // launch.world_size)
        try:
            batch = items * int(config.item_bytes(recipe)) if hasattr(config, "item_bytes") else 0
        except Exception:
            # Of a plugin; its weights are compared all the same.
            batch = 0
    there, where = _memory(launch)
    needed = state + batch
    if needed <= there:
        return ""
    parts = [f"{byte_text(state)} for weights and optimizer"]
    if batch:
        parts.append(f"{byte_text(batch)} for the {items:,} items that pass through at once")
    return (
        f"{config.registered_name()} needs {byte_text(needed)} in each process and more ({', '.join(parts)}; "
        f"activations come on top), but {where}. Make the model smaller, or batch_size, or raise accumulate; "
        "or run it where there is more (launch)."
    )


def _memory(launch: LaunchConfig) -> tuple[float, str]:
    """Return the bytes that each process of a launch has, and in words what has them."""
    if isinstance(launch, SlurmLaunch):
        if launch.gpus_per_node and launch.device != "cpu":
            return LARGEST_GPU_BYTES, f"no GPU has more than {byte_text(LARGEST_GPU_BYTES)}"
        if launch.memory_gb is not None:
            each = launch.memory_gb * 2**30 / launch.tasks
            shared = f", which {launch.tasks} processes share" if launch.tasks > 1 else ""
            return each, f"launch.memory_gb is {launch.memory_gb:g}{shared}"
        return LARGEST_NODE_BYTES, f"no node has more than {byte_text(LARGEST_NODE_BYTES)}"
    alone = launch.world_size == 1
    try:
        device = choose_device(launch.device, option="launch.device", alone=alone)
    except WavslmError:
        # What is not here is for the run to say; its recipe may be meant for another machine.
        return LARGEST_NODE_BYTES, f"no machine has more than {byte_text(LARGEST_NODE_BYTES)}"
    known = memory_bytes(device)
    if known is None:
        return LARGEST_NODE_BYTES, f"no machine has more than {byte_text(LARGEST_NODE_BYTES)}"
    if device.type == "cuda":
        return known, f"the GPU here has {byte_text(known)}"
    shared = "" if alone else f", which {launch.world_size} processes share"
    return known / launch.world_size, f"this machine has {byte_text(known)}{shared}"


def _splits(recipe: ResolvedRecipe, codec: CodecFacts | None) -> list[SplitPlan]:
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
