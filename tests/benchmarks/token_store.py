"""Token stores of ten million and of a billion tokens: what opening, seeking and memory cost.

Both are made by the stage's own writer in a temporary folder (4 GB of room is needed) and deleted after. Each
is measured in a process of its own. Cold: the system was told to drop what it holds of the files just before;
on a shared machine that is a hint, not a promise. What is read stays in the system's cache, and counts as
resident, as long as nobody needs the memory: those lines say nothing about larger stores, of which a machine
with less memory than store reads every crop from its disk.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.machine import measured_apart, resident_memory_mb
from tests.benchmarks.tables import print_table
from wavslm_core.data.batches import Batching, CropOrder
from wavslm_core.data.token_store import TokenStore
from wavslm_core.data.token_writer import ShardRecord, TokenWriter

SMALL, LARGE, TARGET = 10_000_000, 1_000_000_000, 10_800_000_000
UTTERANCE, SHARD = 750, 24 * 3600 * 50
"""Tokens: 15 s at 50 tokens a second, and a day."""
CROP, BATCH, BATCHES = 500, 64, 200
FIRST, COLD, AFTER = (
    "batch, first ms",
    "batch, cold, median ms",
    f"resident MB more after {2 * BATCHES} batches",
)
CACHE_DEPENDENT = (FIRST, COLD, AFTER)


def run() -> None:
    measured = {}
    with tempfile.TemporaryDirectory(prefix="token-store-") as folder:
        for tokens in (SMALL, LARGE):
            place = Path(folder) / str(tokens)
            begin = time.perf_counter()
            index_s = write(place, tokens)
            print(f"{tokens:,} tokens: written in {time.perf_counter() - begin:.1f} s", flush=True)
            apart = measured_apart(__spec__.name, place)
            measured[tokens] = {"join the shards' records s": index_s, **apart}
    rows: list[list[object]] = []
    for name, small in measured[SMALL].items():
        large = measured[LARGE][name]
        slope = (large - small) / (LARGE - SMALL)
        # What did not grow by more than chance is taken as constant.
        at_target = small + slope * (TARGET - SMALL) if large > 2 * small else max(small, large)
        if name in CACHE_DEPENDENT:
            at_target = float("nan")
        rows.append([name, small, large, large / small if small else float("nan"), at_target])
    print_table(
        f"token store: batches of {BATCH} crops of {CROP} tokens; 60,000 hours are {TARGET:,} tokens",
        ["", f"{SMALL:,}", f"{LARGE:,}", "ratio", "60,000 h, straight line"],
        rows,
    )


def write(folder: Path, tokens: int) -> float:
    """Write a store of random tokens; return how long joining its records took."""
    shards = -(-tokens // SHARD)
    writer = TokenWriter(
        folder, fingerprint={}, plan="", shards=shards, vocab_size=4096, token_rate_hz=50.0, align=4
    )
    random = np.random.default_rng(0)
    for number in range(shards):
        length = min(SHARD, tokens - number * SHARD)
        flat = random.integers(0, 4096, length, np.uint16).astype(np.int64)
        parts = np.split(flat, range(UTTERANCE, length, UTTERANCE))
        ids = [f"{number:05d}/{place:06d}.flac" for place in range(len(parts))]
        record = ShardRecord(ids, [len(part) for part in parts], [], length / 50, 1.0)
        writer.write(number, parts, record)
    begin = time.perf_counter()
    writer.finish()
    return time.perf_counter() - begin


def measure(folder: Path) -> dict[str, float]:
    """Open a store in this process and read from it as training does."""
    for path in folder.glob("*.*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    before_mb = resident_memory_mb()
    begin = time.perf_counter()
    store = TokenStore.open(folder)
    opened = time.perf_counter()
    order = CropOrder(store.lengths, crop=CROP, batching=Batching(micro_batch_size=BATCH, seed=0), shortest=2)
    ordered = time.perf_counter()
    open_mb = resident_memory_mb()

    def batch(step: int) -> float:
        start = time.perf_counter()
        for crop in order.crops(step):
            tokens = store.tokens(crop.utterance)[crop.start : crop.start + CROP]
            assert 0 < len(tokens) <= CROP
        return time.perf_counter() - start

    cold = [batch(step) for step in range(BATCHES)]
    warm = [batch(step) for step in range(BATCHES)]
    status = Path("/proc/self/status").read_text()
    anonymous_mb = int(status.partition("RssAnon:")[2].split()[0]) / 1024
    return {
        "open ms": 1000 * (opened - begin),
        "count crops of all utterances ms": 1000 * (ordered - opened),
        FIRST: 1000 * cold[0],
        COLD: 1000 * float(np.median(cold)),
        "batch, again, median ms": 1000 * float(np.median(warm)),
        "resident MB more after opening": open_mb - before_mb,
        AFTER: resident_memory_mb() - before_mb,
        "of all resident MB, not file pages": anonymous_mb,
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
