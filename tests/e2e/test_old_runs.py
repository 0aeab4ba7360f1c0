"""A folder that an earlier revision left: `old_run/` was stopped in its last stage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wavslm_core.run.metrics_file import read_metrics

HERE = Path(__file__).parent
PLUGINS = HERE.parent / "core" / "plugin_path"
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


def call(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that sees the parts of the example distribution, too."""
    path = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_a_run_goes_on_where_it_was_stopped(old: Path) -> None:
    done = call(Path(sys.executable).with_name("wavslm-run"), "old.yaml", cwd=old.parents[1])
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
    done = call(sys.executable, "-c", TOKENS, old, cwd=old.parents[1])
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.99
