"""Token files: one utterance's tokens as `.npz`, with what is needed to decode them again."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wavslm_core.data.atomic import replacing
from wavslm_core.errors import DataError

SUFFIX = ".npz"


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
                return cls(
                    tokens_T=arrays["tokens"].astype(np.int64),
                    samples=int(arrays["samples"]),
                    sample_rate_hz=int(arrays["sample_rate_hz"]),
                    vocab_size=int(arrays["vocab_size"]),
                    codec=str(arrays["codec"]),
                )
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; check the path") from None
        except (
            ValueError,
            KeyError,
            EOFError,
            OSError,
            zipfile.BadZipFile,
            AttributeError,
            TypeError,
        ) as error:
            raise DataError(
                f"{path} is no token file, or damaged ({type(error).__name__}); "
                "give one that `wavslm encode` wrote, or encode the recording again"
            ) from None
