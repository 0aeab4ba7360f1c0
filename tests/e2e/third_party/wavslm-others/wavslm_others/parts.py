"""The implementations."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import (
    Quantizer,
    QuantizerOutput,
    Sampler,
    SamplingContext,
    State,
    valid_mask,
    zero_padding,
)
from wavslm_others import NearestConfig


class Nearest(Quantizer[NearestConfig]):
    def __init__(self, config: NearestConfig) -> None:
        super().__init__(config)
        self.compress = nn.Linear(2 * config.input_dim, config.dim)
        self.codes = nn.Parameter(torch.randn(config.codes, config.dim))
        self.decompress = nn.Linear(config.dim, 2 * config.input_dim)

    def latents(self, features_BTD: Tensor, lengths: Tensor | None) -> Tensor:
        features_BTD = zero_padding(features_BTD, lengths)
        features_BTD = F.pad(features_BTD, (0, 0, 0, features_BTD.shape[1] % 2))
        return self.compress(features_BTD.unflatten(1, (-1, 2)).flatten(2))

    def nearest(self, latents_BTK: Tensor) -> Tensor:
        # Distances round away in bf16, and with them which code is the nearest.
        with torch.autocast(latents_BTK.device.type, enabled=False):
            return torch.cdist(latents_BTK.float(), self.codes[None]).argmin(-1)

    def features(self, codes_BTK: Tensor) -> Tensor:
        return self.decompress(codes_BTK).unflatten(2, (2, -1)).flatten(1, 2)

    def encode(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return self.nearest(self.latents(features_BTD, lengths))

    def decode(self, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return self.features(F.embedding(tokens_BT, self.codes))

    def forward(
        self, features_BTD: Tensor, *, lengths: Tensor | None = None, bypass_codes: bool = False
    ) -> QuantizerOutput:
        latents_BTK = self.latents(features_BTD, lengths)
        tokens_BT = self.nearest(latents_BTK)
        codes_BTK = F.embedding(tokens_BT, self.codes)
        passed_BTK = latents_BTK if bypass_codes else latents_BTK + (codes_BTK - latents_BTK).detach()
        distance_BT = (codes_BTK - latents_BTK).square().sum(-1)
        if lengths is not None:
            distance_BT = distance_BT[valid_mask(self.token_lengths(lengths), distance_BT.shape[1])]
        features = self.features(passed_BTK)[:, : features_BTD.shape[1]]
        return QuantizerOutput(features, tokens_BT, {"commitment": distance_BT.mean()})

    def init_encode_state(self, batch_size: int) -> State:
        return ()

    def encode_step(self, features_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        return self.encode(features_BTD), state

    def init_decode_state(self, batch_size: int) -> State:
        return ()

    def decode_step(self, tokens_BT: Tensor, state: State) -> tuple[Tensor, State]:
        return self.decode(tokens_BT), state


class NoRepeat(Sampler):
    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        last_N1 = context.history_NH
        dropped_NV = torch.zeros_like(logits_NV, dtype=torch.bool)
        dropped_NV.scatter_(1, last_N1.clamp(min=0), last_N1 >= 0)
        # Where no other token is left, the last one has to come again.
        others_N1 = (logits_NV.isfinite() & ~dropped_NV).any(dim=-1, keepdim=True)
        return logits_NV.masked_fill(dropped_NV & others_N1, -torch.inf)
