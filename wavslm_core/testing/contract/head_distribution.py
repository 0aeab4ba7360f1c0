"""Heads as distributions: log-probabilities normalise, and proposals are drawn with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from wavslm_core.model.sampling import TokenDraw
from wavslm_core.parts.facts import HeadFacts
from wavslm_core.testing.contract.chi_square import LEAST_LIKELY, chi_square_likelihood
from wavslm_core.testing.contract.flow import random_features, random_tokens
from wavslm_core.testing.contract.module_checks import CPU, PartModuleChecks
from wavslm_core.testing.fake_configs import FakeSamplerConfig
from wavslm_core.testing.fakes import FakeSampler

LARGEST_VOCABULARY = 64
LARGEST_TABLE = 1 << 14
"""Chunks that are enumerated at most; else pairs of neighbours."""
DRAWS = 3000


class RecordingDraw(TokenDraw):
    """Draws from the whole distribution, as generation does, and keeps what was asked for."""

    def __init__(self, prompt_BT: Tensor, *, seeds: Sequence[int]) -> None:
        super().__init__(FakeSampler(FakeSamplerConfig()), prompt_BT, seeds=seeds)
        self.kinds: set[str] = set()
        self.sizes: set[int] = set()

    def tokens(self, logits_BKV: Tensor) -> Tensor:
        self.kinds.add("tokens")
        self.sizes.add(logits_BKV.shape[-1])
        return super().tokens(logits_BKV)

    def symbols(self, logits_BKV: Tensor) -> Tensor:
        self.kinds.add("symbols")
        return super().symbols(logits_BKV)


class HeadDistribution(PartModuleChecks):
    @property
    def facts(self) -> HeadFacts:
        facts = self.subject.facts()
        assert isinstance(facts, HeadFacts)
        return facts

    def draw(self, rows: int, *, first_seed: int = 0, device: torch.device = CPU) -> RecordingDraw:
        """Return what draws one stream of random numbers a row."""
        return RecordingDraw(self.before(rows).to(device), seeds=range(first_seed, first_seed + rows))

    def before(self, rows: int) -> Tensor:
        """Return the tokens (rows,C) whose hidden states predict the chunk, the same in each row."""
        return random_tokens(self.facts.vocab_size)(1, self.facts.chunk_tokens, 9).expand(rows, -1)

    def hidden(self, rows: int, seed: int = 0) -> Tensor:
        """Return the hidden states of one chunk (rows,C,D)."""
        return random_features(self.facts.input_dim)(rows, self.facts.chunk_tokens, seed)

    def chunk_log_probs(self, part: Any, hidden_CD: Tensor, tokens_NC: Tensor) -> Tensor:
        """Return the log-probabilities (N,C) of chunks that follow the same hidden states."""
        self.require(
            self.facts.vocab_size <= LARGEST_VOCABULARY,
            f"its vocab_size is {self.facts.vocab_size}",
            f"whether probabilities sum to one is seen by enumeration: give at most {LARGEST_VOCABULARY}",
        )
        chunk = self.facts.chunk_tokens
        hidden_NTD = hidden_CD.repeat(2, 1).expand(len(tokens_NC), -1, -1)
        return part.log_probs(hidden_NTD, torch.cat([self.before(len(tokens_NC)), tokens_NC], dim=1))[
            :, chunk:
        ]

    def require_sum(self, sums: Tensor, of: str) -> None:
        exact = self.facts.exact_log_probs
        bound = sums - 1 if not exact else (sums - 1).abs()
        self.require(
            bool((bound <= 1e-3).all()),
            f"the probabilities of {of} sum to {sums.flatten()[bound.flatten().argmax()].item():.4f}",
            "log_probs are normalised: given the past, the probabilities of all tokens sum to one"
            if exact
            else "log_probs are a lower bound: probabilities sum to one at most",
        )

    @torch.no_grad()
    def test_log_probs_normalise(self) -> None:
        part, vocab_size, chunk = self.part(), self.facts.vocab_size, self.facts.chunk_tokens
        for seed in (0, 1):
            past_C = random_tokens(vocab_size)(1, chunk, seed)[0]
            for place in range(min(chunk, 8)):
                tokens_VC = past_C.repeat(vocab_size, 1)
                tokens_VC[:, place] = torch.arange(vocab_size)
                log_probs_VC = self.chunk_log_probs(part, self.hidden(1, seed)[0], tokens_VC)
                self.require_sum(
                    log_probs_VC[:, place].exp().sum(), f"all tokens at place {place} of a chunk"
                )

    @torch.no_grad()
    def test_joint_log_probs_normalise(self) -> None:
        part, chunk = self.part(), self.facts.chunk_tokens
        if chunk == 1:
            pytest.skip("a chunk is one token")
        for first in {0, chunk - 2}:
            table = self.pair_table(part, self.hidden(1)[0], first)
            self.require_sum(table.sum(), f"all pairs of tokens at places {first} and {first + 1}")

    def pair_table(self, part: Any, hidden_CD: Tensor, first: int) -> Tensor:
        """Return the probabilities (V,V) of two neighbours, given fixed tokens before them in the chunk."""
        vocab_size = self.facts.vocab_size
        tokens_NC = torch.zeros(vocab_size**2, self.facts.chunk_tokens, dtype=torch.int64)
        tokens_NC[:, first : first + 2] = torch.cartesian_prod(*[torch.arange(vocab_size)] * 2)
        log_probs_NC = self.chunk_log_probs(part, hidden_CD, tokens_NC)
        return log_probs_NC[:, first : first + 2].sum(dim=1).exp().view(vocab_size, vocab_size)

    @torch.no_grad()
    def test_proposals_have_the_scored_frequencies(self) -> None:
        if not self.facts.exact_log_probs:
            pytest.skip("its facts say that log_probs are a bound")
        part = self.part()
        for seed in (0, 1):
            hidden_CD = self.hidden(1, seed)[0]
            drawn_NC = part.propose(
                hidden_CD.expand(DRAWS, -1, -1), self.draw(DRAWS, first_seed=seed * DRAWS)
            )
            for what, cells_N, probabilities in self.events(part, hidden_CD, drawn_NC):
                counts = torch.bincount(cells_N, minlength=probabilities.numel())
                likelihood = chi_square_likelihood(counts, probabilities.flatten())
                self.require(
                    likelihood > LEAST_LIKELY,
                    f"{DRAWS} proposals do not have the frequencies of {what} that log_probs give "
                    f"(chi-square: {likelihood:.1g})",
                    "`propose` draws from the distribution that `log_probs` scores",
                )

    def events(self, part: Any, hidden_CD: Tensor, drawn_NC: Tensor) -> list[tuple[str, Tensor, Tensor]]:
        """Return (name, each draw's cell, the cells' probabilities) of what can be enumerated."""
        vocab_size, chunk = self.facts.vocab_size, self.facts.chunk_tokens
        if chunk == 1:
            all_V1 = torch.arange(vocab_size)[:, None]
            table_V = self.chunk_log_probs(part, hidden_CD, all_V1)[:, 0].exp()
            return [("tokens", drawn_NC[:, 0], table_V)]
        if vocab_size**chunk > LARGEST_TABLE:
            table = self.pair_table(part, hidden_CD, 0)
            cells = drawn_NC[:, 0] * vocab_size + drawn_NC[:, 1]
            return [("the first token", drawn_NC[:, 0], table.sum(1)), ("the first two tokens", cells, table)]
        tokens_NC = torch.cartesian_prod(*[torch.arange(vocab_size)] * chunk)
        joint = self.chunk_log_probs(part, hidden_CD, tokens_NC).sum(dim=1).exp()
        joint = joint.view([vocab_size] * chunk)
        found = []
        for place in range(chunk):
            others = [dim for dim in range(chunk) if dim != place]
            found.append((f"token {place}", drawn_NC[:, place], joint.sum(dim=others)))
        for place in range(chunk - 1):
            others = [dim for dim in range(chunk) if dim not in (place, place + 1)]
            cells = drawn_NC[:, place] * vocab_size + drawn_NC[:, place + 1]
            pairs = joint.sum(dim=others) if others else joint
            found.append((f"tokens {place} and {place + 1} together", cells, pairs))
        return found

    @torch.no_grad()
    def test_proposals(self) -> None:
        part, facts = self.part(), self.facts
        hidden = self.hidden(3)
        draw = self.draw(3)
        proposed = part.propose(hidden, draw)
        self.require(
            proposed.shape == (3, facts.chunk_tokens) and proposed.dtype == torch.int64,
            f"propose gave {list(proposed.shape)} {proposed.dtype}",
            f"a proposal is (B, chunk_tokens = {facts.chunk_tokens}) int64",
        )
        low, high = int(proposed.min()), int(proposed.max())
        self.require(
            low >= 0 and high < facts.vocab_size,
            f"propose gave tokens from {low} to {high}",
            f"tokens lie in 0…{facts.vocab_size - 1}, as vocab_size says",
        )
        self.require(
            draw.kinds == {facts.draws} and draw.sizes <= {facts.vocab_size},
            f"propose drew {' and '.join(sorted(draw.kinds)) or 'nothing'}, from {draw.sizes or 'no'} tokens",
            f"it draws through the `draw` it is given, {facts.draws} as its facts say",
        )
        self.require_same(
            part.propose(hidden, self.draw(3)),
            proposed,
            "propose gave two chunks for the same random numbers",
            "all chance comes from `draw`",
        )
        for row in range(3):
            self.require_same(
                part.propose(hidden[row : row + 1], self.draw(1, first_seed=row)),
                proposed[row : row + 1],
                f"the proposal of row {row} alone differs from the same in a batch",
                "a row's tokens never depend on its batch",
            )
