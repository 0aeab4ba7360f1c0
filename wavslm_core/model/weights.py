"""Folders that hold weights: reading and writing them so that nothing is ever half-written.

A folder is `config.json` beside `model.safetensors`. Ours say `"format": "wavslm-codec"` or
`"wavslm-speech-lm"`; folders of other projects are recognised by the registered checkpoint formats.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from wavslm_core.errors import CheckpointError, PluginError, WavslmError, summary
from wavslm_core.machine.files import replacing_folder
from wavslm_core.model.documents import BESIDE_FILE, CONFIG_FILE
from wavslm_core.model.weight_files import WEIGHTS_FILE

CHECKPOINT_FILES = (CONFIG_FILE, BESIDE_FILE, WEIGHTS_FILE, "model.pt")
"""What a checkpoint folder may hold for a new one to take its place."""
SPARE_PIECES, PARTS_A_WEIGHT = 1000, 10
"""Weights and parts that a module may have beyond what its file holds: some share theirs or have none."""
SPARE_NUMBERS = 1 << 26
"""Numbers that its buffers, such as windows and masks, may have beyond those of its weights."""
ModuleT = TypeVar("ModuleT", bound=nn.Module)


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


def write_document(folder: Path, document: Mapping[str, Any], *, name: str = CONFIG_FILE) -> None:
    """Write `config.json`, or a document of another name."""
    text = json.dumps(document, indent=2) + "\n"
    (folder / name).write_text(text, encoding="utf-8")


def write_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write `model.safetensors`."""
    save_file({key: value.detach().contiguous().cpu() for key, value in state.items()}, folder / WEIGHTS_FILE)


def rounded(state: Mapping[str, Tensor], dtype: torch.dtype, *, source: str) -> dict[str, Tensor]:
    """Return a state dict with its floats as another type of float; integers stay.

    Raises: CheckpointError naming weights that it has no numbers for.
    """
    cast = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    beyond = [key for key, value in cast.items() if not _is_finite(value)]
    if beyond:
        raise CheckpointError(
            f"{source} has weights that are beyond what {_name(dtype)} holds: "
            f"{_listed(f'{len(beyond)} weights', beyond)}. Save it as bfloat16 or float32"
        )
    return cast


def load_part(build: Callable[[], ModuleT], state: Mapping[str, Tensor], *, source: str) -> ModuleT:
    """Build a part, for whose weights `state` is, and load them.

    It is built on the meta device first, so that nothing is made for options that ask for more than the
    weights hold. Raises: CheckpointError as `load_state`, and for such options; PluginError for a part that
    does not build there.
    """
    with SkipInitialisation():
        with torch.device("meta"), _no_more_than(state, source=source):
            try:
                planned = build()
            except Exception as error:
                if isinstance(error, WavslmError) or not re.search(r"\bmeta\b", str(error)):
                    raise
                raise PluginError(
                    f"{source} cannot be loaded: it does not build on the meta device, where tensors have no "
                    f"numbers ({summary(error)}). What a part computes while it is built, a schedule "
                    "say, must come from plain Python or tensors with device='cpu'"
                ) from error
        _check_state(planned, state, source=source)
        part = build()
    load_state(part, state, source=source)
    return part


@contextmanager
def _no_more_than(state: Mapping[str, Tensor], *, source: str) -> Iterator[None]:
    """Refuse a module, while it is built, that has far more weights, buffers or parts than there are weights.

    Raises: CheckpointError.
    """
    left = {"weights": SPARE_PIECES + len(state), "parts": SPARE_PIECES + PARTS_A_WEIGHT * len(state)}
    left["numbers in buffers"] = SPARE_NUMBERS + sum(value.numel() for value in state.values())
    builder = threading.get_ident()

    def take(what: str, count: int) -> None:
        if threading.get_ident() == builder:
            left[what] -= count
            if left[what] < 0:
                raise CheckpointError(
                    f"{source} does not fit its weights: its options ask for far more {what} than those "
                    f"{len(state)} tensors can be. Check that config.json belongs to these weights"
                )

    hooks = (
        register_module_parameter_registration_hook(lambda module, name, value: take("weights", 1)),
        register_module_module_registration_hook(lambda module, name, value: take("parts", 1)),
        register_module_buffer_registration_hook(
            lambda module, name, value: take("numbers in buffers", 0 if value is None else value.numel())
        ),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load a state dict strictly.

    Raises: CheckpointError that counts and names missing, unexpected and mis-shaped keys, and those whose
    numbers are of another kind, NaN or infinite.
    """
    _check_state(module, state, source=source)
    broken = [key for key, value in state.items() if not _is_finite(value)]
    if broken:
        raise CheckpointError(
            f"{source} holds NaN or infinite numbers: {_listed(f'{len(broken)} weights', broken)}. It was "
            "damaged, or its training diverged: fetch it again, or take an earlier one"
        )
    module.load_state_dict(dict(state))


def _check_state(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    expected = module.state_dict()
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    both = {key: value for key, value in expected.items() if key in state}
    shapes = [
        f"{key} is {list(state[key].shape)}, expected {list(value.shape)}"
        for key, value in both.items()
        if state[key].shape != value.shape
    ]
    kinds = [
        f"{key} is {_name(state[key].dtype)}, expected {_name(value.dtype)}"
        for key, value in both.items()
        if _kind(state[key].dtype) != _kind(value.dtype)
    ]
    problems = [
        _listed(f"{len(keys)} {what}", keys)
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shapes),
            ("of another kind", kinds),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{source} does not fit {type(module).__name__} ({len(expected)} keys): {'; '.join(problems)}. "
            "Check that config.json belongs to these weights"
        )


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_floating_point or dtype.is_complex:
        return "complex" if dtype.is_complex else "float"
    return "bool" if dtype == torch.bool else "int"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def own_part(value: Tensor) -> Tensor:
    """Return what this process has of a divided tensor; of any other it has all."""
    own: Tensor = value.to_local() if hasattr(value, "to_local") else value
    return own


def _is_finite(value: Tensor) -> bool:
    """Return whether every number is finite: of a divided tensor, those that this process has."""
    own = own_part(value)
    if not own.is_floating_point() or not own.numel() or own.is_meta:
        return True
    # One pass without a copy; what is that small has no kernel of its own.
    low, high = (own.float() if own.element_size() == 1 else own).aminmax()
    return bool(torch.isfinite(low) & torch.isfinite(high))


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


class WeightVersions:
    """Tells whether the weights of modules are what they were: none written, replaced or moved since.

    Holds on to the memory that it saw, so that no other weights take its place.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self._seen = [(key, value.detach(), _version(value)) for key, value in _state(*modules)]

    def hold(self, *modules: nn.Module) -> bool:
        """Return whether nothing changed; False for weights whose writes torch does not count."""
        state = _state(*modules)
        return len(state) == len(self._seen) and all(
            key == seen_key
            and value.data_ptr() == seen.data_ptr()
            and value.dtype == seen.dtype
            and _version(value) == version is not None
            for (key, value), (seen_key, seen, version) in zip(state, self._seen, strict=True)
        )


def _state(*modules: nn.Module) -> list[tuple[str, Tensor]]:
    return [item for module in modules for item in module.state_dict(keep_vars=True).items()]


def _version(value: Tensor) -> int | None:
    return None if value.is_inference() else value._version


class Undrawn(TorchFunctionMode):
    """Context in which modules leave the weights that they would draw as they are.

    On the meta device a draw fills nothing and imports torch's compiler, which takes longer than torch does.
    """

    _SKIPPED = frozenset(
        {torch.Tensor.uniform_, torch.Tensor.normal_}
        | {nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_}
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._SKIPPED:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


class SkipInitialisation(Undrawn):
    """Context in which modules leave their weights uninitialised: they are about to be loaded."""

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
