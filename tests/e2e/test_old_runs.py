"""A folder that an earlier revision left: `old_run/` was stopped in its last stage."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import installed_command
from tests.support import EXAMPLE_PATH, run_program
from wavslm_core.run.metrics_file import read_metrics

HERE = Path(__file__).parent
TOKENS = """
import sys
from pathlib import Path
from wavslm_core import Codec, load_recipe
from wavslm_core.data.corpora import open_split
from wavslm_core.data.token_store import TokenStore
run = Path(sys.argv[1])
codec = Codec.load(run)
stored_T = TokenStore.open(run / "tokens" / "valid").tokens(0)
split = open_split(load_recipe(run / "recipe.yaml").data, "valid", cache_dir=run.parent / ".cache")
tokens_BT = codec.encode(split.load(0, sample_rate_hz=codec.sample_rate_in))
assert len(stored_T) > 50
print((tokens_BT[0, : len(stored_T)].numpy() == stored_T).mean())
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a run's folder; the recipe lies beside `runs`."""
    shutil.copy(HERE / "old_run" / "old.yaml", tmp_path)
    (kept,) = (HERE / "old_run").glob("old-*")
    return Path(shutil.copytree(kept, tmp_path / "runs" / kept.name))


@pytest.fixture(autouse=True)
def _example(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands see the parts of the example distribution, too."""
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE_PATH), prepend=os.pathsep)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_run_goes_on_where_it_was_stopped(old: Path) -> None:
    command = [installed_command("wavslm-run"), "old.yaml"]
    done = subprocess.run(command, cwd=old.parents[1], capture_output=True, text=True)
    if "corpus.audio" in done.stderr:
        pytest.skip("this processor synthesises the speech in other bits")
    assert done.returncode == 0, done.stderr
    assert f"run folder: runs/{old.name}" in done.stdout, "the same recipe has the same digest"
    assert done.stdout.count("finished before, skipped") == 2
    assert "continuing from step 302" in done.stderr
    last = [line for line in read_metrics(old / "metrics.jsonl") if line["split"] == "valid"][-1]
    assert last["step"] == 360
    # As on the processor that trained the first part, nearly.
    assert last["loss"] == pytest.approx(2.392, abs=0.05)


def test_its_codec_gives_the_tokens_that_it_stored(old: Path) -> None:
    assert float(run_program(sys.executable, "-c", TOKENS, old).stdout) > 0.99
