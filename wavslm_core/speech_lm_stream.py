"""One continuation in flight: the states of codec, backbone and decoder, advanced a chunk at a time."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from wavslm_core.codec import Codec
from wavslm_core.facts import BackboneFacts
from wavslm_core.interfaces import Backbone, Head, Random, Sampler


class Continuation:
    """Reads a prompt of whole chunks once, then gives the next chunk as often as it is asked.

    A proposed chunk is turned into features once; the decoder and the backbone both read those.
    `speaks` keeps the decoder in step, from the prompt on, so that audio continues without a seam.
    """

    def __init__(
        self,
        codec: Codec,
        backbone: Backbone[Any],
        head: Head[Any],
        sampler: Sampler,
        random: Random,
        prompt_BT: Tensor,
        *,
        speaks: bool,
    ) -> None:
        self._codec, self._backbone, self._head = codec, backbone, head
        self._sampler, self._random, self._speaks = sampler, random, speaks
        facts = cast(BackboneFacts, backbone.config.facts())
        self._reads_features = facts.input == "features"
        batch_size = prompt_BT.shape[0]
        with torch.no_grad():
            self._backbone_state = backbone.init_state(batch_size)
            if self._reads_features or speaks:
                self._decode_state = codec.quantizer.init_decode_state(batch_size)
            if speaks:
                self._decoder_state = codec.decoder.init_state(batch_size)
            # The last samples that the delayed decoder gives still belong to the prompt.
            self._to_drop = codec.facts.decoder.delay_samples
            chunk = head.config.facts().chunk_tokens
            hidden_BTD, audio_BS = self._read(prompt_BT)
            self._hidden_BCD, self._audio_BS = hidden_BTD[:, -chunk:], audio_BS[:, :0]

    @torch.no_grad()
    def next_tokens(self) -> Tensor:
        """Propose the next chunk (B,C) and read it back in."""
        tokens_BC = self._head.propose(self._hidden_BCD, self._sampler, self._random)
        self._hidden_BCD, self._audio_BS = self._read(tokens_BC)
        return tokens_BC

    def next_audio(self) -> Tensor:
        """Propose the next chunk and return its audio (B,S), less what is still the prompt's."""
        self.next_tokens()
        dropped = min(self._to_drop, self._audio_BS.shape[1])
        self._to_drop -= dropped
        return self._audio_BS[:, dropped:]

    def _read(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Advance every state over these tokens; return hidden states and audio, (B,0) unless speaking."""
        inputs = tokens_BT
        audio_BS = torch.zeros(tokens_BT.shape[0], 0, device=tokens_BT.device)
        if self._reads_features or self._speaks:
            features, self._decode_state = self._codec.quantizer.decode_step(tokens_BT, self._decode_state)
            if self._speaks:
                audio_BS, self._decoder_state = self._codec.decoder.step(features, self._decoder_state)
            if self._reads_features:
                inputs = features
        hidden_BTD, self._backbone_state = self._backbone.step(inputs, self._backbone_state)
        return hidden_BTD, audio_BS
