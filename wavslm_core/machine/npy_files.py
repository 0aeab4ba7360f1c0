"""The `.npy` format, as far as we write it; a header is believed only where it agrees with the file's size.

numpy's own reader takes a header for Python, and makes room for any shape that it names.
"""

import os
import re
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from wavslm_core.machine.regular_files import open_regular

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '([<>|][biufcSU]\d{1,9})', 'fortran_order': False, "
    rb"'shape': \((|\d{1,18},|\d{1,18}(?:, \d{1,18}){1,7})\), \}\s*"
)


def map_column(path: Path, kind: str) -> npt.NDArray[Any]:
    """Map the numbers (N,) of a file. Raises: OSError; ValueError when it holds anything else."""
    with open_regular(path) as file:
        shape, dtype = read_header(file, size=os.fstat(file.fileno()).st_size)
        offset = file.tell()
    if len(shape) != 1 or dtype != np.dtype(kind):
        raise ValueError(f"{path.name} holds {dtype} {shape}")
    # An empty file cannot be mapped. As a plain array: slicing a `memmap` takes ten times as long.
    return np.asarray(np.memmap(path, dtype, "r", offset, shape)) if shape[0] else np.zeros(0, dtype)


def read_header(stream: IO[bytes], *, size: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of the array that a stream of `size` bytes holds; its numbers come next.

    Raises: ValueError when it is no whole `.npy` file of numbers or text.
    """
    start = stream.read(len(_MAGIC) + 2)
    header = _HEADER.fullmatch(stream.read(int.from_bytes(start[-2:], "little")))
    if not start.startswith(_MAGIC) or header is None:
        raise ValueError("it is no array of numbers as numpy saves them")
    shape = tuple(int(length) for length in header[2].split(b",") if length)
    try:
        dtype = np.dtype(header[1].decode())
    except TypeError:
        raise ValueError("it holds numbers of an unknown type") from None
    if size - stream.tell() != prod(shape) * dtype.itemsize:
        raise ValueError(f"it is cut off, or not {shape} {dtype} as it says")
    return shape, dtype
