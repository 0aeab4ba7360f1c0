"""Continuations in flight: the states of codec, backbone and decoder, advanced a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from wavslm_core.model.codec import Codec
from wavslm_core.model.sampling import TokenDraw
from wavslm_core.parts.interfaces import Backbone, Head
from wavslm_core.parts.streaming import stream_mode


class Continuation:
    """Reads a prompt of whole chunks once, then gives the next chunk as often as it is asked.

    A proposed chunk is turned into features once; the decoder and the backbone both read those, unless tokens
    are merged: then the decoder reads a frame for each that they stand for. `speaks` keeps the decoder in
    step, from the prompt on, so that audio continues without a seam. A head whose chunk is shorter than the
    codec's is waited for until the codec's chunk is whole.
    """

    @stream_mode()
    def __init__(
        self,
        codec: Codec,
        backbone: Backbone[Any],
        head: Head[Any],
        draw: TokenDraw,
        prompt_BT: Tensor,
        *,
        speaks: bool,
    ) -> None:
        self._codec, self._backbone, self._head, self._draw = codec, backbone, head, draw
        self._chunk = head.config.facts().chunk_tokens
        self._reads_features = backbone.config.facts().input == "features"
        self._merges = codec.facts.quantizer.variable_rate
        self._shares_features = self._reads_features and not self._merges
        batch_size = prompt_BT.shape[0]
        # Read at the next proposal, so that no step is made whose result nobody asks for.
        self._unread_BT = prompt_BT
        self._features_BFD: Tensor | None = None
        self._backbone_state = backbone.init_state(batch_size)
        if self._reads_features:
            self._decode_state = codec.quantizer.init_decode_state(batch_size)
        if speaks:
            if not self._shares_features:
                self._spoken_state = codec.quantizer.init_decode_state(batch_size)
            self._decoder_state = codec.decoder.init_state(batch_size)
            # The last samples that the delayed decoder gives still belong to the prompt.
            delay = codec.facts.decoder.delay_samples
            self._to_drop = delay + int(codec.decoded_samples(prompt_BT).max())
            self._unspoken_BT = prompt_BT[:, :0]
            self._speak(prompt_BT)

    @stream_mode()
    def next_tokens(self) -> Tensor:
        """Propose the next chunk (B,C)."""
        inputs = self._features(self._unread_BT) if self._reads_features else self._unread_BT
        hidden_BTD, self._backbone_state = self._backbone.step(inputs, self._backbone_state)
        tokens_BC = self._head.propose(hidden_BTD[:, -self._chunk :], self._draw)
        self._draw.end_chunk(tokens_BC)
        self._unread_BT, self._features_BFD = tokens_BC, None
        return tokens_BC

    @stream_mode()
    def next_audio(self) -> Tensor:
        """Propose the next chunk and return the audio (B,S) that is new by then, without the prompt's."""
        return self._speak(self.next_tokens())

    def _features(self, tokens_BT: Tensor) -> Tensor:
        """Return the features of the unread tokens, which are decoded once."""
        if self._features_BFD is None:
            self._features_BFD, self._decode_state = self._codec.quantizer.decode_step(
                tokens_BT, self._decode_state
            )
        return self._features_BFD

    def _speak(self, tokens_BT: Tensor) -> Tensor:
        """Return the audio of these tokens as far as it can be known, without the prompt's."""
        if self._shares_features:
            features_BFD = self._features(tokens_BT)
        else:
            # The head's chunks need not be whole ones of the codec.
            plain_BT = self._codec.quantizer.expand(tokens_BT)[0] if self._merges else tokens_BT
            self._unspoken_BT = torch.cat([self._unspoken_BT, plain_BT], dim=1)
            chunk = self._codec.facts.chunk_tokens
            whole = self._unspoken_BT.shape[1] // chunk * chunk
            if whole == 0:
                return torch.zeros(len(tokens_BT), 0, device=tokens_BT.device)
            spoken_BT, self._unspoken_BT = self._unspoken_BT[:, :whole], self._unspoken_BT[:, whole:]
            features_BFD, self._spoken_state = self._codec.quantizer.decode_step(
                spoken_BT, self._spoken_state
            )
        audio_BS, self._decoder_state = self._codec.decoder.step(features_BFD, self._decoder_state)
        dropped = min(self._to_drop, audio_BS.shape[1])
        self._to_drop -= dropped
        return audio_BS[:, dropped:]


def by_row(prompt_BT: Tensor, lengths: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Return (row index, its prompt without padding) for each row."""
    return [
        (rows[place : place + 1], prompts[place : place + 1])
        for rows, prompts in by_length(prompt_BT, lengths)
        for place in range(len(rows))
    ]


def by_length(prompt_BT: Tensor, lengths: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Return (row indices, their prompts without padding) for each length that occurs."""
    if lengths is None:
        return [(torch.arange(prompt_BT.shape[0], device=prompt_BT.device), prompt_BT)]
    groups = []
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero().flatten()
        groups.append((rows, prompt_BT[rows, :length]))
    return groups


def side_by_side(groups: Sequence[tuple[Tensor, Continuation]]) -> Iterator[Tensor]:
    """Advance continuations together; yield the audio of all rows, in the rows' order.

    A continuation that is ahead of the others waits for them, so that no more than a chunk of it is held.
    """
    order = torch.cat([rows for rows, _ in groups]).argsort()
    held = [continuation.next_audio() for _, continuation in groups]
    while True:
        for place, (_, continuation) in enumerate(groups):
            while held[place].shape[1] == 0:
                held[place] = continuation.next_audio()
        ready = min(piece.shape[1] for piece in held)
        yield torch.cat([piece[:, :ready] for piece in held])[order]
        held = [piece[:, ready:] for piece in held]
