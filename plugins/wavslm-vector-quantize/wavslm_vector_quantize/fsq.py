"""The quantizer `fsq`: finite scalar quantisation (Mentzer et al., 2309.15505)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vector_quantize_pytorch import FSQ

from wavslm_vector_quantize.quantizer import MappedQuantizer, Rounded
from wavslm_vector_quantize.scalar_configs import FsqConfig


class Fsq(MappedQuantizer[FsqConfig]):
    """Codes form a grid, so there is nothing to learn about them and no loss of their own."""

    def __init__(self, config: FsqConfig) -> None:
        super().__init__(config)
        # With indices the library would list all codes in advance, which nothing here needs.
        self.grid: Any = FSQ(config.levels, return_indices=False)

    def round(self, latents_NK: Tensor) -> Rounded:
        codes_NK: Tensor = self.grid.quantize(latents_NK)
        return Rounded(codes_NK, self._tokens(codes_NK))

    def tokens(self, latents_NK: Tensor) -> Tensor:
        return self._tokens(self.grid.quantize(latents_NK))

    def codes(self, tokens_NL: Tensor) -> Tensor:
        codes_NK: Tensor = self.grid.indices_to_codes(tokens_NL[:, 0])
        return codes_NK

    def unrounded(self, latents_NK: Tensor) -> Tensor:
        """Return latents squashed into the grid's range as `round` does, but not rounded."""
        levels_K: Tensor = self.grid._levels
        # A little wider than the outermost levels, which tanh could not reach otherwise.
        half_range_K = (levels_K - 1) * 1.001 / 2
        # Even numbers of levels have none at zero: the grid lies half a level lower.
        offset_K = (levels_K % 2 == 0) / 2
        shift_K = torch.atanh(offset_K / half_range_K)
        return (torch.tanh(latents_NK + shift_K) * half_range_K - offset_K) / (levels_K // 2)

    def _tokens(self, codes_NK: Tensor) -> Tensor:
        tokens_N: Tensor = self.grid.codes_to_indices(codes_NK)
        return tokens_N[:, None].long()
