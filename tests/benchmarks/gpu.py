"""GPUs: a chunk of a batch as torch steps it, operator by operator, and as CUDA graphs; how many can speak.

All rows are at one place of their streams, with their windows full. × real time is how much faster a row's
chunk is there than it lasts; sessions are as many rows as a second of the GPU is enough for.
"""

from collections.abc import Callable

import torch

from tests.benchmarks.machine import time_calls
from tests.benchmarks.models import build_codec, build_speech_lm
from tests.benchmarks.realtime import begun, draws, prompt, rebuilds
from tests.benchmarks.tables import print_table
from wavslm_core import SpeechLM
from wavslm_core.parts.plugins import load_registry

ROWS = (1, 4, 16, 64)
ENGINE = "cuda_graphs"
ROUNDS = 50


def run() -> None:
    if not torch.cuda.is_available():
        print("\nGPU: skipped, PyTorch sees no CUDA GPU here")
        return
    if ENGINE not in {engine.name for engine in load_registry().engines()}:
        print("\nGPU: skipped, wavslm-cuda-graphs is not installed: pip install ./plugins/wavslm-cuda-graphs")
        return
    for size in ("small", "full"):
        _report(size, build_speech_lm(size, build_codec(size)).to("cuda"))


def _report(name: str, model: SpeechLM) -> None:
    chunk_ms = 1000 * model.chunk_tokens / model.codec.facts.token_rate_hz
    rows: list[list[object]] = []
    for count in ROWS:
        try:
            rows += _measured(model, count, chunk_ms)
        except torch.OutOfMemoryError:
            print(f"\n{name}: the memory of this GPU is not enough for {count} rows")
            break
    print_table(
        f"{torch.cuda.get_device_name()}, {name}: one chunk of {chunk_ms:.0f} ms, fp32",
        ["what", "rows", "by", "p50 ms", "p99 ms", "× real time", "sessions", "GB"],
        rows,
    )


def _measured(model: SpeechLM, count: int, chunk_ms: float) -> list[list[object]]:
    """Return the lines of a table for so many rows."""
    ways = {"eager": model, "graphs": model.for_inference(engine=ENGINE, rows=(count,))}
    tasks: dict[str, Callable[[SpeechLM], Callable[[], object]]] = {
        "tokens": lambda way: draws(way, rows=count),
        "tokens and audio": lambda way: _speaks(way, count),
        "codec resynthesis": lambda way: rebuilds(way.codec, rows=count),
    }
    lines: list[list[object]] = []
    for task, begin in tasks.items():
        for way, used in ways.items():
            torch.cuda.reset_peak_memory_stats()
            taken = 1000 * time_calls(_waited(begin(used)), repeats=ROUNDS, warm_up=3)
            p50, p99 = taken.quantile(0.5).item(), taken.quantile(0.99).item()
            memory_gb = torch.cuda.max_memory_allocated() / 1e9
            lines.append([task, count, way, p50, p99, chunk_ms / p50, count * chunk_ms / p50, memory_gb])
    return lines


def _waited(call: Callable[[], object]) -> Callable[[], object]:
    """Return a call that is over when the GPU is done."""

    def waited() -> None:
        call()
        torch.cuda.synchronize()

    return waited


def _speaks(model: SpeechLM, rows: int) -> Callable[[], object]:
    continuation, stream = begun(model, rows=rows), model.codec.stream(batch_size=rows)
    stream.decode(prompt(model, rows=rows))
    return lambda: stream.decode(continuation.next_tokens())
