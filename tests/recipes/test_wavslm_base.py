"""recipes/wavslm_base.yaml takes a few steps, with the hub replaced by local folders in the hub's formats."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from wavslm_core.model.codec import Codec
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import load_recipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.run.metrics_file import read_metrics

pytest.importorskip("wavslm_wavlm")
pytest.importorskip("wavslm_focalcodec_stream")
pytest.importorskip("wavslm_next_chunk")

BASE = Path(__file__).resolve().parents[2] / "recipes" / "wavslm_base.yaml"
DIM = 32


def part(role: Any, **options: Any) -> Any:
    return load_registry().entry(role, options["name"]).config_class.model_validate(options)


@pytest.fixture(scope="module")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small causal codec with random weights, as the official release would write it."""
    focal = {"hidden_dims": (24,), "focal_window": 5, "window_size": 16}
    torch.manual_seed(0)
    codec = Codec.from_configs(
        {
            "encoder": part(
                "encoder",
                name="wavlm",
                causal=True,
                hidden_dims=(16,) * 7,
                num_layers=1,
                dim=DIM,
                ffn_dim=48,
                num_heads=2,
                conv_pos=16,
                window_size=32,
            ),
            "quantizer": part(
                "quantizer",
                name="focalcodec_stream",
                input_dim=DIM,
                output_dim=DIM,
                codebook_size=64,
                compressor=focal | {"downscale_factors": (1,)},
                decompressor=focal | {"upscale_factors": (1,), "last_window_size": 16},
            ),
            "decoder": part(
                "decoder",
                name="wavenext",
                input_dim=DIM,
                causal=True,
                dim=24,
                ffn_dim=32,
                num_layers=1,
                hop_samples=480,
                sample_rate_hz=24000,
            ),
        }
    )
    folder = tmp_path_factory.mktemp("hub") / "codec"
    codec.save(folder)
    document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert document["encoder_name"] == "WavLM", "not in the official format"
    return folder


@pytest.mark.slow
def test_it_trains_on_local_folders(
    codec_folder: Path, wavlm_folder: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    recipe = resolve(
        load_recipe(
            BASE,
            [
                f"codec.checkpoint={codec_folder}",
                f"backbone.checkpoint={wavlm_folder}",
                "backbone.first_layer=3",
                "backbone.num_layers=2",
                f"backbone.dim={DIM}",
                "backbone.ffn_dim=48",
                "backbone.num_heads=2",
                f"data.path={corpus_folder}",
                "stages.train_lm.steps=6",
                "stages.train_lm.batch_size=4",
                "stages.train_lm.crop_tokens=64",
                "stages.train_lm.validate_every=3",
                "stages.train_lm.log_every=1",
                "stages.train_lm.lr=1e-2",
                "stages.evaluate.metrics=[mel_distance]",
                "stages.generate.prompts=1",
                "stages.generate.prompt_seconds=1",
                "stages.generate.new_seconds=1",
            ],
        )
    )
    check(recipe)
    before = SpeechLM.from_configs(Codec.load(codec_folder), recipe.part_configs)
    wavlm_weights = dict(load_wavlm(wavlm_folder))
    first = wavlm_weights["encoder.layers.2.feed_forward.intermediate_dense.weight"]
    assert any(torch.equal(first, value) for value in before.backbone.state_dict().values()), (
        "the backbone does not start from layer 3 of the WavLM folder"
    )

    context = StageContext(recipe=recipe, run_dir=tmp_path / "run")
    for config in recipe.stages:
        context.stage_name = config.registered_name()
        load_registry().build(config).run(context)

    train = [line for line in read_metrics(context.run_dir / "metrics.jsonl") if line["split"] == "train"]
    assert [line["step"] for line in train] == [1, 2, 3, 4, 5, 6]
    assert train[-1]["loss"] < train[0]["loss"]
    assert (
        json.loads((context.speech_lm_dir / "config.json").read_text(encoding="utf-8"))["toks_per_step"] == 4
    )
    continued_S = context.speech_lm().continue_speech(
        torch.randn(1, 16000) * 0.1, sample_rate=16000, seconds=0.8
    )
    assert continued_S.shape == (1, 19200)
    assert (context.run_dir / "report.html").stat().st_size > 10_000


def load_wavlm(folder: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
