"""A whole example distribution, for tests of recipes, runs and commands without any installed plugin."""

import os
import signal
import sys
from importlib.metadata import distributions
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.support import EXAMPLE_PATH, ONLY_EXAMPLE, Command, Start, call_main
from wavslm_core.parts import plugins
from wavslm_core.parts.plugins import Loaded
from wavslm_core.parts.registry import Registry


@pytest.fixture
def example_loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """The example distribution, loaded alone."""
    monkeypatch.syspath_prepend(str(EXAMPLE_PATH))
    points = [point for dist in distributions(path=[str(EXAMPLE_PATH)]) for point in dist.entry_points]
    loaded = plugins.load_from(points)
    assert not loaded.registry.load_errors
    return loaded


@pytest.fixture
def example_registry(example_loaded: Loaded) -> Registry:
    """A registry of the example distribution alone."""
    return example_loaded.registry


@pytest.fixture
def example_environment() -> dict[str, str]:
    """Environment of a process that sees core and the example distribution only."""
    path = os.pathsep.join(filter(None, [str(EXAMPLE_PATH), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **ONLY_EXAMPLE, "PYTHONPATH": path}


@pytest.fixture
def command(
    example_loaded: Loaded,
    example_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Command:
    """Call the entry point of `wavslm_core.cli.<name>` with arguments, in a fresh folder."""
    monkeypatch.setattr(plugins, "load", lambda: example_loaded)
    monkeypatch.chdir(tmp_path)
    for key in ("PYTHONPATH", "WAVSLM_PLUGINS", "COLUMNS"):
        monkeypatch.setenv(key, example_environment[key])
    programs = {"run": "wavslm-run", "main": "wavslm"}
    return lambda name, *arguments, **code: call_main(programs[name], *arguments, **code)


@pytest.fixture
def start(example_environment: dict[str, str], tmp_path: Path) -> Start:
    """Start `python -m wavslm_core.cli.<name> arguments…` in a fresh folder, without waiting.

    It leads a process group of its own, as at a terminal.
    """

    def call(name: str, *arguments: str) -> Popen[str]:
        return Popen(
            [sys.executable, "-m", f"wavslm_core.cli.{name}", *arguments],
            stdout=PIPE,
            stderr=PIPE,
            text=True,
            cwd=tmp_path,
            env=example_environment,
            start_new_session=True,
            # Tests that were started in the background have inherited that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return call
