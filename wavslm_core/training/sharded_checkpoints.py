"""Checkpoints to which every process adds what it holds: folders of torch.distributed.checkpoint.

A folder is filled beside its place and renamed when all are done. `about.pt` is written last; it holds the
plain values and a checksum of every other file, so that a truncated or damaged one is refused by name. Any
number of processes can read a folder, whatever number wrote it: what each reads is what it needs.
"""

from __future__ import annotations

import pickle
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from wavslm_core.data.atomic import replacing_folder
from wavslm_core.errors import CheckpointError
from wavslm_core.processes import Processes
from wavslm_core.training.checkpoint_files import cannot_write, read_checkpoint, write_checkpoint

ABOUT_FILE = "about.pt"
Moments = dict[int, dict[str, Any]]


def write_sharded(folder: Path, content: dict[str, Any], *, processes: Processes) -> None:
    """Write modules and optimizer of `content` in shards, all else in one file; all processes or none.

    Raises: CheckpointError.
    """
    with ExitStack() as stack:
        beside = folder
        if processes.rank == 0:
            beside = stack.enter_context(replacing_folder(folder, error=cannot_write))
        beside = processes.broadcast(beside)
        tensors = _flat(content["modules"], content["optimizer"]["state"])
        writer = FileSystemWriter(beside, overwrite=True)
        try:
            save(tensors, storage_writer=writer, process_group=processes.talk)
        except CheckpointException as error:
            raise cannot_write(folder, next(iter(error.failures.values()))[0]) from error
        own = {path.name: _checksum(path) for path in beside.glob(f"__{processes.rank}_*")}
        files = {name: sums for part in processes.gather(own) for name, sums in part.items()}
        if processes.rank == 0:
            files[".metadata"] = _checksum(beside / ".metadata")
            plain = {key: value for key, value in content.items() if key != "modules"}
            plain["optimizer"] = {"param_groups": content["optimizer"]["param_groups"]}
            write_checkpoint(beside / ABOUT_FILE, plain | {"files": files})
    processes.barrier()


def read_about(folder: Path, *, processes: Processes) -> dict[str, Any]:
    """Return all but the tensors, with `folder` added, once this process has checked its share of the files.

    Raises: CheckpointError when one is missing, truncated or damaged.
    """
    about = read_checkpoint(folder / ABOUT_FILE)
    files = about.pop("files")
    for name in sorted(files)[processes.rank :: processes.world_size]:
        try:
            found = _checksum(folder / name)
        except OSError as error:
            raise CheckpointError(f"{folder / name} cannot be read: {error.strerror}") from None
        if found != tuple(files[name]):
            kind = "truncated" if found[0] < files[name][0] else "damaged"
            raise CheckpointError(f"{folder / name} is {kind}: its checksum is wrong")
    return about | {"folder": str(folder)}


def read_sharded(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the modules and the optimizer of a folder as `read_checkpoint` would, whole, on the CPU.

    Raises: CheckpointError.
    """
    reader = FileSystemReader(about["folder"])
    tensors = {key: torch.empty(size, dtype=dtype) for key, (size, dtype) in _sizes(reader).items()}
    _load(tensors, reader)
    modules: dict[str, dict[str, Tensor]] = {}
    moments: Moments = {}
    for key, value in tensors.items():
        kind, owner, name = key.split("/", 2)
        if kind == "modules":
            modules.setdefault(owner, {})[name] = value
        else:
            moments.setdefault(int(owner), {})[name] = value
    return {"modules": modules, "optimizer": about["optimizer"] | {"state": moments}}


def load_shards(
    about: Mapping[str, Any],
    states: Mapping[str, dict[str, Tensor]],
    parameters: Sequence[nn.Parameter],
    *,
    processes: Processes,
) -> tuple[dict[str, dict[str, Tensor]], Moments]:
    """Fill `states` in place with what this process holds of them; return them and the optimizer's state.

    `parameters` in the optimizer's order. Raises: CheckpointError when names or shapes differ.
    """
    reader = FileSystemReader(about["folder"])
    moments: Moments = {}
    sizes = _sizes(reader)
    for key, (size, dtype) in sizes.items():
        kind, owner, name = key.split("/", 2)
        if kind == "optimizer":
            like = parameters[int(owner)]
            value = torch.zeros_like(like) if size == like.shape else torch.zeros(size, dtype=dtype)
            moments.setdefault(int(owner), {})[name] = value.detach()
    tensors = _flat(states, moments)
    wrong = [
        key
        for key in {*sizes, *tensors}
        if key not in sizes or key not in tensors or sizes[key][0] != tensors[key].shape
    ]
    if wrong:
        raise CheckpointError(
            f"{about['folder']} does not fit what is trained: {len(wrong)} tensors are missing, unexpected "
            f"or of another shape, such as {min(wrong)}. Delete that folder to start this stage again"
        )
    _load(tensors, reader, process_group=processes.talk)
    return dict(states), moments


def _flat(modules: Mapping[str, Mapping[str, Tensor]], moments: Mapping[int, Mapping[str, Any]]) -> Any:
    flat = {f"modules/{name}/{key}": value for name, state in modules.items() for key, value in state.items()}
    return flat | {
        f"optimizer/{index}/{key}": value for index, entry in moments.items() for key, value in entry.items()
    }


def _sizes(reader: FileSystemReader) -> dict[str, tuple[torch.Size, torch.dtype]]:
    try:
        metadata = reader.read_metadata().state_dict_metadata
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{reader.path} cannot be read: {error}") from None
    return {
        key: (entry.size, entry.properties.dtype)
        for key, entry in metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def _load(tensors: dict[str, Tensor], reader: FileSystemReader, process_group: Any = None) -> None:
    try:
        with warnings.catch_warnings():
            # It tells one process that it is alone.
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            load(tensors, storage_reader=reader, process_group=process_group, no_dist=process_group is None)
    except CheckpointException as error:
        reason = next(iter(error.failures.values()))[0]
        raise CheckpointError(f"{reader.path} cannot be read: {reason}") from error


def _checksum(path: Path) -> tuple[int, int]:
    """Return a file's size and CRC-32."""
    size, checksum = 0, 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            size += len(block)
            checksum = zlib.crc32(block, checksum)
    return size, checksum
