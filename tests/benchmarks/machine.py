"""What this machine can do at most: the floors that every benchmark is printed beside."""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from tests.support import run_program

ROOT = Path(__file__).resolve().parents[2]
READ_BYTES = 256 * 2**20
SIZE = 2048
PRODUCT_FLOPS = 2 * SIZE**3


def time_calls(call: Callable[[], object], *, repeats: int, warm_up: int = 1) -> torch.Tensor:
    """Return the sorted durations of `repeats` calls in seconds."""
    for _ in range(warm_up):
        call()
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return torch.tensor(durations).sort().values


def in_turns_ms(calls: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, torch.Tensor]:
    """Return what each call takes in ms, (rounds, 2): on the clock, and of all threads' processor time.

    All take turns, so that other load falls on all. What else runs on the machine adds to the first, little
    to the second. Each is called twice in a turn, of which the second counts: caches hold what is its own.
    """
    durations: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            call()
            start, used = time.perf_counter(), time.process_time()
            call()
            used = time.process_time() - used
            durations[name].append((1000 * (time.perf_counter() - start), 1000 * used))
    return {name: torch.tensor(taken[1:]) for name, taken in durations.items()}


def reading() -> Callable[[], object]:
    """Return what reads `READ_BYTES` from memory: to read weights once takes as long for each of theirs."""
    return torch.ones(READ_BYTES // 4).sum


def multiplying() -> Callable[[], object]:
    """Return an fp32 matrix product of `PRODUCT_FLOPS`."""
    left, right = torch.randn(2, SIZE, SIZE)
    return lambda: left @ right


@dataclass(frozen=True)
class Machine:
    """Measured, not looked up."""

    threads: int
    bytes_per_s: float
    flops_per_s: float


@cache
def measure_machine() -> Machine:
    """Measure reading bandwidth and the fp32 matrix rate, best of several."""
    return Machine(
        threads=torch.get_num_threads(),
        bytes_per_s=READ_BYTES / time_calls(reading(), repeats=7)[0].item(),
        flops_per_s=PRODUCT_FLOPS / time_calls(multiplying(), repeats=7)[0].item(),
    )


def measured_apart(module: str, *arguments: object) -> dict[str, float]:
    """Return what a benchmark's module measures as a program, in a process of its own."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    found: dict[str, float] = json.loads(run_program(*command, cwd=ROOT).stdout)
    return found


def summary_ms(durations: torch.Tensor) -> list[float]:
    """Return median and 95th percentile of sorted durations."""
    return [1000 * durations.median().item(), 1000 * durations[int(0.95 * len(durations))].item()]


def peak_memory_mb() -> float:
    """Return the largest resident size that this process has had (Linux).

    Not `ru_maxrss`: a child process starts with its parent's.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def resident_memory_mb() -> float:
    """Return the resident size of this process now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
