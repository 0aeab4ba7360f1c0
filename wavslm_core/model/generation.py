"""Draws what a language model says after prompts of one length, a chunk at a time, with one sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from wavslm_core.errors import ArgumentError
from wavslm_core.model.codec import Codec
from wavslm_core.model.sampling import TokenDraw, candidate_seeds
from wavslm_core.model.speech_lm_stream import Continuation
from wavslm_core.parts.interfaces import Backbone, Head, Sampler
from wavslm_core.parts.lengths import valid_mask


class Score(Protocol):
    """Log-likelihood of each token (B,T) in nats; NaN where nothing predicts."""

    def __call__(self, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor: ...


class Generation:
    """The parts of a model, and the sampler that draws. Shapes: B prompts, N candidates of all of them."""

    def __init__(
        self, codec: Codec, backbone: Backbone[Any], head: Head[Any], sampler: Sampler, *, score: Score
    ) -> None:
        self.codec = codec
        self.backbone = backbone
        self.head = head
        self.sampler = sampler
        self.score = score
        self.chunk_tokens = head.config.facts().chunk_tokens
        self.candidates = sampler.config.facts().candidates

    def begin(self, prompt_BT: Tensor, seeds: Sequence[int], *, speaks: bool) -> Continuation:
        """Read prompts, a seed for each; with `speaks`, what follows comes as audio too.

        Raises: ArgumentError for prompts that are not whole chunks, at least one.
        """
        size, chunk = prompt_BT.shape[1], self.chunk_tokens
        if size == 0 or size % chunk:
            whole = size // chunk * chunk
            remedy = f"Cut it to {whole}" if whole else f"Give at least {chunk}"
            raise ArgumentError(
                f"a prompt must be whole chunks of {chunk} tokens, at least one; got {size} tokens. {remedy}"
            )
        draw = TokenDraw(self.sampler, prompt_BT, seeds=seeds)
        return Continuation(self.codec, self.backbone, self.head, draw, prompt_BT, speaks=speaks)

    def tokens(self, prompt_BT: Tensor, new_tokens: int, seeds: Sequence[int]) -> Tensor:
        """Continue prompts by that many tokens: (B, new_tokens)."""
        prompt_NT, continuation = self._begin_candidates(prompt_BT, seeds)
        chunks = -(-new_tokens // self.chunk_tokens)
        pieces = [continuation.next_tokens() for _ in range(chunks)]
        new_NT = torch.cat([prompt_NT[:, :0], *pieces], dim=1)[:, :new_tokens]
        if self.candidates == 1 or new_tokens == 0:
            return new_NT[:: self.candidates]
        return new_NT[self._likeliest(prompt_NT, new_NT)]

    def frames(self, prompt_BT: Tensor, frames: int, seeds: Sequence[int]) -> list[Tensor]:
        """Continue each prompt by the fewest merged tokens (T,) that stand for that many frames."""
        prompt_NT, continuation = self._begin_candidates(prompt_BT, seeds)
        pieces = [prompt_NT[:, :0]]
        missing_N = prompt_NT.new_full((len(prompt_NT),), frames)
        while int(missing_N.max()) > 0:
            pieces.append(continuation.next_tokens())
            missing_N = missing_N - self.codec.expand(pieces[-1])[1]
        new_NT = torch.cat(pieces, dim=1)
        runs_NT = self.codec.expand(new_NT.reshape(-1, 1))[1].view_as(new_NT)
        sizes_N = (runs_NT.cumsum(dim=1) - runs_NT < frames).sum(dim=1)
        if self.candidates > 1 and frames > 0:
            best_B = self._likeliest(prompt_NT, new_NT, new_lengths=sizes_N)
            new_NT, sizes_N = new_NT[best_B], sizes_N[best_B]
        return [new_T[:size] for new_T, size in zip(new_NT, sizes_N.tolist(), strict=True)]

    def _begin_candidates(self, prompt_BT: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Continuation]:
        prompt_NT = prompt_BT.repeat_interleave(self.candidates, dim=0)
        return prompt_NT, self.begin(prompt_NT, candidate_seeds(seeds, self.candidates), speaks=False)

    def _likeliest(self, prompt_NT: Tensor, new_NT: Tensor, *, new_lengths: Tensor | None = None) -> Tensor:
        """Return the row (B,) of the likeliest candidate of each prompt."""
        size = prompt_NT.shape[1]
        lengths = None if new_lengths is None else size + new_lengths
        log_probs_NT = self.score(torch.cat([prompt_NT, new_NT], dim=1), lengths=lengths)[:, size:]
        if new_lengths is not None:
            log_probs_NT = log_probs_NT.masked_fill(~valid_mask(new_lengths, new_NT.shape[1]), 0.0)
        best_B = log_probs_NT.sum(dim=1).unflatten(0, (-1, self.candidates)).argmax(dim=1)
        return torch.arange(len(best_B), device=best_B.device) * self.candidates + best_B
