"""Tasks over waveforms: crops of training utterances, read ahead, and validation utterances, whole."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.data.audio import load_torchaudio
from wavslm_core.data.augment import augmented
from wavslm_core.data.batches import Batching, Crop, CropOrder, length_batches, spread
from wavslm_core.data.corpora import Split
from wavslm_core.data.prefetch import Prefetch
from wavslm_core.errors import DataError
from wavslm_core.machine.processes import ALONE, Processes, divide
from wavslm_core.training.config import AudioTrainingConfig
from wavslm_core.training.task import Task

logger = logging.getLogger(__name__)

READ_AHEAD = 2
"""Micro-batches that wait, read: one to go on with, one for when the next takes longer."""

AudioConfigT = TypeVar("AudioConfigT", bound=AudioTrainingConfig)
Scored = TypeVar("Scored")


@dataclass(frozen=True)
class AudioBatch:
    """A micro-batch's audio."""

    crops: list[Crop]
    waveforms: list[Tensor]
    """(S,) each, at the task's input rate, as they are heard."""
    targets: list[Tensor]
    """The same at its output rate; the very list where rates and audio are the same."""


class AudioTask(Task, Generic[AudioConfigT]):
    """One whose items are crops of utterances, and which is validated on utterances that are whole."""

    def __init__(
        self,
        train: Split,
        valid: Split,
        *,
        config: AudioConfigT,
        batching: Batching,
        rate_in: int,
        rate_out: int | None = None,
        chunk_samples: int = 1,
        grid_samples: int = 1,
        longest_seconds: float = math.inf,
        processes: Processes = ALONE,
    ) -> None:
        """Crops are whole chunks of `chunk_samples` at `rate_in`, and are read at `rate_out` (Hz) too.

        They start on multiples of `grid_samples`. Utterances that are longer than `longest_seconds` are left
        out, of validation too. `processes` divide validation among each other.
        """
        self.train = train
        self.valid = valid
        self.config = config
        self.batching = batching
        self.processes = processes
        self.rate_in = rate_in
        self.rate_out = rate_in if rate_out is None else rate_out
        # Crops start where both rates have a sample.
        self.unit_in = self.rate_in // math.gcd(self.rate_in, self.rate_out)
        self.unit_out = self.rate_out // math.gcd(self.rate_in, self.rate_out)
        self.crop_samples = max(1, round(config.crop_seconds * rate_in / chunk_samples)) * chunk_samples
        self.crop_samples_out = round(self.crop_samples * self.unit_out / self.unit_in)
        lengths = np.ceil(train.durations_s * self.rate_in).astype(np.int64)
        if math.isfinite(longest_seconds):
            # The order does not take what has no length.
            lengths = np.where(_short_enough(train, longest_seconds, processes), lengths, 0)
        self._order = CropOrder(
            lengths,
            crop=self.crop_samples,
            batching=batching,
            unit=math.lcm(self.unit_in, grid_samples),
            shortest=int(math.isfinite(longest_seconds)),
        )
        if train.augment is not None and train.augment.overlap is not None and len(train.utterances) < 2:
            raise DataError(
                f"data.augment.overlap mixes utterances, but split '{train.name}' has only one. Leave it out"
            )
        # Once, here: it must not be imported in two threads at the same time.
        load_torchaudio()
        self._reader = Prefetch(
            lambda number: self._read(*divmod(number, config.accumulate)),
            ahead=READ_AHEAD,
            end=config.steps * config.accumulate,
            # Every player sees all micro-batches of a step.
            keep=config.accumulate,
        )
        kept: Sequence[int] = range(len(valid.utterances))
        if math.isfinite(longest_seconds):
            kept = np.flatnonzero(_short_enough(valid, longest_seconds, processes)).tolist()
        self.valid_indices = [kept[index] for index in spread(len(kept), config.valid_utterances)]

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the model is."""

    @property
    def valid_utterances(self) -> int:
        """How many utterances `validate` scores."""
        return len(self.valid_indices)

    def about(self) -> dict[str, Any]:
        return {"valid_utterances": self.valid_utterances}

    def close(self) -> None:
        self._reader.close()

    def crops(self, step: int, micro_batch: int) -> list[Crop]:
        """Return a micro-batch's crops; `start` counts samples at the input rate."""
        return self._order.crops(step, micro_batch)

    def batch(self, step: int, micro_batch: int) -> AudioBatch:
        """Return a micro-batch's audio."""
        return self._reader.get(step * self.config.accumulate + micro_batch)

    def described(self, crops: Sequence[Crop]) -> str:
        """Name crops, for the message when a loss is not finite."""
        return ", ".join(
            f"{self.train.utterances[crop.utterance].id}@{crop.start / self.rate_in:.2f}s" for crop in crops
        )

    def padded(self, waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return (B,S) padded with zeros, and lengths (B,), on the model's device."""
        lengths = torch.tensor([len(waveform_S) for waveform_S in waveforms])
        return pad_sequence(list(waveforms), batch_first=True).to(self.device), lengths.to(self.device)

    def valid_audio(self, indices: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
        """Return validation utterances (S,) at the input and at the output rate; one list if both are one."""
        rates = dict.fromkeys((self.rate_in, self.rate_out))
        views = [[self.valid.load(index, sample_rate_hz=rate) for index in indices] for rate in rates]
        return views[0], views[-1]

    def scored(self, score: Callable[[Sequence[int]], list[Scored]]) -> tuple[list[int], list[Scored]]:
        """Return which validation utterances there are, and what `score` says of each, batch by batch.

        Longest first; each process takes its part of the batches, and all return the same.
        """
        milliseconds = [round(1000 * self.valid.utterances[index].seconds) for index in self.valid_indices]
        budget = round(1000 * self.batching.items * self.config.crop_seconds)
        batches = [
            [self.valid_indices[place] for place in places]
            for places in length_batches(milliseconds, budget=budget)
        ]
        scores = [found for part in divide(self.processes, batches, score) for found in part]
        return [index for batch in batches for index in batch], scores

    def _read(self, step: int, micro_batch: int) -> AudioBatch:
        """Return a micro-batch's audio; runs in the reader's thread."""
        crops = self.crops(step, micro_batch)
        waveforms = [self._load(crop, self.rate_in) for crop in crops]
        same_rate = self.rate_out == self.rate_in
        targets = waveforms if same_rate else [self._load(crop, self.rate_out) for crop in crops]
        return AudioBatch(crops, *self.augmented(step, micro_batch, waveforms, targets))

    def augmented(
        self, step: int, micro_batch: int, waveforms: list[Tensor], targets: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return a micro-batch's items as they are heard, and as they have to be given back.

        They are given at input and output rate, from the same place of the same utterance on; one list, where
        the rates are the same. Of recipes without `data.augment`, they come back as they are. What happens
        to an item depends on seed and place in the order alone, not on which process has it.
        """
        config = self.train.augment
        if config is None:
            return waveforms, targets
        views = [waveforms] if targets is waveforms else [waveforms, targets]
        rates = [self.rate_in, self.rate_out][: len(views)]
        heard, given = [], []
        places = self.batching.places(step, micro_batch).tolist()
        for place, crop, *item in zip(places, self.crops(step, micro_batch), *views, strict=True):
            other = partial(self._other, crop.utterance, rates)
            hears, gives = augmented(config, item, rates=rates, key=(self.batching.seed, place), other=other)
            heard.append(hears[0])
            given.append(gives[-1])
        same = targets is waveforms and config.target == "same"
        return heard, heard if same else given

    def _other(
        self, utterance: int, rates: Sequence[int], draw: np.random.Generator, units: int
    ) -> list[Tensor]:
        """Return a stretch of any other training utterance, (S,) at each rate."""
        index = int(draw.integers(len(self.train.utterances) - 1))
        index += index >= utterance
        room = int(self.train.durations_s[index] * self.rate_in) // self.unit_in - units
        start = int(draw.integers(max(0, room) + 1))
        unit = {self.rate_in: self.unit_in, self.rate_out: self.unit_out}
        return [
            self.not_empty(
                self.train.load_crop(
                    index, start=start * unit[rate], samples=units * unit[rate], sample_rate_hz=rate
                ),
                index,
            )
            for rate in rates
        ]

    def _load(self, crop: Crop, sample_rate_hz: int) -> Tensor:
        """Return a training crop (S,) at a rate."""
        ratio = (self.unit_out if sample_rate_hz == self.rate_out else self.unit_in) / self.unit_in
        waveform_S = self.train.load_crop(
            crop.utterance,
            start=round(crop.start * ratio),
            samples=round(self.crop_samples * ratio),
            sample_rate_hz=sample_rate_hz,
        )
        return self.not_empty(waveform_S, crop.utterance)

    def not_empty(self, waveform_S: Tensor, utterance: int) -> Tensor:
        """Return what was read of a training utterance. Raises: DataError when there is nothing."""
        if not len(waveform_S):
            raise DataError(
                f"utterance {self.train.utterances[utterance].id} is shorter than its manifest says. "
                "Was the file replaced? Delete the manifests in the runs' .cache folder"
            )
        return waveform_S


def _short_enough(split: Split, longest_seconds: float, processes: Processes) -> npt.NDArray[np.bool_]:
    """Return which utterances are no longer than that, (N,); the others are counted in a warning.

    Raises: DataError when all are longer.
    """
    kept: npt.NDArray[np.bool_] = split.durations_s <= longest_seconds
    longer = len(kept) - int(kept.sum())
    remedy = "Cut recordings into utterances with `cut` in the recipe's `data:` block"
    if longer == len(kept):
        raise DataError(
            f"every utterance of split '{split.name}' is longer than {longest_seconds:g} s. {remedy}"
        )
    if longer and processes.rank == 0:
        logger.warning(
            "%d of %d utterances of split '%s' are left out: they are longer than %g s. %s",
            *(longer, len(kept), split.name, longest_seconds, remedy),
        )
    return kept
