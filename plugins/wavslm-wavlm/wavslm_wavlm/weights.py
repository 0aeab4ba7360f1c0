"""WavLM checkpoints, whoever saved them, as one config and one state dict under this package's names."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from wavslm_core import checkpoint_io
from wavslm_core.checkpoint_documents import CONFIG_FILE
from wavslm_core.errors import CheckpointError
from wavslm_wavlm import hub_format, original_format
from wavslm_wavlm.config import WavLMConfig
from wavslm_wavlm.encoder import WavLM

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
        fused[f"{prefix}qkv_proj.{kind}"] = torch.cat([fused.pop(name) for name in names])
    return fused


def read_wavlm(reference: str | Path) -> WavLMCheckpoint:
    """Read a folder in the transformers format, an original `.pt` file (or its folder), or a hub id.

    Raises: CheckpointError when it is none of these or damaged.
    """
    path = Path(reference).expanduser()
    if not path.is_file():
        folder = checkpoint_io.find_folder(reference)
        originals = sorted(folder.glob("*.pt"))
        if (folder / CONFIG_FILE).exists() or len(originals) != 1:
            config = hub_format.config_from(folder)
            return _renamed(config, hub_format.KEYS, _hub_weights(folder), str(reference))
        path = originals[0]
    content = _load_pickle(path)
    if not (isinstance(content, dict) and {"cfg", "model"} <= content.keys()):
        raise CheckpointError(
            f"{path} is not an original WavLM checkpoint: it must hold a dict with `cfg` and `model`"
        )
    config = original_format.config_from(content["cfg"], source=str(path))
    return _renamed(config, original_format.KEYS, content["model"], str(reference))


def load_wavlm(reference: str | Path, *, device: torch.device | str | None = None) -> WavLM:
    """Load a complete WavLM in full context, as a teacher or a feature extractor. Raises: CheckpointError."""
    checkpoint = read_wavlm(reference)
    with checkpoint_io.SkipInitialisation():
        model = WavLM(checkpoint.config)
    checkpoint_io.load_state(model, checkpoint.state, source=checkpoint.source)
    return model.to(device or "cpu").eval()


def _hub_weights(folder: Path) -> dict[str, Tensor]:
    if (folder / checkpoint_io.WEIGHTS_FILE).exists():
        state = checkpoint_io.read_weights(folder / checkpoint_io.WEIGHTS_FILE)
    elif (folder / hub_format.PICKLE_FILE).exists():
        state = _load_pickle(folder / hub_format.PICKLE_FILE)
    else:
        raise CheckpointError(
            f"{folder} holds neither {checkpoint_io.WEIGHTS_FILE} nor {hub_format.PICKLE_FILE}; "
            "the checkpoint folder is incomplete"
        )
    # A model with a task head keeps its WavLM under this prefix and the head beside it.
    inner = {
        key.removeprefix(hub_format.PREFIX): value
        for key, value in state.items()
        if key.startswith(hub_format.PREFIX)
    }
    return inner or state


def _load_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, BadZipFile, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read as plain tensors ({reason}). Fetch it again; other pickles are refused"
        ) from None


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
    length, direction = state.pop(f"{prefix}_g", None), state.pop(f"{prefix}_v", None)
    if length is not None and direction is not None:
        state[prefix] = direction * (length / direction.norm(dim=(0, 1), keepdim=True))
    return state
