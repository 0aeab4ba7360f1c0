"""Engines that plugins bring: registered by name, or refused with what is wrong."""

from dataclasses import replace

import pytest

from wavslm_core.errors import PluginError
from wavslm_core.parts.engines import Engine
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Registry, known_providers


def engine(name: str = "fast", target: str = "a:b", about: str = "Fast.", *weights: str) -> Engine:
    return Engine(name, target, weights or ("fp32",), about, "one", "1", "one")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (engine("Fast"), "small letters"),
        (engine("torch"), "neither torch nor auto"),
        (engine("fast", "a.b"), "must read 'package.module:function'"),
        (engine("fast", "a:b", "Fast.", "int4"), "must be some of fp32, bf16 and int8"),
        (engine("fast", "a:b", " "), "`about` must say what it is"),
        (replace(engine(), device="gpu"), "`device` must be cpu or cuda, got 'gpu'"),
    ],
)
def test_what_is_wrong_is_said(given: Engine, said: str) -> None:
    engine().check()
    with pytest.raises(PluginError, match=said):
        given.check()


def test_an_engine_of_two_plugins_is_an_error_that_names_both() -> None:
    registry = Registry()
    registry.add(engine())
    registry.add(engine())
    with pytest.raises(PluginError, match=r"'fast' is registered twice: by one \(a:b\) and by one \(c:d\)"):
        registry.add(engine(target="c:d"))
    assert [held.target for held in registry.engines()] == ["a:b"]


def test_engines_of_the_plugins_of_this_repository_are_known() -> None:
    assert known_providers("engine") == {held.name: held.distribution for held in load_registry().engines()}
