"""What trials share is computed once, before they start."""

from __future__ import annotations

from wavslm_core.launching.sweep_phases import Task, shared_first
from wavslm_core.recipe.identity import StageIdentity


def chain(*digests: str, kept: str = "") -> list[StageIdentity]:
    """Stages a, b, c, … of a trial; every one is kept unless its letter is not in `kept`."""
    return [
        StageIdentity(name, (name,), digest, kept=not kept or name in kept)
        for name, digest in zip("abcd", digests, strict=False)
    ]


def test_trials_with_nothing_in_common() -> None:
    assert shared_first({1: chain("1"), 2: chain("2"), 3: []}) == []


def test_one_leader_for_what_all_share() -> None:
    chains = {number: chain("codec", "tokens", f"lm {number}") for number in (1, 2, 3)}
    assert shared_first(chains) == [[Task(1, ("a", "b"))]]


def test_two_groups_each_have_a_leader() -> None:
    chains = {number: chain(f"codec {number % 2}", f"lm {number}") for number in (1, 2, 3, 4, 5)}
    assert shared_first(chains) == [[Task(1, ("a",)), Task(2, ("a",))]]
    alone = {**chains, 6: chain("codec of its own", "lm 6")}
    assert shared_first(alone) == [[Task(1, ("a",)), Task(2, ("a",))]]


def test_leaders_may_share_less() -> None:
    chains = {number: chain("codec", f"tokens {number % 2}", f"lm {number}") for number in (1, 2, 3, 4)}
    assert shared_first(chains) == [[Task(1, ("a",))], [Task(1, ("a", "b")), Task(2, ("a", "b"))]]


def test_what_a_later_stage_replaces_is_not_left_to_share() -> None:
    chains = {number: chain("codec", "tuned codec", f"lm {number}", kept="bc") for number in (1, 2)}
    assert shared_first(chains) == [[Task(1, ("a", "b"))]]
    assert shared_first({number: chain("codec", f"lm {number}", kept="b") for number in (1, 2)}) == []
