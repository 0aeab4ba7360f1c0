"""What a language model thinks of tokens: bits for each one that it predicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.data.length_batches import length_batches
from wavslm_core.data.progress import progress_bar
from wavslm_core.evaluation.backoff import Floats, Ints
from wavslm_core.run_context import Interrupted
from wavslm_core.speech_lm import SpeechLM


def token_bits(
    speech_lm: SpeechLM,
    utterances: Sequence[Ints],
    *,
    batch_tokens: int = 4096,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[Floats]:
    """Return −log2 p(token | its past) for every token of every utterance, NaN where nothing predicts.

    Utterances are scored whole, in padded batches of at most `batch_tokens` places.
    Raises: Interrupted between batches when asked to stop; CheckpointError for a model that gives NaN.
    """
    device = next(speech_lm.parameters()).device
    bits: list[Floats] = [np.full(tokens.size, np.nan) for tokens in utterances]
    scored = [index for index, tokens in enumerate(utterances) if tokens.size]
    sizes = [utterances[index].size for index in scored]
    with progress_bar("score tokens", total=sum(sizes), unit="tokens") as advance:
        for batch in length_batches(sizes, budget=batch_tokens):
            if stop_requested():
                raise Interrupted
            rows = [torch.from_numpy(utterances[scored[place]]) for place in batch]
            lengths = torch.tensor([row.numel() for row in rows], device=device)
            padded_BT = pad_sequence(rows, batch_first=True).to(device)
            log_probs_BT = speech_lm.score(padded_BT, lengths=lengths).cpu().double().numpy()
            for place, log_probs_T in zip(batch, log_probs_BT, strict=True):
                bits[scored[place]] = -log_probs_T[: sizes[place]] / math.log(2)
                advance(sizes[place])
    return bits
