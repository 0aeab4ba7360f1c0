"""A whole small run on disk, made once by the real stages: a codec and a language model of fakes over a
folder of synthetic speech-like recordings of two speakers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.core.stages.syllables import Syllables, SyllablesConfig
from tests.support import FAKES
from wavslm_core.data.audio import write_audio
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Entry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.stages.tokenize import Tokenize, TokenizeConfig
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm, register_fakes


def speech_like(seconds: float, *, pitch_hz: float, seed: int, rate_hz: int = 16000) -> torch.Tensor:
    """Return syllables of gliding harmonics with pauses between them."""
    rng = np.random.default_rng(seed)
    time_S = np.arange(round(seconds * rate_hz)) / rate_hz
    phase_S = np.cumsum(pitch_hz * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(1, 3) * time_S))) / rate_hz
    harmonics_S = sum(np.sin(2 * np.pi * n * phase_S) / n for n in range(1, 25))
    syllables_S = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * time_S), 0, None)
    noise_S = rng.normal(size=time_S.size) * np.clip(np.sin(2 * np.pi * 1.3 * time_S), 0, None) ** 8
    return torch.from_numpy(0.2 * syllables_S * harmonics_S + 0.05 * noise_S).float()


def write_corpus(folder: Path) -> Path:
    for split, count in (("train", 10), ("valid", 6)):
        for number in range(count):
            speaker = ("anna", "ben")[number % 2]
            waveform_S = speech_like(
                1.5 + 0.4 * number, pitch_hz=(210.0, 120.0)[number % 2], seed=hash_seed(split, number)
            )
            write_audio(folder / split / f"{speaker}-{number}.wav", waveform_S, 16000)
    return folder


def hash_seed(split: str, number: int) -> int:
    return 100 * len(split) + number


def make_recipe(corpus: Path) -> ResolvedRecipe:
    register_fakes()
    path = f"{Syllables.__module__}:{Syllables.__name__}"
    load_registry().add(Entry("metric", "syllables", SyllablesConfig, path, "wavslm-core", "testing"))
    document = {
        "name": "small",
        "seed": 3,
        **FAKES,
        "data": {"corpus": "folder", "path": str(corpus), "speaker_separator": "-"},
        "stages": [{"run": "tokenize"}, {"run": "evaluate"}, {"run": "generate"}, {"run": "report"}],
    }
    return resolve(recipe_from_dict(document))


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> ResolvedRecipe:
    return make_recipe(write_corpus(tmp_path_factory.mktemp("corpus")))


@pytest.fixture
def codec_only(recipe: ResolvedRecipe, tmp_path: Path) -> StageContext:
    """A run that holds a codec and nothing else."""
    torch.manual_seed(0)
    context = StageContext(recipe=recipe, run_dir=tmp_path / "small-run")
    fake_codec().save(context.codec_dir)
    return context


@pytest.fixture
def with_model(codec_only: StageContext) -> StageContext:
    """A run with tokens, a language model and a metrics file too."""
    context = codec_only
    Tokenize(TokenizeConfig()).run(context)
    fake_speech_lm(context.codec()).save(context.speech_lm_dir)
    lines = [
        {"stage": "train_lm", "step": step, "time": 0.0, "split": split, "loss": 3.0, "bits_per_token": bits}
        for split, every in (("train", 5), ("valid", 50))
        for step in range(every, 401, every)
        for bits in (5.0 - step / 400,)
    ]
    (context.run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return context
