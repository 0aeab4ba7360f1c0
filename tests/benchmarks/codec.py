"""The codec: a streaming step part by part, what fewer bits cost, and whole recordings of 10 s and 30 s."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.machine import (
    PRODUCT_FLOPS,
    in_turns_ms,
    measure_machine,
    multiplying,
    summary_ms,
    time_calls,
)
from tests.benchmarks.models import build_codec
from tests.benchmarks.tables import print_table
from wavslm_core import Codec
from wavslm_core.parts.interfaces import State

STEPS = 40
WINDOW_CHUNKS = 128
COMPARED_S = 4
"""Seconds of sound over which packed weights are compared."""
MULTIPLYING = "multiplying"
BYTES_LEFT = {"fp32": 1.0, "bf16": 0.5, "int8": 0.25}
"""What is left to read of fp32 weights."""


def run() -> None:
    for size in ("small", "full"):
        codec = build_codec(size)
        rows, errors = _steps(codec, "fp32, plain", source=codec), []
        reference = _stream(codec, COMPARED_S)
        for weights in ("fp32", "bf16", "int8"):
            packed = codec.for_inference(weights=weights)
            rows += _steps(packed, f"{weights}, packed", source=codec)
            errors.append([f"{weights}, packed", *_agreement(_stream(packed, COMPARED_S), reference)])
        print_table(
            f"codec, {size}: one step of {codec.facts.chunk_samples_in / codec.sample_rate_in * 1000:.0f} ms",
            ["part", "weights", "median ms", "p95 ms", "× real time", "floor ms"],
            rows,
        )
        print_table(
            f"codec, {size}: packed weights against plain fp32 (random weights)",
            ["weights", "features' error %", "tokens kept %"],
            errors,
        )
        print_table(
            f"codec, {size}: whole recordings",
            ["what", "seconds", "takes s", "× real time", "floor s", "× floor"],
            _recordings(codec),
        )


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes that a step must read at least."""
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


@torch.inference_mode()
def _steps(codec: Codec, weights: str, *, source: Codec) -> list[list[object]]:
    facts = codec.facts
    # Counted in the plain model: a packed one keeps its weights where they cannot be counted.
    sources: dict[str, nn.Module] = {
        "encoder": source.encoder,
        "quantizer, encode": source.quantizer,
        "quantizer, decode": source.quantizer,
        "decoder": source.decoder,
    }
    waveform = torch.randn(1, facts.chunk_samples_in) * 0.1
    features = torch.randn(1, facts.chunk_frames, facts.encoder.output_dim)
    tokens = torch.zeros(1, facts.chunk_tokens, dtype=torch.int64)
    encoder, quantizer, decoder = codec.encoder, codec.quantizer, codec.decoder
    parts: list[tuple[str, Callable[[Any, State], tuple[Any, State]], Any, State]] = [
        ("encoder", encoder.step, waveform, encoder.init_state(1)),
        ("quantizer, encode", quantizer.encode_step, features, quantizer.init_encode_state(1)),
        ("quantizer, decode", quantizer.decode_step, tokens, quantizer.init_decode_state(1)),
        ("decoder", decoder.step, features, decoder.init_state(1)),
    ]
    rows: list[list[object]] = []
    chunk_s = facts.chunk_samples_in / codec.sample_rate_in
    total = torch.zeros(STEPS)
    for name, step, given, state in parts:
        # A whole window first: attention over a few frames is not what a stream pays for.
        repeats = (1, WINDOW_CHUNKS) if given.ndim == 2 else (1, WINDOW_CHUNKS, 1)
        box = [step(given.repeat(*repeats), state)[1]]

        def call(step: Any = step, given: Any = given, box: list[State] = box) -> None:
            _, box[0] = step(given, box[0])

        durations = time_calls(call, repeats=STEPS, warm_up=3)
        total += durations
        floor = weight_bytes(sources[name]) * BYTES_LEFT[weights.partition(",")[0]]
        floor /= measure_machine().bytes_per_s
        if name.startswith("quantizer"):
            floor /= 2
        rows.append([name, weights, *_summary(durations, chunk_s), 1000 * floor])
    rows.append(["together", weights, *_summary(total, chunk_s), sum(float(str(row[-1])) for row in rows)])
    return rows


@torch.inference_mode()
def _stream(codec: Codec, seconds: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Stream a swelling hum in noise; return features and tokens."""
    chunk = codec.facts.chunk_samples_in
    samples = seconds * codec.sample_rate_in // chunk * chunk
    turns = 2 * torch.pi * torch.arange(samples) / codec.sample_rate_in
    generator = torch.Generator().manual_seed(0)
    noise = 0.03 * torch.randn(1, samples, generator=generator)
    waveform = noise + 0.2 * (150 * turns).sin() * (1 + (3 * turns).sin())
    state, quantizer_state = codec.encoder.init_state(1), codec.quantizer.init_encode_state(1)
    features, tokens = [], []
    for piece in waveform.split(chunk, dim=1):
        features_BND, state = codec.encoder.step(piece, state)
        tokens_BN, quantizer_state = codec.quantizer.encode_step(features_BND, quantizer_state)
        features.append(features_BND)
        tokens.append(tokens_BN)
    return torch.cat(features, dim=1), torch.cat(tokens, dim=1)


def _agreement(
    given: tuple[torch.Tensor, torch.Tensor], reference: tuple[torch.Tensor, torch.Tensor]
) -> list[object]:
    error = ((given[0] - reference[0]).norm() / reference[0].norm()).item()
    return [100 * error, 100 * (given[1] == reference[1]).float().mean().item()]


def _summary(durations: torch.Tensor, chunk_s: float) -> list[object]:
    return [*summary_ms(durations), chunk_s / durations.median().item()]


@torch.inference_mode()
def _recordings(codec: Codec) -> list[list[object]]:
    """The floor is that of matrix products, which are multiplied in turns with what is measured."""
    rows: list[list[object]] = []
    for seconds in (10, 30):
        waveform = torch.randn(1, seconds * codec.sample_rate_in) * 0.1
        tokens = codec.encode(waveform)
        calls = {"encode": partial(codec.encode, waveform), "decode": partial(codec.decode, tokens)}
        taken = in_turns_ms({MULTIPLYING: multiplying(), **calls}, rounds=3)
        for name, call in calls.items():
            with FlopCounterMode(display=False) as counter:
                call()
            takes_s, product_s = (taken[one][:, 0].median().item() / 1000 for one in (name, MULTIPLYING))
            floor_s = product_s * counter.get_total_flops() / PRODUCT_FLOPS
            rows.append([name, seconds, takes_s, seconds / takes_s, floor_s, takes_s / floor_s])
    return rows
