"""Makes models of this distribution of what a run trained: `python pack.py RUN NAME`.

A codec that the run trained, or else its language model. Weights are rounded to float16. Recipe, results and
the log of validation go along.
"""

import json
import shutil
import sys
from pathlib import Path

import torch

from wavslm_core.plugin import Codec, SpeechLM


def pack(run: Path, name: str) -> Path:
    """Write model, recipe, results and log of a run; returns the folder."""
    place = Path(__file__).parent / "wavslm_tiny_models" / name
    folder = place / ("codec" if (run / "codec").is_dir() else "speech_lm")
    # What is registered must be there before anything loads.
    folder.mkdir(parents=True, exist_ok=True)
    model = Codec.load(run) if folder.name == "codec" else SpeechLM.load(run)
    model.save(folder, dtype=torch.float16)
    about = place / f"{folder.name}_training"
    about.mkdir(exist_ok=True)
    shutil.copy(run / "recipe.yaml", about)
    shutil.copytree(run / "results", about / "results", dirs_exist_ok=True)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (about / "metrics.jsonl").write_text(
        "".join(line for line in lines if json.loads(line)["split"] == "valid")
    )
    return folder


if __name__ == "__main__":
    pack(Path(sys.argv[1]), sys.argv[2])
