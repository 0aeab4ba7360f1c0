"""How long commands that need no torch take, beyond starting a bare interpreter."""

import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.benchmarks.tables import print_table

GOAL_S = 0.5
RUNS = 5
ROOT = Path(__file__).resolve().parents[2]
BARE = (sys.executable, "-c", "pass")
WAVSLM = str(Path(sys.executable).with_name("wavslm"))
COMMANDS = {
    "wavslm plugins": (WAVSLM, "plugins"),
    "wavslm --help": (WAVSLM, "--help"),
    "wavslm recipe check": (WAVSLM, "recipe", "check", "recipes/wavslm_scratch.yaml"),
}


def run() -> None:
    commands = {"python -c pass": BARE, **COMMANDS}
    walls: dict[str, list[float]] = {name: [] for name in commands}
    cpus: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        _measure(command)  # fills the disk's cache
    for _ in range(RUNS):
        # In turns, so that whatever else the machine does falls on all of them.
        for name, command in commands.items():
            wall_s, cpu_s = _measure(command)
            walls[name].append(wall_s)
            cpus[name].append(cpu_s)
    bare_wall_s, bare_cpu_s = median(walls["python -c pass"]), median(cpus["python -c pass"])
    print_table(
        f"startup: medians of {RUNS} runs, beyond the {bare_wall_s:.3f} s of `python -c pass`",
        ["command", "wall s", "CPU s", "goal s"],
        [
            [name, median(walls[name]) - bare_wall_s, median(cpus[name]) - bare_cpu_s, GOAL_S]
            for name in COMMANDS
        ],
    )


def _measure(command: tuple[str, ...]) -> tuple[float, float]:
    """Run a command; return its wall time and its CPU time (user and system) in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    wall_s = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
