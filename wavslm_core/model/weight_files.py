"""Files of weights, whoever made them: safetensors or `torch.save` archives of tensors, whole or in shards.

Nothing in them is ever executed, and nothing is made of a file that is larger than this machine's memory, of
tensors that stand for more numbers than the file holds, or of names that lead out of the folder.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from typing_extensions import TypedDict

from wavslm_core.errors import CheckpointError, summary
from wavslm_core.machine.devices import memory_bytes
from wavslm_core.machine.files import refusal
from wavslm_core.machine.json_files import read_json
from wavslm_core.machine.regular_files import size_of_regular

WEIGHTS_FILE = "model.safetensors"
PICKLE_FILE = "pytorch_model.bin"
"""What older releases of transformers call theirs."""
INDEX = ".index.json"
"""Behind the name of a file that is in shards: the index says which of them holds what."""
OTHERS_REFUSED = "Fetch it again; other pickles are refused"


def read_folder(folder: Path, *names: str) -> dict[str, Tensor]:
    """Return the weights of a folder: of the first file of these names that it holds, whole or in shards.

    Raises: CheckpointError when it holds none of them, or one is truncated, damaged or too large.
    """
    for name in names:
        if (folder / name).exists():
            return read_weights(folder / name)
        if (folder / f"{name}{INDEX}").exists():
            return _read_shards(folder, f"{name}{INDEX}")
    listed = f"no {names[0]}" if len(names) == 1 else f"neither {' nor '.join(names)}"
    raise CheckpointError(f"{folder} holds {listed}, whole or in shards; the checkpoint folder is incomplete")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or a `torch.save` archive, by the suffix.

    Raises: CheckpointError when it is missing, truncated, damaged or too large.
    """
    if path.suffix != ".safetensors":
        return tensors_in(read_torch(path), source=str(path))
    check_size(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}). Fetch or save it again") from None


def read_torch(path: Path) -> Any:
    """Return the plain values and tensors of a `torch.save` archive. Raises: CheckpointError."""
    check_size(path)
    try:
        _refuse_packed(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The restricted unpickler meets damage with whatever comes of it, from KeyError to RecursionError.
        # Its own words recommend to unpickle the file without restriction.
        reason = "its pickle is no plain one" if isinstance(error, UnpicklingError) else summary(error)[:200]
        raise CheckpointError(
            f"{path} is truncated, damaged or holds more than tensors ({reason}). {OTHERS_REFUSED}"
        ) from None


def _refuse_packed(path: Path) -> None:
    """Raises: ValueError for an archive that is larger unpacked than it is: torch packs nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("it is packed, which torch never does")


def tensors_in(content: Any, *, source: str) -> dict[str, Tensor]:
    """Return content as named tensors, each with numbers of its own. Raises: CheckpointError."""
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{source} holds a {type(content).__name__} instead of named tensors; give another checkpoint"
        )
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{source} holds {type(value).__name__} '{str(key)[:100]}' among its weights, which is no "
                "named tensor; give another checkpoint"
            )
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(
                f"{source}: {key} is no plain tensor, or stands for more numbers than the file holds; give "
                "another checkpoint"
            )
    return dict(content)


def joined(tensors: Sequence[Tensor], *, source: str) -> Tensor:
    """Return tensors one after the other, as one weight. Raises: CheckpointError when their shapes differ."""
    shapes = {(value.dtype, *value.shape[1:]) for value in tensors}
    if len(shapes) > 1 or any(value.ndim == 0 for value in tensors):
        raise CheckpointError(
            f"{source} are {', '.join(str(list(value.shape)) for value in tensors)}, which do not belong "
            "together; fetch the checkpoint again"
        )
    return torch.cat(list(tensors))


def check_size(*paths: Path) -> None:
    """Refuse what is missing, no regular file, or together larger than the memory of machine or container.

    Raises: CheckpointError.
    """
    total = 0
    for path in paths:
        try:
            total += size_of_regular(path)
        except FileNotFoundError:
            raise CheckpointError(f"{path} does not exist; the checkpoint folder is incomplete") from None
        except PermissionError as error:
            raise CheckpointError(f"{path} cannot be read: {refusal(path, error)}") from None
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}. Fetch it again") from None
    memory = memory_bytes(torch.device("cpu"))
    if memory is not None and total > memory:
        raise CheckpointError(
            f"{paths[0]} is {total / 1e9:.1f} GB large, this machine has {memory / 1e9:.1f} GB of memory. "
            "Fetch it again if it should be smaller"
        )


class _Index(TypedDict):
    """What an index holds: weight → name of the file that it is in."""

    weight_map: dict[str, str]


def _read_shards(folder: Path, index: str) -> dict[str, Tensor]:
    places = read_json(folder / index, _Index, remedy="Fetch it again", error=CheckpointError)["weight_map"]
    suffix = Path(index.removesuffix(INDEX)).suffix
    names = sorted(set(places.values()))
    for name in names:
        if Path(name).name != name or Path(name).suffix != suffix:
            raise CheckpointError(
                f"{folder / index} names '{name[:100]}', which is no {suffix} file beside it. Fetch it again"
            )
    check_size(*(folder / name for name in names))
    found: dict[str, Tensor] = {}
    for name in names:
        held = read_weights(folder / name)
        wanted = [key for key, place in places.items() if place == name]
        missing = [key for key in wanted if key not in held]
        if missing:
            raise CheckpointError(
                f"{folder / name} lacks {len(missing)} of its weights ({missing[0]}). Fetch it again"
            )
        found.update({key: held[key] for key in wanted})
    return found
