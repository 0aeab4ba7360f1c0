"""Ctrl-C while something must not be left half done."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wavslm_core.launch import local
from wavslm_core.launch.launchers import launcher_for
from wavslm_core.parts import plugins
from wavslm_core.parts.plugins import Loaded
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.folder import prepare_run_folder
from wavslm_core.run.stop import interrupts_held


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """Tests that were started in the background have inherited that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_waits_for_the_end_of_the_block_and_is_not_lost() -> None:
    done: list[str] = []

    def submit() -> None:
        with interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            done.append("submitted")
        done.append("gone on")

    with pytest.raises(KeyboardInterrupt):
        submit()
    assert done == ["submitted"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_the_block_starts_does_not_hear_ctrl_c() -> None:
    with interrupts_held():
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


def test_ctrl_c_while_a_local_job_is_submitted_stops_it(
    tmp_path: Path,
    example_loaded: Loaded,
    example_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plugins, "load", lambda: example_loaded)
    for key in ("PYTHONPATH", "WAVSLM_PLUGINS"):
        monkeypatch.setenv(key, example_environment[key])
    document = {
        "name": "one",
        "stages": [{"run": "count", "steps": 10**6, "pause_s": 0.05}],
        "launch": {"process": "child"},
    }
    recipe = resolve(recipe_from_dict(document, registry=example_loaded.registry))
    run_dir = prepare_run_folder(recipe, tmp_path)
    environment = local._environment

    def interrupted() -> object:
        # At the moment at which the job is handed over.
        os.kill(os.getpid(), signal.SIGINT)
        return environment()

    monkeypatch.setattr(local, "_environment", interrupted)
    outcome = launcher_for(recipe.launch).launch(run_dir, lambda line: None)
    assert outcome.status == "interrupted"
