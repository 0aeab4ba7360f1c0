"""Real processes, killed at the worst moments, end with the weights of an undisturbed one, bit by bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.core.training import tiny_job
from tests.support import until
from wavslm_core.machine.processes import Interrupted
from wavslm_core.run.metrics_file import read_metrics

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals"),
]

SCRIPT = Path(__file__).with_name("tiny_job.py")
STEPS = 60


def start(run_dir: Path, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(SCRIPT), str(run_dir), json.dumps({"steps": STEPS, **options})]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())})


def steps_logged(run_dir: Path) -> list[int]:
    path = run_dir / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line)["step"] for line in lines if line.endswith("\n")]


def wait_for_step(run_dir: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    until(f"step {step}", lambda: max(steps_logged(run_dir), default=0) >= step, process)


def test_killed_runs_end_bit_equal(tmp_path: Path) -> None:
    whole, _ = tiny_job.train(tmp_path / "whole", steps=STEPS)
    run_dir = tmp_path / "killed"

    killed = start(run_dir, waits_before=18)
    wait_for_step(run_dir, 18, killed)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL

    # Each file costs two syncs, its own and its folder's: an odd one finds a file written but not renamed.
    died_writing = start(run_dir, die_at_sync=5)
    assert died_writing.wait() == -signal.SIGKILL
    assert list((run_dir / "checkpoints/tiny").glob(".writing-*"))

    # Every third step is logged: one of the last three before it waits.
    logged_before = max(steps_logged(run_dir))
    interrupted = start(run_dir, waits_before=logged_before + 8)
    wait_for_step(run_dir, logged_before + 6, interrupted)
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.wait() == 130

    assert start(run_dir).wait() == 0
    assert not list((run_dir / "checkpoints/tiny").glob(".writing-*"))
    final = torch.load(run_dir / "final.pt", weights_only=True)
    for name, module in whole.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, final[name][key]), f"{name}.{key}"

    seen = [(line["split"], line["step"]) for line in map(json.loads, (run_dir / "metrics.jsonl").open())]
    assert len(seen) == len(set(seen))
    expected = [
        (line["split"], line["step"]) for line in map(json.loads, (tmp_path / "whole/metrics.jsonl").open())
    ]
    assert seen == expected


@pytest.mark.parametrize(
    ("die_at_sync", "knows_validation"),
    [
        # Two syncs cut the metrics back, the third is of the best weights: validated, but not yet saved.
        (3, False),
        # Two syncs later, the checkpoint that knows of the validation; the seventh is of the next one.
        (7, True),
    ],
)
def test_a_stop_at_a_validation_and_a_kill_after_it_leave_each_line_once(
    tmp_path: Path, die_at_sync: int, knows_validation: bool
) -> None:
    options = {"steps": 12, "validate_every": 5, "show_every": 5, "checkpoint_every": 4, "log_every": 5}
    tiny_job.train(tmp_path / "whole", **options)
    run_dir = tmp_path / "broken"
    asked = count()
    with pytest.raises(Interrupted, match="stopped at step 5"):
        tiny_job.train(run_dir, stop_requested=lambda: next(asked) >= 5, **options)
    assert logged(run_dir) == [("train", 5)]

    assert start(run_dir, die_at_sync=die_at_sync, **options).wait() == -signal.SIGKILL
    assert logged(run_dir) == [("train", 5), ("valid", 5)]
    checkpoint = torch.load(run_dir / "checkpoints/tiny/step-00000005.pt", weights_only=True)
    assert checkpoint["state"]["validated_step"] == (5 if knows_validation else 0)
    before = (run_dir / "metrics.jsonl").read_text()

    assert start(run_dir, **options).wait() == 0
    assert logged(run_dir) == logged(tmp_path / "whole")
    again = not (run_dir / "metrics.jsonl").read_text().startswith(before)
    assert again != knows_validation
    for tag in ("train/loss", "valid/loss"):
        assert points(run_dir, tag) == points(tmp_path / "whole", tag)


def logged(run_dir: Path) -> list[tuple[str, int]]:
    return [(line["split"], line["step"]) for line in read_metrics(run_dir / "metrics.jsonl")]


def points(run_dir: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run_dir / "tensorboard/tiny"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]
