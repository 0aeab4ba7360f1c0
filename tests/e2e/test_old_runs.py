"""A folder that an earlier revision left: `old_run/` was stopped in its last stage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from wavslm_core import Codec, Recipe
from wavslm_core.data.corpora import open_split
from wavslm_core.data.token_store import TokenStore
from wavslm_core.parts import plugins
from wavslm_core.run.metrics_file import read_metrics

HERE = Path(__file__).parent
PLUGINS = HERE.parent / "core" / "plugin_path"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a run's folder; the recipe lies beside `runs`."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    shutil.copy(HERE / "old_run" / "old.yaml", tmp_path)
    (kept,) = (HERE / "old_run").glob("old-*")
    # What this process has loaded already lacks the example.
    plugins.load.cache_clear()
    yield Path(shutil.copytree(kept, tmp_path / "runs" / kept.name))
    plugins.load.cache_clear()


def test_a_run_goes_on_where_it_was_stopped(old: Path) -> None:
    path = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [Path(sys.executable).with_name("wavslm-run"), "old.yaml"],
        cwd=old.parents[1],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
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
    codec = Codec.load(old)
    store = TokenStore.open(old / "tokens" / "valid")
    split = open_split(Recipe.load(old / "recipe.yaml").data, "valid", cache_dir=old.parent / ".cache")
    tokens_BT = codec.encode(split.load(0, sample_rate_hz=codec.sample_rate_in))
    same = tokens_BT[0, : len(store.tokens(0))] == torch.from_numpy(store.tokens(0).astype("int64"))
    assert same.float().mean() > 0.99
