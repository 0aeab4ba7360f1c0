"""A whole example distribution, for tests of recipes, runs and commands without any installed plugin."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from wavslm_core.parts import plugins
from wavslm_core.parts.plugins import Loaded
from wavslm_core.parts.registry import Registry

EXAMPLE_PATH = Path(__file__).parent / "plugin_path"


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


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
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(EXAMPLE_PATH), os.environ.get("PYTHONPATH")])),
        "WAVSLM_PLUGINS": "example",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


@pytest.fixture
def command(
    example_loaded: Loaded,
    example_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[..., Done]:
    """Call the entry point of `wavslm_core.cli.<name>` with arguments, in a fresh folder."""
    monkeypatch.setattr(plugins, "load", lambda: example_loaded)
    monkeypatch.chdir(tmp_path)
    for key in ("PYTHONPATH", "WAVSLM_PLUGINS", "COLUMNS"):
        monkeypatch.setenv(key, example_environment[key])

    def call(name: str, *arguments: str) -> Done:
        program = {"run": "wavslm-run", "main": "wavslm"}[name]
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            import_module(f"wavslm_core.cli.{name}").main()
        captured = capsys.readouterr()
        assert isinstance(leaving.value.code, int)
        return Done(leaving.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def start(example_environment: dict[str, str], tmp_path: Path) -> Callable[..., Popen[str]]:
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
