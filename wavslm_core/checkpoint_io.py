"""Folders that hold weights: finding, reading and writing them so that nothing is ever half-written.

A folder is `config.json` beside `model.safetensors`. Ours say `"format": "wavslm-codec"` or
`"wavslm-speech-lm"`; folders of other projects are recognised by the registered checkpoint formats.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wavslm_core.checkpoint_documents import CONFIG_FILE
from wavslm_core.data.atomic import refusal, replacing_folder
from wavslm_core.errors import CheckpointError

WEIGHTS_FILE = "model.safetensors"
CHECKPOINT_FILES = (CONFIG_FILE, WEIGHTS_FILE, "model.pt")
"""What a checkpoint folder may hold for a new one to take its place."""


def find_folder(reference: str | Path) -> Path:
    """Return the local folder for a path or a hub id such as `lucadellalib/focalcodec_50hz`.

    Hub ids are downloaded (or found in the hub's cache) by huggingface-hub.
    Raises: CheckpointError when it is neither.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        return path
    text = str(reference)
    if path.exists():
        raise CheckpointError(f"'{text}' is a file; give the folder that holds {CONFIG_FILE} and the weights")
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise CheckpointError(
            f"no folder '{text}' exists. Give a folder that holds {CONFIG_FILE}, or a hub id: owner/name"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(text, allow_patterns=["*.json", "*.safetensors", "*.bin", "*.pt", "*.yaml"])
        )
    except Exception as error:
        raise CheckpointError(
            f"'{text}' is no local folder and could not be fetched from the hub "
            f"({type(error).__name__}). Check the name and the network, or give a folder that holds it"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises: CheckpointError when it is missing, truncated or may not be read.
    """
    try:
        # safetensors says of whatever it may not open that it does not exist.
        with path.open("rb"):
            return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; the checkpoint folder is incomplete") from None
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: {refusal(path, error)}") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}). Fetch or save it again") from None


def write_folder(
    folder: Path, fill: Callable[[Path], None], *, replaces: Sequence[str] = CHECKPOINT_FILES
) -> None:
    """Let `fill` write into a new folder beside `folder`, then put it in place; all or nothing.

    A folder that is there is replaced, but only when everything in it matches one of the patterns `replaces`.
    Raises: CheckpointError when it holds anything else, or when the disk is full or not writable; what was
    there before then stays.
    """
    folder = folder.absolute()
    _refuse_foreign(folder, replaces)
    with replacing_folder(folder, error=_cannot_write) as beside:
        try:
            fill(beside)
        except SafetensorError as error:
            raise _cannot_write(folder, error) from error


def _refuse_foreign(folder: Path, replaces: Sequence[str]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; choose another name for the folder")
    foreign = [
        path.name
        for path in sorted(folder.iterdir())
        if not any(fnmatch.fnmatch(path.name, pattern) for pattern in replaces)
    ]
    if foreign:
        raise CheckpointError(
            f"{folder} holds other things ({foreign[0]}, {len(foreign)} in all), which saving would delete; "
            "choose another folder"
        )


def _cannot_write(folder: Path, error: Exception) -> CheckpointError:
    # safetensors reports a full disk as its own error type, with the system's words in the text.
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    if full:
        return CheckpointError(
            f"the disk is full: {folder} was not saved, what was there before is kept. Free some space"
        )
    return CheckpointError(
        f"{folder} cannot be written: {error}. Choose another folder or mend its permissions"
    )


def write_document(folder: Path, document: Mapping[str, Any]) -> None:
    """Write `config.json`."""
    text = json.dumps(document, indent=2) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def write_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write `model.safetensors`."""
    save_file({key: value.detach().contiguous().cpu() for key, value in state.items()}, folder / WEIGHTS_FILE)


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load a state dict strictly.

    Raises: CheckpointError that counts and names missing, unexpected and mis-shaped keys.
    """
    expected = module.state_dict()
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    shapes = [
        f"{key} is {list(state[key].shape)}, expected {list(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = [
        _listed(f"{len(keys)} {what}", keys)
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{source} does not fit {type(module).__name__} ({len(expected)} keys): {'; '.join(problems)}. "
            "Check that config.json belongs to these weights"
        )
    module.load_state_dict(dict(state))


def _listed(title: str, items: list[str], most: int = 3) -> str:
    more = f", and {len(items) - most} more" if len(items) > most else ""
    return f"{title} ({', '.join(items[:most])}{more})"


def weights_digest(module: nn.Module) -> str:
    """Return 16 hex digits that change when any weight changes."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{key} {array.dtype} {list(array.shape)}".encode())
        digest.update(array.view(torch.uint8).numpy().data if array.ndim else array.numpy().tobytes())
    return digest.hexdigest()[:16]


class SkipInitialisation(TorchFunctionMode):
    """Context in which modules leave their weights uninitialised: they are about to be loaded."""

    _SKIPPED = frozenset({torch.Tensor.uniform_, torch.Tensor.normal_})
    # Of each thread: another one may be training at the same time, and needs its initial weights.
    _depth: ClassVar[ContextVar[int]] = ContextVar("depth of skipped initialisation", default=0)

    @classmethod
    def active(cls) -> bool:
        """Return whether weights are about to be loaded, so that a part need not fetch its initial ones."""
        return cls._depth.get() > 0

    def __enter__(self) -> SkipInitialisation:
        self._depth.set(self._depth.get() + 1)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        self._depth.set(self._depth.get() - 1)
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._SKIPPED:
            return args[0]
        return func(*args, **(kwargs or {}))
