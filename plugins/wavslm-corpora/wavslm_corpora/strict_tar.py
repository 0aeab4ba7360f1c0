"""Opens tars so that damage is an error: by itself `tarfile` takes a broken header for the end."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Literal


class _StrictTarInfo(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:  # type: ignore[override]
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {tarfile_.offset}: it is damaged or cut off") from error


def open_tar(path: Path, mode: Literal["r:", "r:*"]) -> tarfile.TarFile:
    """Open a tar; going through it raises tarfile.ReadError where it is damaged or ends without its end."""
    return tarfile.open(path, mode, tarinfo=_StrictTarInfo)
