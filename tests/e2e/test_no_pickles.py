"""No verb and no stage unpickles anything: every process that tests start ends at once if it does."""

import os
import pickle
import shutil
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support import run_program

PROGRAM = """
import sys, wavslm_core.cli.main, wavslm_core.cli.run
programs = {"wavslm": wavslm_core.cli.main.main, "wavslm-run": wavslm_core.cli.run.main}
for line in sys.stdin.read().splitlines():
    sys.argv = line.split()
    try:
        programs[sys.argv[0]]()
    except SystemExit as leaving:
        print("\\n$", line, "→", leaving.code, flush=True)
"""
VERBS = """
wavslm-run {recipe} --runs-dir runs --launcher debug
wavslm-run {recipe} --runs-dir runs --dry-run
wavslm plugins
wavslm recipe check {recipe}
wavslm recipe show {recipe}
wavslm jobs --runs-dir runs
wavslm data stats {recipe} --runs-dir runs
wavslm data rejected runs/{run}
wavslm encode runs/{run} tone.wav --out tokens
wavslm decode runs/{run} tokens --out decoded
wavslm score runs/{run} tone.wav
wavslm generate runs/{run} tone.wav --seconds 0.2
wavslm suites pairs.csv
wavslm evaluate runs/{run} --suite pairs=pairs.csv --out scores
wavslm compare scores --out compared
"""


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def python(program: str, *, given: str = "", cwd: Path, code: int = 0) -> CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return run_program(sys.executable, "-c", program, input=given, env=environment, cwd=cwd, code=code)


@pytest.mark.parametrize(
    "program",
    [
        "import pickle; pickle.loads(pickle.dumps(1))",
        "import io, pickle; pickle.load(io.BytesIO(pickle.dumps(1)))",
        "import io, _pickle; _pickle.Unpickler(io.BytesIO(_pickle.dumps(1))).load()",
        "import io, pickle; pickle._Unpickler(io.BytesIO(pickle.dumps(1))).load()",
        "import io, numpy; f = io.BytesIO(); numpy.save(f, [None], allow_pickle=True); f.seek(0); "
        "numpy.load(f, allow_pickle=True)",
    ],
)
def test_the_guard_ends_a_process_that_unpickles(program: str, tmp_path: Path) -> None:
    done = python(program, cwd=tmp_path, code=97)
    assert done.stderr.splitlines()[-1] == "something was unpickled", done.stderr


def test_stages_and_verbs_unpickle_nothing(small_run: Path, small_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / small_run.name
    shutil.copytree(small_run, run)
    shutil.copytree(small_run.parent / ".cache", tmp_path / "runs" / ".cache")
    # As if it had been stopped in training, and somebody had put a checkpoint of shards beside its own.
    (run / "stages.json").unlink()
    shards = run / "checkpoints" / "train_lm" / "step-00000009.shards"
    shards.mkdir()
    for name in (".metadata", "about.pt", "__0_0.distcp"):
        (shards / name).write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    samples = 0.3 * np.sin(np.arange(16_000) / 9, dtype=np.float64)
    soundfile.write(tmp_path / "tone.wav", samples, 16_000)
    soundfile.write(tmp_path / "other.wav", samples[::2], 16_000)
    (tmp_path / "pairs.csv").write_text("positive,negative\ntone.wav,other.wav\n")
    verbs = VERBS.strip().format(recipe=small_recipe, run=small_run.name)
    done = python(PROGRAM, given=verbs, cwd=tmp_path)
    ended = [line for line in done.stdout.splitlines() if line.startswith("$ ")]
    assert ended == [f"$ {verb} → 0" for verb in verbs.splitlines()]
    assert (
        "step-00000009.shards/index.json does not exist: an earlier release wrote the folder" in done.stderr
    )
    assert not (tmp_path / "ran").exists()
