"""Millions of short texts in two files: the texts, one a line, and where each starts.

They are memory-mapped and decoded one by one: opening costs nothing, whatever their number.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from wavslm_core.machine.npy_files import map_column
from wavslm_core.machine.regular_files import size_of_regular


@dataclass(frozen=True)
class Strings(Sequence[str]):
    """Texts that are read one by one from a memory map."""

    text: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    """Where each line starts, and the end of the last."""

    @classmethod
    def open(cls, folder: Path, name: str) -> Strings:
        """Map `<name>.txt` and `<name>_offsets.npy`. Raises: OSError and ValueError when they are damaged."""
        offsets = map_column(folder / f"{name}_offsets.npy", "<i8")
        size = size_of_regular(folder / f"{name}.txt")
        if not len(offsets) or int(offsets[-1]) != size:
            raise ValueError(f"{name}.txt has {size} bytes, its last line ends elsewhere")
        text = np.memmap(folder / f"{name}.txt", np.uint8, mode="r") if size else np.zeros(0, np.uint8)
        return cls(np.asarray(text), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        line = self.text[self.offsets[position] : self.offsets[position + 1]].tobytes()
        # Damage shows as another name, which nothing has.
        return line.decode("utf-8", "replace").removesuffix("\n")


class StringsWriter:
    """Writes what `Strings.open` maps; memory grows by 8 bytes a text."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._stream: BinaryIO = (folder / f"{name}.txt").open("wb")
        self._offsets = array("q", [0])

    def append(self, text: str) -> None:
        line = f"{text}\n".encode()
        self._stream.write(line)
        self._offsets.append(self._offsets[-1] + len(line))

    def close(self) -> None:
        self._stream.close()
        np.save(self._folder / f"{self._name}_offsets.npy", np.frombuffer(self._offsets, np.int64))
