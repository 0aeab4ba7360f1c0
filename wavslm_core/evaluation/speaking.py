"""The language model's own speech, judged: what it says after prompts, and one chunk at a time.

Continuations are what the model is for, but nobody knows what should have been said, so only metrics that
need no reference judge them, beside how the recording really goes on. One chunk ahead, every chunk of a
recording is drawn given what was really said before it: that can be compared with the recording, sample by
sample, and with its transcript.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wavslm_core.data.batches import spread
from wavslm_core.data.corpora import Split
from wavslm_core.errors import AudioError, WavslmError
from wavslm_core.machine.processes import ALONE, Processes, divide
from wavslm_core.machine.progress import progress_bar
from wavslm_core.model.sampling import TokenDraw
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.facts import chunk_ahead_problem
from wavslm_core.parts.measurement import (
    Pair,
    heard_documents,
    measure_pair,
    score_documents,
    unmeasured_pair,
    warn_of_failures,
)
from wavslm_core.parts.metric import Metric

Metrics = Mapping[str, Metric[Any]]
Stop = Callable[[], bool]


def long_enough(split: Split, count: int, *, seconds: float) -> list[int]:
    """Return up to `count` utterances of at least `seconds`, evenly spread; else the longest there are."""
    order = range(len(split.utterances))
    long = [index for index in order if split.utterances[index].seconds >= seconds]
    if len(long) < count:
        by_length = sorted(order, key=lambda index: -split.utterances[index].seconds)
        long = sorted(by_length[:count])
    return [long[place] for place in spread(len(long), count)]


@torch.no_grad()
def score_continuations(
    speech_lm: SpeechLM,
    split: Split,
    metrics: Metrics,
    *,
    count: int,
    prompt_seconds: float,
    seconds: float,
    seed: int,
    processes: Processes = ALONE,
    stop_requested: Stop = lambda: False,
) -> dict[str, Any]:
    """Continue `count` utterances by `seconds` after their first `prompt_seconds` and judge what is new.

    How the recordings go on themselves is judged beside; of one that ends with its prompt, nothing.
    `times_real_time` is speech per time of drawing and decoding it, one continuation after another;
    `processes` divide the prompts among each other. A recording that cannot be read, or is shorter than a
    chunk, fails alone. Raises: Interrupted.
    """
    rate_hz = speech_lm.codec.sample_rate_in
    rate_out_hz = speech_lm.codec.sample_rate_out
    indices = long_enough(split, count, seconds=prompt_seconds + seconds)
    samples = round(seconds * rate_out_hz)
    total = len(indices) / processes.world_size
    with progress_bar("Continuing", total=total, unit="prompts") as advance:

        def score(place: int) -> tuple[float | None, Pair]:
            index = indices[place]
            try:
                prompt_S = split.load_crop(
                    index, start=0, samples=round(prompt_seconds * rate_hz), sample_rate_hz=rate_hz
                )
                prompt_BT, _ = speech_lm.encode_prompt(prompt_S, sample_rate=rate_hz)
                truth_S = split.load_crop(
                    index,
                    start=round(prompt_seconds * rate_out_hz),
                    samples=samples,
                    sample_rate_hz=rate_out_hz,
                )
            except AudioError as error:
                return None, unmeasured_pair(metrics, str(error))
            began = time.monotonic()
            new_BT, _ = speech_lm.generate_speech(prompt_BT, samples=samples, seed=seed + place)
            new_S = speech_lm.decode_continuation(prompt_BT, new_BT)[0, :samples].cpu()
            elapsed_s = time.monotonic() - began
            advance(1)
            return elapsed_s, measure_pair(metrics, truth_S, new_S, sample_rate_hz=rate_out_hz)

        scores = divide(processes, range(len(indices)), score, stop_requested=stop_requested)
    times_s = [elapsed_s for elapsed_s, _ in scores if elapsed_s is not None]
    return {
        "count": len(indices),
        "prompt_seconds": prompt_seconds,
        "seconds": seconds,
        "times_real_time": len(times_s) * seconds / sum(times_s) if times_s else None,
        **_documents(metrics, split, indices, [pair for _, pair in scores], processes, said=False),
    }


@torch.no_grad()
def score_chunks_ahead(
    speech_lm: SpeechLM,
    split: Split,
    metrics: Metrics,
    *,
    count: int,
    seed: int,
    processes: Processes = ALONE,
    stop_requested: Stop = lambda: False,
) -> dict[str, Any]:
    """Draw every chunk of `count` utterances given what really stands before it, decode, and compare.

    The metrics compare with the recordings at the codec's output rate. `processes` divide the utterances
    among each other. A recording that cannot be read, or is shorter than a chunk, fails alone.
    Raises: Interrupted.
    """
    codec = speech_lm.codec
    rate_hz = codec.sample_rate_out
    indices = spread(len(split.utterances), count)
    seconds = sum(split.utterances[index].seconds for index in indices)
    total = seconds / processes.world_size
    with progress_bar("One chunk ahead", total=total, unit="s") as advance:

        def score(place: int) -> Pair:
            index = indices[place]
            try:
                waveform_S = split.load(index, sample_rate_hz=codec.sample_rate_in)
                tokens_BT, _ = speech_lm.encode_prompt(waveform_S, sample_rate=codec.sample_rate_in)
                reference_S = split.load(index, sample_rate_hz=rate_hz)
            except AudioError as error:
                return unmeasured_pair(metrics, str(error))
            drawn_BT = chunks_ahead(speech_lm, tokens_BT, seed=seed + place * tokens_BT.shape[1])
            estimate_S = codec.decode(drawn_BT)[0].cpu()
            size = min(reference_S.numel(), estimate_S.numel())
            text = split.utterances[index].text
            advance(split.utterances[index].seconds)
            return measure_pair(
                metrics, reference_S[:size], estimate_S[:size], sample_rate_hz=rate_hz, text=text
            )

        scores = divide(processes, range(len(indices)), score, stop_requested=stop_requested)
    return {
        "count": len(indices),
        "seconds": seconds,
        **_documents(metrics, split, indices, scores, processes),
    }


def chunks_ahead(speech_lm: SpeechLM, tokens_BT: Tensor, *, seed: int) -> Tensor:
    """Return tokens (1,T) in which every chunk but the first is drawn given the true ones before it.

    All chunks are drawn at once, as rows of one batch; chunk n draws with seed + n. Takes (1,T) of whole
    chunks. Raises: WavslmError when the head or the sampler looks back further than one chunk.
    """
    chunk = speech_lm.chunk_tokens
    sampler = speech_lm.sampler
    problem = chunk_ahead_problem(
        speech_lm.head_facts, sampler.config.facts(), speech_lm.codec.facts.quantizer
    )
    if problem:
        raise WavslmError(problem)
    if tokens_BT.shape[1] < 2 * chunk:
        return tokens_BT
    known_NC = tokens_BT[:, :-chunk].reshape(-1, chunk)
    hidden_BTD = speech_lm.backbone(speech_lm.inputs(tokens_BT[:, :-chunk]))
    hidden_NCD = hidden_BTD.reshape(known_NC.shape[0], chunk, -1)
    draw = TokenDraw(sampler, known_NC, seeds=range(seed, seed + known_NC.shape[0]))
    drawn_NC = speech_lm.head.propose(hidden_NCD, draw)
    return torch.cat([tokens_BT[:, :chunk], drawn_NC.reshape(1, -1)], dim=1)


def _documents(
    metrics: Metrics,
    split: Split,
    indices: Sequence[int],
    scores: Sequence[Pair],
    processes: Processes,
    *,
    said: bool = True,
) -> dict[str, Any]:
    """Return the scores beside those of the recordings, and the words that were heard.

    `said`: whole utterances were judged, so their transcripts are what was said.
    """
    utterances = [split.utterances[index] for index in indices]
    ids = [utterance.id for utterance in utterances]
    if processes.rank == 0:
        warn_of_failures(metrics, ids, [found for found, _ in scores])
    texts = [utterance.text if said else None for utterance in utterances]
    return {
        "metrics": score_documents(metrics, ids, *zip(*scores, strict=True)),
        "heard": heard_documents(ids, texts, scores),
    }
