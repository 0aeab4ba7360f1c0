"""Somebody else's plugin, installed from outside the tree beside the built core: its contract holds."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.support import Command, environment_without, run_program

OTHERS = Path(__file__).parent / "third_party" / "wavslm-others"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds the plugin's sources and, beside them, the plugin installed."""
    folder = tmp_path_factory.mktemp("third_party")
    shutil.copytree(OTHERS, folder / "sources", ignore=shutil.ignore_patterns("__pycache__"))
    install = ["install", "--quiet", "--no-build-isolation", "--no-deps", "--target", folder / "installed"]
    run_program(sys.executable, "-m", "pip", *install, folder / "sources")
    return folder


@pytest.fixture
def call(core_only: Path, folder: Path) -> Command:
    """Return what runs a program of the environment that holds core and this plugin alone."""
    environment = {
        **environment_without("PYTHON", "WAVSLM"),
        "PYTHONPATH": str(folder / "installed"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    return lambda program, *arguments, **code: run_program(
        core_only / program, *arguments, cwd=folder, env=environment, **code
    )


def test_it_is_found(call: Command) -> None:
    listed = call("wavslm", "plugins")
    assert "wavslm-others" in listed.stdout
    assert "wavslm-next-chunk" not in listed.stdout


def test_its_contract_holds(call: Command) -> None:
    tested = call("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", "sources/tests")
    passed = tested.stdout.splitlines()[-1]
    assert int(passed.split()[0]) >= 40, tested.stdout


def test_a_mistake_in_it_is_named(call: Command, folder: Path) -> None:
    parts = folder / "installed" / "wavslm_others" / "parts.py"
    source = parts.read_text()
    # The frame after an item of odd length is padding: left in, it changes the item's last token.
    broken = source.replace("features_BTD = zero_padding(features_BTD, lengths)", "pass")
    assert broken != source
    parts.write_text(broken)
    try:
        arguments = ["-q", "-p", "no:cacheprovider", "--tb=line", "sources/tests"]
        tested = call("python", "-m", "pytest", *arguments, code=1)
    finally:
        parts.write_text(source)
    assert "quantizer 'nearest' of wavslm-others 3.2.1: encode of an item of" in tested.stdout
    assert "with `lengths`, padding never changes a valid result" in tested.stdout
