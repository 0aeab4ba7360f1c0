"""The language model in `results/evaluate.json`: bits per token, by place and speaker, and the marks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.data.batches import length_batches
from wavslm_core.errors import DataError
from wavslm_core.evaluation.ngrams import TokenSequences, mean_by_place, score_baselines
from wavslm_core.machine.processes import ALONE, Processes, divide
from wavslm_core.machine.progress import progress_bar
from wavslm_core.parts.backoff import Floats, Ints
from wavslm_core.parts.estimates import by_speaker, ratio_estimate

if TYPE_CHECKING:
    from wavslm_core.data.token_store import TokenStore
    from wavslm_core.model.codec import Codec
    from wavslm_core.model.speech_lm import SpeechLM
    from wavslm_core.run.context import StageContext


def stage_speech_lm(context: StageContext, reference: str | None, *, codec: Codec | None = None) -> SpeechLM:
    """Return the language model that a stage names, else the one that the run trained.

    `codec`: the run's, if it is loaded already.
    """
    from wavslm_core.model.speech_lm import SpeechLM

    codec = codec or context.codec()
    if reference is None:
        return context.speech_lm(codec)
    return SpeechLM.load(reference, codec=codec, device=context.device)


def token_stores(context: StageContext, codec: Codec, *splits: str) -> dict[str, TokenStore]:
    """Open the token stores of those splits that have one. Raises: DataError when one is stale or damaged."""
    from wavslm_core.data.token_store import TokenStore, token_fingerprint

    folders = {name: context.found(f"tokens/{name}") for name in splits}
    # All of the codec's weights are read for it.
    fingerprint = codec.fingerprint() if any(folders.values()) else {}
    return {
        name: TokenStore.open(
            folder, expect=token_fingerprint(fingerprint, context.split(name).corpus.fingerprint(name))
        )
        for name, folder in folders.items()
        if folder is not None
    }


def language_scores(
    speech_lm: SpeechLM,
    context: StageContext,
    stores: Mapping[str, TokenStore],
    *,
    split: str,
    baseline_tokens: int,
    batch_tokens: int,
) -> dict[str, Any]:
    """Score the split's token store with the language model and with n-grams counted on `train`'s.

    `stores`: split → token store. `baseline_tokens` bounds the training tokens that are counted (whole
    utterances from the start); 0: no n-grams. Raises: DataError when the split has no token store, or nothing
    in it is long enough; Interrupted.
    """
    store = _store(context, split, stores)
    utterances = [store.tokens(index) for index in range(len(store))]
    bits = token_bits(
        speech_lm,
        utterances,
        batch_tokens=batch_tokens,
        processes=context.processes,
        stop_requested=context.stop_requested,
    )
    sequences = TokenSequences.join(utterances)
    bits_N = np.concatenate(bits)
    predicted_N = ~np.isnan(bits_N)
    chunk = speech_lm.chunk_tokens
    if not predicted_N.any():
        raise DataError(
            f"no token of split '{split}' can be predicted: its longest utterance has "
            f"{max(map(len, utterances))} tokens, the model predicts from {chunk} on. Use longer recordings"
        )
    sums = [float(np.nansum(values)) for values in bits]
    counts = [int(np.count_nonzero(~np.isnan(values))) for values in bits]
    estimate = ratio_estimate(sums, counts)
    seconds = _seconds(speech_lm, sequences.tokens_N[predicted_N])
    scores: dict[str, Any] = {
        "split": split,
        "utterances": len(utterances),
        "tokens": int(predicted_N.sum()),
        "chunk_tokens": chunk,
        "bits_per_token": estimate.mean,
        "interval": estimate.interval,
        "bits_per_second": sum(sums) / seconds,
        "tokens_per_second": sum(counts) / seconds,
        "bits_by_place": mean_by_place(bits_N, sequences.positions_N, chunk_tokens=chunk),
        "by_speaker": {
            speaker: found.to_dict()
            for speaker, found in by_speaker(_speakers(context, split, store), sums, counts).items()
        },
        "baselines": [],
    }
    # Counting takes seconds to minutes and is not divided; only rank 0 writes it down.
    if baseline_tokens and context.rank == 0:
        train = _store(context, "train", stores)
        within = int(np.searchsorted(np.cumsum(train.lengths), baseline_tokens, side="right"))
        counted = TokenSequences.join(train.tokens(index) for index in range(max(1, within)))
        found = score_baselines(
            counted,
            sequences,
            predicted_N=predicted_N,
            vocab_size=store.vocab_size,
            chunk_tokens=chunk,
        )
        scores["baseline_tokens"] = counted.tokens_N.size
        scores["baselines"] = [vars(score) for score in found]
    return scores


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
    with progress_bar("score tokens", total=total, unit="tokens") as advance:

        def score(batch: list[int]) -> list[Floats]:
            found = token_log_probs(speech_lm, [utterances[scored[place]] for place in batch])
            advance(sum(sizes[place] for place in batch))
            return [-log_probs_T / math.log(2) for log_probs_T in found]

        found = divide(processes, batches, score, stop_requested=stop_requested)
    for batch, rows in zip(batches, found, strict=True):
        for place, row in zip(batch, rows, strict=True):
            bits[scored[place]] = row
    return bits


def token_log_probs(speech_lm: SpeechLM, sequences: Sequence[Ints]) -> list[Floats]:
    """Return log p(token | its past) of sequences (T,) that make one batch; NaN where none predicts."""
    rows = [torch.from_numpy(tokens_T) for tokens_T in sequences]
    lengths = [row.numel() for row in rows]
    found_BT = speech_lm.score(pad_sequence(rows, batch_first=True), lengths=lengths).cpu().double().numpy()
    return [found_T[:length] for found_T, length in zip(found_BT, lengths, strict=True)]


def _seconds(speech_lm: SpeechLM, tokens_N: Ints) -> float:
    """Return how long tokens last; where runs are merged, each for as many frames as it stands for."""
    codec = speech_lm.codec
    return int(codec.expand(torch.from_numpy(tokens_N)[None])[1]) / codec.facts.token_rate_hz


def _store(context: StageContext, name: str, stores: Mapping[str, TokenStore]) -> TokenStore:
    if name not in stores:
        raise DataError(
            f"stage 'evaluate' needs the tokens of split '{name}', but {context.run_dir} holds none. "
            f"Put `- {{run: tokenize}}` with '{name}' among its splits before it; n-grams, which are counted "
            "on 'train', can be left out with `baseline_tokens: 0`"
        )
    return stores[name]


def _speakers(context: StageContext, split: str, store: TokenStore) -> list[str | None]:
    """Return each stored utterance's speaker, None where the corpus does not tell."""
    known = {utterance.id: utterance.speaker for utterance in context.split(split).utterances}
    return [known.get(name) for name in store.ids]
