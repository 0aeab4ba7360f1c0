"""Ten minutes of audio through a small codec and language model: memory and step time must stay flat."""

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
    session = model.session()
    session.join()
    session.hear(torch.randn(1, chunk) * 0.1)
    steps_a_minute = 60 * codec.sample_rate_in // chunk
    rows: list[list[object]] = []
    for minute in range(1, MINUTES + 1):
        durations = torch.empty(2, steps_a_minute)
        for step in range(steps_a_minute):
            waveform = torch.randn(1, chunk) * 0.1
            start = time.perf_counter()
            stream.decode(stream.encode(waveform))
            middle = time.perf_counter()
            session.speak()
            durations[:, step] = torch.tensor([middle - start, time.perf_counter() - middle])
        resynthesis, generation = (1000 * durations).median(dim=1).values.tolist()
        rows.append([minute, resynthesis, generation, resident_memory_mb()])
    print_table(
        f"endurance, small: {MINUTES} minutes of audio, medians of each minute",
        ["minute", "codec step ms", "generation step ms", "resident MB"],
        rows,
    )
