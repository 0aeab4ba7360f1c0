"""The quantizers `lfq` (Yu et al., 2310.05737) and `bsq` (Zhao et al., 2406.07548): tokens are signs."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from vector_quantize_pytorch import LFQ

from wavslm_vector_quantize.quantizer import MappedQuantizer, Rounded
from wavslm_vector_quantize.scalar_configs import BsqConfig, LfqConfig


class _Binary(MappedQuantizer[Any]):
    """Losses: "entropy" (nats; per latent minus over the batch, over all codes) and "commitment"."""

    spherical: bool

    def __init__(self, config: LfqConfig | BsqConfig) -> None:
        super().__init__(config)
        self.signs: Any = LFQ(
            codebook_size=config.codebook_size, commitment_loss_weight=1.0, spherical=self.spherical
        )

    def round(self, latents_NK: Tensor) -> Rounded:
        # The library has losses in training mode only; nothing else here depends on its mode.
        self.signs.train()
        (codes_1NK, tokens_1N, _), losses = self.signs(
            latents_NK[None],
            inv_temperature=self.config.entropy_inverse_temperature,
            return_loss_breakdown=True,
        )
        entropy = losses.per_sample_entropy - losses.batch_entropy
        return Rounded(
            codes_1NK[0], tokens_1N[0, :, None].long(), {"entropy": entropy, "commitment": losses.commitment}
        )

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
