"""Somebody else's plugin, installed from outside the tree beside the built core: its contract holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

OTHERS = Path(__file__).parent / "third_party" / "wavslm-others"

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds the plugin's sources and, beside them, the plugin installed."""
    folder = tmp_path_factory.mktemp("third_party")
    shutil.copytree(OTHERS, folder / "sources", ignore=shutil.ignore_patterns("__pycache__"))
    install = [
        "install",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "--target",
        str(folder / "installed"),
    ]
    subprocess.run([sys.executable, "-m", "pip", *install, str(folder / "sources")], check=True)
    return folder


@pytest.fixture
def call(core_only: Path, folder: Path) -> Call:
    """Return what runs a program of the environment that holds core and this plugin alone."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "WAVSLM"))},
        "PYTHONPATH": str(folder / "installed"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }

    def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [core_only / program, *arguments]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_it_is_found(call: Call) -> None:
    listed = call("wavslm", "plugins")
    assert "wavslm-others" in listed.stdout
    assert "wavslm-next-chunk" not in listed.stdout


def test_its_contract_holds(call: Call) -> None:
    tested = call("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", "sources/tests")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    passed = tested.stdout.splitlines()[-1]
    assert int(passed.split()[0]) >= 40, tested.stdout


def test_a_mistake_in_it_is_named(call: Call, folder: Path) -> None:
    parts = folder / "installed" / "wavslm_others" / "parts.py"
    source = parts.read_text()
    # The frame after an item of odd length is padding: left in, it changes the item's last token.
    broken = source.replace("features_BTD = zero_padding(features_BTD, lengths)", "pass")
    assert broken != source
    parts.write_text(broken)
    try:
        tested = call("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "sources/tests")
    finally:
        parts.write_text(source)
    assert tested.returncode == 1
    assert "quantizer 'nearest' of wavslm-others 3.2.1: encode of an item of" in tested.stdout
    assert "with `lengths`, padding never changes a valid result" in tested.stdout
