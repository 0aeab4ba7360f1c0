"""The marks that a language model must pass: n-grams counted on the same training tokens.

Two families, scored on exactly the tokens that the language model predicts. Ordinary ones see the tokens
just before, which a model that speaks a chunk of C tokens at once never sees. Those with the *same
context* see only the tokens before the chunk: one model per place in the chunk, whose nearest context
token is as many places back. A place's counts are taken at that distance everywhere in the training
stream, not at chunk starts only: C times the data makes a stronger mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from wavslm_core.parts.backoff import BackoffModel, Floats, Ints, Smoothing


@dataclass(frozen=True)
class TokenSequences:
    """Utterances as one flat stream; context never reaches across an utterance's start."""

    tokens_N: Ints
    positions_N: Ints
    """Place of each token within its utterance."""

    @classmethod
    def join(cls, utterances: Iterable[NDArray[np.integer]]) -> TokenSequences:
        pieces = [np.asarray(tokens, dtype=np.int64) for tokens in utterances]
        empty = np.zeros(0, dtype=np.int64)
        return cls(
            np.concatenate([empty, *pieces]),
            np.concatenate([empty, *(np.arange(piece.size) for piece in pieces)]),
        )

    def context(self, lags: Sequence[int], *, nothing: int) -> Ints:
        """Return (N, len(lags)): the token `lag` places back, or `nothing` before the utterance's start."""
        columns = np.full((self.tokens_N.size, len(lags)), nothing, dtype=np.int64)
        for place, lag in enumerate(lags):
            inside_N = self.positions_N >= lag
            columns[inside_N, place] = self.tokens_N[np.flatnonzero(inside_N) - lag]
        return columns


@dataclass(frozen=True)
class Ngram:
    """An n-gram that sees the tokens just before, or only those before the chunk that a token is in."""

    places: tuple[BackoffModel, ...]
    """One for each place in a chunk."""

    @classmethod
    def count(
        cls,
        train: TokenSequences,
        *,
        order: int,
        vocab_size: int,
        smoothing: Smoothing,
        chunk_tokens: int = 1,
    ) -> Ngram:
        """Count training tokens; of more than one token, nothing inside a chunk is seen."""
        models = [
            BackoffModel(
                train.tokens_N,
                train.context(_lags(place, order), nothing=vocab_size),
                vocab_size=vocab_size,
                smoothing=smoothing,
            )
            for place in range(chunk_tokens)
        ]
        return cls(tuple(models))

    def probabilities(self, sequences: TokenSequences, chosen_N: NDArray[np.bool_]) -> Floats:
        """Return p (N,) of each chosen token given those before it, NaN of the others."""
        p_N = np.full(sequences.tokens_N.shape, np.nan)
        place_N = sequences.positions_N % len(self.places)
        for place, model in enumerate(self.places):
            here_N = chosen_N & (place_N == place)
            contexts = sequences.context(_lags(place, model.order), nothing=model.vocab_size)[here_N]
            p_N[here_N] = model.probabilities(sequences.tokens_N[here_N], contexts)
        return p_N


def _lags(place: int, order: int) -> list[int]:
    """Return how far back the context tokens of a place in a chunk are, nearest first."""
    return [place + back for back in range(1, order)]


def mean_by_place(values_N: Floats, positions_N: Ints, *, chunk_tokens: int) -> list[float]:
    """Return the mean at each place inside the chunk, NaNs left out; NaN where nothing is left."""
    places_N = positions_N % chunk_tokens
    chosen = [values_N[(places_N == place) & ~np.isnan(values_N)] for place in range(chunk_tokens)]
    return [float(values.mean()) if values.size else float("nan") for values in chosen]


@dataclass(frozen=True)
class BaselineScore:
    """One baseline on the validation tokens."""

    name: str
    bits_per_token: float
    bits_by_place: list[float]
    """Bits per token at place 0 … C-1 inside the chunk."""
    smoothing: Smoothing
    """The better of the two on these tokens."""
    same_context: bool
    """It sees no token that a model of this chunk size could not see."""


def score_baselines(
    train: TokenSequences,
    valid: TokenSequences,
    *,
    predicted_N: NDArray[np.bool_],
    vocab_size: int,
    chunk_tokens: int,
) -> list[BaselineScore]:
    """Score unigram, bigram and trigram, and the latter two with the same context as a chunk model.

    `predicted_N` marks the validation tokens that the language model predicts.
    """
    if not predicted_N.any():
        raise ValueError("no validation token is predicted; the utterances are shorter than two chunks")
    scorer = _Scorer(train, valid, predicted_N, vocab_size, chunk_tokens)
    scores = [
        scorer.score("unigram", order=1, same_context=False),
        scorer.score("bigram", order=2, same_context=False),
        scorer.score("trigram", order=3, same_context=False),
    ]
    if chunk_tokens > 1:
        scores.append(scorer.score("bigram, same context", order=2, same_context=True))
        scores.append(scorer.score("trigram, same context", order=3, same_context=True))
    return scores


@dataclass(frozen=True)
class _Scorer:
    train: TokenSequences
    valid: TokenSequences
    predicted_N: NDArray[np.bool_]
    vocab_size: int
    chunk_tokens: int

    def score(self, name: str, *, order: int, same_context: bool) -> BaselineScore:
        """Score with both smoothings and keep the better one."""
        scores: list[BaselineScore] = []
        for smoothing in get_args(Smoothing):
            model = Ngram.count(
                self.train,
                order=order,
                vocab_size=self.vocab_size,
                smoothing=smoothing,
                chunk_tokens=self.chunk_tokens if same_context else 1,
            )
            bits_N = -np.log2(model.probabilities(self.valid, self.predicted_N))
            mean = float(bits_N[self.predicted_N].mean())
            by_place = mean_by_place(bits_N, self.valid.positions_N, chunk_tokens=self.chunk_tokens)
            scores.append(BaselineScore(name, mean, by_place, smoothing, same_context or order == 1))
        return min(scores, key=lambda score: score.bits_per_token)
