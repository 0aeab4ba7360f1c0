"""Ten minutes of audio through a small codec and language model: memory and step time must stay flat.

By itself, and in a session in which one speaks, one listens, and others come and go all the time.
"""

import time

import torch

from tests.benchmarks.machine import resident_memory_mb
from tests.benchmarks.models import build_codec, build_speech_lm
from tests.benchmarks.tables import print_table

MINUTES = 10


def run() -> None:
    codec = build_codec("small")
    model = build_speech_lm("small", codec)
    stream = codec.stream()
    chunk = codec.facts.chunk_samples_in
    session, shared = model.session(), model.session()
    session.join()
    speaker, listener = (shared.join(seed=seed) for seed in range(2))
    visitor = shared.join(seed=2)
    session.hear(torch.randn(1, chunk) * 0.1)
    shared.hear(torch.randn(3, chunk) * 0.1)
    steps_a_minute = 60 * codec.sample_rate_in // chunk
    rows: list[list[object]] = []
    for minute in range(1, MINUTES + 1):
        durations = torch.empty(3, steps_a_minute)
        for step in range(steps_a_minute):
            waveform = torch.randn(1, chunk) * 0.1
            start = time.perf_counter()
            stream.decode(stream.encode(waveform))
            middle = time.perf_counter()
            session.speak()
            late = time.perf_counter()
            shared.advance({listener: waveform[0], visitor: waveform[0, : chunk // 3]}, speaking=[speaker])
            ends = time.perf_counter()
            durations[:, step] = torch.tensor([middle - start, late - middle, ends - late])
            if step % 25 == 24:
                shared.leave(visitor)
                visitor = shared.join(seed=step)
        rows.append([minute, *(1000 * durations).median(dim=1).values.tolist(), resident_memory_mb()])
    print_table(
        f"endurance, small: {MINUTES} minutes of audio, medians of each minute",
        ["minute", "codec step ms", "generation step ms", "shared step ms", "resident MB"],
        rows,
    )
