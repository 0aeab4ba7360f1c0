"""What is made once and kept: a folder in a cache, whole or absent, made by one process at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from wavslm_core.plugin import one_at_a_time, replacing_folder
from wavslm_tiny_speech.espeak import Espeak

T = TypeVar("T")


def kept(folder: Path, opened: Callable[[Path], T | None], make: Callable[[Path], None]) -> T:
    """Return what a folder holds; where it is absent or damaged (`opened` gives None) it is made first."""
    found = opened(folder)
    if found is None:
        with one_at_a_time(folder.with_name(f".{folder.name}.lock")):
            # Another process may have made it while this one waited.
            if opened(folder) is None:
                with replacing_folder(folder) as beside:
                    make(beside)
            found = opened(folder)
        assert found is not None
    return found


def generator_digest(sources: Iterable[str]) -> str:
    """Return 12 hex digits that change with the code in these files and the synthesiser's version."""
    digest = hashlib.sha256()
    for name in sources:
        digest.update((Path(__file__).parent / name).read_bytes())
    with Espeak() as espeak:
        digest.update(espeak.version().encode())
    return digest.hexdigest()[:12]
