"""Verbs that plugins bring along: what is registered, what is refused, and what a shell makes of them."""

from __future__ import annotations

import sys
from functools import partial
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Annotated, Any

import pytest
import typer

from tests.support import call_main
from wavslm_core.parts import plugins
from wavslm_core.parts.commands import VERBS
from wavslm_core.parts.plugins import Loaded, hookimpl, load_from, load_registry
from wavslm_core.parts.registry import known_providers


def hum(tone: str, times: Annotated[int, typer.Option(help="How often.")] = 1) -> None:
    """Hum a tone."""
    typer.echo(" ".join([tone] * times))


def loaded(monkeypatch: pytest.MonkeyPatch, **registers: Any) -> Loaded:
    """Load plugins, each given as the function that it calls with `register`."""
    points = []
    for name, function in registers.items():
        module: Any = ModuleType(f"{name}_module")
        module.hum = hum
        module.register_commands = hookimpl(function)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        points.append(EntryPoint(name, module.__name__, "wavslm"))
    found = load_from(points)
    monkeypatch.setattr(plugins, "load", lambda: found)
    return found


@pytest.fixture
def call() -> Any:
    return partial(call_main, "wavslm")


def test_a_verb_is_listed_and_runs_with_its_options(monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    def register_all(register: Any) -> None:
        register("hum", "musical_module:hum", about="Hum.")
        register("sing-along", "nowhere_at_all:sing", about="Sing along.")

    registry = loaded(monkeypatch, musical=register_all).registry
    assert not registry.load_errors
    assert [command.name for command in registry.commands()] == ["hum", "sing-along"]
    assert call("hum", "la", "--times", "3").stdout == "la la la\n"
    assert "How often." in call("hum", "--help").stdout
    listed = call("--help").stdout
    assert "Hum." in listed
    assert "Sing along." in listed
    assert "command: wavslm hum: Hum." in call("plugins").stdout


def test_one_that_cannot_be_imported_names_its_distribution(
    monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    loaded(monkeypatch, musical=lambda register: register("sing", "nowhere_at_all:sing", about="Sing."))
    said = call("sing", code=2).stderr
    assert "wavslm sing of musical_module unknown cannot be imported from nowhere_at_all:sing" in said
    assert "No module named 'nowhere_at_all'" in said


def test_one_that_is_not_installed_says_what_brings_it(monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    loaded(monkeypatch)
    assert call("serve", "model", code=2).stderr == (
        "error: wavslm serve comes with wavslm-serve, which is not installed, in a clone of wavslm: "
        "pip install ./plugins/wavslm-serve\n"
    )
    assert "no command 'srve'. Did you mean 'serve'? `wavslm --help`" in call("srve", code=2).stderr


def test_a_mistyped_verb_of_a_plugin_is_guessed_and_help_lists_ours_first_each_whole(
    monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    about = "Hum a tone of any length, as long as there is breath, and then for as long again."
    loaded(monkeypatch, musical=lambda register: register("a-hum", "nowhere:hum", about=about))
    assert "no command 'a-hmu'. Did you mean 'a-hum'?" in call("a-hmu", code=2).stderr
    lines = call("--help").stdout.partition("Commands:\n")[2].splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line[2] != " "] == [*VERBS, "a-hum"]
    assert not any("..." in line for line in lines)
    assert about in " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("name", "target", "about", "said"),
    [
        ("Hum", "a:b", "Hum.", "a verb is made of small letters"),
        ("decode", "a:b", "Hum.", "that verb is wavslm's own; choose another name"),
        ("hum", "a.b", "Hum.", "must read 'package.module:function'"),
        ("hum", "a:b", " ", "`about` must say what it does"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_of_the_plugin_is_there(
    monkeypatch: pytest.MonkeyPatch, name: str, target: str, about: str, said: str
) -> None:
    def wrong(register: Any) -> None:
        register("right", "a:b", about="Right.")
        register(name, target, about=about)

    registry = loaded(monkeypatch, sample=wrong).registry
    (error,) = registry.load_errors.values()
    assert said in str(error)
    assert registry.commands() == []


def test_a_verb_of_several_plugins_is_nobodys_and_all_are_named(
    monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    def registering(plugin: str) -> Any:
        def register(register: Any) -> None:
            register("hum", f"{plugin}:hum", about="Hum.")
            register(f"{plugin}-too", f"{plugin}:hum", about="Hum.")

        return register

    three = {plugin: registering(plugin) for plugin in ("one", "two", "three")}
    registry = loaded(monkeypatch, **three, other=lambda register: register("s", "a:b", about="S.")).registry
    assert [command.name for command in registry.commands()] == ["s"]
    assert set(registry.load_errors) == {"one_module", "two_module", "three_module"}
    for plugin in ("two", "three"):
        said = str(registry.load_errors[f"{plugin}_module"])
        assert f"the verb 'hum' is registered twice: by one_module (one:hum) and by {plugin}_mod" in said
        assert said.removesuffix(".") in call("hum", code=2).stderr


def test_verbs_of_the_plugins_of_this_repository_are_known() -> None:
    assert known_providers("command") == {
        command.name: command.distribution for command in load_registry().commands()
    }
