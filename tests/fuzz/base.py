"""What is attacked: recordings, finished runs and a sweep of the smallest parts, and token files."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import soundfile

from tests.fuzz.commands import call
from tests.support import ROLES

RATE_HZ = 16_000
PARTS = "\n".join(f"{role}: {{name: fake}}" for role in ROLES)
STAGES = """
stages:
  - {run: train_codec, steps: 6, batch_size: 2, crop_seconds: 0.25, valid_utterances: 2, checkpoint_every: 2,
     validate_every: 3}
  - {run: tokenize, shard_minutes: 0.02}
  - {run: train_lm, steps: 6, batch_size: 2, crop_tokens: 16, checkpoint_every: 2, validate_every: 3}
  - {run: evaluate}
  - {run: generate, prompts: 1, prompt_seconds: 0.1, new_seconds: 0.2, continuations: 1}
  - {run: report}
launch: {on: debug, device: cpu}
"""
TARS = "data: {corpus: webdataset, train: [speech.tar], valid_fraction: 0.4}"
FOLDER = "data: {corpus: folder, path: speech, valid_fraction: 0.4}"
SWEEP = """
sweep: {grid: {backbone.dim: [8, 12]}, metric: {path: train_lm.valid.loss, goal: min}}
"""


def make_base(folder: Path) -> None:
    """Fill a folder, which is the working directory, with everything that verbs read."""
    from wavslm_core.testing.fakes import register_fakes

    register_fakes()
    _speech(folder)
    (folder / "folder.yaml").write_text(f"name: folder\n{PARTS}\n{FOLDER}\n{STAGES}")
    short = f"{STAGES[: STAGES.index('  - {run: evaluate}')]}launch: {{on: debug, device: cpu}}"
    (folder / "short.yaml").write_text(f"name: short\n{PARTS}\n{FOLDER}\n{short}")
    (folder / "tars.yaml").write_text(f"name: tars\n{PARTS}\n{TARS}\n{short}")
    (folder / "sweep.yaml").write_text(f"name: sweep\n{PARTS}\n{FOLDER}\n{short}\n{SWEEP}")
    for recipe in ("folder", "tars", "sweep"):
        must("wavslm-run", f"{recipe}.yaml", "--reuse")
    must("wavslm", "encode", str(run_of(folder, "folder")), "speech", "--out", "tokens")


def must(*command: str) -> None:
    """Run a command that has to succeed. Raises: RuntimeError."""
    ending = call(*command, patience_s=900)
    if ending.code != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {ending.errors}")


def run_of(folder: Path, name: str) -> Path:
    """Return the run of a recipe, relative to the folder."""
    return next(folder.glob(f"runs/{name}-*")).relative_to(folder)


def _speech(folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "speech").mkdir()
    with tarfile.open(folder / "speech.tar", "w") as tar:
        for number in range(6):
            samples = 0.1 * random.standard_normal(RATE_HZ // 2 + 1000 * number)
            path = folder / "speech" / f"{number}.{('wav', 'flac', 'ogg', 'mp3', 'wav', 'flac')[number]}"
            soundfile.write(path, samples, RATE_HZ)
            tar.add(path, arcname=path.name)
            note = json.dumps({"speaker": f"s{number}", "text": "hello"}).encode()
            member = tarfile.TarInfo(f"{number}.json")
            member.size = len(note)
            tar.addfile(member, io.BytesIO(note))
