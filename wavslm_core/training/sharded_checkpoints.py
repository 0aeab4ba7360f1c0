"""Checkpoints to which every process adds what it holds: folders of safetensors files with an index in JSON.

    shard-00000.safetensors …  what each process holds of weights and optimizer: of divided tensors its rows
    about.pt                   the plain values
    index.json                 where the rows of each tensor are, and a checksum of every shard; written last

A folder is filled beside its place and renamed when all are done. What the index says is checked before
anything is read, so that a truncated or damaged folder is refused by name. Any number of processes can read
one, whatever number wrote it: each reads the rows that it needs.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeInt
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from wavslm_core.errors import CheckpointError
from wavslm_core.machine.files import replacing_folder, write_json
from wavslm_core.machine.json_files import read_json
from wavslm_core.machine.processes import Processes
from wavslm_core.machine.regular_files import open_regular
from wavslm_core.model.weights import own_part
from wavslm_core.training.checkpoint_files import cannot_write, read_checkpoint, write_checkpoint

ABOUT_FILE, INDEX_FILE = "about.pt", "index.json"
REMEDY = "Delete that folder to go on from the checkpoint before it"
LARGEST_INDEX = 1 << 30
Moments = dict[int, dict[str, Any]]
ShardName = Annotated[str, Field(pattern=r"^shard-\d{5}\.safetensors$")]
Floats = Literal["float64", "float32", "float16", "bfloat16"]
Dtype = Floats | Literal["int64", "int32", "int16", "int8", "uint8", "bool"]
Checksum = tuple[NonNegativeInt, NonNegativeInt]
"""Size in bytes, and CRC-32."""


@dataclass(frozen=True)
class _Piece:
    """Rows of a tensor that one file holds; a tensor without dimensions is one row."""

    file: ShardName
    rows: NonNegativeInt


@dataclass(frozen=True)
class _Entry:
    """A tensor, as its pieces one below the other make it."""

    shape: tuple[NonNegativeInt, ...]
    dtype: Dtype
    pieces: tuple[_Piece, ...]

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def torch_dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def piece_shape(self, rows: int) -> list[int]:
        return [rows, *self.shape[1:]] if self.shape else []


@dataclass(frozen=True)
class _Index:
    """What `index.json` holds; names are `modules/<module>/<key>` and `optimizer/<number>/<key>`."""

    format: Literal[1]
    files: dict[ShardName, Checksum]
    tensors: dict[Annotated[str, Field(pattern=r"^(modules/[^/]+|optimizer/\d{1,9})/.+$")], _Entry]


def write_sharded(folder: Path, content: dict[str, Any], *, processes: Processes) -> None:
    """Write modules and optimizer of `content` in shards, all else in one file; all processes or none.

    Raises: CheckpointError.
    """
    with ExitStack() as stack:
        beside = folder
        if processes.rank == 0:
            beside = stack.enter_context(replacing_folder(folder, error=cannot_write))
        beside = processes.broadcast(beside)
        own: dict[str, Tensor] = {}
        whole: dict[str, _Entry] = {}
        for key, value in _flat(content["modules"], content["optimizer"]["state"]).items():
            local = _local(value)
            if local is not None or processes.rank == 0:
                own[key] = (value if local is None else local).detach().cpu().contiguous().clone()
            whole[key] = _Entry(tuple(value.shape), str(value.dtype).removeprefix("torch."), ())  # type: ignore[arg-type]
        name = f"shard-{processes.rank:05d}.safetensors"
        checksum, problem = _write_shard(beside / name, own)
        rows = {key: value.shape[0] if value.ndim else 1 for key, value in own.items()}
        written = processes.gather((name, checksum, rows, problem))
        for *_, problem in written:
            if problem is not None:
                raise cannot_write(folder, OSError(*problem))
        if processes.rank == 0:
            plain = {key: value for key, value in content.items() if key != "modules"}
            plain["optimizer"] = {"param_groups": content["optimizer"]["param_groups"]}
            write_checkpoint(beside / ABOUT_FILE, plain)
            pieces = {
                key: tuple(_Piece(file, held[key]) for file, _, held, _ in written if held.get(key))
                for key in whole
            }
            tensors = {key: _Entry(entry.shape, entry.dtype, pieces[key]) for key, entry in whole.items()}
            index = _Index(1, {file: checksum for file, checksum, *_ in written}, tensors)
            write_json(beside / INDEX_FILE, asdict(index))
    processes.barrier()


def _write_shard(path: Path, tensors: dict[str, Tensor]) -> tuple[Checksum, tuple[int, str] | None]:
    """Write a file to disk; return its checksum and what kept it from being written."""
    try:
        save_file(tensors, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return _checksum(path), None
    except (SafetensorError, OSError) as error:
        # safetensors reports a full disk as its own error type, with the system's words in the text.
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        return (0, 0), (errno.ENOSPC if full else errno.EIO, str(error))


def read_about(folder: Path, *, processes: Processes) -> dict[str, Any]:
    """Return all but the tensors, with `folder` added, once this process has checked its share of the files.

    Raises: CheckpointError when one is missing, truncated or damaged.
    """
    files = _read_index(folder).files
    about = read_checkpoint(folder / ABOUT_FILE)
    for name in sorted(files)[processes.rank :: processes.world_size]:
        try:
            found = _checksum(folder / name)
        except OSError as error:
            raise CheckpointError(f"{folder / name} cannot be read: {error.strerror}") from None
        if found != files[name]:
            kind = "truncated" if found[0] < files[name][0] else "damaged"
            raise CheckpointError(f"{folder / name} is {kind}: its checksum is wrong")
    return about | {"folder": str(folder)}


def read_sharded(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the modules and the optimizer of a folder as `read_checkpoint` would, whole, on the CPU.

    Raises: CheckpointError.
    """
    folder = Path(about["folder"])
    modules: dict[str, dict[str, Tensor]] = {}
    moments: Moments = {}
    with _Shards(folder) as shards:
        for key, entry in shards.tensors.items():
            value = torch.empty(entry.shape, dtype=entry.torch_dtype)
            shards.fill(key, value, first=0)
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
    moments: Moments = {}
    with _Shards(Path(about["folder"])) as shards:
        for key, entry in shards.tensors.items():
            kind, owner, name = key.split("/", 2)
            if kind == "optimizer" and int(owner) < len(parameters):
                like = parameters[int(owner)]
                same = entry.shape == tuple(like.shape)
                value = torch.zeros_like(like) if same else torch.zeros(entry.shape, dtype=entry.torch_dtype)
                moments.setdefault(int(owner), {})[name] = value.detach()
        tensors = _flat(states, moments)
        wrong = [
            key
            for key in {*shards.tensors, *tensors}
            if key not in shards.tensors
            or key not in tensors
            or shards.tensors[key].shape != tuple(tensors[key].shape)
        ]
        if wrong:
            raise CheckpointError(
                f"{about['folder']} does not fit what is trained: {len(wrong)} tensors are missing, "
                f"unexpected or of another shape, such as {min(wrong)}. Delete that folder to start "
                "this stage again"
            )
        locals_ = {key: local for key, value in tensors.items() if (local := _local(value)) is not None}
        before = processes.gather({key: local.shape[0] for key, local in locals_.items()})[: processes.rank]
        for key, value in tensors.items():
            first = sum(rows[key] for rows in before) if key in locals_ else 0
            shards.fill(key, locals_.get(key, value), first=first)
    return dict(states), moments


class _Shards:
    """Context that reads rows of tensors from the files of a folder. Raises (everywhere): CheckpointError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = _read_index(folder)
        self.tensors = index.tensors
        self._names = sorted(index.files)
        self._files: dict[str, Any] = {}
        self._open = ExitStack()

    def __enter__(self) -> _Shards:
        for name in self._names:
            try:
                self._files[name] = self._open.enter_context(safe_open(self.folder / name, "pt"))
            except (SafetensorError, OSError) as error:
                self._open.close()
                raise self._damaged(name, error) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def fill(self, key: str, target: Tensor, *, first: int) -> None:
        """Copy rows of a tensor, from row `first` on, into one that has as many as are wanted."""
        entry = self.tensors[key]
        last = first + (target.shape[0] if entry.shape else 1)
        for piece, start in self._placed(entry):
            begin, end = max(first, start), min(last, start + piece.rows)
            if begin >= end:
                continue
            try:
                held = self._files[piece.file].get_slice(key)
                if held.get_shape() != entry.piece_shape(piece.rows):
                    raise ValueError(f"{key} is {held.get_shape()} there")
                found = (
                    held[begin - start : end - start]
                    if entry.shape
                    else self._files[piece.file].get_tensor(key)
                )
            except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
                raise self._damaged(piece.file, error) from None
            with torch.no_grad():
                (target[begin - first : end - first] if entry.shape else target).copy_(found)

    def _placed(self, entry: _Entry) -> Iterator[tuple[_Piece, int]]:
        start = 0
        for piece in entry.pieces:
            yield piece, start
            start += piece.rows

    def _damaged(self, name: str, error: Exception) -> CheckpointError:
        return CheckpointError(f"{self.folder / name} cannot be read: {error}. {REMEDY}")


def _read_index(folder: Path) -> _Index:
    """Return what a folder says it holds. Raises: CheckpointError when that cannot be."""
    path = folder / INDEX_FILE
    try:
        index = read_json(path, _Index, remedy=REMEDY, error=CheckpointError, most_bytes=LARGEST_INDEX)
    except FileNotFoundError:
        why = "the folder is incomplete"
        if (folder / ".metadata").exists():
            why = "an earlier release wrote the folder, with a pickled index, which is not read any more"
        raise CheckpointError(f"{path} does not exist: {why}. {REMEDY}") from None
    wrong = [
        key
        for key, entry in index.tensors.items()
        if sum(piece.rows for piece in entry.pieces) != entry.rows
        or any(piece.file not in index.files for piece in entry.pieces)
    ]
    if wrong:
        raise CheckpointError(f"{path} is damaged: it does not say where all of {wrong[0]} is. {REMEDY}")
    told = sum(prod(entry.shape) * entry.torch_dtype.itemsize for entry in index.tensors.values())
    if told > sum(size for size, _ in index.files.values()):
        raise CheckpointError(f"{path} is damaged: it tells of more than its files can hold. {REMEDY}")
    return index


def _flat(
    modules: Mapping[str, Mapping[str, Tensor]], moments: Mapping[int, Mapping[str, Any]]
) -> dict[str, Tensor]:
    flat = {f"modules/{name}/{key}": value for name, state in modules.items() for key, value in state.items()}
    return flat | {
        f"optimizer/{index}/{key}": value for index, entry in moments.items() for key, value in entry.items()
    }


def _local(value: Tensor) -> Tensor | None:
    """Return the rows that this process holds of a divided tensor; None when every process has it whole."""
    if not isinstance(value, DTensor):
        return None
    if tuple(value.placements) != (Shard(0),):
        raise NotImplementedError(f"tensors that are divided as {value.placements} cannot be saved")
    return own_part(value.detach())


def _checksum(path: Path) -> Checksum:
    """Return a file's size and CRC-32."""
    size, checksum = 0, 0
    with open_regular(path) as file:
        while block := file.read(1 << 22):
            size += len(block)
            checksum = zlib.crc32(block, checksum)
    return size, checksum
