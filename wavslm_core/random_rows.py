"""Random numbers for generation: one stream per row, so that a row's tokens never depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class RowRandom:
    """Uniform numbers for a batch; row r draws from its own generator, seeded with `seeds[r]`.

    Numbers are drawn on the CPU, so a seed gives the same continuation on every device.
    """

    def __init__(self, seeds: Sequence[int], *, device: torch.device) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._device = device

    def uniform(self, count: int) -> Tensor:
        """Return the next `count` numbers of each row, (B, count) float32 in [0, 1)."""
        rows = [torch.rand(count, generator=generator) for generator in self._generators]
        return torch.stack(rows).to(self._device)


def row_seeds(seed: int | Sequence[int], rows: int) -> list[int]:
    """Return one seed per row: `seed`, `seed + 1`, …, or the given ones.

    Raises: ValueError when the number of given seeds is not the number of rows.
    """
    if isinstance(seed, int):
        return [seed + row for row in range(rows)]
    if len(seed) != rows:
        raise ValueError(f"{len(seed)} seeds were given for {rows} rows; give one per row or a single one")
    return list(seed)
