"""The contracts of stages, metrics, corpora and formats over those of the core, and over broken ones."""

import inspect
import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wavslm_core.data.audio import write_audio
from wavslm_core.data.corpora import Corpus, Utterance
from wavslm_core.data.folder import FolderConfig
from wavslm_core.errors import CheckpointError, DataError
from wavslm_core.evaluation.config import MelDistanceConfig, StoiConfig
from wavslm_core.model.codec import Codec
from wavslm_core.parts.configs import (
    Config,
    CorpusConfig,
    FormatConfig,
    MetricConfig,
    PartConfig,
    Role,
    StageConfig,
)
from wavslm_core.parts.interfaces import CheckpointFormat, CheckpointParts
from wavslm_core.parts.metric import Measured, Metric, check_pair
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Entry, Registry
from wavslm_core.run.context import StageContext
from wavslm_core.stages.base import Stage
from wavslm_core.stages.evaluate import EvaluateConfig
from wavslm_core.stages.score_suites import ScoreSuitesConfig
from wavslm_core.stages.tokenize import TokenizeConfig
from wavslm_core.stages.train_codec import TrainCodec, TrainCodecConfig
from wavslm_core.stages.train_lm import TrainLmConfig
from wavslm_core.testing import contract_tests
from wavslm_core.testing.fake_configs import FakeDecoderConfig, FakeEncoderConfig, FakeQuantizerConfig
from wavslm_core.testing.fakes import register_fakes
from wavslm_core.training.codec_task import CodecTask, Recoded
from wavslm_core.training.task import LossOutput, Task
from wavslm_suites.config import PairsConfig

TestMelDistance = contract_tests(MelDistanceConfig())
TestStoi = contract_tests(StoiConfig())
TestTokenize = contract_tests(TokenizeConfig())
TestTrainCodec = contract_tests(
    TrainCodecConfig(steps=2, batch_size=2, crop_seconds=0.2, spectral_windows=(256,), log_every=1)
)
TestTrainLm = contract_tests(TrainLmConfig(steps=2, batch_size=2, crop_tokens=16))
TestEvaluate = contract_tests(EvaluateConfig(metrics=("mel_distance",)))


class TestScoreSuites(
    contract_tests(ScoreSuitesConfig(suites=(PairsConfig(path="pairs.csv"),)))  # type: ignore[misc]
):
    @pytest.fixture(autouse=True)
    def _pairs(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path_factory.mktemp("here")
        for seed, side in enumerate(("good", "bad")):
            noise_S = torch.rand(9000, generator=torch.Generator().manual_seed(seed)) - 0.5
            write_audio(folder / f"{side}.wav", noise_S, 16_000)
        (folder / "pairs.csv").write_text("positive,negative\ngood.wav,bad.wav\n")
        monkeypatch.chdir(folder)


class TestFolder(contract_tests(FolderConfig(path="audio"))):  # type: ignore[misc]
    @pytest.fixture(autouse=True)
    def _audio(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path_factory.mktemp("here")
        for split, samples in {"train": 9000, "valid": 7000}.items():
            for take in range(2):
                noise_S = torch.rand(samples + take, generator=torch.Generator().manual_seed(take)) - 0.5
                write_audio(folder / "audio" / split / f"{take}.wav", noise_S, 16_000)
        monkeypatch.chdir(folder)


class ToyMetricConfig(MetricConfig):
    """Largest difference."""

    name: Literal["toy"] = "toy"


class ToyMetric(Metric[ToyMetricConfig]):
    title: ClassVar[str] = "Difference"
    better: ClassVar[Literal["higher", "lower"]] = "lower"

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        check_pair(reference_S, estimate_S)
        return float((reference_S - estimate_S).abs().max())


class WrongWay(ToyMetric):
    better: ClassVar[Literal["higher", "lower"]] = "higher"


class NeedsLong(ToyMetric):
    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        return super().compute(reference_S, estimate_S, sample_rate_hz=sample_rate_hz) + float(
            estimate_S[400]
        )


class Unchecked(ToyMetric):
    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        size = min(len(reference_S), len(estimate_S))
        return float((reference_S[:size] - estimate_S[:size]).abs().max())


class Nameless(ToyMetric):
    extra: ClassVar[Mapping[str, str]] = {"more": "More"}


class Spoiling(ToyMetric):
    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        value = super().compute(reference_S, estimate_S, sample_rate_hz=sample_rate_hz)
        estimate_S.mul_(0.99)
        return value


class OriginalElsewhere(ToyMetric):
    def measure_original(
        self, original_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        return {"more": (0.0, 1.0)}


class HearsSilence(ToyMetric):
    def hear(self, waveform_S: Tensor, *, sample_rate_hz: int) -> str:
        return "thank you"


class ToyCorpusConfig(CorpusConfig):
    """Ramps."""

    corpus: Literal["toy"] = "toy"


class ToyCorpus(Corpus):
    samples = 900

    def utterances(self, split: str) -> list[Utterance]:
        if split not in ("train", "valid"):
            raise DataError(f"no split {split}")
        return [Utterance(f"{split}{number}", 900, 8000) for number in range(3)]

    def load(self, utterance: Utterance, *, sample_rate_hz: int) -> Tensor:
        return torch.linspace(-1, 1, round(self.samples * sample_rate_hz / 8000))

    def fingerprint(self, split: str) -> dict[str, Any]:
        return {"split": split}


class Shorter(ToyCorpus):
    samples = 800


class OneSplit(ToyCorpus):
    def utterances(self, split: str) -> list[Utterance]:
        return [Utterance("always", 900, 8000)]


class CropsElsewhere(ToyCorpus):
    def load_crop(self, utterance: Utterance, *, start: int, samples: int, sample_rate_hz: int) -> Tensor:
        return super().load_crop(
            utterance, start=max(0, start - 1), samples=samples, sample_rate_hz=sample_rate_hz
        )


class ToyStageConfig(StageConfig):
    """Leaves a file."""

    run: Literal["toy"] = "toy"

    def leaves(self) -> Iterable[str] | None:
        return ("toy.txt",)


class SilentStageConfig(ToyStageConfig):
    """Does not say what it leaves."""

    def leaves(self) -> Iterable[str] | None:
        return None


class ToyStage(Stage[ToyStageConfig]):
    def run(self, context: StageContext) -> None:
        context.run_dir.mkdir(parents=True, exist_ok=True)
        context.place("toy.txt").write_text("done")


class LeavesNothing(ToyStage):
    def run(self, context: StageContext) -> None:
        return None


class OnlyOnce(ToyStage):
    def run(self, context: StageContext) -> None:
        context.run_dir.mkdir(parents=True, exist_ok=True)
        context.place("toy.txt").open("x").close()


class Scatters(ToyStage):
    def run(self, context: StageContext) -> None:
        super().run(context)
        (context.run_dir.parents[1] / "beside.txt").write_text("oops")


class ToyTrainingConfig(TrainCodecConfig):
    """Trains a codec."""

    run: Literal["toy"] = "toy"  # type: ignore[assignment]


class ToyTraining(TrainCodec):
    def make_task(self, model: Codec, context: StageContext) -> Task:
        return DrawingTask(model, **self.task_options(context))


class DrawingTask(CodecTask):
    def loss(self, step: int, micro_batch: int) -> LossOutput:
        output = super().loss(step, micro_batch)
        output.loss = output.loss * self.drawn()
        return output

    def drawn(self) -> float:
        return float(torch.rand(()))


class DrawsElsewhere(ToyTraining):
    def make_task(self, model: Codec, context: StageContext) -> Task:
        class ElsewhereTask(DrawingTask):
            def drawn(self) -> float:
                return random.random()

        return ElsewhereTask(model, **self.task_options(context))


class LeavesHalfAlone(ToyTraining):
    def make_task(self, model: Codec, context: StageContext) -> Task:
        class HalfTask(DrawingTask):
            spare = torch.nn.Linear(2, 2)

            @property
            def trained(self) -> dict[str, torch.nn.Module]:
                return {**super().trained, "spare": self.spare}

        return HalfTask(model, **self.task_options(context))


class ForgetsItsCritic(ToyTraining):
    def make_task(self, model: Codec, context: StageContext) -> Task:
        class JudgedTask(DrawingTask):
            critics = (torch.nn.Conv1d(1, 1, 5),)

            def compare(self, recoded: Recoded, fooled: Mapping[str, Tensor] | None = None) -> LossOutput:
                output = super().compare(recoded, fooled)
                output.loss = output.loss + self.critics[0](recoded.estimate_BS[:, None]).mean()
                return output

        return JudgedTask(model, **self.task_options(context))


class HearsNobody(ToyTraining):
    def run(self, context: StageContext) -> None:
        super().run(replace(context, stop_requested=lambda: False))


class ToyFormatConfig(FormatConfig):
    """A codec of fakes, three files in a folder."""

    format: Literal["toy"] = "toy"

    def holds(self, document: dict[str, Any]) -> Literal["codec", "speech_lm"] | None:
        return "codec" if document.get("toy") == 1 else None

    def part_configs(self, document: dict[str, Any]) -> dict[Role, PartConfig]:
        width = int(document["width"])
        return {
            "encoder": FakeEncoderConfig(dim=width),
            "quantizer": FakeQuantizerConfig(input_dim=width),
            "decoder": FakeDecoderConfig(input_dim=width),
        }

    def document(self, parts: dict[Role, PartConfig]) -> dict[str, Any] | None:
        encoder = parts.get("encoder")
        if not isinstance(encoder, FakeEncoderConfig) or len(parts) != 3:
            return None
        document = {"toy": 1, "width": encoder.dim}
        return document if self.part_configs(document) == parts else None

    def known_document(self, checkpoint: str) -> dict[str, Any] | None:
        return None


class GreedyFormatConfig(ToyFormatConfig):
    """Takes every document for its own."""

    def holds(self, document: dict[str, Any]) -> Literal["codec", "speech_lm"] | None:
        return "codec"


class ToyFormat(CheckpointFormat):
    config: ToyFormatConfig

    def write(self, folder: Path, parts: CheckpointParts) -> None:
        (folder / "config.json").write_text(json.dumps(self.config.document(parts.configs)))
        for role, state in parts.states.items():
            save_file(state, folder / f"{role}.safetensors")

    def read(self, folder: Path) -> CheckpointParts:
        document = json.loads((folder / "config.json").read_text())
        configs = self.config.part_configs(document)
        try:
            states = {role: load_file(folder / f"{role}.safetensors") for role in configs}
        except SafetensorError as error:
            raise CheckpointError(f"{folder} is damaged: {error}") from error
        return CheckpointParts(configs, states)


class Forgets(ToyFormat):
    def read(self, folder: Path) -> CheckpointParts:
        parts = super().read(folder)
        return replace(
            parts, states={role: state for role, state in parts.states.items() if role != "decoder"}
        )


class Trusting(ToyFormat):
    def read(self, folder: Path) -> CheckpointParts:
        document = json.loads((folder / "config.json").read_text())
        configs = self.config.part_configs(document)
        states = {role: load_file(folder / f"{role}.safetensors") for role in configs}
        return CheckpointParts(configs, states)


TRAINING = ToyTrainingConfig(steps=4, batch_size=2, crop_seconds=0.2, spectral_windows=(256,))
PARTS = ToyFormatConfig().part_configs({"width": 6})


def failures(config: Config, target: type, folder: Path, caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """Return check → message of every check of its contract that this fails."""
    registry = Registry()
    registry.add(*(entry for entry in load_registry() if entry.name != "fake"))
    path = f"{target.__module__}:{target.__qualname__}"
    registry.add(Entry(config.role, "toy", type(config), path, "wavslm-toys", "1.0"))
    register_fakes(registry)
    tests = contract_tests(config, registry=registry, parts=PARTS)()
    found = {}
    for name in dir(tests):
        # What starts processes is held over whole ones above.
        if not name.startswith("test_") or "torch" in name:
            continue
        check: Callable[..., None] = getattr(tests, name)
        given = folder / name
        given.mkdir()
        caplog.clear()
        try:
            fixtures = {"tmp_path": given, "caplog": caplog}
            check(*(fixtures[parameter] for parameter in inspect.signature(check).parameters))
        except pytest.skip.Exception:
            continue
        except Exception as error:
            found[name.removeprefix("test_")] = str(error)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "whole"),
    [
        (ToyMetricConfig(), ToyMetric),
        (ToyCorpusConfig(), ToyCorpus),
        (ToyStageConfig(), ToyStage),
        (TRAINING, ToyTraining),
        (ToyFormatConfig(), ToyFormat),
    ],
)
def test_what_the_broken_ones_were_made_from_is_whole(
    config: Config, whole: type, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert failures(config, whole, tmp_path, caplog) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "broken", "checks"),
    [
        (ToyMetricConfig(), WrongWay, {"nothing_is_better_than_the_original"}),
        (ToyMetricConfig(), NeedsLong, {"short_and_silent_audio"}),
        (ToyMetricConfig(), Unchecked, {"audio_of_unequal_length_is_refused"}),
        (ToyMetricConfig(), Nameless, {"every_number_is_given"}),
        (ToyMetricConfig(), Spoiling, {"the_same_audio_gives_the_same_numbers"}),
        (ToyMetricConfig(), OriginalElsewhere, {"what_the_original_gets"}),
        (ToyMetricConfig(), HearsSilence, {"what_it_hears"}),
        (ToyCorpusConfig(), Shorter, {"audio"}),
        (ToyCorpusConfig(), OneSplit, {"splits_have_utterances", "what_is_not_there"}),
        (ToyCorpusConfig(), CropsElsewhere, {"crops"}),
        (SilentStageConfig(), ToyStage, {"what_it_states"}),
        (ToyStageConfig(), LeavesNothing, {"it_leaves_what_it_says_and_can_run_again"}),
        (ToyStageConfig(), OnlyOnce, {"it_leaves_what_it_says_and_can_run_again", "it_can_be_stopped"}),
        (ToyStageConfig(), Scatters, {"it_leaves_what_it_says_and_can_run_again"}),
        (TRAINING, DrawsElsewhere, {"stopped_half_way_it_ends_in_the_same_weights"}),
        (TRAINING, HearsNobody, {"stopped_half_way_it_ends_in_the_same_weights"}),
        (TRAINING, LeavesHalfAlone, {"training_reaches_every_weight"}),
        (
            TRAINING,
            ForgetsItsCritic,
            {
                "it_leaves_what_it_says_and_can_run_again",
                "it_can_be_stopped",
                "training_reaches_every_weight",
                "stopped_half_way_it_ends_in_the_same_weights",
            },
        ),
        (GreedyFormatConfig(), ToyFormat, {"it_leaves_others_alone"}),
        (ToyFormatConfig(), Forgets, {"weights_are_read_as_they_were_written"}),
        (ToyFormatConfig(), Trusting, {"damaged_weights_are_refused"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_broken_is_caught(
    config: Config, broken: type, checks: set[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = failures(config, broken, tmp_path, caplog)
    assert set(found) == checks, found
    assert all("of wavslm-toys 1.0: " in said and "The contract: " in said for said in found.values())


def test_a_format_needs_parts_to_put_into_it() -> None:
    with pytest.raises(ValueError, match="give `parts`, role → config, that the format can hold"):
        contract_tests(ToyFormatConfig())
