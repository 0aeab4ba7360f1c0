"""The quantizer `vq`: a codebook of moving averages (van den Oord et al., 1711.00937, appendix A.1)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from wavslm_vector_quantize.codebook import MovingCodebook
from wavslm_vector_quantize.codebook_configs import VqConfig
from wavslm_vector_quantize.gradients import pass_gradient
from wavslm_vector_quantize.quantizer import MappedQuantizer, Rounded


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
