"""Quantizers that round each number by itself.

`fsq`: finite scalar quantisation (Mentzer et al., 2309.15505). `lfq` (Yu et al., 2310.05737) and `bsq` (Zhao
et al., 2406.07548): tokens are signs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from vector_quantize_pytorch import FSQ, LFQ

from wavslm_vector_quantize.quantizer import MappedQuantizer, Rounded, pass_gradient
from wavslm_vector_quantize.scalar_configs import BsqConfig, FsqConfig, LfqConfig
from wavslm_vector_quantize.sign_entropy import sign_entropy


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


class _Binary(MappedQuantizer[Any]):
    """Losses: "entropy" (nats; per latent minus of the batch) and "commitment" (mean squared difference)."""

    spherical: bool

    def __init__(self, config: LfqConfig | BsqConfig) -> None:
        super().__init__(config)
        self.signs: Any = LFQ(codebook_size=config.codebook_size, spherical=self.spherical)
        # The library lists all codes in advance (84 MB for the most there can be), which nothing here needs.
        self.signs.codebook = self.signs.codebook[:0].clone()

    def round(self, latents_NK: Tensor) -> Rounded:
        tokens_N1 = self.tokens(latents_NK)
        codes_NK = self.codes(tokens_N1)
        latents_NK = self.unrounded(latents_NK)
        magnitude = self.config.latent_dim**-0.5 if self.spherical else 1.0
        sharpness = self.config.entropy_inverse_temperature * magnitude
        losses = {
            "entropy": sign_entropy(latents_NK, sharpness=sharpness),
            "commitment": F.mse_loss(latents_NK, codes_NK),
        }
        return Rounded(pass_gradient(latents_NK, codes_NK), tokens_N1, losses)

    def tokens(self, latents_NK: Tensor) -> Tensor:
        tokens_N1: Tensor = ((latents_NK > 0) * self.signs.mask).sum(dim=-1, keepdim=True)
        return tokens_N1

    def codes(self, tokens_NL: Tensor) -> Tensor:
        codes_NK: Tensor = self.signs.indices_to_codes(tokens_NL[:, 0], project_out=False)
        return codes_NK


class Lfq(_Binary):
    """Codes are ±1."""

    spherical = False


class Bsq(_Binary):
    """Latents and codes have norm one."""

    spherical = True

    def unrounded(self, latents_NK: Tensor) -> Tensor:
        return F.normalize(latents_NK, dim=-1)
