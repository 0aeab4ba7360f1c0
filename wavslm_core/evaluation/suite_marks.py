"""The marks that a language model must pass in suites, too: n-grams counted on tokens that it learnt from.

They score exactly the tokens that the model predicts, so that every number of theirs stands beside one of the
model's. Training tokens are those of a run, whatever suites hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wavslm_core.data.token_store import STORE_FILE, TokenStore, check_fingerprint
from wavslm_core.errors import DataError
from wavslm_core.evaluation.ngrams import Ngram, TokenSequences
from wavslm_core.evaluation.pair_scores import TokenScorer
from wavslm_core.model.codec import Codec
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.backoff import Floats, Ints, Smoothing

SMOOTHING: Smoothing = "kneser_ney"
MOST_TOKENS = 20_000_000
TRAINING_TOKENS = "tokens/train"
"""Where a run has them."""


@dataclass(frozen=True)
class Marks:
    """N-grams, and what they were counted on."""

    ngrams: Mapping[str, Ngram]
    chunk_tokens: int
    tokens: int
    """Training tokens that were counted."""

    @classmethod
    def count(cls, train: TokenSequences, *, vocab_size: int, chunk_tokens: int) -> Marks:
        """Count a unigram, a trigram, and one that sees no more than a model of such chunks does."""

        def counted(order: int, chunk: int = 1) -> Ngram:
            return Ngram.count(
                train, order=order, vocab_size=vocab_size, smoothing=SMOOTHING, chunk_tokens=chunk
            )

        ngrams = {"unigram": counted(1), "trigram": counted(3)}
        if chunk_tokens > 1:
            ngrams["trigram, same context"] = counted(3, chunk_tokens)
        return cls(ngrams, chunk_tokens, train.tokens_N.size)

    @classmethod
    def of_run(cls, folder: Path, speech_lm: SpeechLM, *, most: int = MOST_TOKENS) -> Marks:
        """Count the training tokens of a run, or of a token store, for a model. Raises: DataError."""
        return cls.count(
            training_tokens(folder, speech_lm.codec, most=most),
            vocab_size=speech_lm.codec.facts.quantizer.vocab_size,
            chunk_tokens=speech_lm.chunk_tokens,
        )

    def scorer(self, name: str) -> TokenScorer:
        """Return what scores sequences by one of them, from the second chunk on."""

        def log_probs(rows: Sequence[Ints]) -> list[Floats]:
            sequences = TokenSequences.join(rows)
            predicted_N = sequences.positions_N >= self.chunk_tokens
            found_N = np.log(self.ngrams[name].probabilities(sequences, predicted_N))
            return np.split(found_N, np.cumsum([row.size for row in rows])[:-1])

        return log_probs

    def in_words(self) -> str:
        """Return what they are, for captions."""
        same = " That with the same context sees nothing inside of a chunk, as the model that draws it whole."
        return (
            f"Beside the model: n-grams counted on {self.tokens:,} of its codec's training tokens "
            "(Kneser-Ney), on the very tokens that it predicts." + (same if self.chunk_tokens > 1 else "")
        )


def training_tokens(folder: Path, codec: Codec, *, most: int = MOST_TOKENS) -> TokenSequences:
    """Read whole utterances, up to `most` tokens, of a run's training split or of a token store.

    Raises: DataError when there is none, or it is of another codec.
    """
    places = [folder, folder / TRAINING_TOKENS]
    place = next((place for place in places if (place / STORE_FILE).exists()), None)
    if place is None:
        raise DataError(
            f"{folder} holds no tokens; give the folder of a run with the stage tokenize, or a token store"
        )
    store = TokenStore.open(place)
    own = {"codec": codec.fingerprint()}
    check_fingerprint(place, found={"codec": store.fingerprint.get("codec")}, expected=own)
    within = int(np.searchsorted(np.cumsum(store.lengths), most, side="right"))
    return TokenSequences.join(store.tokens(index) for index in range(max(1, within)))
