"""The quantizer `sim_vq`: fixed random codes under one learnt linear map (Zhu et al., 2411.02038)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from vector_quantize_pytorch import SimVQ

from wavslm_core.plugin import PackLinear
from wavslm_vector_quantize.codebook_configs import SimVqConfig
from wavslm_vector_quantize.gradients import pass_gradient
from wavslm_vector_quantize.nearest import nearest
from wavslm_vector_quantize.quantizer import MappedQuantizer, Rounded


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
