"""What is said, judged as text: how surprising it is, how much it repeats itself, how varied it is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from wavslm_core.plugin import (
    BackoffModel,
    Measured,
    ReferenceFreeMetric,
    WavslmError,
    find_folder,
    measured,
    weights_digest,
)
from wavslm_judges.config import (
    CORPUS,
    LEARNT_FROM,
    AutoBleuConfig,
    ListeningConfig,
    PerplexityConfig,
    TypeTokenRatioConfig,
)
from wavslm_judges.libraries import load_transformers, versions_of
from wavslm_judges.recognisers import recogniser_for
from wavslm_judges.words import sentences_of, words_of

ConfigT = TypeVar("ConfigT", bound=ListeningConfig)


class TranscriptMetric(ReferenceFreeMetric[ConfigT], Generic[ConfigT]):
    """Judges what a recogniser hears. Raises: WavslmError when that is not there."""

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self._recogniser = recogniser_for(config)

    @abstractmethod
    def told(self, text: str) -> Measured:
        """Return a sum and what it is over; (0, 0) for text without words."""

    def hear(self, waveform_S: Tensor, *, sample_rate_hz: int) -> str:
        return self._recogniser.hear(waveform_S, sample_rate_hz=sample_rate_hz)

    def judge(self, waveform_S: Tensor, *, sample_rate_hz: int) -> dict[str, float]:
        value, count = self.told(self.hear(waveform_S, sample_rate_hz=sample_rate_hz))
        return {"": value / count if count else math.nan}

    def measure(
        self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        return {"": self.told(self.hear(estimate_S, sample_rate_hz=sample_rate_hz))}

    def versions(self) -> dict[str, str]:
        return self._recogniser.versions()


class TextModel(ABC):
    """A language model of text."""

    @abstractmethod
    def surprise(self, text: str) -> Measured:
        """Return bits, and the words or tokens that they are of."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Return what its numbers depend on."""


class WordNgrams(TextModel):
    """N-grams of words (modified Kneser-Ney); the end of an utterance is a word.

    Words that it never saw are one word, which it calls as unlikely as any that it never saw in a place.
    """

    def __init__(self, sentences: Sequence[str], order: int) -> None:
        """Raises: WavslmError without sentences."""
        words = sorted({word for sentence in sentences for word in sentence.split()})
        if not words:
            raise WavslmError("a language model of text needs sentences to learn from; there are none")
        self._ids = {word: number for number, word in enumerate(words)}
        self._order = order
        self._sentences = len(sentences)
        events = [self._events(sentence.split()) for sentence in sentences]
        targets, contexts = (np.concatenate(parts) for parts in zip(*events, strict=True))
        self._model = BackoffModel(targets, contexts, vocab_size=len(words) + 2, smoothing="kneser_ney")

    def surprise(self, text: str) -> Measured:
        words = words_of(text)
        if not words:
            return 0.0, 0.0
        targets, contexts = self._events(words)
        bits = -np.log2(self._model.probabilities(targets, contexts))
        return float(bits.sum()), float(bits.size)

    def versions(self) -> dict[str, str]:
        return {"n-grams": f"order {self._order}, {self._sentences} sentences, {len(self._ids)} words"}

    def _events(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return words and the end as numbers, (N,), and what is before each, nearest first, (N, order-1)."""
        unknown, end = len(self._ids), len(self._ids) + 1
        nothing = end + 1
        ids = np.array([*(self._ids.get(word, unknown) for word in words), end], dtype=np.int64)
        padded = np.concatenate([np.full(self._order - 1, nothing, dtype=np.int64), ids])
        columns = [padded[self._order - 1 - back : len(padded) - back] for back in range(1, self._order)]
        empty = np.zeros((ids.size, 0), dtype=np.int64)
        return ids, np.stack(columns, axis=1) if columns else empty


class HubTextModel(TextModel):
    """A causal language model for transformers, which is asked per token of its own."""

    def __init__(self, reference: str) -> None:
        transformers = load_transformers("perplexity")
        folder = find_folder(reference)
        try:
            self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True
            )
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise WavslmError(
                f"{reference} is no causal language model for transformers ({error}). Give another "
                f"`language_model` of perplexity, or {CORPUS}"
            ) from None
        self._model.eval()

    @torch.inference_mode()
    def surprise(self, text: str) -> Measured:
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        # Without a token that begins, nothing predicts the first one.
        begin = self._tokenizer.bos_token_id
        known = [*([] if begin is None else [begin]), *ids]
        if len(known) < 2:
            return 0.0, 0.0
        tokens_1T = torch.tensor([known])
        log_probs_TV = self._model(tokens_1T).logits[0, :-1].double().log_softmax(dim=-1)
        nats_T = -log_probs_TV.gather(1, tokens_1T[0, 1:, None])[:, 0]
        return float(nats_T.sum()) / math.log(2), float(nats_T.numel())

    def versions(self) -> dict[str, str]:
        return {**versions_of("transformers"), "language_model": weights_digest(self._model)[:16]}


class Perplexity(TranscriptMetric[PerplexityConfig]):
    """Sums the surprise of all that is heard; what has no words counts nothing."""

    title: ClassVar[str] = "Transcript perplexity, log2"
    unit: ClassVar[str] = "bits"
    better: ClassVar[Literal["higher", "lower"]] = "lower"

    def __init__(self, config: PerplexityConfig) -> None:
        super().__init__(config)
        self._text_model: TextModel | None = None
        given = config.language_model
        if given == CORPUS:
            return
        file = Path(given).expanduser()
        if file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            self._text_model = WordNgrams(sentences_of(lines), config.order)
        else:
            self._text_model = HubTextModel(given)

    def prepare(self, transcripts: Mapping[str, Sequence[str]]) -> None:
        if self.config.language_model != CORPUS:
            return
        sentences = sentences_of(text for split in LEARNT_FROM for text in transcripts[split])
        if not sentences:
            raise WavslmError(
                "the metric 'perplexity' learns from the corpus, which has no transcripts. Give a text file "
                "or a language model as `language_model`, or leave 'perplexity' out"
            )
        self._text_model = WordNgrams(sentences, self.config.order)

    def told(self, text: str) -> Measured:
        assert self._text_model is not None
        return self._text_model.surprise(text)

    def versions(self) -> dict[str, str]:
        own = {} if self._text_model is None else self._text_model.versions()
        return {**super().versions(), **own}


class AutoBleu(TranscriptMetric[AutoBleuConfig]):
    """Repetition within each recording (Lakhotia et al. 2021, arXiv 2102.01192), the mean over recordings."""

    title: ClassVar[str] = "auto-BLEU"
    better: ClassVar[Literal["higher", "lower"]] = "lower"

    def told(self, text: str) -> Measured:
        return measured(auto_bleu(words_of(text), order=self.config.order))


class TypeTokenRatio(TranscriptMetric[TypeTokenRatioConfig]):
    """Different words of each recording, over all words."""

    title: ClassVar[str] = "Type-token ratio"
    better: ClassVar[Literal["higher", "lower"]] = "higher"

    def told(self, text: str) -> Measured:
        words = words_of(text)
        return float(len({*words})), float(len(words))


def auto_bleu(words: Sequence[str], *, order: int) -> float:
    """Return the geometric mean, over run lengths, of the share of runs that come again in the same text.

    NaN where there is no run of `order` words.
    """
    if len(words) < order:
        return math.nan
    shares = []
    for length in range(1, order + 1):
        runs = Counter(tuple(words[start : start + length]) for start in range(len(words) - length + 1))
        shares.append(sum(count for count in runs.values() if count > 1) / sum(runs.values()))
    return math.prod(shares) ** (1 / order)
