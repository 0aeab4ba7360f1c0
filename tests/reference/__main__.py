"""Record all that a small recipe computes and every verb says, and compare it with another revision's.

python -m tests.reference record FILE      on the revision before a change that must change nothing
python -m tests.reference compare FILE     after it, on the same machine: kernels differ between processors

Losses of every logged step, digests of every weight, token file and waveform, all results, and what commands
print, without times and rates.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.conftest import SMALL_RECIPE

STAGES = """\
  - {run: evaluate, utterances: 4, baseline_tokens: 2000, continuations: {count: 1, seconds: 0.4}}
  - {run: generate, prompts: 1, prompt_seconds: 1, new_seconds: 0.4}
  - {run: report}
launch:"""
SWEEP = """
extends: small.yaml
name: swept
sweep:
  grid: {stages.train_lm.lr: [1.0e-3, 2.0e-3]}
  metric: valid.loss
  compare: [evaluate.language_model.bits_per_token]
"""
CHANGED = [
    "stages.train_codec.precision=fp32",
    "stages.train_codec.log_every=1",
    "stages.train_lm.precision=fp32",
    "stages.train_lm.log_every=1",
]
RUN = "runs/small-*"
COMMANDS = (
    "wavslm-run small.yaml",
    "wavslm-run small.yaml",
    "wavslm-run small.yaml --dry-run",
    "wavslm-run small.yaml name=other head=chunk_autoregressive --reuse",
    "wavslm-run swept.yaml --dry-run",
    "wavslm-run swept.yaml --reuse",
    f"wavslm generate {RUN} {RUN}/samples/*/prompt.wav --seconds 0.4 --out said",
    f"wavslm score {RUN} {RUN}/samples",
    f"wavslm encode {RUN} {RUN}/samples --out tokens",
    f"wavslm decode {RUN} tokens --out decoded",
    "wavslm data stats corpus=folder path=decoded",
    "wavslm jobs",
    f"wavslm jobs {RUN}",
    f"wavslm stop {RUN}",
    "wavslm sweep status runs/swept-sweep-*",
    "wavslm sweep results runs/swept-sweep-*",
    "wavslm sweep retry runs/swept-sweep-*",
    "wavslm sweep stop runs/swept-sweep-*",
    "wavslm recipe check small.yaml",
    "wavslm recipe check small.yaml head.chunk_tokens=3",
    "wavslm recipe show small.yaml",
    "wavslm recipe schema",
    "wavslm plugins",
    "wavslm new-plugin my_head --role head",
    "wavslm doctor small.yaml",
    "wavslm --help",
    "wavslm-run --help",
    "wavslm-run nothing.yaml",
)
TIMED = {
    *("time", "seconds", "started", "ended", "work_seconds", "times_real_time", "real_time_factor"),
    *("tokens_per_s", "audio_s_per_s", "peak_memory_bytes", "peak_memory_gb", "train_seconds"),
}
"""Keys whose values differ from run to run."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("do", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    found = record()
    if arguments.do == "record":
        arguments.file.write_text(json.dumps(found, indent=1))
        print(f"{arguments.file}: {len(found)} records")
        return 0
    different = list(differences(json.loads(arguments.file.read_text()), found))
    for line in different:
        print(line)
    print(f"{len(different)} of {len(found)} records differ")
    return int(bool(different))


def record() -> dict[str, Any]:
    """Return name → what was computed or said."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        (folder / "small.yaml").write_text(SMALL_RECIPE.replace("launch:", STAGES))
        (folder / "swept.yaml").write_text(SWEEP)
        found: dict[str, Any] = {}
        for number, command in enumerate(COMMANDS):
            found[f"{number:02d} {command}"] = said(command, folder)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = digest(path)
            if content is not None:
                found[neutral(path.relative_to(folder), folder)] = content
        return found


def said(command: str, folder: Path) -> dict[str, Any]:
    """Return the exit code and what a command prints."""
    if command.startswith("wavslm-run small.yaml"):
        command = f"{command} {' '.join(CHANGED)}"
    done = subprocess.run(
        command,
        shell=True,
        executable="/bin/bash",
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "160",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "code": done.returncode,
        "stdout": neutral(done.stdout, folder),
        # Progress lines depend on how fast it goes.
        "stderr": [line for line in neutral(done.stderr, folder).splitlines() if " step " not in line],
    }


def neutral(text: str | Path, folder: Path) -> str:
    """Return a text without this folder, times, rates and digests of recipes."""
    plain = str(text).replace(str(folder), "FOLDER")
    plain = re.sub(r"-[0-9a-f]{12}\b", "-DIGEST", plain)
    plain = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?", "DATE", plain)
    plain = re.sub(r"\b\d+:\d\d\b", "TIME", plain)
    plain = re.sub(r"\d+(\.\d+)? ?(s\b|steps/s|GB|MB|× real time)", r"# \2", plain)
    return re.sub(r"-{3,}|─+| +", " ", plain)


def digest(path: Path) -> Any:
    """Return what a file holds, or its digest; None for files that differ from run to run."""
    if path.suffix == ".safetensors":
        return {name: _sha(tensor.contiguous()) for name, tensor in sorted(load_file(path).items())}
    if path.suffix in (".wav", ".bin", ".npz", ".i16"):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if path.name == "metrics.jsonl":
        return [timeless(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".json" and path.parent.name == "results":
        return timeless(json.loads(path.read_text()))
    return None


def _sha(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def timeless(value: Any) -> Any:
    """Return a document without what depends on the clock."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMED}
    if isinstance(value, list):
        return [timeless(inner) for inner in value]
    return value


def differences(wanted: Any, given: Any, where: str = "") -> Iterator[str]:
    """Yield where two documents differ, in words."""
    if isinstance(wanted, dict) and isinstance(given, dict):
        for key in {**wanted, **given}:
            yield from differences(wanted.get(key), given.get(key), f"{where}/{key}")
    elif isinstance(wanted, list) and isinstance(given, list) and len(wanted) == len(given):
        for place, pair in enumerate(zip(wanted, given, strict=True)):
            yield from differences(*pair, f"{where}[{place}]")
    elif wanted != given:
        yield f"{where}:\n  was {str(wanted)[:2000]}\n  is  {str(given)[:2000]}"


if __name__ == "__main__":
    sys.exit(main())
