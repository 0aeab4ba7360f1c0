"""Run benchmarks and print their tables: `python -m tests.benchmarks [--threads N] [NAME …]`."""

import argparse

import torch

from tests.benchmarks import (
    codec,
    codec_stages,
    corpora,
    endurance,
    generation,
    gpu,
    quality,
    realtime,
    serving,
    startup,
    token_store,
    training,
)
from tests.benchmarks.machine import measure_machine

BENCHMARKS = {
    "realtime": realtime.run,
    "gpu": gpu.run,
    "quality": quality.run,
    "startup": startup.run,
    "codec": codec.run,
    "generation": generation.run,
    "training": training.run,
    "codec_stages": codec_stages.run,
    "endurance": endurance.run,
    "serving": serving.run,
    "token_store": token_store.run,
    "corpora": corpora.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    torch.set_num_threads(arguments.threads)
    machine = measure_machine()
    print(
        f"{machine.threads} threads, reads {machine.bytes_per_s / 1e9:.1f} GB/s, "
        f"multiplies {machine.flops_per_s / 1e9:.0f} GFLOP/s in fp32"
    )
    for name in arguments.names or BENCHMARKS:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main()
