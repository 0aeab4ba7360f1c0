"""Real time: one 80 ms chunk in every way there is, in turns in one run, beside the floor and the goals.

Other load falls on all ways alike, so what counts are ratios. The floor is the time to read the weights
once, by how fast memory is read in turns with the ways. × floor is that of medians on the clock, and of
processor time, where what else runs matters less.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tests.benchmarks.codec import BYTES_LEFT, weight_bytes
from tests.benchmarks.machine import READ_BYTES, in_turns_ms, reading
from tests.benchmarks.models import build_codec, build_speech_lm
from tests.benchmarks.tables import print_table
from wavslm_core import Codec, SpeechLM
from wavslm_core.model.continuation import Continuation
from wavslm_core.model.inference import AUTO, ways

ROUNDS = {"small": 100, "full": 40, "tiny": 100}
PROMPT_TOKENS = 512
READING = "reading"


@dataclass(frozen=True)
class Goal:
    """How many times the floor a task may take, by kind of weights."""

    fp32: float
    int8: float

    def of(self, weights: str) -> float:
        return {"fp32": self.fp32, "int8": self.int8}.get(weights, float("nan"))


SPOKEN, RESYNTHESIS, TOKENS = Goal(1.36, 1.73), Goal(1.44, 2.27), Goal(6.7, 6.7)


def run() -> None:
    _report("tiny", SpeechLM.load("tiny"))
    for size in ("small", "full"):
        _report(size, build_speech_lm(size, build_codec(size)))


def _report(name: str, model: SpeechLM) -> None:
    packed = {"fp32, plain": model}
    for way in ways(AUTO, AUTO):
        packed[f"{way.weights}, {way.engine}"] = model.for_inference(weights=way.weights, engine=way.engine)
    codec, facts = model.codec, model.codec.facts
    language = [model.backbone, model.head]
    if model.reads_features:
        language.append(
            codec.quantizer.decompressor if hasattr(codec.quantizer, "decompressor") else codec.quantizer
        )
    chunk_ms = 1000 * model.chunk_tokens / facts.token_rate_hz
    tasks: dict[str, tuple[Callable[[SpeechLM], Callable[[], object]], list[nn.Module], Goal]] = {
        "tokens": (draws, language, TOKENS),
        "tokens and audio": (_speaks, [*language, codec.decoder], SPOKEN),
        "codec resynthesis": (lambda way: rebuilds(way.codec), [codec], RESYNTHESIS),
    }
    rows: list[list[object]] = []
    for task, (begin, parts, goal) in tasks.items():
        calls = {READING: reading(), **{name: begin(fast) for name, fast in packed.items()}}
        taken = in_turns_ms(calls, rounds=ROUNDS[name])
        read_ms, read_cpu = taken.pop(READING).quantile(0.5, dim=0).tolist()
        for way, durations in taken.items():
            weights = way.partition(",")[0]
            share = sum(weight_bytes(part) for part in parts) * BYTES_LEFT[weights] / READ_BYTES
            wall, used = durations.unbind(1)
            p50, p99, cpu = wall.quantile(0.5).item(), wall.quantile(0.99).item(), used.quantile(0.5).item()
            floor, of_cpu = share * read_ms, cpu / (share * read_cpu)
            rows.append(
                [task, way, p50, p99, cpu, floor, p50 / floor, of_cpu, goal.of(weights), chunk_ms / p50]
            )
    columns = ["p50 ms", "p99 ms", "CPU ms", "floor ms", "× floor", "of CPU", "goal", "× real time"]
    print_table(
        f"real time, {name}: one chunk of {chunk_ms:.0f} ms, window full",
        ["what", "weights, by", *columns],
        rows,
    )


def prompt(model: SpeechLM, *, rows: int = 1) -> torch.Tensor:
    """Return tokens that fill the window."""
    generator = torch.Generator().manual_seed(0)
    size = model.backbone_facts.window_tokens or PROMPT_TOKENS
    return torch.randint(0, model.codec.facts.quantizer.vocab_size, (rows, size), generator=generator)


def begun(model: SpeechLM, *, rows: int = 1) -> Continuation:
    """Return continuations whose windows are full."""
    continuation = Continuation(model, model.sampler, seeds=range(rows))
    continuation.read(prompt(model, rows=rows).to(model.token_device))
    return continuation


def draws(model: SpeechLM, *, rows: int = 1) -> Callable[[], object]:
    return begun(model, rows=rows).next_tokens


def _speaks(model: SpeechLM) -> Callable[[], object]:
    session = model.session()
    session.join()
    session.read(prompt(model))
    return session.speak


def rebuilds(codec: Codec, *, rows: int = 1) -> Callable[[], object]:
    stream, chunk = codec.stream(batch_size=rows), codec.facts.chunk_samples_in
    waveform_BS = 0.1 * torch.randn(rows, 128 * chunk, generator=torch.Generator().manual_seed(0))
    stream.decode(stream.encode(waveform_BS))
    return lambda: stream.decode(stream.encode(waveform_BS[:, :chunk]))
