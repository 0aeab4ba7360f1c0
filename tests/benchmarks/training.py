"""A training step of the language model at 500 and 1500 tokens: time, peak memory, and the floor.

The floor is that of fp32 matrix products, which are multiplied in turns with the steps.
"""

import json
import sys

import torch

from tests.benchmarks.machine import (
    PRODUCT_FLOPS,
    in_turns_ms,
    measured_apart,
    multiplying,
    peak_memory_mb,
    resident_memory_mb,
)
from tests.benchmarks.models import build_codec, build_speech_lm
from tests.benchmarks.tables import print_table

TOKENS = (500, 1500)


def run() -> None:
    rows: list[list[object]] = []
    for size in ("small", "full"):
        for tokens in TOKENS:
            for precision in ("fp32", "bf16"):
                # A process each, so that every peak is its own.
                threads = torch.get_num_threads()
                result = measured_apart(__spec__.name, size, tokens, precision, threads)
                step, floor, *memory = (result[key] for key in ("step_s", "floor_s", "model_mb", "peak_mb"))
                rows.append([size, tokens, precision, step, floor, step / floor, *memory])
    print_table(
        "training step, batch of 1, forward and backward and AdamW",
        ["size", "tokens", "precision", "takes s", "floor s", "× floor", "model MB", "peak MB"],
        rows,
    )


def measure(size: str, tokens: int, precision: str) -> dict[str, float]:
    """Time one training step and return it with this process's memory."""
    model = build_speech_lm(size, build_codec(size)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=False, fused=True)
    batch = torch.randint(0, model.head_facts.vocab_size, (1, tokens))
    model_mb = resident_memory_mb()

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = -model.log_probs(batch)[:, model.chunk_tokens :].mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    taken = in_turns_ms({"multiplying": multiplying(), "step": step}, rounds=3)
    product_s, step_s = (durations[:, 0].median().item() / 1000 for durations in taken.values())
    flops = 6 * tokens * sum(parameter.numel() for parameter in model.parameters())
    return {
        "step_s": step_s,
        "floor_s": product_s * flops / PRODUCT_FLOPS,
        "peak_mb": peak_memory_mb(),
        "model_mb": model_mb,
    }


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[4]))
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
