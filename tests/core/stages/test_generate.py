"""Stage generate: files that belong together, the same ones every time; stages tell how far they are."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.core.stages.syllables import SyllablesConfig
from wavslm_core.data.audio import read_audio
from wavslm_core.errors import DataError
from wavslm_core.evaluation.continuations import continue_waveform, folder_name
from wavslm_core.machine.processes import Interrupted
from wavslm_core.machine.progress import Reporter, reporting
from wavslm_core.run.context import StageContext
from wavslm_core.stages.evaluate import Evaluate, EvaluateConfig
from wavslm_core.stages.generate import Generate, GenerateConfig

pytestmark = pytest.mark.slow


def generate(context: StageContext, **options: object) -> list[Path]:
    config = GenerateConfig.model_validate(
        {"prompts": 2, "prompt_seconds": 1.0, "new_seconds": 0.5, **options}
    )
    Generate(config).run(context)
    results = json.loads((context.run_dir / "results" / "generate.json").read_text(encoding="utf-8"))
    assert results["times_real_time"] > 0
    return [context.run_dir / "samples" / sample["folder"] for sample in results["samples"]]


def test_files_and_lengths(with_model: StageContext) -> None:
    folders = generate(with_model)
    assert len(folders) == 2
    for folder in folders:
        seconds = {path.stem: read_audio(path).numel() / 16000 for path in folder.glob("*.wav")}
        # One second of prompt holds 50 tokens; 48 of them are whole chunks.
        assert seconds["continuation_0"] == seconds["continuation_1"] == 0.96 + 0.5
        assert seconds["prompt"] == 1.0
        assert seconds["original"] == seconds["reconstruction"] == 1.5
        assert (folder / "spectrograms.png").read_bytes().startswith(b"\x89PNG")
        sample = json.loads((folder / "sample.json").read_text(encoding="utf-8"))
        assert sample["prompt_seconds"] == 0.96
        assert len(sample["prompt_tokens"]) == 48
        assert len(sample["new_tokens"]) == 2


def test_the_same_seed_gives_the_same_audio(with_model: StageContext) -> None:
    first = {path.name: path.read_bytes() for path in generate(with_model)[0].glob("continuation*.wav")}
    again = {path.name: path.read_bytes() for path in generate(with_model)[0].glob("continuation*.wav")}
    other = {
        path.name: path.read_bytes() for path in generate(with_model, seed=77)[0].glob("continuation*.wav")
    }
    assert first == again
    assert first["continuation_0.wav"] != first["continuation_1.wav"]
    assert first != other


def test_continuation_starts_with_the_decoded_prompt(with_model: StageContext) -> None:
    speech_lm = with_model.speech_lm()
    prompt_S = with_model.split("valid").load(0, sample_rate_hz=16000)
    found = continue_waveform(speech_lm, prompt_S, sample_rate_hz=16000, seconds=0.5, count=3, seed=5)
    decoded_S = speech_lm.codec.decode(found.prompt_tokens_T[None])[0]
    for spoken_S, new_S in zip(found.spoken, found.new, strict=True):
        torch.testing.assert_close(spoken_S[: found.prompt_samples], decoded_S)
        assert new_S.numel() == 8000
    # Continuation n of a batch is the one that its seed gives alone.
    alone = continue_waveform(speech_lm, prompt_S, sample_rate_hz=16000, seconds=0.5, seed=6)
    torch.testing.assert_close(alone.spoken[0], found.spoken[1])


def test_prompts_from_files(with_model: StageContext) -> None:
    corpus = Path(with_model.recipe.data.corpus_for("valid").path)  # type: ignore[union-attr]
    file = sorted((corpus / "valid").iterdir())[0]
    folders = generate(with_model, prompts=[str(file)], continuations=1)
    assert [folder.name for folder in folders] == [f"00_{file.stem}"]


def test_continuations_are_judged_beside_the_truth(with_model: StageContext) -> None:
    folders = generate(with_model, metrics=["syllables"])
    results = json.loads((with_model.run_dir / "results" / "generate.json").read_text(encoding="utf-8"))
    metric = with_model.metrics([SyllablesConfig()])["syllables"]
    counts = {"original": 0.0, "continuation": 0.0}
    for folder, sample in zip(folders, results["samples"], strict=True):
        for name, judged in sample["judged"].items():
            waveform_S = read_audio(folder / name)
            if name != "prompt.wav":
                waveform_S = waveform_S[round(0.96 * 16000) :]
            heard = metric.hear(waveform_S, sample_rate_hz=16000)
            assert judged["heard"] == {"syllables": heard}
            rate = metric.judge(waveform_S, sample_rate_hz=16000)[""]
            assert judged["scores"] == {"syllables": pytest.approx(rate)}
            if (kind := name.split("_")[0].removesuffix(".wav")) in counts:
                counts[kind] += rate
        assert set(sample["judged"]) == set(sample["files"])
    score = results["metrics"]["syllables"]
    assert score["mean"] == pytest.approx(counts["continuation"] / 4)
    assert score["original"]["mean"] == pytest.approx(counts["original"] / 2)
    # Continuations of one prompt are not independent of each other.
    assert score["count"] == score["original"]["count"] == 2


def test_metrics_that_compare_are_refused(with_model: StageContext) -> None:
    with pytest.raises(ValidationError, match="mel_distance compares with a reference, but nobody knows"):
        generate(with_model, metrics=["mel_distance"])


def test_missing_prompt_files_are_named(with_model: StageContext) -> None:
    with pytest.raises(DataError, match=r"/nowhere/a\.wav"):
        generate(with_model, prompts=["/nowhere/a.wav"])


def test_unknown_sampler_is_refused_before_work(with_model: StageContext) -> None:
    with pytest.raises(ValidationError, match="Did you mean 'fake'"):
        generate(with_model, sampler={"name": "fakee"})


def test_a_list_of_samplers_is_their_chain(with_model: StageContext) -> None:
    folders = generate(with_model, sampler=[{"name": "fake"}, {"name": "fake"}], continuations=1)
    documents = [json.loads((folder / "sample.json").read_text()) for folder in folders]
    assert documents[0]["sampler"] == {"name": "chain", "steps": [{"name": "fake"}, {"name": "fake"}]}
    alone = generate(with_model, sampler={"name": "fake"}, continuations=1)
    tokens = [json.loads((folder / "sample.json").read_text())["new_tokens"] for folder in alone]
    assert [document["new_tokens"] for document in documents] == tokens


def test_stop_keeps_what_is_whole(with_model: StageContext) -> None:
    generate(with_model)
    with_model.stop_requested = lambda: True
    with pytest.raises(Interrupted):
        generate(with_model, seed=4)
    assert len(list((with_model.run_dir / "samples").glob("*/sample.json"))) == 2


def test_folder_names_are_safe() -> None:
    assert folder_name(3, "a b/../c d.flac") == "03_a_b_c_d"
    assert folder_name(0, "///") == "00"
    assert folder_name(1, "voice0.5") == "01_voice0_5"


EVALUATE = EvaluateConfig(
    metrics=("mel_distance",),
    batch_seconds=3.0,
    batch_tokens=128,
    chunk_ahead={"count": 2, "metrics": ["mel_distance"]},
)


class Kept(Reporter):
    """Keeps, of each bar, how much was done each time."""

    def __init__(self) -> None:
        super().__init__("a stage")
        self.done: dict[str, list[float]] = {}

    def tell(self, done: float, *, unit: str = "steps", **other: Any) -> None:
        self.done.setdefault(unit, []).append(done)


@pytest.mark.parametrize(
    ("stage", "units"),
    [
        (Evaluate(EVALUATE), {"s", "tokens"}),
        (Generate(GenerateConfig(prompts=2, prompt_seconds=1.0, new_seconds=0.5)), {"prompts"}),
    ],
)
def test_tells_while_working(with_model: StageContext, stage: Any, units: set[str]) -> None:
    kept = Kept()
    with reporting(kept):
        stage.run(with_model)
    assert set(kept.done) == units
    for done in kept.done.values():
        assert done[0] == 0.0
        assert len(set(done)) > 2
