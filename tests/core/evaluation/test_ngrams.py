"""N-gram marks: proper distributions, equal to a plain dictionary implementation, boundaries respected."""

import math
from collections import Counter, defaultdict
from typing import get_args

import numpy as np
import pytest

from wavslm_core.evaluation.ngrams import TokenSequences, mean_by_place, score_baselines
from wavslm_core.parts.backoff import BackoffModel, Smoothing

SMOOTHINGS = get_args(Smoothing)


def markov_utterances(
    vocab_size: int, count: int, *, seed: int, concentration: float = 0.1
) -> list[np.ndarray]:
    """Draw utterances from a fixed second-order chain, so that contexts help."""
    table = np.random.default_rng(0).dirichlet([concentration] * vocab_size, (vocab_size, vocab_size))
    rng = np.random.default_rng(seed)
    utterances = []
    for _ in range(count):
        tokens = [int(token) for token in rng.integers(0, vocab_size, 2)]
        for _ in range(int(rng.integers(20, 60))):
            tokens.append(int(rng.choice(vocab_size, p=table[tokens[-2], tokens[-1]])))
        utterances.append(np.array(tokens))
    return utterances


class PlainBackoff:
    """The same two models written with dictionaries, straight from the papers' formulas."""

    def __init__(self, events: list[tuple[int, tuple[int, ...]]], vocab_size: int, smoothing: str) -> None:
        self.vocab_size = vocab_size
        self.smoothing = smoothing
        order = len(events[0][1]) + 1
        self.counts: list[dict[tuple[int, ...], Counter[int]]] = [defaultdict(Counter) for _ in range(order)]
        for target, context in events:
            self.counts[-1][context][target] += 1
        for level in reversed(range(order - 1)):
            for context, targets in self.counts[level + 1].items():
                for target, count in targets.items():
                    self.counts[level][context[:-1]][target] += 1 if smoothing == "kneser_ney" else count
        self.discounts = [self._discounts(level) for level in range(order)]

    def _discounts(self, level: int) -> list[float]:
        n = Counter(count for targets in self.counts[level].values() for count in targets.values())
        y = n[1] / (n[1] + 2 * n[2]) if n[1] else 0.5
        found = [k - (k + 1) * y * n[k + 1] / n[k] if n[k] else k / 2 for k in (1, 2, 3)]
        return [0.0] + [min(max(d, 0.1), k - 0.05) for k, d in zip((1, 2, 3), found, strict=True)]

    def probability(self, target: int, context: tuple[int, ...]) -> float:
        below = self.probability(target, context[:-1]) if context else 1.0 / self.vocab_size
        targets = self.counts[len(context)].get(context)
        if targets is None:
            return below
        total = sum(targets.values())
        if self.smoothing == "witten_bell":
            return (targets[target] + len(targets) * below) / (total + len(targets))
        discounts = self.discounts[len(context)]
        left = sum(discounts[min(count, 3)] for count in targets.values())
        return (targets[target] - discounts[min(targets[target], 3)] + left * below) / total


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("lags", [(), (1,), (1, 2), (3, 4)])
def test_equals_dictionaries_and_sums_to_one(smoothing: Smoothing, lags: tuple[int, ...]) -> None:
    vocab_size = 7
    train = TokenSequences.join(markov_utterances(vocab_size, 30, seed=1))
    contexts = train.context(lags, nothing=vocab_size)
    model = BackoffModel(train.tokens_N, contexts, vocab_size=vocab_size, smoothing=smoothing)
    events = [(int(t), tuple(int(c) for c in row)) for t, row in zip(train.tokens_N, contexts, strict=True)]
    plain = PlainBackoff(events, vocab_size, smoothing)
    everything = np.arange(vocab_size)
    for context in np.ndindex(*([vocab_size + 1] * len(lags))):
        rows = np.tile(np.array(context, dtype=np.int64), (vocab_size, 1))
        p = model.probabilities(everything, rows)
        assert p.min() > 0
        assert p.sum() == pytest.approx(1.0, abs=1e-12)
        expected = [plain.probability(int(token), tuple(int(c) for c in context)) for token in everything]
        np.testing.assert_allclose(p, expected, rtol=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("tokens", [[3], [3, 3, 3, 3], [0, 1, 2, 3, 4]])
def test_tiny_training_data_never_gives_zero(smoothing: Smoothing, tokens: list[int]) -> None:
    train = TokenSequences.join([np.array(tokens)])
    model = BackoffModel(
        train.tokens_N, train.context((1, 2), nothing=65536), vocab_size=65536, smoothing=smoothing
    )
    unseen = model.probabilities(np.array([65535, 3]), np.array([[9, 9], [3, 3]]))
    assert unseen.min() > 0
    assert np.isfinite(np.log2(unseen)).all()


def test_context_stays_inside_the_utterance() -> None:
    sequences = TokenSequences.join([np.array([1, 2, 3]), np.array([], dtype=np.int64), np.array([4, 5])])
    np.testing.assert_array_equal(
        sequences.context((1, 2), nothing=9), [[9, 9], [1, 9], [2, 1], [9, 9], [4, 9]]
    )


def test_same_context_sees_nothing_inside_the_chunk() -> None:
    """Changing a token of a chunk must not change the marks of its neighbours in that chunk."""
    vocab_size, chunk = 5, 4
    train = TokenSequences.join(markov_utterances(vocab_size, 40, seed=1))
    base = np.array([0, 1, 2, 3, 4, 0, 1, 2])
    changed = base.copy()
    changed[5] = 3
    only_neighbours = np.array([0, 0, 0, 0, 1, 0, 1, 1], dtype=bool)

    def scores(tokens: np.ndarray) -> dict[str, float]:
        valid = TokenSequences.join([tokens])
        found = score_baselines(
            train, valid, predicted_N=only_neighbours, vocab_size=vocab_size, chunk_tokens=chunk
        )
        return {score.name: score.bits_per_token for score in found}

    before, after = scores(base), scores(changed)
    assert before["trigram, same context"] == after["trigram, same context"]
    assert before["bigram, same context"] == after["bigram, same context"]
    assert before["trigram"] != after["trigram"]


def test_scores_rank_as_the_chain_demands() -> None:
    vocab_size, chunk = 12, 4
    train = TokenSequences.join(markov_utterances(vocab_size, 300, seed=1))
    valid = TokenSequences.join(markov_utterances(vocab_size, 40, seed=2))
    predicted = valid.positions_N >= chunk
    found = score_baselines(train, valid, predicted_N=predicted, vocab_size=vocab_size, chunk_tokens=chunk)
    bits = {score.name: score for score in found}
    assert bits["trigram"].bits_per_token < bits["bigram"].bits_per_token < bits["unigram"].bits_per_token
    assert bits["trigram"].bits_per_token < bits["trigram, same context"].bits_per_token
    # The first place of a chunk sees the token just before: there both trigrams are the same model.
    assert bits["trigram"].bits_by_place[0] == pytest.approx(
        bits["trigram, same context"].bits_by_place[0], abs=0.02
    )
    assert bits["unigram"].bits_per_token < math.log2(vocab_size)
    weights = [np.count_nonzero(predicted & (valid.positions_N % chunk == place)) for place in range(chunk)]
    for score in found:
        mean = np.average(score.bits_by_place, weights=weights)
        assert mean == pytest.approx(score.bits_per_token)


def test_mean_by_place_leaves_out_what_is_not_predicted() -> None:
    values = np.array([np.nan, np.nan, 1.0, 3.0, 5.0, np.nan])
    means = mean_by_place(values, np.array([0, 1, 2, 3, 0, 1]), chunk_tokens=2)
    assert means == [3.0, 3.0]


def test_keys_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="63-bit"):
        BackoffModel(
            np.array([1]), np.zeros((1, 3), dtype=np.int64), vocab_size=65536, smoothing="witten_bell"
        )


@pytest.mark.slow
def test_large_vocabulary_and_millions_of_tokens() -> None:
    rng = np.random.default_rng(0)
    vocab_size = 65536
    train = TokenSequences.join([rng.zipf(1.3, 200_000) % vocab_size for _ in range(5)])
    valid = TokenSequences.join([rng.zipf(1.3, 50_000) % vocab_size])
    found = score_baselines(
        train, valid, predicted_N=valid.positions_N >= 4, vocab_size=vocab_size, chunk_tokens=4
    )
    assert all(math.isfinite(score.bits_per_token) for score in found)
    # Independent draws: no context can help, and a smoothed model must not be hurt by it much.
    bits = {score.name: score.bits_per_token for score in found}
    assert bits["trigram"] == pytest.approx(bits["unigram"], abs=0.5)
