"""What a language model thinks of tokens: bits for each one that it predicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.data.length_batches import length_batches
from wavslm_core.evaluation.backoff import Floats, Ints
from wavslm_core.machine.dividing import divide
from wavslm_core.machine.processes import ALONE, Processes
from wavslm_core.machine.progress import progress_bar
from wavslm_core.model.speech_lm import SpeechLM


def token_bits(
    speech_lm: SpeechLM,
    utterances: Sequence[Ints],
    *,
    batch_tokens: int = 4096,
    processes: Processes = ALONE,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[Floats]:
    """Return −log2 p(token | its past) for every token of every utterance, NaN where nothing predicts.

    Utterances are scored whole, in padded batches of at most `batch_tokens` places, which `processes` divide
    among each other.
    Raises: Interrupted between batches when asked to stop; CheckpointError for a model that gives NaN.
    """
    bits: list[Floats] = [np.full(tokens.size, np.nan) for tokens in utterances]
    scored = [index for index, tokens in enumerate(utterances) if tokens.size]
    sizes = [utterances[index].size for index in scored]
    batches = list(length_batches(sizes, budget=batch_tokens))
    total = sum(sizes) / processes.world_size
    with progress_bar("score tokens", total=total, unit="tokens", shown=processes.rank == 0) as advance:

        def score(batch: list[int]) -> list[Floats]:
            rows = [torch.from_numpy(utterances[scored[place]]) for place in batch]
            lengths = [row.numel() for row in rows]
            log_probs_BT = speech_lm.score(pad_sequence(rows, batch_first=True), lengths=lengths)
            advance(sum(sizes[place] for place in batch))
            return [
                -log_probs_T[: sizes[place]] / math.log(2)
                for place, log_probs_T in zip(batch, log_probs_BT.cpu().double().numpy(), strict=True)
            ]

        found = divide(processes, batches, score, stop_requested=stop_requested)
    for batch, rows in zip(batches, found, strict=True):
        for place, row in zip(batch, rows, strict=True):
            bits[scored[place]] = row
    return bits
