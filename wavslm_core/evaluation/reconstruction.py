"""What passes through a codec: originals and their reconstructions, compared metric by metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.data.batches import length_batches
from wavslm_core.data.corpora import Rejected, Split
from wavslm_core.errors import AudioError
from wavslm_core.machine.processes import ALONE, Processes, divide
from wavslm_core.machine.progress import progress_bar
from wavslm_core.model.codec import Codec
from wavslm_core.parts.backoff import Ints
from wavslm_core.parts.measurement import Pair, measure_pair, unmeasured_pair
from wavslm_core.parts.metric import Metric

Result = TypeVar("Result")


def score_reconstruction(
    codec: Codec,
    split: Split,
    indices: Sequence[int],
    metrics: Mapping[str, Metric[Any]],
    *,
    batch_seconds: float = 60.0,
    processes: Processes = ALONE,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[Pair]:
    """Pass utterances through the codec and compare at its output rate.

    Returns what the metrics told of each index, and of the recording itself. `processes` divide the padded
    batches among each other. A recording that cannot be read fails alone.
    Raises: Interrupted between batches when asked to stop.
    """
    found = [unmeasured_pair(metrics, "not reached")] * len(indices)
    if not metrics:
        return found
    rate_hz = codec.sample_rate_out

    def score(batch: list[int], inputs: list[Tensor]) -> list[Pair]:
        scores = []
        for place, waveform_S, estimate_S in zip(batch, inputs, reconstruct(codec, inputs), strict=True):
            reference_S = waveform_S
            if rate_hz != codec.sample_rate_in:
                reference_S = split.load(indices[place], sample_rate_hz=rate_hz)
            size = min(reference_S.numel(), estimate_S.numel())
            text = split.utterances[indices[place]].text
            scores.append(
                measure_pair(
                    metrics, reference_S[:size], estimate_S[:size], sample_rate_hz=rate_hz, text=text
                )
            )
        return scores

    work = _AudioWork(codec, split, indices, batch_seconds, processes)
    for place, scored in work.each("reconstruct", score, stop_requested):
        found[place] = unmeasured_pair(metrics, scored.reason) if isinstance(scored, Rejected) else scored
    return found


def encode_utterances(
    codec: Codec,
    split: Split,
    indices: Sequence[int],
    *,
    batch_seconds: float = 60.0,
    processes: Processes = ALONE,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[Ints]:
    """Return the tokens (T_i,) of each utterance, as a language model reads them.

    What cannot be read has none. Raises: Interrupted.
    """
    found: list[Ints] = [np.zeros(0, dtype=np.int64)] * len(indices)

    def encode(batch: list[int], inputs: list[Tensor]) -> list[Ints]:
        padded_BS, lengths = _padded(inputs)
        tokens_BT, sizes_B = codec.tokens(padded_BS, lengths=lengths)
        return [
            tokens_T[:size] for tokens_T, size in zip(tokens_BT.cpu().numpy(), sizes_B.tolist(), strict=True)
        ]

    work = _AudioWork(codec, split, indices, batch_seconds, processes)
    for place, tokens_T in work.each("encode", encode, stop_requested):
        if not isinstance(tokens_T, Rejected):
            found[place] = tokens_T
    return found


def reconstruct(codec: Codec, waveforms: Sequence[Tensor]) -> list[Tensor]:
    """Pass waveforms (S_i,) through the codec as one padded batch; return (⌊S_i · out/in⌋,) each."""
    padded_BS, lengths = _padded(waveforms)
    estimates_BS = codec.reconstruct(padded_BS, lengths=lengths).cpu()
    sizes = (lengths * codec.sample_rate_out // codec.sample_rate_in).tolist()
    return [estimate_S[:size] for estimate_S, size in zip(estimates_BS, sizes, strict=True)]


def _padded(waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return (B,S) and lengths (B,)."""
    lengths = torch.tensor([waveform.numel() for waveform in waveforms])
    return pad_sequence(list(waveforms), batch_first=True), lengths


@dataclass(frozen=True)
class _AudioWork:
    """Utterances in padded batches of similar length, divided among processes."""

    codec: Codec
    split: Split
    indices: Sequence[int]
    batch_seconds: float
    processes: Processes

    def each(
        self,
        description: str,
        work: Callable[[list[int], list[Tensor]], list[Result]],
        stop_requested: Callable[[], bool],
    ) -> Iterator[tuple[int, Result | Rejected]]:
        """Yield (place in `indices`, what `work` makes of it, or why it cannot be read) for every utterance.

        `work` is given places and waveforms at the codec's input rate. Raises: Interrupted.
        """
        durations = [self.split.utterances[index].seconds for index in self.indices]
        milliseconds = [round(1000 * seconds) for seconds in durations]
        batches = list(length_batches(milliseconds, budget=max(1, round(1000 * self.batch_seconds))))
        total = sum(durations) / self.processes.world_size
        with progress_bar(description, total=total, unit="s") as advance:

            def score(batch: list[int]) -> list[tuple[int, Result | Rejected]]:
                loaded = [(place, self._load(place)) for place in batch]
                inputs = {place: item for place, item in loaded if not isinstance(item, Rejected)}
                done = work(list(inputs), list(inputs.values())) if inputs else []
                advance(sum(durations[place] for place in batch))
                unread = [(place, item) for place, item in loaded if isinstance(item, Rejected)]
                return [*zip(inputs, done, strict=True), *unread]

            found = divide(self.processes, batches, score, stop_requested=stop_requested)
        for results in found:
            yield from results

    def _load(self, place: int) -> Tensor | Rejected:
        index = self.indices[place]
        try:
            return self.split.load(index, sample_rate_hz=self.codec.sample_rate_in)
        except AudioError as error:
            return Rejected(self.split.utterances[index].id, str(error))
