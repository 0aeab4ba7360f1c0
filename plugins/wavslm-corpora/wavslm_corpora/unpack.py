"""Opens tars so that damage is an error (by itself `tarfile` takes a broken header for the end), and unpacks
one subset's folder: it is in place only when it is whole.
"""

import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Literal

from wavslm_core.plugin import DataError, summary, unwritable


def unpack(archive: Path, subset: str, *, root: Path) -> None:
    """Put the folder `subset` that `archive` holds, however deep, into `root`.

    Nothing is written outside of it: members that would are refused. Raises: DataError.
    """
    beside = root / f".unpacking-{subset}"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        with open_tar(archive, "r:*") as tar:
            tar.extractall(beside, filter="data")
        found = sorted(path for path in beside.glob("**/") if path.name == subset)
        if not found:
            raise DataError(f"{archive} holds no folder '{subset}'; delete it, and check `data.url`")
        found[0].rename(root / subset)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is None:
            # gzip's own complaint about a damaged file.
            raise _damaged(archive, error) from error
        raise unwritable(root / subset, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(f"{archive} cannot be unpacked: {summary(error)}. Delete it and run again")


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
