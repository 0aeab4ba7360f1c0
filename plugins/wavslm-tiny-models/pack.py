"""Makes a codec of this distribution of what a run trained: `python pack.py RUN NAME`.

Weights are rounded to float16. Recipe, results and the log of validation go along.
"""

import json
import shutil
import sys
from pathlib import Path

import torch

from wavslm_core.plugin import Codec


def pack(run: Path, name: str) -> Path:
    """Write codec, recipe, results and log of a run; returns the folder."""
    folder = Path(__file__).parent / "wavslm_tiny_models" / name
    Codec.load(run).save(folder / "codec", dtype=torch.float16)
    shutil.copy(run / "recipe.yaml", folder / "recipe.yaml")
    shutil.copytree(run / "results", folder / "results", dirs_exist_ok=True)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "training.jsonl").write_text(
        "".join(line for line in lines if json.loads(line)["split"] == "valid")
    )
    return folder


if __name__ == "__main__":
    pack(Path(sys.argv[1]), sys.argv[2])
