"""What trials share is computed once, before they start."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import FAKES
from wavslm_core.data.audio import write_audio
from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import Recipe
from wavslm_core.run.reuse import Adoption, StageIdentity
from wavslm_core.sweep.expansion import corner_trials
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.phases import TrialTask, plan_phases, shared_first, untouched_stages
from wavslm_core.sweep.study import SweepStudy
from wavslm_core.testing.fakes import register_fakes


def chain(*digests: str, kept: str = "") -> list[StageIdentity]:
    """Stages a, b, c, … of a trial; every one is kept unless its letter is not in `kept`."""
    return [
        StageIdentity(name, (name,), digest, places=(name,), kept=not kept or name in kept)
        for name, digest in zip("abcd", digests, strict=False)
    ]


def test_trials_with_nothing_in_common() -> None:
    assert shared_first({1: chain("1"), 2: chain("2"), 3: []}) == []


def test_one_leader_for_what_all_share() -> None:
    chains = {number: chain("codec", "tokens", f"lm {number}") for number in (1, 2, 3)}
    assert shared_first(chains) == [[TrialTask(1, ("a", "b"))]]


def test_two_groups_each_have_a_leader() -> None:
    chains = {number: chain(f"codec {number % 2}", f"lm {number}") for number in (1, 2, 3, 4, 5)}
    assert shared_first(chains) == [[TrialTask(1, ("a",)), TrialTask(2, ("a",))]]
    alone = {**chains, 6: chain("codec of its own", "lm 6")}
    assert shared_first(alone) == [[TrialTask(1, ("a",)), TrialTask(2, ("a",))]]


def test_leaders_may_share_less() -> None:
    chains = {number: chain("codec", f"tokens {number % 2}", f"lm {number}") for number in (1, 2, 3, 4)}
    assert shared_first(chains) == [
        [TrialTask(1, ("a",))],
        [TrialTask(1, ("a", "b")), TrialTask(2, ("a", "b"))],
    ]


def test_what_a_later_stage_replaces_is_not_left_to_share() -> None:
    chains = {number: chain("codec", "tuned codec", f"lm {number}", kept="bc") for number in (1, 2)}
    assert shared_first(chains) == [[TrialTask(1, ("a", "b"))]]
    assert shared_first({number: chain("codec", f"lm {number}", kept="b") for number in (1, 2)}) == []


def chosen_by_optuna(corpus: Path, random: dict[str, Any]) -> Recipe:
    register_fakes()
    stages = [{"run": "train_codec", "steps": 1}, {"run": "tokenize"}, {"run": "train_lm", "steps": 1}]
    axes = {"head.chunk_tokens": {"choice": [4, 8]}, **random, "trials": 3}
    document = {
        **{"name": "one", **FAKES, "data": {"corpus": "folder", "path": str(corpus)}, "stages": stages},
        "sweep": {"sampler": "optuna", "metric": "valid.loss", "random": axes},
    }
    return recipe_from_dict(document, registry=load_registry())


def test_what_optuna_cannot_touch_is_computed_first() -> None:
    """The stages of recipes that differ in the head only, and in the codec too."""

    def untouched(**random: Any) -> tuple[str, ...]:
        trials = corner_trials(chosen_by_optuna(Path("here"), random))
        return untouched_stages([trial.recipe for trial in trials])

    assert untouched() == ("train_codec", "tokenize")
    rates = {"log_uniform": [1e-4, 1e-2]}
    assert untouched(**{"stages.train_lm.lr": rates}) == ("train_codec", "tokenize")
    assert untouched(**{"stages.tokenize.shard_minutes": {"uniform": [1, 2]}}) == ("train_codec",)
    assert untouched(**{"stages.train_codec.lr": rates}) == ()


def test_an_interrupted_study_still_shares_its_codec(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    write_audio(tmp_path / "corpus" / "train" / "1.wav", torch.zeros(16_000), 16_000)
    write_audio(tmp_path / "corpus" / "valid" / "1.wav", torch.zeros(16_000), 16_000)
    sweep, trials = SweepFolder.of(chosen_by_optuna(tmp_path / "corpus", {}), tmp_path / "runs")
    sweep.prepare(trials)
    SweepStudy(sweep).claim(1)
    phases = plan_phases(sweep, [1, 2, 3], Adoption(tmp_path / "runs", registry=sweep.recipe.registry))
    assert phases == [[TrialTask(1, ("train_codec", "tokenize"))], [TrialTask(1), TrialTask(2), TrialTask(3)]]
