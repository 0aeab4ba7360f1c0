"""One file of a checkpoint: a `torch.save` archive of plain values and tensors.

It loads with `weights_only=True`, so that nothing in it is ever executed. Its zip container carries a
checksum per tensor, which is verified.
"""

from __future__ import annotations

import errno
import zipfile
from pathlib import Path
from typing import Any

import torch

from wavslm_core.errors import CheckpointError
from wavslm_core.machine.files import replacing
from wavslm_core.model.weight_files import read_torch


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (nested dicts and lists of tensors and plain values) to `path`; all or nothing.

    Raises: CheckpointError when the disk is full or not writable; the old file, if any, stays.
    """
    with replacing(path, error=cannot_write) as beside, beside.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            raise cannot_write(path, error) from error


def cannot_write(path: Path, error: BaseException) -> CheckpointError:
    """Return the error for a checkpoint that could not be written, with what to do about it."""
    # torch's archive writer may wrap the system's error in one of its own.
    causes = [error, error.__context__, error.__cause__]
    if any(getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for cause in causes):
        return CheckpointError(
            f"the disk is full: {path} was not saved, earlier checkpoints are kept. "
            "Free some space and run the same command again"
        )
    return CheckpointError(
        f"{path} cannot be written: {error}. Earlier checkpoints are kept. "
        "Mend the folder and run the same command again"
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Raises: CheckpointError when it is missing, truncated or damaged."""
    content = read_torch(path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, RuntimeError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({str(error).splitlines()[0]})") from None
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of {damaged} is wrong")
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content
