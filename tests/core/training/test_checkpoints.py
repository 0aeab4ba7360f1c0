"""Checkpoints: damaged ones are refused by name, old ones survive a full disk, nothing is unpickled."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import resource
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.core.training import tiny_job
from wavslm_core.errors import CheckpointError, WavslmError
from wavslm_core.training.checkpoint_files import read_checkpoint, write_checkpoint
from wavslm_core.training.checkpoints import Checkpoints
from wavslm_core.training.state import TrainState


def content(value: float) -> dict[str, object]:
    return {"modules": {"net": {"weight": torch.full((64, 64), value)}}, "state": {"step": int(value)}}


def latest_step(checkpoints: Checkpoints) -> int:
    found = checkpoints.latest()
    assert found is not None
    return int(found["state"]["step"])


def filled(folder: Path, *steps: int, keep: int = 3) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=keep)
    for step in steps:
        checkpoints.save(step, content(step))
    return checkpoints


def flip_a_weight(path: Path) -> None:
    """Change one bit inside the tensor's data, leaving the archive's structure alone."""
    with zipfile.ZipFile(path) as archive:
        data = max(archive.infolist(), key=lambda item: item.file_size)
    blob = bytearray(path.read_bytes())
    blob[data.header_offset + 2000] ^= 0x10
    path.write_bytes(blob)


def test_keeps_the_last_few(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 1, 2, 3, 4, keep=2)
    assert checkpoints.steps("step") == [3, 4]
    assert latest_step(checkpoints) == 4


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nothing", keep=2).latest() is None


@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped", "foreign"])
def test_a_damaged_one_is_named_and_the_one_before_is_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = filled(tmp_path, 10, 20)
    newest = checkpoints.path("step", 20)
    if damage == "truncated":
        newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    elif damage == "emptied":
        newest.write_bytes(b"")
    elif damage == "flipped":
        flip_a_weight(newest)
    else:
        newest.write_text("not an archive")
    with caplog.at_level(logging.WARNING):
        found = latest_step(checkpoints)
    assert found == 10
    assert "step-00000020.pt" in caplog.text
    assert "going on from step 10" in caplog.text
    # Out of the way, so that it neither counts among those kept nor is looked at again.
    assert checkpoints.steps("step") == [10]
    assert (tmp_path / "step-00000020.pt.damaged").exists()


def test_all_damaged_is_an_error_that_names_them(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 10, 20)
    for step in (10, 20):
        checkpoints.path("step", step).write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"step-00000020\.pt.*step-00000010\.pt.*delete the folder"):
        checkpoints.latest()
    assert checkpoints.steps("step") == [10, 20]


class _Surprise:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch surprised",)


def test_nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"modules": _Surprise()}, tmp_path / "step-00000001.pt")
    with pytest.raises(CheckpointError, match=r"step-00000001\.pt"):
        read_checkpoint(tmp_path / "step-00000001.pt")
    assert not (tmp_path / "surprised").exists()


def test_the_best_weights_of_every_kept_checkpoint_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, best in ((10, True), (20, True), (30, False), (40, False), (50, True)):
        if best:
            checkpoints.save_best(step, {"net": {"weight": torch.zeros(1)}})
        checkpoints.save(step, content(step))
    assert checkpoints.steps("step") == [40, 50]
    assert checkpoints.steps("best") == [20, 50]
    assert set(checkpoints.read_best(20)) == {"net"}


def test_best_weights_from_after_the_checkpoint_are_forgotten(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 10)
    checkpoints.save_best(8, {"net": {}})
    checkpoints.save_best(15, {"net": {}})
    (tmp_path / ".writing-0123abcd-step-00000020.pt").write_bytes(b"half")
    checkpoints.latest()
    assert checkpoints.steps("best") == [8]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-00000008.pt", "step-00000010.pt"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    checkpoints = filled(small_disk, 10)
    large = {"modules": {"net": {"weight": torch.zeros(200_000)}}}
    with pytest.raises(CheckpointError, match=r"the disk is full: .*step-00000020\.pt was not saved.*Free"):
        checkpoints.save(20, large)
    assert [path.name for path in small_disk.iterdir()] == ["step-00000010.pt"]
    assert latest_step(checkpoints) == 10


def test_a_file_size_limit_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.pt"
    write_checkpoint(path, content(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(CheckpointError, match="cannot be written"):
            write_checkpoint(path, {"weight": torch.zeros(200_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_checkpoint(path)["state"] == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("left", "message"), [(8192, "disk is full"), (0, "metrics .* cannot be written")])
def test_a_run_on_a_full_disk_can_go_on_later(
    small_disk: Path, tmp_path: Path, left: int, message: str
) -> None:
    run_dir = small_disk / "run"
    tiny_job.train(run_dir, steps=8)
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk)
    ballast.write_bytes(b"\0" * (free.f_bavail * free.f_frsize - left))
    if left == 0:
        # Metrics are appended within a page that the file may own already: cover that up, too.
        with contextlib.suppress(OSError), (run_dir / "metrics.jsonl").open("a") as file:
            file.write("\n" * 8192)
    with pytest.raises(WavslmError, match=message):
        tiny_job.train(run_dir, steps=24)
    ballast.unlink()
    task, state = tiny_job.train(run_dir, steps=24)
    assert state.step == 24
    assert task.seen_steps[0] >= 8


@pytest.mark.parametrize(
    "change", [{"step": "many"}, {"valid": [1]}, {"best_step": {}}, {"surprise": 1}, {"losses": 1}]
)
def test_a_state_of_another_shape_is_refused(change: dict[str, object]) -> None:
    state = TrainState(step=3, valid={"loss": math.nan}, best_step=2, best_valid={"loss": 1.5})
    again = TrainState.from_state_dict(state.state_dict())
    assert (again.step, again.best_valid) == (3, {"loss": 1.5})
    assert math.isnan(again.valid["loss"])
    before_players = {key: value for key, value in state.state_dict().items() if key != "losses"}
    again = TrainState.from_state_dict(before_players | {"loss_sum": 6.0, "loss_count": 4})
    assert again.take_mean_loss("") == 1.5
    with pytest.raises((TypeError, ValueError), match=next(iter(change))):
        TrainState.from_state_dict(state.state_dict() | change)
