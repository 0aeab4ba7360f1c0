"""`train_lm`: the speech language model on the tokens that `tokenize` left, under the frozen codec."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from wavslm_core.parts.configs import RecipeView, Role
from wavslm_core.parts.roles import PART_ROLES
from wavslm_core.run.context import StageContext
from wavslm_core.stages.base import TRAIN_CODEC, TrainingStage, speech_lm_plan, tokenize_first
from wavslm_core.training.config import TrainingConfig

if TYPE_CHECKING:
    from wavslm_core.data.token_store import TokenStore
    from wavslm_core.model.codec import Codec
    from wavslm_core.model.speech_lm import SpeechLM
    from wavslm_core.training.state import TrainState
    from wavslm_core.training.task import Task


class TrainLmConfig(TrainingConfig):
    """Train backbone and head to predict the next chunk of tokens; the codec stays as it is. It starts from
    what an earlier stage left, the last one or those that `starts_from` names, unless `init` names something
    else."""

    needs: ClassVar[tuple[Role, ...]] = PART_ROLES
    trains: ClassVar[tuple[Role, ...]] = ("backbone", "head")
    absent_if_unset: ClassVar[tuple[str, ...]] = (*TrainingConfig.absent_if_unset, "upper_layers_of")

    run: Literal["train_lm"] = "train_lm"
    crop_tokens: int = Field(default=512, gt=0)
    """Tokens of an utterance that one training item holds at most; a multiple of the head's chunk."""
    init: str | None = None
    """Folder, registered name or hub id of a language model to start from. Default: what an earlier stage
    left, else random weights or what the backbone's config says."""
    upper_layers_of: str | None = None
    """Earlier stage that left an encoder, such as `pretrain_encoder`, whose upper layers the backbone starts
    as: those from its `first_layer` on, as WavSLM's do (2603.05299). Default: what its config says."""
    valid_utterances: int | None = Field(default=None, gt=0)
    """Validation utterances that are scored, evenly spread; none: all."""
    control: Literal["none", "shuffled_tokens"] = "none"
    """`shuffled_tokens` permutes the tokens of each training batch: a control that can learn how frequent
    tokens are and nothing else. Validation is the same for both."""
    select: Literal["last", "best"] = "best"
    """Weights that the stage leaves behind: those after the last step, or those with the lowest validation
    loss."""

    def needed_splits(self) -> tuple[str, ...]:
        return ("train", "valid")

    def reads(self) -> dict[str, str]:
        reads = {"codec": TRAIN_CODEC, **tokenize_first("train", "valid"), **super().reads()}
        if self.upper_layers_of is not None:
            reads[f"{self.upper_layers_of}/encoder"] = "let `upper_layers_of` name one that does"
        return reads

    def leaves(self) -> tuple[str, ...]:
        return ("speech_lm",)

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        from wavslm_core.recipe.checkpoints import start_problems

        yield from super().problems(recipe)
        if self.init is not None and self.starts_from is not None:
            yield "init: starts_from says what to start from, too. Leave one of the two out."
        elif self.init is not None:
            yield from (f"init: {problem}" for problem in start_problems(self.init, recipe))
        if self.upper_layers_of is not None and (self.init or "backbone" in self.start_places()):
            yield "upper_layers_of: the backbone starts from something else, too. Leave one of the two out."
        chunk = recipe.facts["head"].chunk_tokens
        align = math.lcm(chunk, recipe.codec_facts().chunk_tokens)
        if self.crop_tokens % align or self.crop_tokens < 2 * chunk:
            yield (
                f"crop_tokens: given {self.crop_tokens}; it should be a multiple of {align} (whole chunks of "
                f"head and codec) and at least {2 * chunk}: nothing predicts the head's first chunk."
            )

    def item_bytes(self, recipe: RecipeView) -> int:
        facts = recipe.facts["backbone"]
        # Its tokens, and in two bytes what goes into the backbone and what comes out.
        return self.crop_tokens * (8 + 2 * (facts.input_dim + facts.output_dim))


class TrainLm(TrainingStage[TrainLmConfig, "SpeechLM"]):
    """Leaves the model in `<run>/speech_lm` and its numbers in `<run>/results/train_lm.json`.

    What each of several leaves stays: see `recipe.places`.
    """

    def build_model(self, context: StageContext, *, codec: Codec | None = None) -> SpeechLM:
        """Return the model to start from, in which every random weight follows from the recipe's seed.

        `codec`: by default the run's.
        """
        from wavslm_core.model.folders import load_encoder
        from wavslm_core.model.speech_lm import SpeechLM
        from wavslm_core.training.device import seed_torch

        codec = codec or context.codec()
        seed_torch(self.config.seed_in(context), "init", self.config.run)
        model = SpeechLM.from_configs(codec, context.recipe.part_configs)
        codec_dir = context.found("codec")
        if codec_dir is not None:
            model.checkpoint_codec = os.path.relpath(codec_dir, context.speech_lm_dir)
        elif context.recipe.codec is not None:
            model.checkpoint_codec = context.recipe.codec.checkpoint
        places = self.config.start_places()
        start = self.config.init or context.earlier("speech_lm")
        if start is not None and len(places) < len(self.config.trains):
            model.start_from(start)
        for role, place in places.items():
            model.start_from(context.start(place), roles=(role,))
        if self.config.upper_layers_of is not None:
            model.backbone.adopt(load_encoder(context.start(f"{self.config.upper_layers_of}/encoder")))
        return model.to(context.device)

    def make_task(self, model: SpeechLM, context: StageContext) -> Task:
        from wavslm_core.training.lm_task import LanguageModelTask

        return LanguageModelTask(model, **self.task_options(model, context))

    def task_options(self, model: SpeechLM, context: StageContext) -> dict[str, Any]:
        """Return what a `LanguageModelTask` takes beside the model."""
        return {
            "train": open_store(model.codec, context, "train"),
            "valid": open_store(model.codec, context, "valid"),
            "crop_tokens": self.config.crop_tokens,
            "batching": self.config.batching(context),
            "control": self.config.control,
            "valid_utterances": self.config.valid_utterances,
            "processes": context.processes,
        }

    def leave(self, model: SpeechLM, state: TrainState, context: StageContext) -> dict[str, Any]:
        model.save(context.speech_lm_dir)
        parameters = sum(p.numel() for p in model.parameters())
        return {"parameters": parameters, "control": self.config.control}

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        config = self.config
        tokens = config.steps * config.batch_size * config.crop_tokens
        plan: dict[str, Any] = {
            "steps": config.steps,
            "batch": f"{config.batch_size} × {config.crop_tokens} tokens",
            "tokens at most": tokens,
            "keeps": f"{config.select} weights",
            "precision": config.precision_plan,
            **config.start_plan,
        }
        if config.init is not None:
            plan |= speech_lm_plan(config.init, recipe, what="starts from")
        if config.upper_layers_of is not None:
            plan["starts from"] = f"upper layers of {config.upper_layers_of}/encoder"
        if config.control != "none":
            plan["control"] = config.control
        return plan


def open_store(codec: Codec, context: StageContext, split: str) -> TokenStore:
    """Open a split's tokens. Raises: DataError when they are missing or of another codec or corpus."""
    from wavslm_core.data.token_store import TokenStore, token_fingerprint

    path = f"tokens/{split}"
    corpus = context.split(split).corpus
    expected = token_fingerprint(codec.fingerprint(), corpus.fingerprint(split))
    return TokenStore.open(context.found(path) or context.run_dir / path, expect=expected)
