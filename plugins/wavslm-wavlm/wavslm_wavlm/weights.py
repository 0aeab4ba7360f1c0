"""WavLM checkpoints, whoever saved them, as one config and one state dict under this package's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from wavslm_core.plugin import (
    CONFIG_FILE,
    PICKLE_FILE,
    WEIGHTS_FILE,
    CheckpointError,
    PartConfig,
    encoder_parts,
    find_folder,
    joined,
    read_folder,
    read_torch,
    tensors_in,
)
from wavslm_wavlm import hub_format, original_format
from wavslm_wavlm.config import WavLMConfig

OLD_PROJECTION = re.compile(r"(.*\.)?q_proj\.(weight|bias)")


@dataclass(frozen=True)
class WavLMCheckpoint:
    """A complete WavLM: its config (full context, all layers) and its weights under our keys."""

    config: WavLMConfig
    state: dict[str, Tensor]
    source: str


def fuse_qkv(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state with separate `q_proj`, `k_proj`, `v_proj` joined, in that order, into `qkv_proj`.

    Raises: CheckpointError when one of three is missing.
    """
    fused = dict(state)
    for key in state:
        match = OLD_PROJECTION.fullmatch(key)
        if match is None:
            continue
        prefix, kind = match[1] or "", match[2]
        names = [f"{prefix}{letter}_proj.{kind}" for letter in "qkv"]
        missing = [name for name in names if name not in fused]
        if missing:
            raise CheckpointError(
                f"the weights hold {key} but not {', '.join(missing)}; fetch the checkpoint again"
            )
        fused[f"{prefix}qkv_proj.{kind}"] = joined(
            [fused.pop(name) for name in names], source=", ".join(names)
        )
    return fused


def read_wavlm(reference: str | Path) -> WavLMCheckpoint:
    """Read a folder in the transformers format, an original `.pt` file (or its folder), a hub id, or a folder
    of an encoder in wavslm's own format.

    Raises: CheckpointError when it is none of these or damaged.
    """
    path = Path(reference).expanduser()
    if not path.is_file():
        folder = find_folder(reference)
        ours = encoder_parts(folder)
        if ours is not None:
            return _of_ours(*ours, source=str(reference))
        originals = sorted(folder.glob("*.pt"))
        if (folder / CONFIG_FILE).exists() or len(originals) != 1:
            config = hub_format.config_from(folder)
            return _renamed(config, hub_format.KEYS, _hub_weights(folder), str(reference))
        path = originals[0]
    content = read_torch(path)
    if not (isinstance(content, dict) and isinstance(content.get("cfg"), dict) and "model" in content):
        raise CheckpointError(
            f"{path} is not an original WavLM checkpoint: it must hold a dict with `cfg` and `model`"
        )
    config = original_format.config_from(content["cfg"], source=str(path))
    state = tensors_in(content["model"], source=str(path))
    return _renamed(config, original_format.KEYS, state, str(reference))


def _of_ours(config: PartConfig, state: dict[str, Tensor], *, source: str) -> WavLMCheckpoint:
    if not isinstance(config, WavLMConfig):
        raise CheckpointError(
            f"{source} holds the encoder '{config.registered_name()}', a 'wavlm' is needed; give another one"
        )
    return WavLMCheckpoint(config, state, source)


def _hub_weights(folder: Path) -> dict[str, Tensor]:
    state = read_folder(folder, WEIGHTS_FILE, PICKLE_FILE)
    # A model with a task head keeps its WavLM under this prefix and the head beside it.
    inner = {
        key.removeprefix(hub_format.PREFIX): value
        for key, value in state.items()
        if key.startswith(hub_format.PREFIX)
    }
    return inner or state


def _renamed(
    config: WavLMConfig, keys: Mapping[str, str], state: Mapping[str, Tensor], source: str
) -> WavLMCheckpoint:
    """Rename by the table's patterns; a key that no pattern knows stays, to be reported as unexpected."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, template in keys.items():
            match = re.fullmatch(pattern, key)
            if match is not None:
                if template:
                    renamed[match.expand(template)] = value
                break
        else:
            renamed[key] = value
    return WavLMCheckpoint(config, fuse_qkv(_without_weight_norm(renamed)), source)


def _without_weight_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Multiply out the positional convolution's weight, kept as directions and a length per kernel place."""
    prefix = "encoder.positional_embedding.conv.weight"
    length, direction = state.get(f"{prefix}_g"), state.get(f"{prefix}_v")
    if length is not None and direction is not None and _fit(length, direction):
        del state[f"{prefix}_g"], state[f"{prefix}_v"]
        state[prefix] = direction * (length / direction.norm(dim=(0, 1), keepdim=True))
    return state


def _fit(length: Tensor, direction: Tensor) -> bool:
    """Tell whether there is one length for each kernel place; what does not fit is reported as unexpected."""
    floats = length.is_floating_point() and direction.is_floating_point()
    return floats and direction.ndim == 3 and length.shape == (1, 1, direction.shape[2])
