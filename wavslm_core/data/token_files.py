"""Token files: one utterance's tokens as `.npz`, with what is needed to decode them again."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wavslm_core.errors import DataError
from wavslm_core.machine.files import replacing
from wavslm_core.machine.npy_files import read_header
from wavslm_core.machine.regular_files import open_regular

SUFFIX = ".npz"
MOST_BYTES = 1 << 28
"""Of an array, unpacked: tokens of a hundred days."""
_DAMAGES = (ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What zipfile raises for a file that is something else, or not whole."""


@dataclass(frozen=True)
class TokenFile:
    """Tokens (T,) int64 of one recording."""

    tokens_T: npt.NDArray[np.int64]
    samples: int
    """Length of the recording in samples at `sample_rate_hz`."""
    sample_rate_hz: int
    """The codec's input rate."""
    vocab_size: int
    codec: str
    """The codec as it was named when encoding."""

    def write(self, path: Path) -> None:
        """Write atomically. Raises: DataError."""
        small = np.uint16 if self.vocab_size <= 2**16 else np.uint32
        with replacing(path) as beside, beside.open("wb") as file:
            np.savez_compressed(
                file,
                tokens=self.tokens_T.astype(small),
                samples=self.samples,
                sample_rate_hz=self.sample_rate_hz,
                vocab_size=self.vocab_size,
                codec=self.codec,
            )

    @classmethod
    def read(cls, path: Path) -> TokenFile:
        """Read a file. Raises: DataError when it is missing, damaged, or no token file."""
        try:
            with open_regular(path) as file, zipfile.ZipFile(file) as archive:
                tokens_T = _array(archive, "tokens", "iu", ndim=1)
                held = cls(
                    tokens_T=tokens_T.astype(np.int64),
                    samples=int(_array(archive, "samples", "iu", ndim=0)),
                    sample_rate_hz=int(_array(archive, "sample_rate_hz", "iu", ndim=0)),
                    vocab_size=int(_array(archive, "vocab_size", "iu", ndim=0)),
                    codec=str(_array(archive, "codec", "U", ndim=0)),
                )
            held._check()
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; check the path") from None
        except (*_DAMAGES, OSError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"{path} is no token file, or damaged ({reason}); "
                "give one that `wavslm encode` wrote, or encode the recording again"
            ) from None
        return held

    def _check(self) -> None:
        """Raises: ValueError for what `write` never writes."""
        if not self.tokens_T.size:
            raise ValueError("it holds no tokens")
        if min(self.samples, self.sample_rate_hz) <= 0:
            raise ValueError(f"it tells of {self.samples} samples at {self.sample_rate_hz} Hz")
        low, high = int(self.tokens_T.min()), int(self.tokens_T.max())
        if low < 0 or high >= self.vocab_size:
            raise ValueError(f"it holds tokens {low}…{high} of a codec with {self.vocab_size} codes")


def _array(archive: zipfile.ZipFile, name: str, kinds: str, *, ndim: int) -> npt.NDArray[Any]:
    """Return an array of an archive whose type is of one of the `kinds`.

    Its header is believed only where it agrees with the size of the archive's entry, so that a few bytes
    never stand for more memory than a long recording takes. Raises: what `_DAMAGES` lists.
    """
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"it holds no {name}")
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its {name} are packed in another way than numpy packs")
    if entry.file_size > MOST_BYTES:
        raise ValueError(f"its {name} take {entry.file_size} bytes, {MOST_BYTES} are allowed")
    with archive.open(entry) as stream:
        shape, dtype = read_header(stream, size=entry.file_size)
        if len(shape) != ndim or dtype.kind not in kinds:
            raise ValueError(f"its {name} have shape {shape} and type {dtype}")
        return np.frombuffer(stream.read(), dtype).reshape(shape)
