"""What holds for a quantizer between codec and language model: merging runs of equal tokens loses nothing."""

from typing import Any

import torch
from torch import Tensor

from wavslm_core.parts.facts import QuantizerFacts
from wavslm_core.testing.contract.flow import random_features, random_tokens
from wavslm_core.testing.contract.streaming_checks import FlowChecks


class MergingChecks(FlowChecks):
    @property
    def facts(self) -> QuantizerFacts:
        raise NotImplementedError

    def repeating(self, part: Any, *, frames: int) -> Tensor:
        """Return what `encode` gives for frames that repeat, (3,T): some short, some long, some for ever."""
        features = random_features(self.facts.input_dim)(3, frames, 5)
        features[1] = features[1].repeat_interleave(3, dim=0)[:frames]
        features[2, 1:] = features[2, :1]
        tokens: Tensor = part.encode(features)
        return tokens

    @torch.no_grad()
    def test_merging_runs_loses_nothing(self) -> None:
        part, facts = self.part(), self.facts
        tokens = self.repeating(part, frames=40 * facts.frames_per_token)
        size = tokens.shape[1]
        lengths = torch.tensor([size, size * 2 // 3, size // 2])
        self.require(
            not bool((tokens % facts.max_run).any()),
            f"encode gave an id that is no multiple of {facts.max_run}",
            "encode gives runs of one frame: ids are code · max_run + run − 1",
        )
        merged, sizes = part.compact(tokens, lengths=lengths)
        again, counts = part.expand(merged, lengths=sizes)
        self.require(
            counts.tolist() == lengths.tolist(),
            f"expand() gave {counts.tolist()} tokens for {lengths.tolist()} that were merged",
            "expand undoes compact",
        )
        for row, length in enumerate(lengths.tolist()):
            self.require_same(
                again[row, :length], tokens[row, :length], "expand() gave other tokens", "it undoes compact"
            )
            alone, (count,) = part.compact(tokens[row : row + 1, :length])
            self.require_same(
                alone[0, :count],
                merged[row, : int(sizes[row])],
                f"compact() of item {row} alone differs from the same in a batch",
                "padding and batches change nothing",
            )
        self.require_same(
            part.compact(merged, lengths=sizes)[0],
            merged,
            "compact() changes what it gave",
            "tokens that are merged stay as they are",
        )
        self._rate(merged, lengths, sizes)

    def _rate(self, merged: Tensor, lengths: Tensor, sizes: Tensor) -> None:
        """Whether anything is merged is as the facts say."""
        facts = self.facts
        if not facts.variable_rate:
            self.require(
                sizes.tolist() == lengths.tolist(),
                f"{lengths.tolist()} tokens became {sizes.tolist()}",
                "with max_run 1 a language model reads tokens as encode gives them",
            )
            return
        self.require(
            facts.frames_per_token == facts.tokens_per_frame == facts.chunk_frames == 1,
            f"its facts say max_run {facts.max_run} beside several frames a token, tokens a frame, or frames "
            "a chunk",
            "where runs are merged, a token of encode is a frame",
        )
        low, high = int(merged.min()), int(merged.max())
        self.require(
            low >= 0 and high < facts.vocab_size,
            f"compact() gave tokens from {low} to {high}",
            f"a language model's tokens lie in 0…{facts.vocab_size - 1}, as vocab_size says",
        )
        self.require(
            int(sizes[2]) == -(-int(lengths[2]) // facts.max_run),
            f"{int(lengths[2])} equal frames became {int(sizes[2])} tokens",
            f"a token stands for {facts.max_run} frames at most, as max_run says, and runs are merged",
        )

    @torch.no_grad()
    def test_merged_tokens_are_told_apart(self) -> None:
        part, facts = self.part(), self.facts
        merged = random_tokens(facts.vocab_size)(1, 24 * facts.chunk_tokens, 4)
        whole = part.expand(merged)[0]
        pieces = [part.expand(merged[:, place : place + 1])[0] for place in range(merged.shape[1])]
        self.require_same(
            torch.cat(pieces, dim=1),
            whole,
            "expand() token by token differs from the whole",
            "tokens expand one by one, so that a continuation can be heard while it is drawn",
        )
        if not facts.variable_rate:
            return
        ids = torch.arange(facts.max_run)[:, None]
        features = part.decode(ids)[:, 0]
        same = [run for run in range(1, len(ids)) if torch.equal(features[run], features[run - 1])]
        self.require(
            not same,
            f"runs of {[run + 1 for run in same]} frames decode to the same features as shorter ones",
            "a language model that reads features sees how long a run lasts",
        )
