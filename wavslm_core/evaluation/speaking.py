"""The language model's own speech, judged: what it says after prompts, and one chunk at a time.

Continuations are what the model is for, but nobody knows what should have been said, so only metrics that
need no reference judge them, beside how the recording really goes on. One chunk ahead, every chunk of a
recording is drawn given what was really said before it: that can be compared with the recording, sample by
sample, and with its transcript.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from wavslm_core.data.audio import resample
from wavslm_core.data.batches import spread
from wavslm_core.data.corpora import Split
from wavslm_core.errors import AudioError, WavslmError
from wavslm_core.evaluation.config import Anchor
from wavslm_core.machine.processes import ALONE, Processes, divide
from wavslm_core.machine.progress import progress_bar
from wavslm_core.model.sampling import TokenDraw
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.model.token_lm import SamplerLike
from wavslm_core.parts.facts import chunk_ahead_problem
from wavslm_core.parts.interfaces import Sampler
from wavslm_core.parts.measurement import (
    Measurement,
    Pair,
    heard_documents,
    measure,
    measure_pair,
    score_documents,
    unmeasured,
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


@dataclass(frozen=True)
class Spoken:
    """A continuation and what stands beside it, (S,) each at the codec's output rate, without the prompt."""

    id: str
    """Of the recording."""
    seed: int
    prompt_tokens_T: Tensor
    new_tokens_T: Tensor
    prompt_S: Tensor
    """As it was recorded."""
    sounds: Mapping[str, Tensor]
    """CONTINUATION, ORIGINAL and anchors; what a recording that ends with its prompt has not is left out."""
    sample_rate_hz: int


CONTINUATION, ORIGINAL = "continuation", "original"
ENDS = "the recording ends with its prompt"


@dataclass(frozen=True)
class _Judged:
    """What metrics told of one prompt, by what they heard after it."""

    told: Mapping[str, Measurement]
    seed: int
    prompt_seconds: float
    seconds: float
    elapsed_s: float | None


@torch.no_grad()
def score_continuations(
    speech_lm: SpeechLM,
    split: Split,
    metrics: Metrics,
    *,
    count: int,
    prompt_seconds: float | Literal["half"],
    seconds: float,
    seed: int,
    sampler: SamplerLike = None,
    anchors: Sequence[Anchor] = (),
    after_each: Callable[[Spoken], None] = lambda spoken: None,
    processes: Processes = ALONE,
    stop_requested: Stop = lambda: False,
) -> dict[str, Any]:
    """Continue `count` utterances by `seconds` after their prompts and judge what is new.

    A prompt is the first `prompt_seconds`, or the first half; prompt p draws with seed + p. How the
    recordings go on themselves is judged beside, and `anchors`; of one that ends with its prompt, nothing.
    `after_each` is given what was judged. `times_real_time` is speech per time of drawing and decoding it,
    one continuation after another; `processes` divide the prompts among each other. A recording that cannot
    be read, or is shorter than a chunk, fails alone. Raises: Interrupted.
    """
    rate_hz = speech_lm.codec.sample_rate_in
    chosen = speech_lm.make_sampler(sampler)
    needed_s = 0.0 if prompt_seconds == "half" else prompt_seconds + seconds
    indices = long_enough(split, count, seconds=needed_s)
    total = len(indices) / processes.world_size
    with progress_bar("Continuing", total=total, unit="prompts") as advance:

        def score(place: int) -> _Judged:
            utterance, own_seed = split.utterances[indices[place]], seed + place
            prompt_s = utterance.seconds / 2 if prompt_seconds == "half" else prompt_seconds
            new_s = min(seconds, prompt_s) if prompt_seconds == "half" else seconds
            try:
                heard_S = split.load_crop(
                    indices[place],
                    start=0,
                    samples=round(prompt_s * rate_hz) + round(new_s * rate_hz),
                    sample_rate_hz=rate_hz,
                )
                spoken, elapsed_s = _spoken(
                    speech_lm, split, indices[place], heard_S, prompt_s, new_s, own_seed, chosen, anchors
                )
            except AudioError as error:
                failed = unmeasured(metrics, str(error))
                told = dict.fromkeys((CONTINUATION, ORIGINAL, *anchors), failed)
                return _Judged(told, own_seed, prompt_s, new_s, None)
            told = {
                name: measure(
                    metrics, spoken.prompt_S, spoken.sounds[name], sample_rate_hz=spoken.sample_rate_hz
                )
                if name in spoken.sounds
                else unmeasured(metrics, ENDS)
                for name in (CONTINUATION, ORIGINAL, *anchors)
            }
            after_each(spoken)
            advance(1)
            return _Judged(told, own_seed, prompt_s, new_s, elapsed_s)

        scores = divide(processes, range(len(indices)), score, stop_requested=stop_requested)
    timed = [one for one in scores if one.elapsed_s is not None]
    ids = [split.utterances[index].id for index in indices]
    by_name = {name: [one.told[name] for one in scores] for name in (CONTINUATION, ORIGINAL, *anchors)}
    said, truths = by_name.pop(CONTINUATION), by_name.pop(ORIGINAL)
    if processes.rank == 0:
        warn_of_failures(metrics, ids, said)
    return {
        "count": len(indices),
        "prompt_seconds": prompt_seconds,
        "seconds": seconds,
        "seed": seed,
        "sampler": chosen.config.model_dump(mode="json"),
        "times_real_time": sum(one.seconds for one in timed) / sum(one.elapsed_s or 0 for one in timed)
        if timed
        else None,
        "judges": {
            name: {"options": metric.config.model_dump(mode="json"), "versions": metric.versions()}
            for name, metric in metrics.items()
        },
        "metrics": score_documents(metrics, ids, said, truths, by_name),
        "heard": heard_documents(ids, [None] * len(ids), list(zip(said, truths, strict=True))),
        "prompts": [
            {
                "id": which,
                "seed": one.seed,
                "prompt_seconds": one.prompt_seconds,
                "seconds": one.seconds,
                "scores": {name: told.scores for name, told in one.told.items()},
            }
            for which, one in zip(ids, scores, strict=True)
        ],
    }


def _spoken(
    speech_lm: SpeechLM,
    split: Split,
    index: int,
    heard_S: Tensor,
    prompt_s: float,
    new_s: float,
    seed: int,
    sampler: Sampler,
    anchors: Sequence[Anchor],
) -> tuple[Spoken, float]:
    """Continue a recording (S,), of prompt and what comes after; return also how many seconds that took."""
    codec = speech_lm.codec
    rate_hz, rate_out_hz = codec.sample_rate_in, codec.sample_rate_out
    samples = round(new_s * rate_out_hz)
    prompt_S = heard_S[: round(prompt_s * rate_hz)]
    prompt_BT, _ = speech_lm.encode_prompt(prompt_S, sample_rate=rate_hz)
    truth_S = split.load_crop(
        index, start=round(prompt_s * rate_out_hz), samples=samples, sample_rate_hz=rate_out_hz
    )
    began = time.monotonic()
    new_BT, _ = speech_lm.generate_speech(prompt_BT, samples=samples, sampler=sampler, seed=seed)
    new_S = speech_lm.decode_continuation(prompt_BT, new_BT)[0, :samples].cpu()
    elapsed_s = time.monotonic() - began
    sounds = {CONTINUATION: new_S, ORIGINAL: truth_S}
    if anchors:
        whole_BT, _ = speech_lm.encode_prompt(heard_S, sample_rate=rate_hz)
        after_BT = whole_BT[:, prompt_BT.shape[1] :]
        generator = torch.Generator().manual_seed(seed)
        order_T = torch.randperm(after_BT.shape[1], generator=generator).to(after_BT.device)
        ways = {"codec": after_BT, "shuffled": after_BT[:, order_T]}
        for name in anchors if after_BT.shape[1] else ():
            decoded_BS = speech_lm.decode_continuation(prompt_BT, ways[name])
            sounds[name] = decoded_BS[0, : min(samples, truth_S.numel())].cpu()
    spoken = Spoken(
        id=split.utterances[index].id,
        seed=seed,
        prompt_tokens_T=prompt_BT[0].cpu(),
        new_tokens_T=new_BT[0].cpu(),
        prompt_S=resample(prompt_S, rate_hz, rate_out_hz),
        sounds={name: sound_S for name, sound_S in sounds.items() if sound_S.numel()},
        sample_rate_hz=rate_out_hz,
    )
    return spoken, elapsed_s


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
    utterances = [split.utterances[index] for index in indices]
    ids = [utterance.id for utterance in utterances]
    found, originals = [one for one, _ in scores], [original for _, original in scores]
    if processes.rank == 0:
        warn_of_failures(metrics, ids, found)
    return {
        "count": len(indices),
        "seconds": seconds,
        "metrics": score_documents(metrics, ids, found, originals),
        "heard": heard_documents(ids, [utterance.text for utterance in utterances], scores),
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
