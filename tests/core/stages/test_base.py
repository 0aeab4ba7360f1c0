"""Stages in an order that cannot work are refused before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support import FAKES, ROLES
from wavslm_core.errors import RecipeError
from wavslm_core.parts.configs import Role, StageConfig
from wavslm_core.parts.facts import BackboneFacts, HeadFacts, SamplerFacts
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Entry, Registry
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.stages.tokenize import Tokenize, TokenizeConfig
from wavslm_core.testing.fake_configs import FakeBackboneConfig, FakeHeadConfig, FakeSamplerConfig
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm, register_fakes

CODEC = "put `- {run: train_codec}` before it or name a trained codec with `codec: {checkpoint: …}`."
NOWHERE = (
    "speech_lm: no folder 'somewhere' exists, and no installed plugin brings a checkpoint of that name. No "
    "installed plugin brings a language model. Give a folder that holds config.json, or a hub id: owner/name"
)
TRAIN_CODEC = {"run": "train_codec", "steps": 2}
TOKENIZE = {"run": "tokenize"}
TRAIN_LM = {"run": "train_lm", "steps": 2, "crop_tokens": 32}


class SilentConfig(StageConfig):
    """A stage that says nothing of what it leaves."""

    run: Literal["silent"] = "silent"


class UncertainConfig(StageConfig):
    """A stage that cannot answer one of the questions it is asked."""

    run: Literal["uncertain"] = "uncertain"
    about: str = "needs_streaming"

    def _answer(self, question: str) -> tuple[Any, ...]:
        if question == self.about:
            raise KeyError("backbone")
        return ()

    def needs_streaming(self, recipe: ResolvedRecipe) -> tuple[Role, ...]:
        return self._answer("needs_streaming")

    def needed_splits(self) -> tuple[str, ...]:
        return self._answer("needed_splits")

    def reads(self) -> dict[str, str]:
        return dict(self._answer("reads"))

    def leaves(self) -> tuple[str, ...]:
        return self._answer("leaves")

    def problems(self, recipe: ResolvedRecipe) -> tuple[str, ...]:
        return self._answer("problems")


class DividingConfig(FakeBackboneConfig):
    """A backbone whose facts can be stated once its links are filled in."""

    name: Literal["dividing"] = "dividing"  # type: ignore[assignment]

    def facts(self) -> BackboneFacts:
        return replace(super().facts(), output_dim=256 // self.input_dim)


class SymbolsConfig(FakeHeadConfig):
    """A head that draws what tokens are made of."""

    name: Literal["symbols"] = "symbols"  # type: ignore[assignment]

    def facts(self) -> HeadFacts:
        return replace(super().facts(), draws="symbols")


class LookingBackConfig(FakeSamplerConfig):
    """A sampler with a history."""

    name: Literal["looking_back"] = "looking_back"  # type: ignore[assignment]
    history: int = 4

    def facts(self) -> SamplerFacts:
        return SamplerFacts(history_tokens=self.history)


def make(stages: list[dict[str, Any]], **blocks: Any) -> ResolvedRecipe:
    register_fakes()
    registry = Registry()
    registry.add(
        *load_registry(),
        *(
            Entry(config.role, config.registered_name(), config, "tests.odd:Odd", "odd", "1")
            for config in (SilentConfig, UncertainConfig, DividingConfig, SymbolsConfig, LookingBackConfig)
        ),
    )
    document = {
        "name": "order",
        **FAKES,
        "data": {"corpus": "folder", "path": "speech"},
        "stages": stages,
        **blocks,
    }
    given = {key: value for key, value in document.items() if value is not None}
    return resolve(recipe_from_dict(given, registry=registry))


def problems(stages: list[dict[str, Any]], **blocks: Any) -> list[str]:
    try:
        check(make(stages, **blocks))
    except RecipeError as error:
        return [line.removeprefix("recipe: stages.") for line in str(error).splitlines()]
    return []


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([TRAIN_CODEC, TOKENIZE, TRAIN_LM, {"run": "evaluate"}, {"run": "generate"}, {"run": "report"}], []),
        (
            [TRAIN_CODEC, TRAIN_LM, TOKENIZE],
            [
                "1.train_lm reads tokens/train and tokens/valid, which no earlier stage leaves: "
                "put `- {run: tokenize}` before it."
            ],
        ),
        (
            [TRAIN_CODEC, {"run": "tokenize", "splits": ["train"]}, TRAIN_LM],
            [
                "2.train_lm reads tokens/valid, which no earlier stage leaves: "
                "put `- {run: tokenize}` before it."
            ],
        ),
        # What all of them lack is told once.
        (
            [TOKENIZE, {"run": "evaluate"}, TRAIN_CODEC],
            [f"0.tokenize reads codec, which no earlier stage leaves: {CODEC}"],
        ),
        (
            [TRAIN_CODEC, {"run": "generate"}],
            [
                "1.generate reads speech_lm, which no earlier stage leaves: put `- {run: train_lm}` before "
                "it or name a trained model with its `speech_lm`."
            ],
        ),
        ([TRAIN_CODEC, {"run": "generate", "speech_lm": "somewhere"}], [f"1.generate.{NOWHERE}"]),
        (
            [TRAIN_CODEC, {"run": "evaluate", "speech_lm": "somewhere", "split": "test"}],
            [
                "1.evaluate reads tokens/train and tokens/test, which no earlier stage leaves: "
                "put `- {run: tokenize, splits: [train, test]}` before it.",
                f"1.evaluate.{NOWHERE}",
            ],
        ),
        (
            [TRAIN_CODEC, TOKENIZE, TRAIN_LM, {"run": "evaluate", "split": "test", "continuations": {}}],
            [
                "3.evaluate reads tokens/test, which no earlier stage leaves: "
                "put `- {run: tokenize, splits: [train, test]}` before it."
            ],
        ),
        # What is asked for by a stage's name is left by that very stage.
        (
            [TRAIN_CODEC, {**TRAIN_CODEC, "starts_from": "train_codec"}, TOKENIZE, TRAIN_LM],
            [],
        ),
        (
            [TRAIN_CODEC, TRAIN_CODEC, {**TRAIN_CODEC, "starts_from": {"encoder": "distil"}}],
            [
                "2.train_codec reads distil/codec, which no earlier stage leaves: let `starts_from` name one "
                "that does (train_codec/codec or train_codec_2/codec)."
            ],
        ),
        (
            [{**TRAIN_CODEC, "starts_from": "train_codec_2"}, TRAIN_CODEC],
            [
                "0.train_codec reads train_codec_2/codec, which no earlier stage leaves: let `starts_from` "
                "name one that does."
            ],
        ),
        (
            [TRAIN_CODEC, TOKENIZE, TRAIN_LM, {**TRAIN_LM, "init": "somewhere", "starts_from": "train_lm"}],
            ["3.train_lm.init: starts_from says what to start from, too. Leave one of the two out."],
        ),
        # A stage that states nothing may leave anything.
        ([{"run": "silent"}, TRAIN_LM, {"run": "generate"}], []),
        (
            [TOKENIZE, {"run": "silent"}, TRAIN_LM],
            [f"0.tokenize reads codec, which no earlier stage leaves: {CODEC}"],
        ),
    ],
)
def test_what_a_stage_reads_is_left_before(stages: list[dict[str, Any]], said: list[str]) -> None:
    assert problems(stages) == said


def test_augmentation_that_does_not_fit_a_stage_is_told_before_anything_runs() -> None:
    augment = {"chunk_drop": {"seconds": [0.1, 0.5]}, "frequency_drop": {"frequency_hz": [100, 9000]}}
    data = {"corpus": "folder", "path": "speech", "augment": augment}
    assert problems([{**TRAIN_CODEC, "crop_seconds": 0.5}], data=data) == [
        "0.train_codec.data.augment.chunk_drop.seconds reaches to 0.5, but an item has 0.5 s of audio, of "
        "which nothing may be left. Make stretches shorter or crop_seconds longer",
        "0.train_codec.data.augment.frequency_drop.frequency_hz reaches to 9000, but what is heard, at 16000 "
        "Hz, has nothing above 8000. Lower it",
    ]
    data["augment"] = {"chunk_drop": {}, "frequency_drop": {}}
    assert problems([{**TRAIN_CODEC, "crop_seconds": 0.5}], data=data) == []


def test_what_has_to_stream_is_asked_once_the_links_are_filled_in() -> None:
    stages: list[dict[str, Any]] = [TRAIN_CODEC, TOKENIZE, TRAIN_LM, {"run": "generate"}]
    assert problems(stages, backbone={"name": "dividing"}) == []


@pytest.mark.parametrize("question", ["needs_streaming", "needed_splits", "reads", "leaves", "problems"])
def test_a_stage_that_cannot_answer_is_named(question: str) -> None:
    assert problems([{"run": "uncertain", "about": question}]) == [
        f"0.uncertain.{question}() of stage 'uncertain' of odd 1 fails: KeyError: 'backbone'. "
        "Report it to the authors of that plugin, or leave the stage out"
    ]


def test_samplers_that_cannot_work_are_refused_before_anything_runs() -> None:
    before: list[dict[str, Any]] = [TRAIN_CODEC, TOKENIZE, TRAIN_LM]
    generate = {"run": "generate", "sampler": {"name": "looking_back"}}
    assert problems([*before, generate]) == []
    (line,) = problems([*before, generate], head={"name": "symbols"})
    assert line.startswith("3.generate.sampler: it looks at the tokens before the drawn one, but the head")
    ahead = {"run": "evaluate", "chunk_ahead": {"metrics": ["mel_distance"]}}
    assert problems([*before, ahead], sampler={"name": "looking_back"}) == []
    (line,) = problems([*before, ahead], sampler={"name": "looking_back", "history": 5})
    assert line.startswith("3.evaluate.chunk_ahead: one chunk ahead, a sampler sees no more than the chunk")


def saved_speech_lm(folder: Path, *, dim: int = 16, bits: int = 5) -> str:
    codec = fake_codec(dim=dim, bits=bits)
    fake_speech_lm(codec).save(folder)
    return str(folder)


def test_what_training_starts_from_is_looked_at_before_anything_runs(tmp_path: Path) -> None:
    def said(init: str, **blocks: Any) -> list[str]:
        return problems([TRAIN_CODEC, TOKENIZE, {**TRAIN_LM, "init": init}], **blocks)

    init = saved_speech_lm(tmp_path / "lm")
    assert said(init) == []
    # The same weights serve a head that predicts more at once.
    assert said(init, head={"name": "fake", "chunk_tokens": 8}) == []
    (line,) = said(str(tmp_path / "nothing"))
    assert line.startswith(f"2.train_lm.init: no folder '{tmp_path}/nothing' exists. Check the path, or give")
    (line,) = said(str(tmp_path))
    assert "holds no config.json; is it a checkpoint folder?" in line
    assert said(init, backbone={"name": "fake", "dim": 24}) == [
        f"2.train_lm.init: the backbone of {init} does not fit: dim is 16 there and 24 here. Give the "
        "recipe's backbone the same options, or start from another model",
        f"2.train_lm.init: the head of {init} does not fit: input_dim is 16 there and 24 here. Give the "
        "recipe's head the same options, or start from another model",
    ]
    (line,) = said(init, head={"name": "symbols"})
    assert "the head of" in line
    assert "it is 'fake', the recipe's is 'symbols'" in line
    fake_codec().save(tmp_path / "codec")
    (line,) = said(str(tmp_path / "codec"))
    assert line.endswith("holds a codec, but a language model is needed here")


@pytest.mark.parametrize("stage", [{"run": "generate"}, {"run": "evaluate", "baseline_tokens": 0}])
def test_a_language_model_from_elsewhere_has_to_read_the_codec(stage: dict[str, Any], tmp_path: Path) -> None:
    def said(speech_lm: str) -> list[str]:
        return problems([TRAIN_CODEC, TOKENIZE, {**stage, "speech_lm": speech_lm}])

    assert said(saved_speech_lm(tmp_path / "fits")) == []
    (line,) = said(saved_speech_lm(tmp_path / "codes", bits=6))
    assert line == (
        f"2.{stage['run']}.speech_lm: {tmp_path}/codes models 64 codes, but the codec has 32. Give the codec "
        "that it was trained with"
    )
    (line,) = said(saved_speech_lm(tmp_path / "wide", dim=24))
    assert "wide reads features of width 24, but the codec gives 16." in line


def test_a_checkpoint_leaves_a_codec(tmp_path: Path) -> None:
    fake_codec().save(tmp_path / "codec")
    blocks = {role: None for role in ROLES[:3]} | {"codec": {"checkpoint": str(tmp_path / "codec")}}
    assert problems([TOKENIZE, TRAIN_LM], **blocks) == []


def test_what_the_run_already_holds_needs_no_stage(recipe: ResolvedRecipe, tmp_path: Path) -> None:
    wanted = resolve(make([TRAIN_LM], data=recipe.data.to_dict()))
    with pytest.raises(RecipeError, match="reads codec"):
        check(wanted, runs_dir=tmp_path)
    context = StageContext(recipe=wanted, run_dir=tmp_path / wanted.run_name)
    fake_codec().save(context.codec_dir)
    with pytest.raises(RecipeError, match="reads tokens/train and tokens/valid"):
        check(wanted, runs_dir=tmp_path)
    Tokenize(TokenizeConfig()).run(context)
    check(wanted, runs_dir=tmp_path)
