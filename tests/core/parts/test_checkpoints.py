"""Models that plugins bring along: what is registered, and what is refused."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wavslm_core.errors import PluginError
from wavslm_core.parts.plugins import Loaded, hookimpl, load_from

ABOUT = {"about": "4096 codes", "license": "Apache-2.0"}


def loaded(monkeypatch: pytest.MonkeyPatch, **plugins: Any) -> Loaded:
    """Load plugins, each given as the function that it calls with `register`."""
    points = []
    for name, function in plugins.items():
        module: Any = ModuleType(f"{name}_module")
        module.register_checkpoints = hookimpl(function)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        points.append(EntryPoint(name, module.__name__, "wavslm"))
    return load_from(points)


def test_models_of_several_kinds_may_share_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def several(register: Any) -> None:
        for name, kind in [("tiny", "speech_lm"), ("tiny", "codec"), ("tiny", "codec"), ("big", "codec")]:
            register(name, kind=kind, folder=tmp_path, **ABOUT)

    registry = loaded(monkeypatch, several=several).registry
    assert not registry.load_errors
    assert [(held.name, held.kind) for held in registry.checkpoints()] == [
        ("big", "codec"),
        ("tiny", "codec"),
        ("tiny", "speech_lm"),
    ]
    assert [held.name for held in registry.checkpoints("codec")] == ["big", "tiny"]
    found = registry.checkpoint("tiny", "speech_lm")
    assert found is not None
    assert (found.folder, found.plugin, found.about) == (tmp_path, "several", "4096 codes")
    assert registry.checkpoint("tiny", "encoder") is None


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("a/b", {}, "a name is made of letters, digits, dots, dashes and underscores"),
        ("", {}, "a name is made of letters"),
        ("tiny", {"kind": "model"}, "the kinds are codec, speech_lm, encoder, discriminators"),
        ("tiny", {"license": " "}, "`about` and `license` must say"),
        ("tiny", {"folder": Path("/nowhere")}, "there is no folder /nowhere. Install sample_module again"),
        ("tiny", {"licence": "MIT"}, "unexpected keyword argument 'licence'"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_of_the_plugin_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, changes: dict[str, Any], said: str
) -> None:
    def wrong(register: Any) -> None:
        register("right", kind="codec", folder=tmp_path, **ABOUT)
        register(name, **({"kind": "codec", "folder": tmp_path, **ABOUT} | changes))

    registry = loaded(monkeypatch, sample=wrong).registry
    (error,) = registry.load_errors.values()
    assert said in str(error)
    assert registry.checkpoints() == []


def test_a_name_that_two_distributions_bring_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def one(register: Any) -> None:
        register("tiny", kind="codec", folder=tmp_path, **ABOUT)

    def other(register: Any) -> None:
        register("tiny", kind="codec", folder=tmp_path.parent, **ABOUT)

    registry = loaded(monkeypatch, one=one, other=other).registry
    assert isinstance(registry.load_errors["other_module"], PluginError)
    assert set(registry.load_errors) == {"one_module", "other_module"}
    assert "codec 'tiny' is registered twice: by one_module" in str(registry.load_errors["other_module"])
    assert registry.checkpoints() == []
