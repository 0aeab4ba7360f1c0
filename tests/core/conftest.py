"""A whole example distribution, for tests of recipes, runs and commands without any installed plugin."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from subprocess import PIPE, Popen, run
from sys import executable
from typing import Any

import pytest

from wavslm_core.plugins import load_from
from wavslm_core.registry import Registry

EXAMPLE_PATH = Path(__file__).parent / "plugin_path"


@pytest.fixture
def example_registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of the example distribution alone."""
    monkeypatch.syspath_prepend(str(EXAMPLE_PATH))
    points = [point for dist in distributions(path=[str(EXAMPLE_PATH)]) for point in dist.entry_points]
    loaded = load_from(points)
    assert not loaded.registry.load_errors
    return loaded.registry


@pytest.fixture
def example_environment() -> dict[str, str]:
    """Environment of a process that sees core and the example distribution only."""
    return {
        **os.environ,
        "PYTHONPATH": str(EXAMPLE_PATH),
        "WAVSLM_PLUGINS": "example",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


@pytest.fixture
def command(example_environment: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Run `python -m wavslm_core.cli.<name> arguments…` in a fresh folder, to its end."""

    def call(name: str, *arguments: str, **environment: str) -> Any:
        return run(
            [executable, "-m", f"wavslm_core.cli.{name}", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**example_environment, **environment},
            timeout=120,
        )

    return call


@pytest.fixture
def start(example_environment: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Start `python -m wavslm_core.cli.<name> arguments…` in a fresh folder, without waiting."""

    def call(name: str, *arguments: str) -> Any:
        return Popen(
            [executable, "-m", f"wavslm_core.cli.{name}", *arguments],
            stdout=PIPE,
            stderr=PIPE,
            text=True,
            cwd=tmp_path,
            env=example_environment,
        )

    return call
