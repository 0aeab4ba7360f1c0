"""Base of the quantizers with a compressor before their codes and a decompressor after them."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor
from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

from wavslm_core.plugin import Quantizer, QuantizerOutput, State, check_whole_chunks, valid_mask
from wavslm_vector_quantize.codebook_configs import Gradient
from wavslm_vector_quantize.config import MappedQuantizerConfig
from wavslm_vector_quantize.maps import build_map

ConfigT = TypeVar("ConfigT", bound=MappedQuantizerConfig)


@dataclass(frozen=True)
class Rounded:
    """Latents (N,K) rounded to codes."""

    codes_NK: Tensor
    """Codes; gradients pass to the latents."""
    tokens_NL: Tensor
    """The L tokens of each frame, int64."""
    losses: dict[str, Tensor] = field(default_factory=dict)


class MappedQuantizer(Quantizer[ConfigT]):
    """Compressor, rounding, decompressor. What rounding is, a subclass says; it happens in fp32."""

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        width, latent_dim = config.input_dim, config.latent_dim
        self.tokens_per_frame = config.tokens_per_frame
        self.frames_per_latent = config.compressor.factor
        self.compressor = build_map(width, latent_dim, config.compressor, features_dim=width)
        self.decompressor = build_map(latent_dim, width, config.decompressor, features_dim=width)

    @abstractmethod
    def round(self, latents_NK: Tensor) -> Rounded:
        """Round latents (N,K) of valid frames, for training; in training mode, codebooks learn from them."""

    @abstractmethod
    def tokens(self, latents_NK: Tensor) -> Tensor:
        """Return the tokens (N,L) of latents; changes nothing."""

    @abstractmethod
    def codes(self, tokens_NL: Tensor) -> Tensor:
        """Return the codes (N,K) of frames of tokens."""

    def unrounded(self, latents_NK: Tensor) -> Tensor:
        """Return what passes while codes are left out: latents in the codes' range."""
        return latents_NK

    def encode(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return self._tokens_of(self.compressor(features_BTD, lengths=lengths))

    def decode(self, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        whole = tokens_BT.shape[1] - tokens_BT.shape[1] % self.tokens_per_frame
        latent_lengths = None if lengths is None else lengths // self.tokens_per_frame
        return self.decompressor(self._codes_of(tokens_BT[:, :whole]), lengths=latent_lengths)

    def forward(
        self, features_BTD: Tensor, *, lengths: Tensor | None = None, bypass_codes: bool = False
    ) -> QuantizerOutput:
        frames = features_BTD.shape[1]
        latents_BTK = self.compressor(features_BTD, lengths=lengths).float()
        latent_lengths = None if lengths is None else -(-lengths // self.frames_per_latent)
        valid_BT = None if latent_lengths is None else valid_mask(latent_lengths, latents_BTK.shape[1])
        latents_NK = latents_BTK.flatten(0, 1) if valid_BT is None else latents_BTK[valid_BT]
        with torch.autocast(latents_NK.device.type, enabled=False):
            rounded = self.round(latents_NK)
            passed_NK = self.unrounded(latents_NK) if bypass_codes else rounded.codes_NK
        passed_BTK = _placed(passed_NK, valid_BT, latents_BTK.shape[:2])
        tokens_BTL = _placed(rounded.tokens_NL, valid_BT, latents_BTK.shape[:2])
        features_BTD = self.decompressor(passed_BTK.to(features_BTD.dtype), lengths=latent_lengths)
        return QuantizerOutput(features_BTD[:, :frames], tokens_BTL.flatten(1), rounded.losses)

    def init_encode_state(self, batch_size: int) -> State:
        return self.compressor.init_state(batch_size)

    def encode_step(self, features_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the tokens of whole latents. Raises: StreamingError on a part of one."""
        check_whole_chunks(features_BTD, self.frames_per_latent, "frames")
        latents_BTK, state = self.compressor.step(features_BTD, state)
        return self._tokens_of(latents_BTK), state

    def init_decode_state(self, batch_size: int) -> State:
        return self.decompressor.init_state(batch_size)

    def decode_step(self, tokens_BT: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the features of whole frames of tokens. Raises: StreamingError on a part of a frame."""
        check_whole_chunks(tokens_BT, self.tokens_per_frame, "tokens")
        return self.decompressor.step(self._codes_of(tokens_BT), state)

    def _tokens_of(self, latents_BTK: Tensor) -> Tensor:
        tokens_NL = self.tokens(latents_BTK.flatten(0, 1).float())
        return tokens_NL.unflatten(0, latents_BTK.shape[:2]).flatten(1)

    def _codes_of(self, tokens_BT: Tensor) -> Tensor:
        tokens_BTL = tokens_BT.unflatten(1, (-1, self.tokens_per_frame))
        codes_NK = self.codes(tokens_BTL.flatten(0, 1))
        return codes_NK.unflatten(0, tokens_BTL.shape[:2])


def _placed(rows: Tensor, valid_BT: Tensor | None, shape: torch.Size) -> Tensor:
    """Return rows (N,…) in their places (B,T,…), zeros elsewhere."""
    if valid_BT is None:
        return rows.unflatten(0, shape)
    placed = rows.new_zeros(*shape, *rows.shape[1:])
    placed[valid_BT] = rows
    return placed


def pass_gradient(latents_NK: Tensor, codes_NK: Tensor, how: Gradient = "straight_through") -> Tensor:
    """Return the codes (N,K), with gradients to the latents alone."""
    if how == "rotation" and latents_NK.requires_grad and len(latents_NK):
        rotated_NK: Tensor = rotate_to(latents_NK, codes_NK.detach())
        return rotated_NK
    return latents_NK + (codes_NK - latents_NK).detach()
