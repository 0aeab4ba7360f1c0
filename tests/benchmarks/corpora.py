"""A manifest of five million utterances: what opening it and going through it costs.

The recordings are made up; writing, opening and reading are the real ones.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.machine import measured_apart, peak_memory_mb, resident_memory_mb
from tests.benchmarks.tables import print_table
from wavslm_core.data.corpora import Utterance, content_digest, durations_s
from wavslm_core.data.folder import Folder, FolderConfig
from wavslm_core.data.manifest import Recording
from wavslm_core.data.token_writer import plan_digest, plan_shards

COUNTS = (50_000, 5_000_000)


class MadeUp(Folder):
    """A folder of files that are not there; reading one gives a made-up length."""

    count = 0

    def present(self) -> Iterator[Recording]:
        for number in range(self.count):
            name = f"{number // 100_000:03d}/{number // 100 % 1000:03d}/{number % 100:02d}.flac"
            yield Recording(name, 400_000, number)

    def _read(self, recording: Recording) -> Recording:
        samples = 16000 * 3 + hash(recording.name) % (16000 * 20)
        return Recording(*recording.same, samples, 16000, 1)


def run() -> None:
    measured: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="corpora-") as folder:
        for count in COUNTS:
            measured[count] = {}
            for what in ("make", "use"):
                measured[count] |= measured_apart(__spec__.name, folder, count, what)
    print_table(
        "a corpus's manifest, by utterances",
        ["", *(f"{count:,}" for count in COUNTS), "ratio"],
        [
            [name, *(measured[count][name] for count in COUNTS), measured[COUNTS[1]][name] / value]
            for name, value in measured[COUNTS[0]].items()
        ],
    )


def measure(folder: Path, count: int, what: str) -> dict[str, float]:
    """Make or use the manifest in this process."""
    MadeUp.count = count
    cache = folder / str(count)
    config = FolderConfig(path=str(folder), rescan=what == "make", valid_fraction=0.01)
    corpus = MadeUp(config, cache_dir=cache)
    before_mb, begin = resident_memory_mb(), time.perf_counter()
    utterances = corpus.utterances("train")
    opened = time.perf_counter()
    if what == "make":
        return {"make s": opened - begin, "make: peak MB": peak_memory_mb()}
    open_mb = resident_memory_mb() - before_mb
    results = {"open and divide ms": 1000 * (opened - begin), "open: MB more": open_mb}
    for name, call in (
        ("fingerprint ms", lambda: corpus.fingerprint("train")),
        ("durations ms", lambda: durations_s(utterances)),
        ("digest ms", lambda: content_digest(utterances)),
        ("plan shards ms", lambda: plan(utterances)),
    ):
        start = time.perf_counter()
        call()
        results[name] = 1000 * (time.perf_counter() - start)
    chosen = np.random.default_rng(0).integers(0, len(utterances), 1000).tolist()
    start = time.perf_counter()
    for index in chosen:
        _ = utterances[index]
    results["one utterance µs"] = 1000 * (time.perf_counter() - start)
    return results | {"peak MB": peak_memory_mb()}


def plan(utterances: Sequence[Utterance]) -> str:
    return plan_digest(utterances, plan_shards(utterances, shard_minutes=1440))


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
