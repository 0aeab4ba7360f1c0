"""A small run of pretraining: four tones in a circle, in one order or another, and a small WavLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavslm_core.data.audio import write_audio
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext

WAVLM: dict[str, Any] = {
    "name": "wavlm",
    "front_end_init": "filterbank",
    "hidden_dims": [64, 32],
    "kernel_sizes": [400, 2],
    "strides": [160, 2],
    "conv_bias": True,
    "dim": 32,
    "ffn_dim": 64,
    "num_heads": 2,
    "num_layers": 2,
    "num_buckets": 16,
    "max_distance": 24,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "window_size": 32,
}
STAGE: dict[str, Any] = {
    "run": "pretrain_encoder",
    "steps": 4,
    "batch_size": 4,
    "crop_seconds": 1.0,
    "targets": {"clusters": 6},
    "projection_dim": 16,
    "lr": 5e-3,
    "precision": "fp32",
}
TONES_HZ = (300, 600, 1200, 2400)
TONE_SAMPLES = 1600
ORDERS = ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2), (3, 2, 1, 0))


def melody(number: int, seconds: float) -> Tensor:
    """Return a waveform (S,) at 16 kHz: tones of 0.1 s in the order that belongs to the number."""
    samples_S = torch.arange(round(seconds * 16000))
    tones_S = torch.tensor(ORDERS[number % len(ORDERS)])[samples_S // TONE_SAMPLES % 4]
    phase_S = 2 * torch.pi * torch.tensor(TONES_HZ)[tones_S] * samples_S / 16000
    noise_S = torch.randn(len(samples_S), generator=torch.Generator().manual_seed(number))
    return 0.2 * torch.sin(phase_S) + 0.002 * noise_S


def write_melodies(folder: Path, seconds: dict[str, list[float]]) -> None:
    """Write a recording of each length (s) for each split, by two speakers in turn."""
    for split, lengths in seconds.items():
        for number, length in enumerate(lengths):
            path = folder / "audio" / split / f"{'ab'[number % 2]}-{number}.wav"
            write_audio(path, melody(number, length), 16000)


def make_context(folder: Path, *stages: dict[str, Any], name: str = "run", **recipe: Any) -> StageContext:
    """Return a run in `folder` whose recordings `write_melodies` wrote there."""
    document = {
        "name": "melodies",
        "seed": 3,
        "encoder": {**WAVLM, "causal": True},
        "data": {"corpus": "folder", "path": str(folder / "audio"), "speaker_separator": "-"},
        "stages": list(stages or [STAGE]),
        **recipe,
    }
    recipe_ = resolve(recipe_from_dict(document))
    stage_name = recipe_.named_stages()[0][0]
    return StageContext(recipe_, folder / "runs" / name, stage_name=stage_name)


def make_stage(context: StageContext) -> Any:
    """Return the stage of a context."""
    config = dict(context.recipe.named_stages())[context.stage_name]
    return context.recipe.registry.build(config)
