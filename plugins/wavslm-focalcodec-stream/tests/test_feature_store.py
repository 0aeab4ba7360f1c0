"""Kept features are those that a teacher gives, whoever writes them and however often that is interrupted."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import taught_run
import torch
from torch import Tensor

from wavslm_core.errors import DataError
from wavslm_core.machine.processes import Interrupted
from wavslm_core.model.codec import Codec
from wavslm_core.run.context import StageContext
from wavslm_focalcodec_stream import feature_store as module
from wavslm_focalcodec_stream.distillation_task import DistillationTask
from wavslm_focalcodec_stream.feature_store import FeatureStore, feature_store

SECONDS = {"train": [0.5, 0.9, 1.6, 0.4, 0.7, 1.1], "valid": [0.61, 1.0]}
HOP = 320


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    taught_run.write_tones(folder / "audio", SECONDS)
    return folder


@pytest.fixture
def context(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageContext:
    # Three shards.
    monkeypatch.setattr(module, "SHARD_MINUTES", 1.2 / 60)
    monkeypatch.setattr(module, "BATCH_SECONDS", 2.0)
    return replace(taught_run.make_context(folder), run_dir=tmp_path / "runs" / "run")


def teach(waveforms: Sequence[Tensor]) -> list[Tensor]:
    """Two outputs of width 2 for every whole hop."""
    return [
        torch.stack([hops.mean(1), hops.square().mean(1), hops[:, 0], hops[:, -1]], 1).unflatten(1, (2, 2))
        for hops in (wave_S[: len(wave_S) // HOP * HOP].reshape(-1, HOP) for wave_S in waveforms)
    ]


def store(context: StageContext, teach: Any = teach, **fingerprint: Any) -> FeatureStore:
    return feature_store(
        context.split("train"),
        teach,
        context,
        fingerprint=fingerprint,
        outputs=2,
        width=2,
        frame_rate_hz=50,
        sample_rate_hz=16000,
        longest_seconds=1.2,
    )


def check(found: FeatureStore, context: StageContext) -> None:
    split = context.split("train")
    assert found.lengths.tolist() == [25, 45, 0, 20, 35, 55]
    for index, length in enumerate(found.lengths):
        (expected,) = teach([split.load(index, sample_rate_hz=16000)])
        if length:
            rows = found.features(index)
            assert rows.dtype == torch.float16
            assert torch.equal(rows, expected.half())
            assert torch.equal(found.features(index, start=7, frames=9), rows[7:16])
            assert torch.equal(found.features(index, start=15, frames=900), rows[15:])


def test_what_was_heard_once_is_read_at_any_frame(context: StageContext) -> None:
    heard: list[int] = []

    def counted(waveforms: Sequence[Tensor]) -> list[Tensor]:
        heard.append(len(waveforms))
        return teach(waveforms)

    check(store(context, counted), context)
    assert sum(heard) == 5
    check(store(context, counted), context)
    assert sum(heard) == 5
    (kept,) = context.cache_dir.glob("features-*")
    assert len(list(kept.glob("features-*.bin"))) == 3
    store(context, counted, teacher_weights="others")
    assert sum(heard) == 10
    assert len(list(context.cache_dir.glob("features-*"))) == 2


def test_a_stopped_or_killed_writer_goes_on_where_it_was(context: StageContext) -> None:
    class Killed(BaseException):
        pass

    heard: list[int] = []

    def dying(waveforms: Sequence[Tensor]) -> list[Tensor]:
        heard.append(len(waveforms))
        if len(heard) == 3:
            raise Killed
        return teach(waveforms)

    with pytest.raises(Killed):
        store(context, dying)
    (kept,) = context.cache_dir.glob("features-*")
    done = sorted(path.name for path in kept.glob("features-*.bin"))
    assert 0 < len(done) < 3
    with pytest.raises(Interrupted):
        store(replace(context, stop_requested=lambda: True))
    before = sum(heard)
    check(store(context, dying), context)
    assert sum(heard) - before < 5


def write_in_child(context: StageContext, done: Any) -> None:
    torch.set_num_threads(1)
    check(store(context), context)
    done.put(True)


def test_two_processes_leave_what_one_would(context: StageContext) -> None:
    # Opened here, so that the children need not look through the recordings.
    context.split("train")
    processes = multiprocessing.get_context("fork")
    done = processes.Queue()
    children = [processes.Process(target=write_in_child, args=(context, done)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    check(store(context, teach=None), context)
    assert not list(context.cache_dir.rglob(".writing-*"))


def test_what_is_damaged_or_does_not_fit_is_said(
    context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loud(waveforms: Sequence[Tensor]) -> list[Tensor]:
        return [1e6 * rows for rows in teach(waveforms)]

    with pytest.raises(DataError, match=r"teacher_cache: .* too large for float16\. Check it, or"):
        store(context, loud)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
        with pytest.raises(DataError, match=r"features take .* GB, but .* has 1e-09 GB\. Free some space"):
            store(context, kept="other")
    store(context)
    (kept,) = [path.parent for path in context.cache_dir.glob("features-*/features.json")]
    (kept / "features-00001.bin").write_bytes(b"12")
    with pytest.raises(
        DataError, match=r"features-00001\.bin is truncated or missing: 2 bytes found, .* Delete"
    ):
        store(context)


@pytest.mark.parametrize("run", ["distill_positional", "distill_encoder"])
def test_tasks_see_what_the_teacher_would_say(folder: Path, tmp_path: Path, run: str) -> None:
    options = {"run": run, "steps": 6, "batch_size": 3, "crop_seconds": 0.4, "teacher": taught_run.WAVLM}
    options |= {"longest_seconds": 1.2}
    tasks: list[DistillationTask[Any]] = []
    for cached in (False, True):
        context = taught_run.make_context(
            folder, {**options, "teacher_cache": cached}, name=f"{run}-{cached}"
        )
        stage = context.recipe.registry.build(context.recipe.stages[0])
        tasks.append(stage.make_task(stage.build_model(context), context))
    # Never asked again.
    tasks[1].teach = None  # type: ignore[assignment, method-assign]
    batches = [(task.taught(step, 0) for step in range(4)) for task in tasks]
    for expected, found in [*zip(*batches, strict=True), tuple(task.taught_valid([1, 0]) for task in tasks)]:
        assert torch.equal(found.frame_lengths_B, expected.frame_lengths_B)
        assert torch.equal(found.waveform_BS, expected.waveform_BS)
        for found_BTD, expected_BTD in zip(found.features, expected.features, strict=True):
            for row, length in enumerate(expected.frame_lengths_B.tolist()):
                wanted = expected_BTD[row, :length]
                error = found_BTD[row, :length] - wanted
                # Rounding to eleven bits, and a teacher that heard other padding.
                assert bool((error.abs() <= wanted.abs() / 2048 + 1e-4).all())
                assert error.square().mean() <= 1e-7 * wanted.square().mean()
    for task in tasks:
        task.close()


def test_a_run_with_a_cache_ends_bit_equal_however_interrupted(folder: Path, tmp_path: Path) -> None:
    options = {"run": "distill_encoder", "steps": 4, "batch_size": 2, "crop_seconds": 0.3, "lr": 1e-2}
    options |= {"teacher": taught_run.WAVLM, "teacher_cache": True, "checkpoint_every": 1, "select": "last"}
    weights = []
    torch.set_grad_enabled(True)
    for name, stops in (("whole", []), ("broken", [1, 3])):
        context = replace(taught_run.make_context(folder, options), run_dir=tmp_path / "runs" / name)
        for stop in stops:
            polls = iter([False] * stop)
            with pytest.raises(Interrupted):
                taught_run.run_stages(replace(context, stop_requested=lambda polls=polls: next(polls, True)))
        taught_run.run_stages(context)
        weights.append(Codec.load(context.run_dir / "codec").state_dict())
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
