"""What names a cache folder: whatever is made by other code, or another synthesiser, has another name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from wavslm_tiny_speech.espeak import Espeak


def generator_digest(sources: Iterable[str]) -> str:
    """Return 12 hex digits that change with the code in these files and the synthesiser's version."""
    digest = hashlib.sha256()
    for name in sources:
        digest.update((Path(__file__).parent / name).read_bytes())
    with Espeak() as espeak:
        digest.update(espeak.version().encode())
    return digest.hexdigest()[:12]
