"""What passes through a codec: originals and their reconstructions, compared metric by metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.codec import Codec
from wavslm_core.data.corpora import Split
from wavslm_core.data.length_batches import length_batches
from wavslm_core.data.progress import progress_bar
from wavslm_core.evaluation.backoff import Ints
from wavslm_core.evaluation.metrics import Measured, Metric, score_names
from wavslm_core.run_context import Interrupted


def score_reconstruction(
    codec: Codec,
    split: Split,
    indices: Sequence[int],
    metrics: Mapping[str, Metric[Any]],
    *,
    batch_seconds: float = 60.0,
    stop_requested: Callable[[], bool] = lambda: False,
) -> dict[str, list[Measured]]:
    """Pass utterances through the codec and compare at its output rate: number → what each index measured.

    Numbers are those of `score_names(metrics)`.

    Raises: Interrupted between batches when asked to stop; AudioError when a recording cannot be read.
    """
    names = score_names(metrics)
    values: dict[str, list[Measured]] = {name: [(0.0, 0.0)] * len(indices) for name in names}
    if not metrics:
        return values
    rate_hz = codec.sample_rate_out
    for batch, inputs in _audio_batches(codec, split, indices, "reconstruct", batch_seconds, stop_requested):
        for place, waveform_S, estimate_S in zip(batch, inputs, reconstruct(codec, inputs), strict=True):
            reference_S = waveform_S
            if rate_hz != codec.sample_rate_in:
                reference_S = split.load(indices[place], sample_rate_hz=rate_hz)
            size = min(reference_S.numel(), estimate_S.numel())
            text = split.utterances[indices[place]].text
            for name, metric in metrics.items():
                found = metric.measure(
                    reference_S[:size], estimate_S[:size], sample_rate_hz=rate_hz, text=text
                )
                for part, pair in found.items():
                    values[f"{name}_{part}" if part else name][place] = pair
    return values


def encode_utterances(
    codec: Codec,
    split: Split,
    indices: Sequence[int],
    *,
    batch_seconds: float = 60.0,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[Ints]:
    """Return the tokens (T_i,) of each utterance. Raises: Interrupted, AudioError."""
    found: list[Ints] = [np.zeros(0, dtype=np.int64)] * len(indices)
    for batch, inputs in _audio_batches(codec, split, indices, "encode", batch_seconds, stop_requested):
        padded_BS, lengths = _padded(codec, inputs)
        tokens_BT = codec.encode(padded_BS, lengths=lengths).cpu().numpy()
        for place, tokens_T, length in zip(
            batch, tokens_BT, codec.token_lengths(lengths).tolist(), strict=True
        ):
            found[place] = tokens_T[:length]
    return found


def reconstruct(codec: Codec, waveforms: Sequence[Tensor]) -> list[Tensor]:
    """Pass waveforms (S_i,) through the codec as one padded batch; return (⌊S_i · out/in⌋,) each."""
    padded_BS, lengths = _padded(codec, waveforms)
    estimates_BS = codec.reconstruct(padded_BS, lengths=lengths).cpu()
    sizes = (lengths * codec.sample_rate_out // codec.sample_rate_in).tolist()
    return [estimate_S[:size] for estimate_S, size in zip(estimates_BS, sizes, strict=True)]


def _padded(codec: Codec, waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return (B,S) and lengths (B,) on the codec's device."""
    device = next(codec.parameters()).device
    lengths = torch.tensor([waveform.numel() for waveform in waveforms], device=device)
    return pad_sequence(list(waveforms), batch_first=True).to(device), lengths


def _audio_batches(
    codec: Codec,
    split: Split,
    indices: Sequence[int],
    description: str,
    batch_seconds: float,
    stop_requested: Callable[[], bool],
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Yield (places in `indices`, waveforms at the codec's input rate), of similar length."""
    durations = [split.utterances[index].seconds for index in indices]
    budget_ms = max(1, round(1000 * batch_seconds))
    with progress_bar(description, total=sum(durations), unit="s") as advance:
        for batch in length_batches([round(1000 * seconds) for seconds in durations], budget=budget_ms):
            if stop_requested():
                raise Interrupted
            yield (
                batch,
                [split.load(indices[place], sample_rate_hz=codec.sample_rate_in) for place in batch],
            )
            advance(sum(durations[place] for place in batch))
