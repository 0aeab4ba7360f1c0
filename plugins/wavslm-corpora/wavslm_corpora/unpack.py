"""Unpacks one subset's folder out of an archive; it is in place only when it is whole."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path

from wavslm_core.plugin import DataError, summary, unwritable
from wavslm_corpora.strict_tar import open_tar


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
