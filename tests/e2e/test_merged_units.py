"""Units whose runs are merged, from audio to audio: the smallest job with `k_means` and `deduplicate`."""

import json
from math import log2
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import run_here
from wavslm_core.data.audio import read_audio
from wavslm_core.data.token_store import TokenStore
from wavslm_core.errors import RecipeError
from wavslm_core.model.codec import Codec
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import load_recipe

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "wavslm_scratch.yaml"
UNITS, MAX_RUN = 16, 8
PARTS = [
    "encoder={name: mel}",
    f"quantizer={{name: k_means, codebook_size: {UNITS}, deduplicate: true, max_run: {MAX_RUN}}}",
    "decoder={name: istft, n_fft: 640, num_layers: 1, dim: 32, ffn_dim: 64}",
    "backbone={name: wavlm_upper, num_layers: 1, dim: 48, ffn_dim: 96, num_heads: 2, window_size: 64}",
]
TRAIN_CODEC = (
    "{run: train_codec, steps: 12, continuous_steps: 4, batch_size: 4, crop_seconds: 1.0, metrics: [],"
    " validate_every: 12, valid_utterances: 2}"
)
TRAIN_LM = (
    "{run: train_lm, steps: 80, batch_size: 8, crop_tokens: 64, lr: 4.0e-3, warmup_steps: 5,"
    " validate_every: 80}"
)
REST = "{run: evaluate, metrics: []}, {run: generate, prompts: 1, prompt_seconds: 1, new_seconds: 1}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("units")
    stages = f"stages=[{TRAIN_CODEC}, {{run: tokenize}}, {TRAIN_LM}, {REST}]"
    run_here("wavslm-run", RECIPE, *PARTS, "data.minutes=2", "data.valid_minutes=0.3", stages, cwd=place)
    (folder,) = (place / "runs").glob("wavslm_scratch-*")
    return folder


def results(folder: Path, stage: str) -> Any:
    return json.loads((folder / "results" / f"{stage}.json").read_text())


def test_what_is_stored_is_shorter_and_holds_everything(finished: Path) -> None:
    codec = Codec.load(finished / "codec")
    store = TokenStore.open(finished / "tokens" / "valid")
    rate_hz = results(finished, "tokenize")["splits"]["valid"]["tokens_per_second"]
    assert rate_hz == store.token_rate_hz == store.total_tokens / store.seconds < 40
    for index in range(len(store)):
        merged = torch.from_numpy(store.tokens(index))[None]
        plain, (count,) = codec.expand(merged)
        assert int(count) / codec.facts.token_rate_hz == pytest.approx(
            int(codec.decoded_samples(merged)) / 16000
        )
        assert torch.equal(codec.compact(plain)[0], merged)
        assert torch.equal(codec.decode(merged), codec.decode(plain))


def test_the_language_model_learns_durations(finished: Path) -> None:
    scores = results(finished, "evaluate")["language_model"]
    assert scores["bits_per_token"] < log2(UNITS * MAX_RUN) - 1
    assert scores["bits_per_second"] == pytest.approx(scores["bits_per_token"] * scores["tokens_per_second"])
    assert scores["tokens_per_second"] < 40
    # Runs without their lengths: what is learnt beyond the units themselves.
    model = SpeechLM.load(finished / "speech_lm")
    tokens = torch.from_numpy(TokenStore.open(finished / "tokens" / "valid").tokens(0))[None]
    shuffled = tokens - tokens % MAX_RUN + torch.randint(MAX_RUN, tokens.shape)
    known = model.predicted(tokens)
    assert model.score(tokens)[known].mean() > model.score(shuffled)[known].mean() + 0.5


def test_it_speaks_as_long_as_it_is_asked_to(finished: Path) -> None:
    (sample,) = (finished / "samples").glob("00_*")
    document = json.loads((sample / "sample.json").read_text())
    codec = Codec.load(finished / "codec")
    prompt = torch.tensor([document["prompt_tokens"]])
    assert int(codec.decoded_samples(prompt)) == document["prompt_seconds"] * 16000 < 16000
    for place, tokens in enumerate(document["new_tokens"]):
        assert int(codec.decoded_samples(torch.tensor([tokens]))) >= 16000
        spoken = read_audio(sample / f"continuation_{place}.wav")
        assert spoken.numel() == document["prompt_seconds"] * 16000 + 16000


def test_what_needs_a_constant_rate_is_refused() -> None:
    ahead = "{run: evaluate, chunk_ahead: {count: 2, metrics: [mel_distance]}}"
    stages = f"stages=[{TRAIN_CODEC}, {{run: tokenize}}, {TRAIN_LM}, {ahead}]"
    recipe = load_recipe(RECIPE, [*PARTS, stages])
    with pytest.raises(RecipeError, match="chunk_ahead: the quantizer merges repeated tokens"):
        check(recipe)
    # Without a power of two of ids, bits do not make just that many.
    quantizer = f"quantizer={{name: k_means, codebook_size: {UNITS}, deduplicate: true, max_run: 6}}"
    recipe = load_recipe(RECIPE, [*PARTS, quantizer, "head={name: bitwise}"])
    with pytest.raises(RecipeError, match="bits need a power of two"):
        check(recipe)
