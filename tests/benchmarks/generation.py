"""The language model: one chunk at a full window, with every kind of weights, and what fewer bits cost."""

import torch

from tests.benchmarks.codec import BYTES_LEFT, weight_bytes
from tests.benchmarks.machine import measure_machine, summary_ms, time_calls
from tests.benchmarks.models import build_codec, build_speech_lm
from tests.benchmarks.tables import print_table
from wavslm_core import SpeechLM
from wavslm_core.model.continuation import Continuation
from wavslm_core.model.sampling import TokenDraw

CHUNKS = 30


def run() -> None:
    for size in ("small", "full"):
        codec = build_codec(size)
        model = build_speech_lm(size, codec)
        window = model.backbone_facts.window_tokens or 512
        prompt = torch.randint(0, codec.facts.quantizer.vocab_size, (1, window))
        chunk_s = model.chunk_tokens / codec.facts.token_rate_hz
        decompressor = weight_bytes(codec.quantizer) / 2
        floor_s = (weight_bytes(model) + decompressor) / measure_machine().bytes_per_s
        rows, scores = [], []
        reference = _scores(model, prompt)
        for weights in (None, "fp32", "bf16", "int8"):
            name = "fp32, plain" if weights is None else f"{weights}, packed"
            packed = model if weights is None else model.for_inference(weights=weights)
            for speaks in (False, True):
                durations = _chunks(packed, prompt, speaks=speaks)
                what = "tokens and audio" if speaks else "tokens"
                floor = 1000 * floor_s * BYTES_LEFT[weights or "fp32"]
                if speaks:
                    decoder_s = weight_bytes(codec.decoder) / measure_machine().bytes_per_s
                    floor += 1000 * decoder_s * BYTES_LEFT[weights or "fp32"]
                times_real_time = chunk_s / durations.median().item()
                rows.append([what, name, *summary_ms(durations), times_real_time, floor])
            if weights is not None:
                scores.append([name, *_agreement(_scores(packed, prompt), reference)])
        print_table(
            f"generation, {size}: one chunk of {1000 * chunk_s:.0f} ms at a window of {window} tokens",
            ["what", "weights", "median ms", "p95 ms", "× real time", "floor ms"],
            rows,
        )
        print_table(
            f"generation, {size}: packed weights against plain fp32 (random weights)",
            ["weights", "mean |Δ log p|", "max |Δ log p|", "greedy tokens kept %"],
            scores,
        )


def _chunks(model: SpeechLM, prompt: torch.Tensor, *, speaks: bool) -> torch.Tensor:
    if speaks:
        session = model.session()
        session.join()
        session.read(prompt)
        return time_calls(session.speak, repeats=CHUNKS, warm_up=2)
    continuation = Continuation(model, model.sampler, seeds=[0])
    continuation.read(prompt)
    return time_calls(continuation.next_tokens, repeats=CHUNKS, warm_up=2)


@torch.inference_mode()
def _scores(model: SpeechLM, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities and the greedy proposal after every chunk."""
    chunk = model.chunk_tokens
    hidden = model.backbone(model.inputs(tokens)).unflatten(1, (-1, chunk)).flatten(0, 1)
    draw = TokenDraw(
        model.make_sampler({"name": "greedy"}), tokens.expand(len(hidden), -1), seeds=[0] * len(hidden)
    )
    proposed = model.head.propose(hidden, draw)
    return model.log_probs(tokens)[:, chunk:], proposed


def _agreement(
    given: tuple[torch.Tensor, torch.Tensor], reference: tuple[torch.Tensor, torch.Tensor]
) -> list[object]:
    difference = (given[0] - reference[0]).abs()
    kept = (given[1] == reference[1]).float().mean().item()
    return [difference.mean().item(), difference.max().item(), 100 * kept]
