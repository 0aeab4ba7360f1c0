"""The quantizer `k_means`: units as in HuBERT (2106.07447) and GSLM (2102.01192), the classical baseline."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from wavslm_core.plugin import Quantizer, QuantizerOutput, State, valid_mask
from wavslm_vector_quantize.codebook import MovingCodebook
from wavslm_vector_quantize.codebook_configs import KMeansConfig
from wavslm_vector_quantize.quantizer import pass_gradient


class KMeans(Quantizer[KMeansConfig]):
    """Centroids of the encoder's features. Features out are centroids.

    Classical units describe an encoder that was there before them: they send it no gradient, unless the
    recipe asks for it by `gradient` or by a weight on the loss "commitment". With `bypass_codes` features
    pass as they are, gradients included, while the centroids already follow them.

    With `deduplicate`, a token is unit · max_run + run − 1. What the language model reads of a run longer
    than one frame is its centroid and, as strong as that, a wave of its own for each length.
    """

    waves_RD: Tensor

    def __init__(self, config: KMeansConfig) -> None:
        super().__init__(config)
        self.ids_per_unit = config.ids_per_unit
        self.codebook = MovingCodebook(config.codebook_size, config.input_dim, config.codebook)
        self.register_buffer("waves_RD", run_waves(config.ids_per_unit, config.input_dim), persistent=False)

    def encode(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        units_N = self.codebook.lookup(features_BTD.flatten(0, 1))
        return (units_N * self.ids_per_unit).unflatten(0, features_BTD.shape[:2])

    def decode(self, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        if self.ids_per_unit == 1:
            return self.codebook.codes(tokens_BT)
        centroids_BTD = self.codebook.codes(tokens_BT // self.ids_per_unit)
        waves_BTD = F.embedding(tokens_BT % self.ids_per_unit, self.waves_RD)
        return centroids_BTD + waves_BTD * centroids_BTD.square().mean(dim=-1, keepdim=True).sqrt()

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
        tokens_BT[valid_BT] = indices_N * self.ids_per_unit
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


def run_waves(runs: int, dim: int) -> Tensor:
    """Return cosines of mean square one, as orthogonal as `dim` allows, (R,D); none for runs of one frame."""
    places_D = (torch.arange(dim) + 0.5) * (math.pi / dim)
    waves_RD = torch.cos(torch.arange(runs)[:, None] * places_D) * math.sqrt(2)
    waves_RD[0] = 0
    return waves_RD
