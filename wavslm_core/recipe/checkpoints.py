"""What a checkpoint holds, told from its `config.json` alone: no weights, no network.

Nor torch, but for one question: whether weights fit parts whose options differ. Only the parts know, and are
built on the meta device to be asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from wavslm_core.errors import CheckpointError, WavslmError
from wavslm_core.model.documents import (
    first_format,
    format_part_configs,
    inside_run,
    is_hub_id,
    our_part_configs,
    read_document,
    recognise,
)
from wavslm_core.model.references import local_folder, unknown
from wavslm_core.parts.checkpoints import Kind
from wavslm_core.parts.configs import PartConfig, RecipeView, Role
from wavslm_core.parts.facts import BackboneFacts, HeadFacts, codec_problem
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import LANGUAGE_ROLES


def checkpoint_configs(checkpoint: str, registry: Registry, *, kind: Kind) -> dict[Role, PartConfig]:
    """Return role → config for a folder, a registered name, a hub id in the local cache, or a well-known one.

    Raises: CheckpointError, RecipeError.
    """
    document = _document(checkpoint, registry, kind)
    found = recognise(document, kind=kind, source=checkpoint, registry=registry)
    if found is None:
        return our_part_configs(document, kind=kind, source=checkpoint, registry=registry)
    return format_part_configs(found, document, source=checkpoint, registry=registry)


def speech_lm_problems(checkpoint: str | None, recipe: RecipeView) -> Iterator[str]:
    """Yield why the `speech_lm` that a stage of a resolved recipe may name cannot read the codec's tokens."""
    if checkpoint is None:
        return
    try:
        configs = checkpoint_configs(checkpoint, recipe.registry, kind="speech_lm")
        backbone, head = (
            cast(BackboneFacts, configs["backbone"].facts()),
            cast(HeadFacts, configs["head"].facts()),
        )
        problem = codec_problem(recipe.codec_facts().quantizer, backbone, head)
    except WavslmError as error:
        yield from (f"speech_lm: {line}" for line in str(error).splitlines())
    else:
        if problem is not None:
            yield f"speech_lm: {checkpoint} {problem}"


def start_problems(checkpoint: str, recipe: RecipeView) -> Iterator[str]:
    """Yield why training cannot start from a language model: it is not there, or its weights do not fit."""
    try:
        configs = checkpoint_configs(checkpoint, recipe.registry, kind="speech_lm")
        wanted = recipe.part_configs
        for role in LANGUAGE_ROLES[:2]:
            problem = _misfit(configs[role], wanted[role], recipe.registry)
            if problem is not None:
                yield (
                    f"the {role} of {checkpoint} does not fit: {problem}. Give the recipe's {role} the same "
                    "options, or start from another model"
                )
    except WavslmError as error:
        yield from str(error).splitlines()


def _misfit(given: PartConfig, wanted: PartConfig, registry: Registry) -> str | None:
    """Return why the weights of one config cannot be those of another, or None."""
    if given == wanted:
        return None
    if type(given) is not type(wanted):
        return f"it is '{given.registered_name()}', the recipe's is '{wanted.registered_name()}'"
    import torch

    from wavslm_core.model.weights import Undrawn

    with Undrawn(), torch.device("meta"):
        shapes = [
            {key: value.shape for key, value in registry.build(config).state_dict().items()}
            for config in (given, wanted)
        ]
    if shapes[0] == shapes[1]:
        return None
    names = [name for name in type(given).model_fields if getattr(given, name) != getattr(wanted, name)]
    return ", ".join(
        f"{name} is {getattr(given, name)!r} there and {getattr(wanted, name)!r} here" for name in names
    )


def _document(checkpoint: str, registry: Registry, kind: Kind) -> dict[str, Any]:
    folder = local_folder(checkpoint, registry, kind=kind)
    if folder is not None:
        return read_document(inside_run(folder, kind))
    answered = first_format(registry, lambda config: config.known_document(checkpoint))
    if not isinstance(answered, str):
        return answered[1]
    if not is_hub_id(checkpoint):
        raise CheckpointError(unknown(checkpoint, registry, kind=kind) + answered)
    raise CheckpointError(
        f"'{checkpoint}' is neither a folder, nor in the local hub cache, nor a hub id that a plugin knows. "
        f"Check the path, or download it first: hf download {checkpoint}{registry.not_installed('format')}"
        f"{answered}{registry.failures()}"
    )
