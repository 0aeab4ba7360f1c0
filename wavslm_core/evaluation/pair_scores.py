"""How likely both recordings of a pair are: one scorer for all suites, resumable to the pair.

Pairs of similar length are scored in one padded batch. The tokens of a recording are kept under the digest of
its bytes and that of the codec, so that a second model over the same codec reads no audio. Equal token
sequences are scored once: what the codec cannot tell apart is exactly a tie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from pydantic import FiniteFloat
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.data.audio import load_torchaudio, read_audio
from wavslm_core.data.batches import length_batches
from wavslm_core.data.prefetch import Prefetch
from wavslm_core.data.suites import Pair
from wavslm_core.errors import CheckpointError
from wavslm_core.evaluation.language_scores import token_log_probs
from wavslm_core.evaluation.line_folder import LineFolder
from wavslm_core.evaluation.pair_data import CheckedSuite
from wavslm_core.machine.json_files import json_digest
from wavslm_core.machine.processes import ALONE, Processes, divide
from wavslm_core.machine.progress import progress_bar
from wavslm_core.model.codec import Codec
from wavslm_core.model.prompts import prompt_unit
from wavslm_core.model.sampling import DAMAGED
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.model.weights import weights_digest
from wavslm_core.parts.backoff import Floats, Ints

TokenScorer = Callable[[Sequence[Ints]], list[Floats]]
"""What tells log p(token | its past) of each of several sequences (T,), NaN where it predicts none."""
ScoreName = Literal["mean", "sum", "localised", "normalised"]
SCORES: tuple[ScoreName, ...] = get_args(ScoreName)


@dataclass(frozen=True)
class RecordingScore:
    """How likely a recording is, in nats. (nats, tokens) where a part of its tokens is meant."""

    name: str
    digest: str
    nats: FiniteFloat
    tokens: int
    """Tokens that are scored."""
    after: tuple[FiniteFloat, int] | None = None
    """Those that begin at or after the place where the pair splits."""
    gain: tuple[FiniteFloat, int] | None = None
    """Of those of the continuation that are predicted without what came before it, too: how much likelier
    they are with it."""

    def value(self, score: ScoreName) -> float:
        """Return a score; NaN where no token is scored."""
        if score == "sum":
            return self.nats if self.tokens else math.nan
        part = {"mean": (self.nats, self.tokens), "localised": self.after, "normalised": self.gain}[score]
        return part[0] / part[1] if part is not None and part[1] else math.nan


@dataclass(frozen=True)
class PairScore:
    """A line of `pairs.jsonl`."""

    suite: str
    """Its label."""
    id: str
    item: str
    groups: dict[str, str]
    positive: RecordingScore
    negative: RecordingScore
    split_s: tuple[FiniteFloat, FiniteFloat] | None = None

    def values(self, score: ScoreName) -> tuple[float, float]:
        """Return the scores of positive and negative."""
        return self.positive.value(score), self.negative.value(score)

    def is_of(self, pair: Pair, suite: CheckedSuite) -> bool:
        """Tell whether it is of this pair as it is now."""
        digests = [suite.recordings[name].digest for name in (pair.positive, pair.negative)]
        return digests == [self.positive.digest, self.negative.digest] and self.split_s == pair.split_s


@dataclass(frozen=True)
class TokenLine:
    """The tokens of a recording in a cache."""

    digest: str
    tokens: list[int]


@dataclass
class TokenCache:
    """Tokens of one codec, by the digest of what was encoded."""

    lines: LineFolder[TokenLine]
    known: dict[str, Ints] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, codec: Codec) -> TokenCache:
        """Open the cache of a codec below a folder. Raises: DataError."""
        cache = cls(LineFolder(folder / codec_digest(codec), TokenLine))
        size = codec.facts.quantizer.vocab_size
        for line in cache.lines.read():
            tokens_T = np.asarray(line.tokens, dtype=np.int64)
            if not tokens_T.size or (tokens_T.min() >= 0 and tokens_T.max() < size):
                cache.known[line.digest] = tokens_T
        return cache

    def add(self, found: Mapping[str, Ints]) -> None:
        self.known |= found
        self.lines.add(TokenLine(digest, tokens_T.tolist()) for digest, tokens_T in found.items())


def codec_digest(codec: Codec) -> str:
    """Return 16 hex digits of what decides tokens: encoder and quantizer, options and weights."""
    return json_digest(codec.fingerprint(), digits=16)


def model_digest(speech_lm: SpeechLM) -> str:
    """Return 16 hex digits of what decides likelihoods: backbone and head, options and weights."""
    parts = (speech_lm.backbone, speech_lm.head)
    about = [part.config.model_dump(mode="json") for part in parts] + [weights_digest(part) for part in parts]
    return json_digest(about, digits=16)


def score_pairs(
    speech_lm: SpeechLM,
    work: Sequence[tuple[CheckedSuite, Pair]],
    *,
    cache: TokenCache,
    scorer: TokenScorer | None = None,
    title: str = "score",
    local_seconds: float | None = None,
    batch_seconds: float = 60.0,
    after_each: Callable[[Sequence[PairScore]], None] = lambda scores: None,
    processes: Processes = ALONE,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[PairScore]:
    """Return the scores of pairs, in their order; `after_each` gets those of a batch as soon as it is done.

    `scorer`: what scores the tokens that `speech_lm` would predict, instead of it. `batch_seconds`: audio in
    a padded batch. `processes` divide the batches among each other. Raises: AudioError for a recording that
    changed since it was looked at; Interrupted between batches;
    CheckpointError for a model that gives no number.
    """
    scoring = _Scorer(
        speech_lm, cache, scorer or partial(token_log_probs, speech_lm), local_seconds, batch_seconds
    )
    longest_ms = [
        round(1000 * max(suite.recordings[name].seconds for name in (pair.positive, pair.negative)))
        for suite, pair in work
    ]
    batches = list(length_batches([2 * most for most in longest_ms], budget=round(1000 * batch_seconds)))
    own = batches[processes.rank :: processes.world_size]
    # Imported here once: recordings are read in a thread of their own.
    load_torchaudio()

    def read(number: int) -> dict[str, torch.Tensor]:
        return scoring.waveforms([work[place] for place in own[number]])

    total = 2 * len(work) / processes.world_size
    with (
        progress_bar(title, total=total, unit="files") as advance,
        closing(Prefetch(read, ahead=1, end=len(own))) as reader,
    ):

        def score(number: int) -> list[PairScore]:
            members = [work[place] for place in batches[number]]
            found = scoring.score(members, reader.get(number // processes.world_size))
            after_each(found)
            advance(2 * len(members))
            return found

        done = divide(processes, range(len(batches)), score, stop_requested=stop_requested)
    scores = {
        place: found
        for batch, several in zip(batches, done, strict=True)
        for place, found in zip(batch, several, strict=True)
    }
    return [scores[place] for place in range(len(work))]


Work = Sequence[tuple[CheckedSuite, Pair]]


@dataclass(frozen=True)
class _Scorer:
    """One batch after the other."""

    speech_lm: SpeechLM
    cache: TokenCache
    log_probs: TokenScorer
    local_seconds: float | None
    batch_seconds: float

    def waveforms(self, batch: Work) -> dict[str, torch.Tensor]:
        """Return digest → waveform (S,) of those whose tokens are not known yet."""
        rate_hz = self.speech_lm.codec.sample_rate_in
        wanted = {
            suite.recordings[name].digest: (suite, name)
            for suite, pair in batch
            for name in (pair.positive, pair.negative)
        }
        return {
            digest: read_audio(suite.suite.source(name), sample_rate_hz=rate_hz)
            for digest, (suite, name) in wanted.items()
            if digest not in self.cache.known
        }

    @torch.inference_mode()
    def score(self, batch: Work, waveforms: Mapping[str, torch.Tensor]) -> list[PairScore]:
        new = {digest: waveform for digest, waveform in waveforms.items() if digest not in self.cache.known}
        if new:
            self.cache.add(dict(zip(new, self._encoded(list(new.values())), strict=True)))
        cuts = [self._cut(suite, pair) for suite, pair in batch]
        log_probs = self._log_probs(
            tokens_T for sides in cuts for cut in sides for tokens_T in (cut.tokens_T, cut.continuation)
        )
        return [
            PairScore(
                suite=suite.label,
                id=pair.id,
                item=pair.item,
                groups=dict(pair.groups),
                positive=positive.scored(log_probs),
                negative=negative.scored(log_probs),
                split_s=pair.split_s,
            )
            for (suite, pair), (positive, negative) in zip(batch, cuts, strict=True)
        ]

    def _encoded(self, waveforms: Sequence[torch.Tensor]) -> list[Ints]:
        lengths = [len(waveform_S) for waveform_S in waveforms]
        tokens_BT, counts_B = self.speech_lm.codec.tokens(
            pad_sequence(list(waveforms), batch_first=True), lengths=lengths
        )
        rows = zip(tokens_BT.cpu().numpy(), counts_B.tolist(), strict=True)
        return [np.array(tokens_T[:count]) for tokens_T, count in rows]

    def _cut(self, suite: CheckedSuite, pair: Pair) -> list[_Cut]:
        """Return both sides of a pair."""
        cuts = []
        for side, name in enumerate((pair.positive, pair.negative)):
            digest = suite.recordings[name].digest
            tokens_T = self.cache.known[digest]
            if pair.split_s is None:
                cuts.append(_Cut(name, digest, tokens_T))
                continue
            codec, begin_s = self.speech_lm.codec, pair.split_s[side]
            begin = tokens_before(codec, tokens_T, begin_s)
            end = len(tokens_T)
            if self.local_seconds is not None:
                end = tokens_before(codec, tokens_T, begin_s + self.local_seconds)
            # Alone, a continuation has to begin with a chunk, in phase with how it was coded.
            unit = prompt_unit(codec, self.speech_lm.chunk_tokens)
            cuts.append(_Cut(name, digest, tokens_T, begin, end, -(-begin // unit) * unit))
        return cuts

    def _log_probs(self, sequences: Iterable[Ints]) -> dict[bytes, Floats]:
        """Return the log-probabilities of each sequence, by its bytes; each is scored once."""
        found = {tokens_T.tobytes(): tokens_T for tokens_T in sequences}
        chunk = self.speech_lm.chunk_tokens
        scored = [key for key, tokens_T in found.items() if tokens_T.size > chunk]
        log_probs = {key: np.full(tokens_T.size, np.nan) for key, tokens_T in found.items()}
        sizes = [found[key].size for key in scored]
        budget = math.ceil(self.batch_seconds * self.speech_lm.codec.facts.token_rate_hz)
        for batch in length_batches(sizes, budget=budget):
            keys = [scored[place] for place in batch]
            rows = self.log_probs([found[key] for key in keys])
            if any(np.isinf(row_T).any() for row_T in rows):
                raise CheckpointError(f"the language model calls a token impossible: {DAMAGED}")
            log_probs |= dict(zip(keys, rows, strict=True))
        return log_probs


@dataclass(frozen=True)
class _Cut:
    """The tokens of a recording, and which of them come after the place where its pair splits."""

    name: str
    digest: str
    tokens_T: Ints
    begin: int | None = None
    end: int = 0
    alone: int = 0
    """Where the continuation begins that is scored without a past."""

    @property
    def continuation(self) -> Ints:
        """What is scored without a past."""
        return self.tokens_T[self.alone : self.end]

    def scored(self, log_probs: Mapping[bytes, Floats]) -> RecordingScore:
        found_T = log_probs[self.tokens_T.tobytes()]
        nats, tokens = _total(found_T)
        if self.begin is None:
            return RecordingScore(self.name, self.digest, nats, tokens)
        gain_T = found_T[self.alone : self.end] - log_probs[self.continuation.tobytes()]
        after = _total(found_T[self.begin : self.end])
        return RecordingScore(self.name, self.digest, nats, tokens, after, _total(gain_T))


def _total(values_T: Floats) -> tuple[float, int]:
    known_T = values_T[~np.isnan(values_T)]
    return math.fsum(known_T.tolist()), known_T.size


def tokens_before(codec: Codec, tokens_T: Ints, seconds: float) -> int:
    """Return how many tokens of a recording begin before a time."""
    # A place that is given as 1.28 s must not come out as one token later.
    plain = math.ceil(seconds * codec.facts.token_rate_hz - 1e-6)
    if not codec.facts.quantizer.variable_rate or plain <= 0:
        return min(max(plain, 0), tokens_T.size)
    expanded_1T, _ = codec.expand(torch.from_numpy(tokens_T)[None])
    return int(codec.compact(expanded_1T[:, :plain])[1])
