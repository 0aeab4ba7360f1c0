"""Judged continuations: anchors, prompts of two kinds, what is kept, and the same numbers again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from tests.core.evaluation.test_speaking import Loudness, LoudnessConfig
from wavslm_core.data.audio import read_audio, write_audio
from wavslm_core.data.corpora import Split, open_split
from wavslm_core.data.folder import FolderConfig
from wavslm_core.errors import WavslmError
from wavslm_core.evaluation.config import ContinuationsConfig
from wavslm_core.evaluation.continuation_evaluation import (
    Judges,
    continuation_rows,
    evaluate_continuations,
    usual_judges,
)
from wavslm_core.evaluation.continuations import continue_all
from wavslm_core.evaluation.speaking import score_continuations
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.configs import EVERY_SPLIT, DataConfig, MetricConfig
from wavslm_core.parts.metric import Metric
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Entry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm

RATE_HZ = 16_000


class LikenessConfig(MetricConfig):
    """Difference of levels from the prompt."""

    name: Literal["likeness"] = "likeness"
    takes_prompt: ClassVar[bool] = True


class Likeness(Metric[LikenessConfig]):
    """Remembers what it was given."""

    title: ClassVar[str] = "Likeness"
    better: ClassVar[Literal["higher", "lower"]] = "higher"

    def __init__(self, config: LikenessConfig) -> None:
        super().__init__(config)
        self.given: list[tuple[Tensor, Tensor]] = []

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        self.given.append((reference_S, estimate_S))
        return -abs(float(reference_S.std() - estimate_S.std()))


class AbsentConfig(MetricConfig):
    """Needs what is not there."""

    name: Literal["absent"] = "absent"
    needs_reference: ClassVar[bool] = False


class Absent(Metric[AbsentConfig]):
    def __init__(self, config: AbsentConfig) -> None:
        raise WavslmError("needs a library that is not installed")

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        return 0.0


class FetchingConfig(MetricConfig):
    """Has weights elsewhere."""

    name: Literal["fetching"] = "fetching"
    needs_reference: ClassVar[bool] = False
    fetches: ClassVar[bool] = True


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for config, part in (
        (LikenessConfig, Likeness),
        (LoudnessConfig, Loudness),
        (AbsentConfig, Absent),
        (FetchingConfig, Absent),
    ):
        name = config.registered_name()
        target = f"{part.__module__}:{part.__qualname__}"
        entry = Entry("metric", name, config, target, "wavslm-toy", "1.0")
        monkeypatch.setitem(load_registry()._entries, ("metric", name), entry)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("corpus")
    generator = torch.Generator().manual_seed(0)
    for number, seconds in enumerate((0.4, 1.6, 2.0)):
        noise_S = 0.1 * torch.randn(round(RATE_HZ * seconds), generator=generator)
        write_audio(folder / "valid" / f"{number}.wav", noise_S, RATE_HZ)
    recipe = recipe_from_dict({"name": "a", "data": {"corpus": "folder", "path": str(folder)}})
    return open_split(recipe.data, "valid", cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def speech_lm() -> SpeechLM:
    torch.manual_seed(0)
    return fake_speech_lm(fake_codec()).eval()


def evaluated(speech_lm: SpeechLM, split: Split, out: Path, **options: Any) -> dict[str, Any]:
    metrics = {"likeness": Likeness(LikenessConfig())}
    return evaluate_continuations(
        speech_lm,
        split,
        Judges(metrics, {"utmos": "is not installed"}),
        out,
        config=ContinuationsConfig(count=2, prompt_seconds=0.48, seconds=0.5, **options),
        reference="toy",
        seed=5,
        sampler={"name": "fake_sampler"} if "fake_sampler" in load_registry().names("sampler") else None,
    )


def test_what_is_judged_is_on_disk_and_what_generate_says(
    speech_lm: SpeechLM, split: Split, tmp_path: Path
) -> None:
    results = evaluated(speech_lm, split, tmp_path / "out", anchors=("codec", "shuffled"))
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    score = results["metrics"]["likeness"]
    rate_hz = speech_lm.codec.sample_rate_out
    found: dict[str, list[float]] = {}
    for folder, prompt in zip(sorted((tmp_path / "out").glob("*_*")), results["prompts"], strict=True):
        prompt_S = read_audio(folder / "prompt.wav")
        for name, value in prompt["scores"].items():
            sound_S = read_audio(folder / f"{name}.wav")
            # What is encoded is cut to whole chunks.
            lacking = round(0.5 * rate_hz) - sound_S.numel()
            assert lacking == 0 if name in ("continuation", "original") else 0 <= lacking < 0.08 * rate_hz
            # 16 bits on disk.
            assert -abs(float(prompt_S.std() - sound_S.std())) == pytest.approx(value["likeness"], abs=1e-3)
            found.setdefault(name, []).append(value["likeness"])
    assert [*found] == ["continuation", "original", "codec", "shuffled"]
    means = {name: sum(values) / 2 for name, values in found.items()}
    assert score["mean"] == pytest.approx(means["continuation"])
    assert score["original"]["mean"] == pytest.approx(means["original"])
    for anchor in ("codec", "shuffled"):
        assert score["anchors"][anchor]["mean"] == pytest.approx(means[anchor])
    # The verb and the stage `generate` give the very same speech for prompt and seed.
    first = results["prompts"][0]
    index = [utterance.id for utterance in split.utterances].index(first["id"])
    (sample,) = continue_all(
        speech_lm,
        [(first["id"], split.load(index, sample_rate_hz=RATE_HZ))],
        output=tmp_path / "samples",
        sample_rate_hz=RATE_HZ,
        prompt_seconds=0.48,
        seconds=0.5,
        count=1,
        seed=first["seed"],
    )
    whole_S = read_audio(tmp_path / "samples" / sample["folder"] / "continuation_0.wav")
    continued_S = read_audio(sorted((tmp_path / "out").glob("*_*"))[0] / "continuation.wav")
    torch.testing.assert_close(whole_S[-continued_S.numel() :], continued_S, atol=1e-4, rtol=0)


def test_the_same_command_gives_the_same_numbers(speech_lm: SpeechLM, split: Split, tmp_path: Path) -> None:
    one, again = (
        evaluated(speech_lm, split, tmp_path / name, anchors=("shuffled",)) for name in ("one", "again")
    )
    assert one.pop("times_real_time") > 0
    again.pop("times_real_time")
    assert one == again
    assert one["sampler"]["name"]
    assert one["judges"]["likeness"]["options"] == {"name": "likeness"}


def test_the_shuffled_control_has_the_truth_s_tokens(speech_lm: SpeechLM, split: Split) -> None:
    """It sounds as its tokens do in another order: alike in what does not depend on order."""
    spoken: list[Any] = []
    score_continuations(
        speech_lm,
        split,
        {},
        count=1,
        prompt_seconds=0.48,
        seconds=0.8,
        seed=0,
        anchors=("codec", "shuffled"),
        after_each=spoken.append,
    )
    codec_S, shuffled_S = (spoken[0].sounds[name] for name in ("codec", "shuffled"))
    assert codec_S.shape == shuffled_S.shape
    assert not torch.allclose(codec_S, shuffled_S, atol=1e-3)
    codec = speech_lm.codec
    assert len(spoken[0].new_tokens_T) >= 0.8 * codec.facts.token_rate_hz


def test_halves_continue_for_no_longer_than_the_rest(speech_lm: SpeechLM, split: Split) -> None:
    spoken: list[Any] = []
    results = score_continuations(
        speech_lm, split, {}, count=3, prompt_seconds="half", seconds=0.9, seed=0, after_each=spoken.append
    )
    assert [prompt["prompt_seconds"] for prompt in results["prompts"]] == pytest.approx([0.2, 0.8, 1.0])
    assert [prompt["seconds"] for prompt in results["prompts"]] == pytest.approx([0.2, 0.8, 0.9])
    rate_hz = speech_lm.codec.sample_rate_out
    sizes = [[sound_S.numel() for sound_S in one.sounds.values()] for one in spoken]
    assert sizes == [[round(new_s * rate_hz)] * 2 for new_s in (0.2, 0.8, 0.9)]


def test_the_prompt_is_the_reference(speech_lm: SpeechLM, split: Split) -> None:
    metric = Likeness(LikenessConfig())
    spoken: list[Any] = []
    score_continuations(
        speech_lm,
        split,
        {"likeness": metric},
        count=1,
        prompt_seconds=0.48,
        seconds=0.5,
        seed=0,
        after_each=spoken.append,
    )
    assert len(metric.given) == 2
    for (reference_S, estimate_S), sound_S in zip(metric.given, spoken[0].sounds.values(), strict=True):
        assert torch.equal(reference_S, spoken[0].prompt_S)
        assert torch.equal(estimate_S, sound_S)


def test_who_does_not_judge_is_in_the_table(speech_lm: SpeechLM, split: Split, tmp_path: Path) -> None:
    results = evaluated(speech_lm, split, tmp_path)
    assert continuation_rows(results)[-1] == ["utmos", "–", "–", "not judged"]
    page = (tmp_path / "table.md").read_text()
    assert "| utmos | – | – | not judged |" in page
    assert "- not judged by utmos: is not installed" in page


def test_judges_are_all_that_can_and_the_others_are_named(tmp_path: Path) -> None:
    chosen, others = usual_judges()
    names = [config.registered_name() for config in chosen]
    assert {"likeness", "loudness", "absent"} <= {*names}
    assert not {"stoi", "mel_distance", "fetching"} & {*names}
    assert "ask for it as --judge fetching" in others["fetching"]
    data = DataConfig(((EVERY_SPLIT, FolderConfig(path=str(tmp_path))),))
    judges = Judges.build([LikenessConfig(), AbsentConfig()], data, cache_dir=tmp_path)
    assert [*judges.metrics] == ["likeness"]
    assert judges.missing == {"absent": "needs a library that is not installed"}
