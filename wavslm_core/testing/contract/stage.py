"""The contract of stages: what a config states holds, and what it does can be interrupted and done again."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest
import torch

from wavslm_core.data.audio import write_audio
from wavslm_core.errors import summary
from wavslm_core.machine.processes import Interrupted
from wavslm_core.model.folders import save_encoder
from wavslm_core.parts.configs import StageConfig
from wavslm_core.parts.roles import PART_ROLES
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import Recipe, ResolvedRecipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.stages.base import Stage, TrainingStage
from wavslm_core.stages.tokenize import Tokenize, TokenizeConfig
from wavslm_core.testing.contract.config_checks import ConfigChecks, imports_torch
from wavslm_core.testing.contract.subject import generator
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm, register_fakes

SPLITS = ("train", "valid")


class StageContract(ConfigChecks):
    """Runs it in a small run: fake parts, two seconds of noise a split, and what it says that it reads."""

    @property
    def config(self) -> StageConfig:
        return cast(StageConfig, self.subject.config)

    @cached_property
    def name(self) -> str:
        return self.config.registered_name()

    def recipe(self, folder: Path) -> ResolvedRecipe:
        register_fakes(self.subject.registry)
        return resolve(self.unresolved(folder))

    def unresolved(self, folder: Path) -> Recipe:
        return recipe_from_dict(
            {
                "name": "contract",
                **{role: {"name": "fake"} for role in PART_ROLES},
                **{role: config.model_dump(mode="json") for role, config in self.subject.parts.items()},
                "data": {"corpus": "folder", "path": str(folder / "audio")},
                "stages": [self.config.model_dump(mode="json", exclude_none=True)],
            },
            source="the contract's recipe",
            registry=self.subject.registry,
        )

    def context(self, folder: Path) -> StageContext:
        """Return a run that holds what the stage reads and what it needs besides."""
        register_fakes()
        for number, split in enumerate(SPLITS):
            for take in range(2):
                noise_S = torch.rand(24_000, generator=generator(2 * number + take)) - 0.5
                write_audio(folder / "audio" / split / f"{take}.wav", noise_S, 16_000)
        recipe = self.recipe(folder)
        run_dir = folder / "runs" / recipe.run_name
        context = StageContext(recipe, run_dir, stage_name=self.name)
        reads, torch_state = dict(self.config.reads()), torch.random.get_rng_state()
        torch.manual_seed(0)
        codec = fake_codec()
        if reads:
            codec.save(run_dir / "codec")
        if "encoder" in reads:
            save_encoder(run_dir / "encoder", recipe.registry.build(recipe.part_configs["encoder"]))
        if "speech_lm" in reads:
            fake_speech_lm(codec).save(run_dir / "speech_lm")
        splits = tuple(path.removeprefix("tokens/") for path in reads if path.startswith("tokens/"))
        if splits:
            Tokenize(TokenizeConfig(splits=splits)).run(context)
        torch.random.set_rng_state(torch_state)
        return context

    def test_what_it_states(self) -> None:
        config = self.config
        leaves = config.leaves()
        paths = [*config.reads(), *(leaves or ())]
        wrong = [path for path in paths if PurePosixPath(path).is_absolute() or ".." in path.split("/")]
        self.require(
            not wrong, f"it names {', '.join(wrong)}", "what is read and left is inside of the run's folder"
        )
        self.require(
            leaves is not None,
            "leaves() states nothing",
            "leaves() names what later stages may read, `()` for nothing, so that runs can share stages",
        )
        bare = [path for path, remedy in config.reads().items() if not remedy.strip()]
        self.require(not bare, f"no remedy stands beside {', '.join(bare)}", "reads() says what to do")

    def test_it_is_listed_and_planned_without_torch(self, tmp_path: Path) -> None:
        entry = self.subject.registry.entry("stage", self.name)
        module = entry.target.partition(":")[0]
        self.require(
            not imports_torch(module),
            f"importing {module} imports torch",
            "stages import torch inside of run(), so that plans are instant",
        )
        recipe = self.recipe(tmp_path)
        with self.attempt("planning", "plan() gives a dictionary of numbers and texts"):
            json.dumps(self.part().plan(recipe))

    def test_recipes_with_it_are_checked(self, tmp_path: Path) -> None:
        context = self.context(tmp_path)
        with self.attempt("checking a recipe with it", "it runs in a recipe of fake parts, or says why not"):
            check(self.unresolved(tmp_path), runs_dir=context.run_dir.parent)

    def test_it_leaves_what_it_says_and_can_run_again(self, tmp_path: Path) -> None:
        context = self.context(tmp_path)
        before = outside(tmp_path, context.run_dir)
        stage: Stage[Any] = self.part()
        for attempt in ("run", "run again"):
            with self.attempt(attempt, "a stage that is called again continues, or finds its work done"):
                stage.run(context)
            missing = [path for path in self.config.leaves() or () if not context.place(path).exists()]
            self.require(not missing, f"{', '.join(missing)} is not there", "it leaves what leaves() says")
            self.require(
                stage.left_results(context),
                "left_results() is False after it has run",
                "a stage whose results are not there runs again and again",
            )
        added = outside(tmp_path, context.run_dir) - before
        self.require(not added, f"it wrote {sorted(added)}", "a stage writes into the run's folder only")
        results = stage.results_file(context)
        if results.exists():
            text = results.read_text(encoding="utf-8")
            self.require("NaN" not in text, "its results hold NaN", "results are JSON: use write_results()")
            json.loads(text)

    def test_it_can_be_stopped(self, tmp_path: Path) -> None:
        context = self.context(tmp_path)
        context.stop_requested = lambda: True
        stage: Stage[Any] = self.part()
        rule = "once it is asked to stop, it ends, or raises Interrupted at a safe point, and goes on later"
        try:
            stage.run(context)
        except Interrupted:
            pass
        except Exception as error:
            self.require(False, f"asked to stop, it raised {summary(error)}", rule)
        context.stop_requested = lambda: False
        with self.attempt("going on after a stop", rule):
            stage.run(context)

    def test_training_reaches_every_weight(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        if not isinstance(self.part(), TrainingStage):
            pytest.skip("it trains nothing")
        rule = (
            "within the few steps of this config, losses depend on all weights that train, and on no others"
        )
        with self.attempt("training", rule):
            self.part().run(self.context(tmp_path))
        said = [record.getMessage() for record in caplog.records if record.funcName == "warn_of_unreached"]
        self.require(not said, "; ".join(said), rule)

    def test_stopped_half_way_it_ends_in_the_same_weights(self, tmp_path: Path) -> None:
        """Every draw of the second half is that of a run that was never stopped."""
        if not isinstance(self.part(), TrainingStage):
            pytest.skip("it trains nothing")
        asked = 0

        def counting() -> bool:
            nonlocal asked
            asked += 1
            return False

        whole, stopped = self.context(tmp_path / "whole"), self.context(tmp_path / "stopped")
        whole.stop_requested = counting
        rule = "a stage that trains asks `stop_requested` after every step; `fit` does so"
        with self.attempt("training", rule):
            self.part().run(whole)
        answers = iter([False] * (asked // 2) + [True])
        stopped.stop_requested = lambda: next(answers, False)
        with self.attempt("stopping half way", rule):
            try:
                self.part().run(stopped)
            except Interrupted:
                self.part().run(stopped)
            else:
                self.require(
                    False, f"it was asked to stop, but ended ({asked} questions in a whole run)", rule
                )
        for path in self.config.leaves() or ():
            for file in sorted(whole.place(path).rglob("*.safetensors")):
                other = stopped.place(path) / file.relative_to(whole.place(path))
                self.require(
                    other.is_file() and other.read_bytes() == file.read_bytes(),
                    f"stopped and continued, it left another {path}/{file.name}",
                    "what a step does depends on its number and the weights alone. The loop seeds torch's "
                    "generator before each loss; draw from that one, not from Python's or NumPy's, and keep "
                    "nothing from step to step outside of `modules`",
                )


def outside(folder: Path, run_dir: Path) -> set[str]:
    """Return the files below a folder that are in neither the run's folder nor the shared cache."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.is_relative_to(run_dir) and ".cache" not in path.parts
    }
