"""The whole chain of `wavslm_small.yaml`, a few steps of everything with parts of toy size."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import Command
from wavslm_core import Codec, SpeechLM
from wavslm_core.model.folders import load_encoder

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "wavslm_small.yaml"
ENCODER = {
    "front_end_init": "random",
    "hidden_dims": "[16,16]",
    "dim": 32,
    "ffn_dim": 32,
    "num_heads": 2,
    "conv_pos": 8,
}
FOCAL = {"hidden_dims": "[16,16]", "window_size": 4}
STAGES = {"steps": 2, "batch_size": 2, "warmup_steps": 0, "valid_utterances": 2}
SOUND = {"crop_seconds": 0.5, "metrics": "[]"}
ADVERSARIAL = {
    "adversarial.discriminators": "[{name: multi_period, channels: 64}]",
    "adversarial.starts_at_step": 1,
}
CHAIN = {
    "pretrain_encoder": {"crop_seconds": 1, "targets.clusters": 8},
    "pretrain_encoder_2": {"crop_seconds": 1, "targets.clusters": 8},
    "train_decoder": SOUND,
    "distill_positional": {},
    "distill_encoder": {},
    "train_quantizer": {},
    "train_codec_joint": {},
    "finetune_decoder": {**SOUND, **ADVERSARIAL},
    "train_codec": SOUND,
    "train_lm": {"crop_tokens": 16},
}


def overrides() -> list[str]:
    found: dict[str, Any] = {
        "data.minutes": 0.3,
        "data.voices": 16,
        "data.valid_minutes": 0.2,
        "quantizer.codebook_size": 16,
        "decoder.num_layers": 1,
        "decoder.dim": 16,
        "decoder.ffn_dim": 16,
        "backbone.dim": 32,
        "backbone.ffn_dim": 32,
        "backbone.num_heads": 2,
        "quantizer.decompressor.last_window_size": 4,
        "stages.evaluate": {"metrics": "[mel_distance]", "utterances": 2},
        "stages.generate": {"prompts": 1, "continuations": 1, "prompt_seconds": 0.64, "new_seconds": 0.32},
        "encoder": ENCODER,
        "stages.0.encoder": ENCODER,
        "quantizer.compressor": FOCAL,
        "quantizer.decompressor": FOCAL,
        "stages.score_suites.suites": "[{name: tiny_sblimp, pairs: 2}, {name: tiny_salmon, pairs: 2}]",
    }
    # Of two stages of a kind, overrides call the first by its place.
    places = {"pretrain_encoder": "0"}
    found |= {f"stages.{places.get(name, name)}": STAGES | options for name, options in CHAIN.items()}
    lines = []
    for key, value in found.items():
        options = value.items() if isinstance(value, dict) else [("", value)]
        lines += [f"{key}.{name}={option}" if name else f"{key}={option}" for name, option in options]
    return lines


@pytest.mark.slow
def test_every_stage_goes_on_with_what_those_before_left(run: Command, tmp_path: Path) -> None:
    done = run("wavslm-run", RECIPE, *overrides())
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").glob("wavslm_small-*")
    results = {path.stem: json.loads(path.read_text()) for path in (folder / "results").glob("*.json")}
    assert set(CHAIN) <= set(results)
    left = {name: Codec.load(folder / name / "codec") for name in list(CHAIN)[2:8]}
    codec = Codec.load(folder)

    def changed(before: str, after: Codec) -> set[str]:
        parts = ("encoder", "quantizer", "decoder")
        states = [(getattr(left[before], part).state_dict(), getattr(after, part)) for part in parts]
        same = [all(torch.equal(v, part.state_dict()[k]) for k, v in state.items()) for state, part in states]
        return {part for part, is_same in zip(parts, same, strict=True) if not is_same}

    assert changed("train_decoder", left["distill_positional"]) == {"encoder"}
    assert changed("distill_positional", left["distill_encoder"]) == {"encoder"}
    assert changed("distill_encoder", left["train_quantizer"]) == {"quantizer"}
    assert changed("train_quantizer", left["train_codec_joint"]) == {"encoder", "quantizer"}
    assert changed("train_codec_joint", left["finetune_decoder"]) == {"decoder"}
    assert changed("finetune_decoder", codec) == {"encoder", "quantizer", "decoder"}
    assert load_encoder(folder / "encoder").config.facts().layers == 5
    assert SpeechLM.load(folder).codec.fingerprint() == codec.fingerprint()
    assert {*results["score_suites"]["suites"]} == {"tiny_sblimp", "tiny_salmon"}
    assert (folder / "report.html").exists()
