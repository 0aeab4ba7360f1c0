"""The quantizer `k_means`: units as in HuBERT (2106.07447) and GSLM (2102.01192), the classical baseline."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wavslm_core.interfaces import Quantizer, QuantizerOutput, State
from wavslm_core.lengths import valid_mask
from wavslm_vector_quantize.codebook import MovingCodebook
from wavslm_vector_quantize.codebook_configs import KMeansConfig
from wavslm_vector_quantize.gradients import pass_gradient


class KMeans(Quantizer[KMeansConfig]):
    """Centroids of the encoder's features. Features out are centroids.

    Classical units describe an encoder that was there before them: they send it no gradient, unless the
    recipe asks for it by `gradient` or by a weight on the loss "commitment". With `bypass_codes` features
    pass as they are, gradients included, while the centroids already follow them.
    """

    def __init__(self, config: KMeansConfig) -> None:
        super().__init__(config)
        self.codebook = MovingCodebook(config.codebook_size, config.input_dim, config.codebook)

    def encode(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return self.codebook.lookup(features_BTD.flatten(0, 1)).unflatten(0, features_BTD.shape[:2])

    def decode(self, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return self.codebook.codes(tokens_BT)

    def forward(
        self, features_BTD: Tensor, *, lengths: Tensor | None = None, bypass_codes: bool = False
    ) -> QuantizerOutput:
        shape = features_BTD.shape[:2]
        valid_BT = (
            features_BTD.new_ones(shape, dtype=torch.bool)
            if lengths is None
            else valid_mask(lengths, shape[1])
        )
        rows_ND = features_BTD[valid_BT].float()
        indices_N, centroids_ND = self.codebook.fit(rows_ND)
        tokens_BT = indices_N.new_zeros(shape)
        tokens_BT[valid_BT] = indices_N
        losses = {"commitment": F.mse_loss(rows_ND, centroids_ND)}
        if bypass_codes:
            return QuantizerOutput(features_BTD, tokens_BT, losses)
        if self.config.gradient == "straight_through":
            centroids_ND = pass_gradient(rows_ND, centroids_ND)
        rebuilt_BTD = centroids_ND.new_zeros(features_BTD.shape)
        rebuilt_BTD[valid_BT] = centroids_ND
        return QuantizerOutput(rebuilt_BTD.to(features_BTD.dtype), tokens_BT, losses)

    def init_encode_state(self, batch_size: int) -> State:
        return ()

    def encode_step(self, features_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        return self.encode(features_BTD), state

    def init_decode_state(self, batch_size: int) -> State:
        return ()

    def decode_step(self, tokens_BT: Tensor, state: State) -> tuple[Tensor, State]:
        return self.decode(tokens_BT), state
