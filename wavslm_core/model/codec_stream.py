"""A codec in real time: chunks of waveform in, tokens out, chunks of waveform back."""

from typing import Any

import torch
from torch import Tensor

from wavslm_core.data.arguments import Given, checked_tokens, checked_waveform, first_floats
from wavslm_core.errors import StreamingError
from wavslm_core.parts.facts import CodecFacts
from wavslm_core.parts.interfaces import Decoder, Encoder, Quantizer
from wavslm_core.parts.streaming import stream_mode


class CodecStream:
    """Holds the streaming state of both directions. Made by `Codec.stream`.

    Chunks, concatenated, equal the offline codec. Decoded audio lags by `facts.decoder.delay_samples`:
    cut that much off the front and append `flush()`. So of the first 80 ms out of a decoder that lags by
    60 ms only the last 20 ms are speech; every later chunk is 80 ms of speech.

    Chunks are taken as `Codec` takes whole waveforms and tokens, but values that are not on the CPU are not
    looked at: a step waits for nothing.
    """

    @stream_mode()
    def __init__(
        self,
        encoder: Encoder[Any],
        quantizer: Quantizer[Any],
        decoder: Decoder[Any],
        facts: CodecFacts,
        *,
        batch_size: int = 1,
    ) -> None:
        for part in (encoder, quantizer, decoder):
            if not part.config.facts().streams:
                raise part.no_streaming()
        self.facts = facts
        self.batch_size = batch_size
        self._encoder, self._quantizer, self._decoder = encoder, quantizer, decoder
        self._like = first_floats(encoder, quantizer, decoder)
        self._device = first_floats(quantizer, encoder, decoder).device
        self._encoder_state = encoder.init_state(batch_size)
        self._encode_state = quantizer.init_encode_state(batch_size)
        self._decode_state = quantizer.init_decode_state(batch_size)
        self._decoder_state = decoder.init_state(batch_size)

    @stream_mode()
    def encode(self, waveform_BS: Given) -> Tensor:
        """Map the next chunks of waveform (B, n·chunk_samples_in) to tokens (B, n·chunk_tokens).

        Raises: StreamingError for a part of a chunk; AudioError.
        """
        waveform_BS = checked_waveform(waveform_BS, like=self._like, wait=False)
        self._check(waveform_BS.shape, self.facts.chunk_samples_in, "samples")
        features, self._encoder_state = self._encoder.step(waveform_BS, self._encoder_state)
        tokens, self._encode_state = self._quantizer.encode_step(features, self._encode_state)
        return tokens

    @stream_mode()
    def dequantize(self, tokens_BT: Given) -> Tensor:
        """Map the next chunks of tokens to features; feed them to `decode_features`.

        Raises: StreamingError for a part of a chunk, or tokens that stand for more than one frame;
        ArgumentError.
        """
        vocab_size = self.facts.quantizer.vocab_size
        tokens_BT = checked_tokens(tokens_BT, vocab_size=vocab_size, device=self._device, wait=False)
        self._check(tokens_BT.shape, self.facts.chunk_tokens, "tokens")
        max_run = self.facts.quantizer.max_run
        if max_run > 1 and bool((tokens_BT % max_run).any()):
            raise StreamingError(
                "these tokens are merged, as a language model gives them; a codec's stream takes a token a "
                "frame: use Codec.expand first, and collect tokens until a chunk is whole"
            )
        features, self._decode_state = self._quantizer.decode_step(tokens_BT, self._decode_state)
        return features

    @stream_mode()
    def decode_features(self, features_BTD: Tensor) -> Tensor:
        """Map the features of the next chunks to waveform."""
        waveform, self._decoder_state = self._decoder.step(features_BTD, self._decoder_state)
        return waveform

    def decode(self, tokens_BT: Given) -> Tensor:
        """Map the next chunks of tokens (B, n·chunk_tokens) to waveform (B, n·chunk_samples_out).

        Raises: as `dequantize`.
        """
        return self.decode_features(self.dequantize(tokens_BT))

    @stream_mode()
    def flush(self) -> Tensor:
        """Return the last `delay_samples` samples (B, delay), which nothing later can change."""
        return self._decoder.flush(self._decoder_state)

    def _check(self, shape: torch.Size, chunk: int, unit: str) -> None:
        if len(shape) != 2 or shape[0] != self.batch_size or shape[1] == 0 or shape[1] % chunk:
            raise StreamingError(
                f"a stream of batch {self.batch_size} takes ({self.batch_size}, n·{chunk}) {unit}, "
                f"got {list(shape)}; collect {unit} until a chunk is whole"
            )
