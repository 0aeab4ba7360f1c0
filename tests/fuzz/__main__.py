"""Attack the commands at random and say what did not end well.

python -m tests.fuzz [--only kills|recipes|files] [--seconds N] [--cases N] [--seed S] [--case N]
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import torch

from tests.fuzz import files, kills, recipes

ATTACKS = {"recipes": recipes.attack, "files": files.attack, "kills": kills.attack}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", choices=ATTACKS, action="append", help="attack in this way; default: in all"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each way; default: 60")
    parser.add_argument("--cases", type=int, default=None, help="of each way at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, default=None, help="only this one, such as one that failed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wrong = 0
    for name in arguments.only or ATTACKS:
        wrong += _campaign(name, arguments)
    return int(wrong > 0)


def _campaign(name: str, arguments: argparse.Namespace) -> int:
    """Attack in one way until time is up; return how often it did not end well."""
    counts: Counter[str] = Counter()
    began = time.monotonic()
    first = arguments.case or 0
    most = 1 if arguments.case is not None else arguments.cases
    while (most is None or counts["cases"] < most) and (
        most is not None or time.monotonic() - began < arguments.seconds
    ):
        case = first + counts["cases"]
        folder = Path(tempfile.mkdtemp(prefix="wavslm-fuzz-"))
        try:
            problem, said = ATTACKS[name](Random(f"{name}/{arguments.seed}/{case}"), folder)
        finally:
            os.chdir(Path(__file__).parents[2])
            shutil.rmtree(folder, ignore_errors=True)
        counts["cases"] += 1
        if problem:
            counts["wrong"] += 1
            _say(f"{name}: --only {name} --seed {arguments.seed} --case {case}: {said}\n    {problem}")
    _say(f"{name}: {counts['cases']} cases in {time.monotonic() - began:.0f} s, {counts['wrong']} wrong")
    return counts["wrong"]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
