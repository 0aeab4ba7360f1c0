"""The contract of heads: shapes, where nothing is predicted, causality, batches; and `head_distribution`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wavslm_core.testing.contract.flow import random_features, random_tokens
from wavslm_core.testing.contract.head_distribution import HeadDistribution
from wavslm_core.testing.contract.module_checks import projected
from wavslm_core.testing.gpu import gpu


class HeadContract(HeadDistribution):
    def example(self, batch: int, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return hidden states and tokens."""
        hidden_BTD = random_features(self.facts.input_dim)(batch, tokens, seed)
        return hidden_BTD, random_tokens(self.facts.vocab_size)(batch, tokens, seed + 50)

    def calls(self) -> Mapping[str, tuple[Tensor, ...]]:
        return {"log_probs": self.example(2, 6 * self.facts.chunk_tokens, 3)}

    def training_loss(self, part: Any) -> Tensor:
        hidden_BTD, tokens_BT = self.example(4, 8 * self.facts.chunk_tokens, 3)
        return projected(part.log_probs(hidden_BTD, tokens_BT))

    @torch.no_grad()
    def test_shapes(self) -> None:
        part, chunk = self.part(), self.facts.chunk_tokens
        for tokens in (1, chunk, chunk + 1, 4 * chunk, 5 * chunk - 1):
            log_probs = part.log_probs(*self.example(2, tokens))
            self.require(
                log_probs.shape == (2, tokens) and log_probs.dtype == torch.float32,
                f"log_probs of {tokens} tokens gave {list(log_probs.shape)} {log_probs.dtype}",
                "log_probs gives (B,T) float32",
            )
            nowhere = torch.arange(tokens).expand(2, -1) < chunk
            self.require(
                torch.equal(log_probs.isnan(), nowhere),
                f"log_probs of {tokens} tokens has NaN at {places(log_probs.isnan())}",
                f"NaN stands for the first chunk, {chunk} tokens, and nowhere else",
            )
            self.require(
                bool((log_probs.nan_to_num() <= 1e-5).all()),
                "log_probs gave numbers above 0",
                "log-probabilities of tokens are 0 at most",
            )

    @torch.no_grad()
    def test_padding_invariance(self) -> None:
        part, chunk = self.part(), self.facts.chunk_tokens
        size = 6 * chunk
        hidden, tokens = self.example(4, size)
        lengths = torch.tensor([size, size - 2 * chunk, 2 * chunk + 1, 1])
        other_hidden, other_tokens = self.example(4, size, 1)
        padding = torch.arange(size) >= lengths[:, None]
        padded = part.log_probs(
            torch.where(padding[..., None], 5 * other_hidden, hidden),
            torch.where(padding, other_tokens, tokens),
            lengths=lengths,
        )
        expected = padding | (torch.arange(size) < chunk)
        self.require(
            torch.equal(padded.isnan(), expected),
            f"with lengths {lengths.tolist()}, log_probs has NaN at {places(padded.isnan())}",
            "NaN stands for the first chunk and padded places, and nowhere else",
        )
        for row, length in enumerate(lengths.tolist()):
            self.require_same(
                padded[row : row + 1, :length],
                part.log_probs(hidden[row : row + 1, :length], tokens[row : row + 1, :length]),
                f"log_probs of {length} tokens differ when padded to {size}",
                "with `lengths`, padding never changes a valid result",
            )

    @torch.no_grad()
    def test_proposals_on_a_gpu(self) -> None:
        rule = "what is scored and drawn stays on the device of the hidden states"
        part, (hidden, tokens) = self.part(), self.example(2, 3 * self.facts.chunk_tokens)
        with gpu() as device, self.attempt("proposing on a GPU", rule):
            part, hidden, tokens = part.to(device), hidden.to(device), tokens.to(device)
            lengths = torch.tensor([tokens.shape[1], 1], device=device)
            scored = part.log_probs(hidden, tokens, lengths=lengths)
            drawn = part.propose(hidden[:, : self.facts.chunk_tokens], self.draw(2, device=device))
        for what, found in (("log_probs", scored), ("propose", drawn)):
            self.require(found.device == device, f"on {device}, {what} gave a tensor on {found.device}", rule)

    @torch.no_grad()
    def test_batch_invariance(self) -> None:
        part = self.part()
        hidden, tokens = self.example(3, 6 * self.facts.chunk_tokens)
        batch = part.log_probs(hidden, tokens)
        for row in range(3):
            self.require_same(
                part.log_probs(hidden[row : row + 1], tokens[row : row + 1]),
                batch[row : row + 1],
                f"log_probs of item {row} alone differ from the same in a batch",
                "a batch of one equals a batch of many",
            )

    @torch.no_grad()
    def test_causality(self) -> None:
        part, chunk = self.part(), self.facts.chunk_tokens
        hidden, tokens = self.example(2, 6 * chunk)
        expected = part.log_probs(hidden, tokens)
        for place in range(2 * chunk, 4 * chunk + 1):
            changed = tokens.clone()
            changed[:, place:] = (changed[:, place:] + 1) % self.facts.vocab_size
            self.require_same(
                part.log_probs(hidden, changed)[:, :place],
                expected[:, :place],
                f"log_probs look ahead: other tokens from place {place} on change what is before",
                "a token never changes the log-probability of an earlier one",
                tolerance=1e-5,
            )
        for start in (chunk, 3 * chunk):
            changed = hidden.clone()
            changed[:, start:] = self.example(2, 6 * chunk, 1)[0][:, start:]
            given = part.log_probs(changed, tokens)
            self.require_same(
                given[:, : start + chunk],
                expected[:, : start + chunk],
                f"log_probs look ahead: hidden states from place {start} on change the chunk there",
                "a chunk is predicted from hidden states before it",
                tolerance=1e-5,
            )
            self.require(
                not torch.equal(given[:, start + chunk :], expected[:, start + chunk :]),
                "log_probs ignore the hidden states",
                "a chunk is predicted from the hidden states of the chunk before it",
            )

    @torch.no_grad()
    def test_scores_need_the_chunk_before_alone(self) -> None:
        part, chunk = self.part(), self.facts.chunk_tokens
        hidden, tokens = self.example(2, 6 * chunk)
        self.require_same(
            part.log_probs(hidden[:, -2 * chunk :], tokens[:, -2 * chunk :])[:, chunk:],
            part.log_probs(hidden, tokens)[:, -chunk:],
            "log_probs of a chunk change with what was before the chunk before it",
            "`propose` is given the hidden states of one chunk alone, so scores may use no others",
        )


def places(mask_BT: Tensor) -> str:
    """Return where a mask is set, row by row."""
    return "; ".join(str(row.nonzero().flatten().tolist()) for row in mask_BT)
