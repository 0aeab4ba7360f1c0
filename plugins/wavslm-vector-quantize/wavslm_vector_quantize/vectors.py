"""Quantizers with a codebook of vectors.

`vq`: a codebook of moving averages (van den Oord et al., 1711.00937, appendix A.1). `sim_vq`: fixed random
codes under one learnt linear map (Zhu et al., 2411.02038). `residual`: residual vector quantisation
(SoundStream, 2107.03312) in one stream.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vector_quantize_pytorch import SimVQ

from wavslm_core.plugin import PackLinear
from wavslm_vector_quantize.codebook import MovingCodebook, nearest
from wavslm_vector_quantize.codebook_configs import ResidualConfig, SimVqConfig, VqConfig
from wavslm_vector_quantize.quantizer import MappedQuantizer, Rounded, pass_gradient


class Vq(MappedQuantizer[VqConfig]):
    """Its loss "commitment" keeps latents near their codes: the mean squared difference."""

    def __init__(self, config: VqConfig) -> None:
        super().__init__(config)
        self.codebook = MovingCodebook(
            config.codebook_size, config.code_dim, config.codebook, unit_norm=config.distance == "cosine"
        )

    def round(self, latents_NK: Tensor) -> Rounded:
        latents_NK = self.unrounded(latents_NK)
        indices_N, codes_NK = self.codebook.fit(latents_NK)
        losses = {"commitment": F.mse_loss(latents_NK, codes_NK)}
        return Rounded(pass_gradient(latents_NK, codes_NK, self.config.gradient), indices_N[:, None], losses)

    def tokens(self, latents_NK: Tensor) -> Tensor:
        return self.codebook.lookup(self.unrounded(latents_NK))[:, None]

    def codes(self, tokens_NL: Tensor) -> Tensor:
        return self.codebook.codes(tokens_NL[:, 0])

    def unrounded(self, latents_NK: Tensor) -> Tensor:
        return F.normalize(latents_NK, dim=-1) if self.codebook.unit_norm else latents_NK


class SimVq(MappedQuantizer[SimVqConfig]):
    """Losses: "codebook" draws codes to latents, "commitment" latents to codes; mean squared differences."""

    def __init__(self, config: SimVqConfig) -> None:
        super().__init__(config)
        self.sim: Any = SimVQ(config.code_dim, config.codebook_size)
        self.packed_codes_CK: Tensor | None = None

    def pack_weights(self, pack: PackLinear) -> None:
        """Keep the codes as they are: packing the map that makes them would change which is nearest."""
        self.packed_codes_CK = self._all_codes().detach()

    def round(self, latents_NK: Tensor) -> Rounded:
        indices_N = nearest(latents_NK, self._all_codes())
        codes_NK: Tensor = self.sim.code_transform(F.embedding(indices_N, self.sim.frozen_codebook))
        losses = {
            "codebook": F.mse_loss(codes_NK, latents_NK.detach()),
            "commitment": F.mse_loss(latents_NK, codes_NK.detach()),
        }
        return Rounded(pass_gradient(latents_NK, codes_NK, self.config.gradient), indices_N[:, None], losses)

    def tokens(self, latents_NK: Tensor) -> Tensor:
        return nearest(latents_NK, self._all_codes())[:, None]

    def codes(self, tokens_NL: Tensor) -> Tensor:
        return F.embedding(tokens_NL[:, 0], self._all_codes())

    def _all_codes(self) -> Tensor:
        if self.packed_codes_CK is not None:
            return self.packed_codes_CK
        with torch.no_grad(), torch.autocast(self.sim.frozen_codebook.device.type, enabled=False):
            codes_CK: Tensor = self.sim.codebook
        return codes_CK


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
