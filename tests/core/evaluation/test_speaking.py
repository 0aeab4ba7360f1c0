"""The language model's own speech: what is judged, and that one chunk ahead sees the true past alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from wavslm_core.data.audio import write_audio
from wavslm_core.data.corpora import Split, open_split
from wavslm_core.errors import WavslmError
from wavslm_core.evaluation.config import MelDistanceConfig
from wavslm_core.evaluation.metrics import MelDistance
from wavslm_core.evaluation.speaking import chunks_ahead, long_enough, score_chunks_ahead, score_continuations
from wavslm_core.machine.processes import Interrupted
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.configs import MetricConfig
from wavslm_core.parts.metric import ReferenceFreeMetric
from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm


class LoudnessConfig(MetricConfig):
    """Root mean square."""

    name: Literal["loudness"] = "loudness"
    needs_reference: ClassVar[bool] = False


class Loudness(ReferenceFreeMetric[LoudnessConfig]):
    """Remembers what it heard."""

    title: ClassVar[str] = "Loudness"
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    extra: ClassVar[Mapping[str, str]] = {"peak": "Peak"}

    def __init__(self) -> None:
        super().__init__(LoudnessConfig())
        self.heard: list[Tensor] = []

    def judge(self, waveform_S: Tensor, *, sample_rate_hz: int) -> dict[str, float]:
        self.heard.append(waveform_S)
        return {"": float(waveform_S.square().mean().sqrt()), "peak": float(waveform_S.abs().max())}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("corpus")
    generator = torch.Generator().manual_seed(0)
    for number, seconds in enumerate((0.5, 1.5, 2.0, 1.0)):
        noise_S = 0.1 * torch.randn(round(16_000 * seconds), generator=generator)
        write_audio(folder / "valid" / f"{number}.wav", noise_S, 16_000)
        write_audio(folder / "train" / f"{number}.wav", noise_S, 16_000)
    recipe = recipe_from_dict({"name": "a", "data": {"corpus": "folder", "path": str(folder)}})
    return open_split(recipe.data, "valid", cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def speech_lm() -> SpeechLM:
    torch.manual_seed(0)
    return fake_speech_lm(fake_codec()).eval()


def test_long_recordings_come_first(split: Split) -> None:
    assert long_enough(split, 2, seconds=1.2) == [1, 2]
    assert long_enough(split, 3, seconds=1.2) == [1, 2, 3]
    assert long_enough(split, 9, seconds=1.2) == [0, 1, 2, 3]


def test_continuations_are_judged_alone(split: Split, speech_lm: SpeechLM) -> None:
    metric = Loudness()
    options = {"count": 2, "prompt_seconds": 0.48, "seconds": 0.5, "seed": 3}
    scores = score_continuations(speech_lm, split, {"loudness": metric}, **options)  # type: ignore[arg-type]
    assert scores["count"] == 2
    assert scores["times_real_time"] > 0
    assert [heard.numel() for heard in metric.heard] == [round(0.5 * speech_lm.codec.sample_rate_out)] * 4
    said, truths = metric.heard[::2], metric.heard[1::2]
    assert set(scores["metrics"]) == {"loudness", "loudness_peak"}
    score = scores["metrics"]["loudness"]
    for found, judged in ((score, said), (score["original"], truths)):
        loudness = [float(heard.square().mean().sqrt()) for heard in judged]
        assert found["mean"] == pytest.approx(sum(loudness) / 2)
    assert scores["metrics"]["loudness_peak"]["title"] == "Peak"
    # The same as continue_speech gives for the prompt.
    index = long_enough(split, 2, seconds=0.98)[0]
    prompt_S = split.load(index, sample_rate_hz=16_000)[: round(0.48 * 16_000)]
    expected_BS = speech_lm.continue_speech(prompt_S[None], sample_rate=16_000, seconds=0.5, seed=3)
    torch.testing.assert_close(said[0], expected_BS[0])
    # Beside it, how the recording really goes on.
    recording_S = split.load(index, sample_rate_hz=speech_lm.codec.sample_rate_out)
    start = round(0.48 * speech_lm.codec.sample_rate_out)
    torch.testing.assert_close(truths[0], recording_S[start : start + truths[0].numel()])


def test_chunks_ahead_follow_from_the_true_past(speech_lm: SpeechLM) -> None:
    """Each chunk is what generation gives after the true tokens before it."""
    chunk = speech_lm.chunk_tokens
    generator = torch.Generator().manual_seed(1)
    tokens_BT = torch.randint(0, speech_lm.head_facts.vocab_size, (1, 6 * chunk), generator=generator)
    drawn_BT = chunks_ahead(speech_lm, tokens_BT, seed=10)
    assert torch.equal(drawn_BT[:, :chunk], tokens_BT[:, :chunk])
    for place in range(1, 6):
        expected_BC = speech_lm.generate(tokens_BT[:, : place * chunk], new_tokens=chunk, seed=10 + place - 1)
        assert torch.equal(drawn_BT[:, place * chunk : (place + 1) * chunk], expected_BC)
    assert not torch.equal(drawn_BT, tokens_BT)
    assert torch.equal(chunks_ahead(speech_lm, tokens_BT[:, :chunk], seed=0), tokens_BT[:, :chunk])


def test_chunks_ahead_are_compared_with_the_recording(split: Split, speech_lm: SpeechLM) -> None:
    metrics = {"mel_distance": MelDistance(MelDistanceConfig())}
    scores = score_chunks_ahead(speech_lm, split, metrics, count=3, seed=0)
    assert (scores["count"], scores["metrics"]["mel_distance"]["count"]) == (3, 3)
    assert scores["metrics"]["mel_distance"]["mean"] > 0


def test_a_recording_shorter_than_a_chunk_fails_alone(speech_lm: SpeechLM, tmp_path: Path) -> None:
    for name, samples in {"a": 16_000, "blip": 1, "b": 12_000}.items():
        write_audio(tmp_path / "audio" / "valid" / f"{name}.wav", torch.rand(samples) - 0.5, 16_000)
    recipe = recipe_from_dict({"name": "a", "data": {"corpus": "folder", "path": str(tmp_path / "audio")}})
    split = open_split(recipe.data, "valid", cache_dir=tmp_path / "cache")
    said = score_continuations(
        speech_lm, split, {"loudness": Loudness()}, count=3, prompt_seconds=0.4, seconds=0.4, seed=0
    )
    ahead = score_chunks_ahead(
        speech_lm, split, {"mel_distance": MelDistance(MelDistanceConfig())}, count=3, seed=0
    )
    assert said["times_real_time"] > 0
    for score in (
        said["metrics"]["loudness"],
        said["metrics"]["loudness_peak"],
        ahead["metrics"]["mel_distance"],
    ):
        assert (score["count"], score["failed"]) == (2, 1)
        (failure,) = score["failures"]
        assert failure["id"] == "valid/blip.wav"
        assert "at least one chunk (80 ms) long" in failure["reason"]


def test_samplers_that_look_far_back_are_refused(speech_lm: SpeechLM) -> None:
    sampler = {"name": "repetition_penalty", "window_tokens": 50}
    if "repetition_penalty" not in load_registry().names("sampler"):
        pytest.skip("needs wavslm-samplers")
    far = SpeechLM(speech_lm.codec, speech_lm.backbone, speech_lm.head, speech_lm.make_sampler(sampler))
    with pytest.raises(WavslmError, match="sees no more than the chunk before"):
        chunks_ahead(far, torch.zeros(1, 16, dtype=torch.int64), seed=0)


def test_stop_is_heeded(split: Split, speech_lm: SpeechLM, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        score_chunks_ahead(speech_lm, split, {}, count=1, seed=0, stop_requested=lambda: True)
    with pytest.raises(Interrupted):
        score_continuations(
            speech_lm, split, {}, count=1, prompt_seconds=1, seconds=1, seed=0, stop_requested=lambda: True
        )
