"""Stateless randomness: what is drawn at a step follows from the seed and the step, not from history.

So nothing random has to be saved, and a run that was killed sees the same dropout and crops again.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch


def seed_from(*key: int | str) -> int:
    """Return a 63-bit seed that depends on every part of the key, and on their order."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    state: Any = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def seed_torch(*key: int | str) -> None:
    """Seed torch's global generators, GPUs included, from a key."""
    torch.manual_seed(seed_from(*key))
