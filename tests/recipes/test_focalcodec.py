"""The two FocalCodec recipes take a few steps at small sizes, with a local folder in place of WavLM-large."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from wavslm_core.model.codec import Codec
from wavslm_core.model.discriminators import Discriminators
from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import load_recipe
from wavslm_core.run.context import StageContext
from wavslm_core.run.metrics_file import read_metrics

pytest.importorskip("wavslm_wavlm")
pytest.importorskip("wavslm_focalcodec_stream")
pytest.importorskip("wavslm_discriminators")

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SIZES = {"hidden_dims": [16] * 7, "dim": 32, "ffn_dim": 48, "num_heads": 2, "conv_pos": 16, "num_layers": 2}
BLOCKS = "{hidden_dims: [24, 16], %s: [1, 1], focal_window: 3, focal_factor: 2, window_size: 16%s}"
STAGES = {
    "focalcodec_stream_4k": (
        "train_decoder",
        "distill_positional",
        "distill_encoder",
        "train_quantizer",
        "train_codec_joint",
    ),
    "focalcodec_50hz": ("train_quantizer", "train_decoder"),
}


def overrides(name: str, wavlm: Path, corpus: Path) -> list[str]:
    sizes = [f"{key}={value}" for key, value in SIZES.items()]
    return [
        *(f"encoder.{size}" for size in sizes),
        *(
            f"encoder.{size}"
            for size in (["window_size=32"] if "stream" in name else [f"checkpoint={wavlm}"])
        ),
        f"quantizer.compressor={BLOCKS % ('downscale_factors', '')}",
        f"quantizer.decompressor={BLOCKS % ('upscale_factors', ', last_window_size: 16')}",
        "quantizer.codebook_size=64",
        *(f"decoder.{size}" for size in ("dim=24", "ffn_dim=32", "num_layers=1")),
        f"data={{corpus: folder, path: {corpus}}}",
        *(
            f"stages.{stage}.{option}"
            for stage in STAGES[name]
            for option in (
                *("steps=2", "lr=3e-3", "batch_size=2", "log_every=1"),
                *(
                    (f"teacher.{size}" for size in (*sizes, f"checkpoint={wavlm}"))
                    if "quantizer" not in stage
                    else ()
                ),
            )
        ),
        *(
            f"stages.train_decoder.{option}={{corpus: folder, path: {corpus}}}"
            for option in ("train_on", "validate_on")
            if "stream" in name
        ),
        "stages.train_decoder.crop_seconds=0.5",
        "stages.train_decoder.adversarial.discriminators.0.channels=32",
        "stages.train_decoder.adversarial.discriminators.1.channels=32",
        "stages.evaluate.metrics=[mel_distance]",
        "stages.evaluate.utterances=2",
        "launch.on=local",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_it_trains_on_local_folders(
    name: str, wavlm_folder: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    recipe = check(load_recipe(RECIPES / f"{name}.yaml", overrides(name, wavlm_folder, corpus_folder)))
    context = StageContext(recipe=recipe, run_dir=tmp_path / "run")
    for stage, config in recipe.named_stages():
        if stage in STAGES[name] or name == "focalcodec_50hz":
            load_registry().build(config).run(replace(context, stage_name=stage))
    lines = read_metrics(context.run_dir / "metrics.jsonl")
    steps = [(line["stage"], line["step"]) for line in lines if line["split"] == "train"]
    assert steps == [(stage, step) for stage in STAGES[name] for step in (1, 2)]
    codec = Codec.load(context.run_dir)
    assert codec.reconstruct(0.1 * torch.randn(1, 16000)).shape == (1, codec.sample_rate_out)
    assert len(Discriminators.load(context.run_dir).configs) == 2
    # What a stage does not train is as an earlier one left it, down to WavLM's own weights.
    if name == "focalcodec_50hz":
        assert (context.run_dir / "report.html").stat().st_size > 10_000
        weights = load_file(wavlm_folder / "model.safetensors")
        first = weights["encoder.layers.0.feed_forward.intermediate_dense.weight"]
        assert any(torch.equal(first, value) for value in codec.encoder.state_dict().values())
    else:
        left = Codec.load(context.run_dir / "train_decoder").decoder.state_dict()
        assert all(torch.equal(left[key], value) for key, value in codec.decoder.state_dict().items())
