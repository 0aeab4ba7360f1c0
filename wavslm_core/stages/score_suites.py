"""Stage `score_suites`: which of two recordings does the language model find likelier, over whole suites?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from wavslm_core.evaluation.config import LikelihoodRules
from wavslm_core.parts.blocks import Block
from wavslm_core.parts.configs import RecipeView, Role, StageConfig, SuiteConfig, modules_of
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.run.context import StageContext
from wavslm_core.stages.base import TRAIN_CODEC, TRAIN_LM, Stage

if TYPE_CHECKING:
    from pathlib import Path


class ScoreSuitesConfig(StageConfig):
    """Score likelihood suites such as SALMon or sWUGGY: `suites: [{name: salmon, path: /data/salmon}]`."""

    needs: ClassVar[tuple[Role, ...]] = CODEC_ROLES
    divides: ClassVar[bool] = True

    run: Literal["score_suites"] = "score_suites"
    suites: tuple[Annotated[SuiteConfig, Block("suite")], ...] = Field(min_length=1)
    """Suites to score; one that is there twice needs another `label`."""
    rules: LikelihoodRules = LikelihoodRules()
    """How pairs are scored and counted: `{ties: strict, submit: sum}`."""
    allow_partial: bool = False
    """Score what is there of a suite that is not whole, and say so in every table, instead of refusing it."""
    speech_lm: str | None = None
    """Folder or hub id of a language model to score instead of the one that this run trained."""
    baseline_tokens: int = Field(default=20_000_000, ge=0)
    """Training tokens of the run, if it has any, on which n-grams are counted, to be scored beside the
    language model; 0: no n-grams."""
    batch_seconds: float = Field(default=60.0, gt=0)
    """Audio in one padded batch."""

    def reads(self) -> dict[str, str]:
        return {"codec": TRAIN_CODEC} | ({"speech_lm": TRAIN_LM} if self.speech_lm is None else {})

    def needs_modules(self) -> dict[str, str]:
        return modules_of(self.suites)

    def leaves(self) -> tuple[str, ...]:
        return ()

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        from wavslm_core.recipe.checkpoints import speech_lm_problems

        yield from speech_lm_problems(self.speech_lm, recipe)
        labels = [suite.shown_name for suite in self.suites]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            yield f"suites: {', '.join(twice)} is there twice: give one of them another `label`."


class ScoreSuites(Stage[ScoreSuitesConfig]):
    """Leaves a folder of its name with tables, per-pair scores and official files, and its results."""

    def run(self, context: StageContext) -> None:
        from wavslm_core.evaluation.language_scores import stage_speech_lm
        from wavslm_core.evaluation.suite_evaluation import built_suites, evaluate_suites
        from wavslm_core.evaluation.suite_marks import TRAINING_TOKENS, Marks

        config = self.config
        speech_lm = stage_speech_lm(context, config.speech_lm)
        tokens = context.found(TRAINING_TOKENS) if config.baseline_tokens else None
        marks = None
        # Who writes the results has them; other processes and shares score pairs alone.
        if tokens is not None and context.rank == 0 and not context.share.partial:
            marks = Marks.of_run(tokens, speech_lm, most=config.baseline_tokens)
        results = evaluate_suites(
            speech_lm,
            built_suites(config.suites, cache_dir=context.cache_dir),
            self.folder(context),
            reference=config.speech_lm or context.recipe.name,
            cache_dir=context.cache_dir,
            rules=config.rules,
            allow_partial=config.allow_partial,
            batch_seconds=config.batch_seconds,
            marks=marks,
            share=context.share,
            processes=context.processes,
            stop_requested=context.stop_requested,
        )
        if results is not None:
            self.write_results(context, results)

    def folder(self, context: StageContext) -> Path:
        """Return where everything is written that is not a result alone."""
        return context.run_dir / self.name_in(context)

    def left_results(self, context: StageContext) -> bool:
        return self.results_file(context).exists() and self.folder(context).exists()

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        return {
            "suites": ", ".join(suite.shown_name for suite in self.config.suites),
            "rules": ", ".join(f"{key} {value}" for key, value in self.config.rules.model_dump().items()),
        }
