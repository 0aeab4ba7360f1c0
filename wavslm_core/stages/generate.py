"""Stage `generate`: the language model speaks on after prompts from a split or from files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from wavslm_core.errors import DataError
from wavslm_core.evaluation.config import JudgeChoices, metric_configs, modules_asked_for, splits_asked_for
from wavslm_core.parts.blocks import Block
from wavslm_core.parts.configs import RecipeView, Role, SamplerConfig, StageConfig
from wavslm_core.parts.facts import sampler_problem
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.run.context import StageContext
from wavslm_core.stages.base import TRAIN_CODEC, TRAIN_LM, Stage, speech_lm_plan, streamed_roles

if TYPE_CHECKING:
    from torch import Tensor


class GenerateConfig(StageConfig):
    """Continue prompts; write what was said, what the codec makes of it, and how the model goes on."""

    needs: ClassVar[tuple[Role, ...]] = CODEC_ROLES

    run: Literal["generate"] = "generate"
    prompts: Annotated[int, Field(gt=0)] | tuple[str, ...] = 4
    """How many prompts to take from the split, spread evenly over it, or a list of audio files."""
    split: str = "valid"
    """Split that the prompts come from."""
    prompt_seconds: float = Field(default=2.0, gt=0)
    """The first part of each recording, which the model is given."""
    new_seconds: float = Field(default=4.0, gt=0)
    """How long the model speaks on."""
    continuations: int = Field(default=2, gt=0)
    """Continuations per prompt, each with its own seed."""
    seed: int | None = None
    """Seed of the first continuation; the others count on from it. Default: the recipe's."""
    sampler: Annotated[SamplerConfig, Block("sampler")] | None = None
    """Sampler for this stage, such as `{name: top_p, p: 0.9}`, or a list of them. Default: the recipe's."""
    speech_lm: str | None = None
    """Folder, registered name or hub id of a language model to use instead of the run's own."""
    metrics: JudgeChoices = ()
    """Metrics that judge continuations and, beside them, how the recordings really go on: those that need no
    reference, such as `dnsmos`."""

    def needs_streaming(self, recipe: RecipeView) -> tuple[Role, ...]:
        return streamed_roles(recipe)

    def needed_splits(self) -> tuple[str, ...]:
        own = (self.split,) if isinstance(self.prompts, int) else ()
        return (*own, *splits_asked_for(self.metrics))

    def needs_modules(self) -> dict[str, str]:
        return modules_asked_for(self.metrics)

    def reads(self) -> dict[str, str]:
        return {"codec": TRAIN_CODEC} | ({"speech_lm": TRAIN_LM} if self.speech_lm is None else {})

    def leaves(self) -> tuple[str, ...]:
        return ()

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        from wavslm_core.recipe.checkpoints import speech_lm_problems

        yield from speech_lm_problems(self.speech_lm, recipe)
        # A model from elsewhere brings a head of its own.
        head = None if self.speech_lm is not None else recipe.facts.get("head")
        if self.sampler is not None and head is not None:
            problem = sampler_problem(head, self.sampler.facts())
            if problem:
                yield f"sampler: {problem}"
        if not isinstance(self.prompts, int):
            missing = [name for name in self.prompts if not Path(name).expanduser().is_file()]
            if missing:
                yield f"prompts: {', '.join(missing)} does not exist. Correct the path."


class Generate(Stage[GenerateConfig]):
    """Leaves `samples/<prompt>/` with WAVs, a picture and `sample.json`, and `results/generate.json`."""

    def run(self, context: StageContext) -> None:
        from wavslm_core.evaluation.continuations import continue_all
        from wavslm_core.evaluation.language_scores import stage_speech_lm
        from wavslm_core.evaluation.sample_scores import judge_samples
        from wavslm_core.machine.progress import progress_bar
        from wavslm_core.run.folder import samples_folder

        config = self.config
        metrics = context.metrics(metric_configs(config.metrics))
        output = context.run_dir / samples_folder(self.name_in(context))
        speech_lm = stage_speech_lm(context, config.speech_lm)
        sampler = speech_lm.make_sampler(config.sampler)
        rate_hz = speech_lm.codec.sample_rate_in
        prompts = self._prompts(context, rate_hz)
        started = time.monotonic()
        total = len(prompts) / context.world_size
        with progress_bar("Continuing", total=total, unit="prompts") as advance:
            documents = continue_all(
                speech_lm,
                prompts,
                output=output,
                sample_rate_hz=rate_hz,
                prompt_seconds=config.prompt_seconds,
                seconds=config.new_seconds,
                count=config.continuations,
                seed=context.recipe.seed if config.seed is None else config.seed,
                sampler=sampler,
                processes=context.processes,
                stop_requested=context.stop_requested,
                after_each=lambda _: advance(1),
            )
        elapsed_s = time.monotonic() - started
        spoken_s = config.new_seconds * config.continuations * len(documents)
        samples = [
            {key: document[key] for key in ("folder", "id", "seed", "prompt_seconds", "files")}
            for document in documents
        ]
        results = {"samples": samples, "seconds": elapsed_s, "times_real_time": spoken_s / elapsed_s}
        if metrics:
            judged = judge_samples(
                metrics,
                documents,
                folder=output,
                processes=context.processes,
                stop_requested=context.stop_requested,
            )
            for sample, files in zip(samples, judged.files, strict=True):
                sample["judged"] = files
            results["metrics"] = judged.metrics
        self.write_results(context, results)

    def left_results(self, context: StageContext) -> bool:
        from wavslm_core.run.folder import samples_folder

        samples = context.run_dir / samples_folder(self.name_in(context))
        return samples.exists() and self.results_file(context).exists()

    def _prompts(self, context: StageContext, rate_hz: int) -> list[tuple[str, Tensor]]:
        """Return (id, waveform (S,)) at the codec's input rate."""
        from wavslm_core.data.audio import read_audio
        from wavslm_core.evaluation.speaking import long_enough

        if not isinstance(self.config.prompts, int):
            files = [Path(name).expanduser() for name in self.config.prompts]
            missing = [str(file) for file in files if not file.is_file()]
            if missing:
                raise DataError(
                    f"prompts that do not exist: {', '.join(missing)}. Correct `prompts` of stage generate"
                )
            return [(file.stem, read_audio(file, sample_rate_hz=rate_hz)) for file in files]
        split = context.split(self.config.split)
        # Recordings that last beyond their prompt show how the speaker really went on.
        wanted_s = self.config.prompt_seconds + self.config.new_seconds
        chosen = long_enough(split, self.config.prompts, seconds=wanted_s)
        return [(split.utterances[index].id, split.load(index, sample_rate_hz=rate_hz)) for index in chosen]

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        prompts = self.config.prompts
        count = prompts if isinstance(prompts, int) else len(prompts)
        plan: dict[str, Any] = {
            "prompts": count,
            "continuations": count * self.config.continuations,
            "seconds of speech": count * self.config.continuations * self.config.new_seconds,
        }
        return plan | speech_lm_plan(self.config.speech_lm, recipe)
