"""Loading: each plugin isolated, hooks checked, nothing registered by halves."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

from wavslm_core.errors import PluginError, RecipeError
from wavslm_core.parts.blocks import config_from_dict
from wavslm_core.parts.configs import Config, EncoderConfig, HeadConfig
from wavslm_core.parts.plugins import hookimpl, load, load_from
from wavslm_core.testing.fake_configs import FakeEncoderConfig, FakeHeadConfig


class AbstractConfig(EncoderConfig):
    name: Literal["abstract"] = "abstract"


class TwoNamesConfig(FakeHeadConfig):
    name: Literal["one", "two"] = "one"  # type: ignore[assignment]


class NoDefaultConfig(FakeHeadConfig):
    name: Literal["fake"]


class NoFactsConfig(HeadConfig):
    name: Literal["no_facts"] = "no_facts"


class UnknownTypeConfig(FakeHeadConfig):
    name: Literal["unknown"] = "unknown"  # type: ignore[assignment]
    tool: NoSuchTool  # type: ignore[name-defined]  # noqa: F821


class ToolConfig(FakeHeadConfig):
    name: Literal["tool"] = "tool"  # type: ignore[assignment]
    tool: EntryPoint


def plugin(monkeypatch: pytest.MonkeyPatch, name: str = "sample", **hooks: Any) -> EntryPoint:
    module = ModuleType(f"{name}_plugin_module")
    for hook, function in hooks.items():
        setattr(module, hook, hookimpl(function))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return EntryPoint(name, module.__name__, "wavslm")


def encoders(register: Any) -> None:
    register(FakeEncoderConfig, "package.module:Encoder")


def test_what_a_plugin_registers_is_there_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_from([plugin(monkeypatch, register_encoders=encoders)])
    (entry,) = loaded.registry
    assert (entry.role, entry.name, entry.plugin) == ("encoder", "fake", "sample")
    assert entry.target == "package.module:Encoder"
    assert loaded.plugins[0].error is None


@pytest.mark.parametrize(
    ("hooks", "said"),
    [
        ({}, "implements no hook. Define one of register_encoders"),
        ({"register_encoder": encoders}, "has a wrong hook"),
        ({"register_encoders": lambda registr: None}, "has a wrong hook"),
        ({"register_heads": encoders}, "that config is a encoder, not a head"),
        ({"register_encoders": lambda register: register(dict, "a:B")}, "must be a subclass of"),
        (
            {"register_encoders": lambda register: register(Config, "a:B")},
            "that config is a None, not a encoder",
        ),
        (
            {"register_encoders": lambda register: register(FakeEncoderConfig, "a.B")},
            "must read 'package.module",
        ),
        ({"register_encoders": lambda register: register(AbstractConfig, "a:B")}, "must define facts"),
        ({"register_heads": lambda register: register(NoFactsConfig, "a:B")}, "must define facts"),
        ({"register_heads": lambda register: register(TwoNamesConfig, "a:B")}, "exactly one value"),
        (
            {"register_heads": lambda register: register(UnknownTypeConfig, "a:B")},
            "'NoSuchTool' is not defined",
        ),
        (
            {"register_heads": lambda register: register(NoDefaultConfig, "a:B")},
            'its one value "fake" as default',
        ),
    ],
)
def test_a_wrong_plugin_is_explained_and_the_others_load(
    monkeypatch: pytest.MonkeyPatch, hooks: dict[str, Any], said: str
) -> None:
    wrong = plugin(monkeypatch, "a_wrong", **hooks)
    loaded = load_from([wrong, plugin(monkeypatch, "b_right", register_encoders=encoders)])
    (error,) = loaded.registry.load_errors.values()
    assert isinstance(error, PluginError)
    assert said in str(error)
    assert [entry.plugin for entry in loaded.registry] == ["b_right"]
    assert [plugin.error is None for plugin in loaded.plugins] == [False, True]


def test_a_config_of_no_plain_values_is_told_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    point = plugin(monkeypatch, register_heads=lambda register: register(ToolConfig, "a:B"))
    with pytest.raises(
        RecipeError, match=r"^head\.tool: .*ToolConfig cannot be used: .* Report it to its authors"
    ):
        config_from_dict("head", {"name": "tool"}, where="head", registry=load_from([point]).registry)


def test_a_plugin_that_fails_halfway_registers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def halfway(register: Any) -> None:
        register(FakeHeadConfig, "a:B")
        raise RuntimeError("halfway")

    loaded = load_from([plugin(monkeypatch, register_encoders=encoders, register_heads=halfway)])
    assert list(loaded.registry) == []
    assert "halfway" in str(loaded.registry.load_errors)


def test_what_a_broken_uninstallation_leaves_is_named_by_its_module(tmp_path: Path) -> None:
    info = tmp_path / "wavslm_gone-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[wavslm]\ngone = wavslm_gone.plugin\n")
    (dist,) = distributions(path=[str(tmp_path)])
    loaded = load_from([*dist.entry_points, EntryPoint("other", "wavslm_other", "wavslm")])
    assert [plugin.distribution for plugin in loaded.plugins] == ["wavslm_gone.plugin", "wavslm_other"]
    assert "(Plugin wavslm_gone.plugin failed to load: Mod" in loaded.registry.unknown("head", "any")


def test_strict_loading_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVSLM_STRICT_PLUGINS", "1")
    with pytest.raises(ModuleNotFoundError):
        load_from([EntryPoint("sample", "no_such_module_anywhere", "wavslm")])


def test_the_same_entry_point_twice_is_one_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    point = plugin(monkeypatch, register_encoders=encoders)
    assert len(load_from([point, EntryPoint(point.name, point.value, point.group)]).plugins) == 1
    with pytest.raises(PluginError, match="the plugin name 'sample' is claimed by"):
        load_from([point, EntryPoint("sample", "another_module", "wavslm")])


def test_plugins_can_be_restricted(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [plugin(monkeypatch, name, register_encoders=encoders) for name in ("core", "one", "two")]
    monkeypatch.setenv("WAVSLM_PLUGINS", "two")
    assert [loaded.name for loaded in load_from(points).plugins] == ["core", "two"]
    monkeypatch.setenv("WAVSLM_PLUGINS", "")
    assert [loaded.name for loaded in load_from(points).plugins] == ["core"]
    monkeypatch.setenv("WAVSLM_PLUGINS", "too")
    with pytest.raises(PluginError, match="'too', which is not installed"):
        load_from(points)


def test_everything_installed_here_loads() -> None:
    assert {name: repr(error) for name, error in load().registry.load_errors.items()} == {}
