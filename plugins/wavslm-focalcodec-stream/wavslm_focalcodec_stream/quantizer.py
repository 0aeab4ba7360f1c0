"""The quantizer `focalcodec_stream`: compressor, binary spherical codes, decompressor with refiner."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from wavslm_core.plugin import Quantizer, QuantizerOutput, State, check_whole_chunks, valid_mask
from wavslm_focalcodec_stream.bsq import (
    codes_from_tokens,
    commitment_loss,
    entropy_loss,
    straight_through,
    tokens_from_latents,
)
from wavslm_focalcodec_stream.compressor import Compressor, Decompressor
from wavslm_focalcodec_stream.config import FocalCodecStreamConfig


class FocalCodecStream(Quantizer[FocalCodecStreamConfig]):
    """FocalCodec (arXiv 2502.04465) and FocalCodec-Stream (2509.16195) between encoder and decoder."""

    def __init__(self, config: FocalCodecStreamConfig) -> None:
        super().__init__(config)
        facts = config.facts()
        bits, causal = config.code_bits, config.causal
        self.frames_per_token = facts.frames_per_token
        self.compressor = Compressor(config.input_dim, bits, config.compressor, causal=causal)
        self.decompressor = Decompressor(bits, facts.output_dim, config.decompressor, causal=causal)

    def latents(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return latents (B, ⌈T / frames_per_token⌉, bits) of norm one."""
        return F.normalize(self.compressor(features_BTD, lengths=lengths), dim=-1)

    def codes(self, tokens_BT: Tensor) -> Tensor:
        """Return codes (B,T,bits) with entries ±1/√bits."""
        dtype = next(self.parameters()).dtype
        return codes_from_tokens(tokens_BT, bits=self.config.code_bits, dtype=dtype)

    def encode(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        # The sign of a latent is the sign of the compressor's output, so normalising it changes no token.
        return tokens_from_latents(self.compressor(features_BTD, lengths=lengths))

    def decode(self, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return self.decompressor(self.codes(tokens_BT), lengths=lengths)

    def forward(
        self, features_BTD: Tensor, *, lengths: Tensor | None = None, bypass_codes: bool = False
    ) -> QuantizerOutput:
        """Return features (B,T,D), tokens and the losses "entropy" (nats) and "commitment".

        With `bypass_codes` the decompressor reads the normalised latents themselves.
        """
        latents_BTK = self.latents(features_BTD, lengths=lengths)
        token_lengths_B = None if lengths is None else self.token_lengths(lengths)
        codes_BTK = latents_BTK if bypass_codes else straight_through(latents_BTK)
        reconstructed_BTD = self.decompressor(codes_BTK, lengths=token_lengths_B)
        valid_NK = latents_BTK.flatten(0, 1)
        if token_lengths_B is not None:
            valid_NK = latents_BTK[valid_mask(token_lengths_B, latents_BTK.shape[1])]
        losses = {
            "entropy": entropy_loss(
                valid_NK,
                inverse_temperature=self.config.entropy_inverse_temperature,
                group_bits=self.config.entropy_group_bits,
            ),
            "commitment": commitment_loss(valid_NK),
        }
        return QuantizerOutput(
            reconstructed_BTD[:, : features_BTD.shape[1]], tokens_from_latents(latents_BTK), losses
        )

    def init_encode_state(self, batch_size: int) -> State:
        if not self.config.causal:
            raise self.no_streaming()
        return self.compressor.init_state(batch_size)

    def encode_step(self, features_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        """Return tokens (B, n) of n·frames_per_token frames. Raises: StreamingError on a part of a token."""
        if not self.config.causal:
            raise self.no_streaming()
        check_whole_chunks(features_BTD, self.frames_per_token, "frames")
        latents_BTK, state = self.compressor.step(features_BTD, state)
        return tokens_from_latents(latents_BTK), state

    def init_decode_state(self, batch_size: int) -> State:
        if not self.config.causal:
            raise self.no_streaming()
        return self.decompressor.init_state(batch_size)

    def decode_step(self, tokens_BT: Tensor, state: State) -> tuple[Tensor, State]:
        """Return features (B, n·frames_per_token, D) of whole chunks of tokens (B,n)."""
        if not self.config.causal:
            raise self.no_streaming()
        features_BTD, state = self.decompressor.step(self.codes(tokens_BT), state)
        return features_BTD, state
