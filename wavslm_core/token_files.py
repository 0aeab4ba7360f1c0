"""Token files: one utterance's tokens as `.npz`, with what is needed to decode them again."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wavslm_core.data.atomic import replacing
from wavslm_core.errors import DataError

SUFFIX = ".npz"
_DAMAGES = (
    ValueError,
    KeyError,
    EOFError,
    AttributeError,
    TypeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and zipfile raise for a file that is something else, or not whole."""


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
            with np.load(path, allow_pickle=False) as arrays:
                tokens_T = arrays["tokens"]
                held = cls(
                    tokens_T=tokens_T.astype(np.int64),
                    samples=int(arrays["samples"]),
                    sample_rate_hz=int(arrays["sample_rate_hz"]),
                    vocab_size=int(arrays["vocab_size"]),
                    codec=str(arrays["codec"]),
                )
            held._check(tokens_T.dtype)
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; check the path") from None
        except (*_DAMAGES, OSError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"{path} is no token file, or damaged ({reason}); "
                "give one that `wavslm encode` wrote, or encode the recording again"
            ) from None
        return held

    def _check(self, dtype: np.dtype[Any]) -> None:
        """Raises: ValueError for what `write` never writes."""
        if self.tokens_T.ndim != 1 or dtype.kind not in "iu" or not self.tokens_T.size:
            raise ValueError(f"its tokens have shape {self.tokens_T.shape} and type {dtype}")
        if min(self.samples, self.sample_rate_hz) <= 0:
            raise ValueError(f"it tells of {self.samples} samples at {self.sample_rate_hz} Hz")
        low, high = int(self.tokens_T.min()), int(self.tokens_T.max())
        if low < 0 or high >= self.vocab_size:
            raise ValueError(f"it holds tokens {low}…{high} of a codec with {self.vocab_size} codes")
