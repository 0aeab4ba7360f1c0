"""The quantizer `residual`: residual vector quantisation (SoundStream, 2107.03312) in one stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_vector_quantize.codebook import MovingCodebook
from wavslm_vector_quantize.codebook_configs import ResidualConfig
from wavslm_vector_quantize.gradients import pass_gradient
from wavslm_vector_quantize.quantizer import MappedQuantizer, Rounded


class Residual(MappedQuantizer[ResidualConfig]):
    """Token = level · codes_per_level + code. The loss "commitment" is the mean over levels.

    A token is read by its place: an id of another level, which a language model may draw, stands for the
    same code of the level whose turn it is.
    """

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__(config)
        self.books = [
            MovingCodebook(config.codes_per_level, config.code_dim, config.codebook)
            for _ in range(config.num_levels)
        ]
        self.levels = nn.ModuleList(self.books)

    def round(self, latents_NK: Tensor) -> Rounded:
        rest_NK, sum_NK = latents_NK, torch.zeros_like(latents_NK)
        indices: list[Tensor] = []
        distances: list[Tensor] = []
        for book in self.books:
            indices_N, codes_NK = book.fit(rest_NK)
            distances.append(F.mse_loss(rest_NK, codes_NK))
            indices.append(indices_N)
            rest_NK, sum_NK = rest_NK - codes_NK, sum_NK + codes_NK
        losses = {"commitment": torch.stack(distances).mean()}
        return Rounded(pass_gradient(latents_NK, sum_NK), self._tokens(indices), losses)

    def tokens(self, latents_NK: Tensor) -> Tensor:
        indices: list[Tensor] = []
        for book in self.books:
            indices.append(book.lookup(latents_NK))
            latents_NK = latents_NK - book.codes(indices[-1])
        return self._tokens(indices)

    def codes(self, tokens_NL: Tensor) -> Tensor:
        indices_NL = tokens_NL % self.config.codes_per_level
        parts = [book.codes(indices_NL[:, level]) for level, book in enumerate(self.books)]
        return torch.stack(parts).sum(dim=0)

    def _tokens(self, indices: list[Tensor]) -> Tensor:
        indices_NL = torch.stack(indices, dim=-1)
        first_ids_L = torch.arange(len(indices), device=indices_NL.device) * self.config.codes_per_level
        return indices_NL + first_ids_L
