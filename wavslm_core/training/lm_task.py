"""The language model's task: predict the tokens of a store, under a frozen codec.

A training item is a crop of one utterance that starts on a chunk's edge; a shorter utterance is taken whole.
Crops never cross utterances: nothing can be predicted across such an edge, scoring and generation begin at
an utterance's start too, and there are no begin or end tokens that could mark it (the paper has none). The
features of a crop are computed as if the stream began there, so no token outside of it matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.data.batches import Batching, Crop, CropOrder, length_batches, spread
from wavslm_core.data.token_store import TokenStore
from wavslm_core.errors import DataError
from wavslm_core.machine.processes import ALONE, Processes, divide
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.training.task import LossOutput, Task
from wavslm_core.training.tracking import Tracker

Control = Literal["none", "shuffled_tokens"]
IntArray = npt.NDArray[np.int64]

GAP_UTTERANCES = 32
"""Training utterances that are scored whole like validation ones, so that the gap between the two is due to
over-fitting alone and not to dropout or crops."""


class LanguageModelTask(Task):
    """Mean −log p, in nats, of the tokens that the head predicts."""

    reaches_all_weights = True

    def __init__(
        self,
        model: SpeechLM,
        train: TokenStore,
        valid: TokenStore,
        *,
        crop_tokens: int,
        batching: Batching,
        control: Control = "none",
        valid_utterances: int | None = None,
        processes: Processes = ALONE,
    ) -> None:
        """`valid_utterances`: how many to score, evenly spread; None: all. `processes` divide that work.

        Raises: DataError when crops are no whole chunks, or no utterance is long enough to predict anything.
        """
        self.model = model
        self.train = train
        self.valid = valid
        self.crop_tokens = crop_tokens
        self.batching = batching
        self.control = control
        self.processes = processes
        self.chunk = chunk = model.chunk_tokens
        # A crop must be in phase with how its tokens were coded as well as with how they are predicted.
        self.align = align = math.lcm(chunk, model.codec.facts.chunk_tokens)
        if crop_tokens % align or crop_tokens < 2 * chunk:
            raise DataError(
                f"crop_tokens is {crop_tokens}, but must be a multiple of {align} (whole chunks of "
                f"head and codec) and at least {2 * chunk}: nothing predicts the head's first chunk"
            )
        self._valid_ids = self._long_enough(valid, valid_utterances)
        self._gap_ids = self._long_enough(train, GAP_UTTERANCES)
        self._order = CropOrder(
            train.lengths, crop=crop_tokens, batching=batching, unit=align, shortest=self.chunk + 1
        )
        self._whole_order = self._order.with_batching(batching.alone())

    def _long_enough(self, store: TokenStore, wanted: int | None) -> IntArray:
        """Return the indices of up to `wanted` utterances in which at least one token is predicted."""
        found: IntArray = np.flatnonzero(store.lengths > self.chunk)
        if not len(found):
            raise DataError(
                f"no utterance in {store.folder} is longer than one chunk of {self.chunk} tokens, so "
                "there is nothing to predict. Use longer recordings"
            )
        return found[spread(len(found), wanted)]

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"backbone": self.model.backbone, "head": self.model.head}

    @property
    def valid_utterances(self) -> int:
        """How many utterances `validate` scores."""
        return len(self._valid_ids)

    def about(self) -> dict[str, Any]:
        return {"valid_utterances": self.valid_utterances}

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def crops(self, step: int, micro_batch: int) -> list[Crop]:
        """Return a micro-batch's crops; `utterance` is an index into the store, `start` counts tokens."""
        return self._order.crops(step, micro_batch)

    def loss(self, step: int, micro_batch: int) -> LossOutput:
        crops = self.crops(step, micro_batch)
        rows = self._rows(crops)
        if self.control == "shuffled_tokens":
            rows = self._shuffled_rows(step, micro_batch)
        log_probs_BT, predicted_BT = self.model.scored(*self._padded(rows))
        # Picked by place and not by "is a number", so that a NaN out of the model reaches the loop's guard.
        loss = -log_probs_BT[predicted_BT].mean()
        return LossOutput(
            loss,
            metrics={"bits_per_token": loss.detach() / math.log(2)},
            weight=sum(max(0, len(row) - self.chunk) for row in rows),
            tokens=sum(len(row) for row in rows),
            description=", ".join(f"{self.train.ids[crop.utterance]}@{crop.start}" for crop in crops),
        )

    def _rows(self, crops: Sequence[Crop]) -> list[IntArray]:
        limit = self.crop_tokens
        return [self.train.tokens(crop.utterance)[crop.start : crop.start + limit] for crop in crops]

    def _shuffled_rows(self, step: int, micro_batch: int) -> list[IntArray]:
        """Return this process's rows once the tokens of the whole micro-batch have changed places."""
        rows = self._rows(self._whole_order.crops(step, micro_batch))
        generator = np.random.default_rng([self.batching.seed, step, micro_batch])
        first = self.batching.rank * self.batching.items
        return shuffled(rows, generator)[first : first + self.batching.items]

    def validate(self) -> dict[str, float]:
        """Return nats (`loss`) and bits per token over whole validation utterances.

        `bits_at_1` … `bits_at_C`: by place inside the chunk. `train_bits_per_token`: whole training
        utterances, scored alike; `gap_bits`: validation minus that.
        """
        valid = self._score(self.valid, self._valid_ids)
        train = self._score(self.train, self._gap_ids)
        bits = valid.mean_bits
        places = {f"bits_at_{place + 1}": mean for place, mean in enumerate(valid.mean_bits_by_place)}
        return {
            "loss": bits * math.log(2),
            "bits_per_token": bits,
            **places,
            "train_bits_per_token": train.mean_bits,
            "gap_bits": bits - train.mean_bits,
        }

    def show(self, tracker: Tracker, step: int) -> None:
        """Log a validation utterance and, if the model streams, how it continues the first half."""
        from wavslm_core.plotting import spectrogram_figure

        tokens_1T = torch.from_numpy(self.valid.tokens(int(self._valid_ids[0])))[None].to(self.device)
        size = min(self.crop_tokens, tokens_1T.shape[1])
        prompt_1T = tokens_1T[:, : max(1, size // 2 // self.chunk) * self.chunk]
        codec = self.model.codec
        shown = {"reconstruction": codec.decode(tokens_1T[:, :size])[0]}
        if self.model.streams:
            new_1T = self.model.generate(prompt_1T, new_tokens=prompt_1T.shape[1], seed=self.batching.seed)
            shown["continuation"] = codec.decode(torch.cat([prompt_1T, new_1T], dim=1))[0]
        rate = codec.sample_rate_out
        for name, waveform_S in shown.items():
            tracker.audio(name, waveform_S, rate, step)
        heard = {name: (waveform_S.cpu(), rate) for name, waveform_S in shown.items()}
        tracker.figure("spectrograms", lambda: spectrogram_figure(heard), step)

    def _padded(self, rows: Sequence[IntArray]) -> tuple[Tensor, Tensor | None]:
        """Return tokens (B,T) padded with zeros, and lengths (B,), on the model's device.

        Raises: ArgumentError for tokens of another codec; looked at before they go to a GPU, for no wait.
        """
        tokens_BT = pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
        return self.model.checked_tokens(tokens_BT, [len(row) for row in rows])

    def _score(self, store: TokenStore, indices: IntArray) -> _Score:
        """Score whole utterances in padded batches no larger than a process's training batch."""

        def score_batch(batch: list[int]) -> tuple[list[float], list[int]]:
            padded = self._padded([store.tokens(int(indices[place])) for place in batch])
            log_probs_BT, predicted_BT = (found.cpu() for found in self.model.scored(*padded))
            bits_BT = torch.where(predicted_BT, -log_probs_BT.double() / math.log(2), 0.0)
            places = [slice(place, None, self.chunk) for place in range(self.chunk)]
            return (
                [float(bits_BT[:, place].sum()) for place in places],
                [int(predicted_BT[:, place].sum()) for place in places],
            )

        score = _Score(np.zeros(self.chunk), np.zeros(self.chunk))
        budget = self.batching.items * self.crop_tokens
        sizes = [store.length(int(index)) for index in indices]
        batches = list(length_batches(sizes, budget=budget))
        for bits, counts in divide(self.processes, batches, score_batch):
            score.bits_C += bits
            score.count_C += counts
        return score


@dataclass
class _Score:
    """Sums by place inside the chunk, (C,)."""

    bits_C: npt.NDArray[np.float64]
    count_C: npt.NDArray[np.float64]

    @property
    def mean_bits(self) -> float:
        return float(self.bits_C.sum() / self.count_C.sum())

    @property
    def mean_bits_by_place(self) -> list[float]:
        """NaN where utterances are too short for a place to be predicted."""
        with np.errstate(invalid="ignore"):
            return [float(mean) for mean in self.bits_C / self.count_C]


def shuffled(rows: Sequence[IntArray], generator: np.random.Generator) -> list[IntArray]:
    """Return rows of the same lengths in which all tokens of all rows have changed places."""
    flat = generator.permutation(np.concatenate(rows))
    return np.split(flat, np.cumsum([len(row) for row in rows])[:-1])
