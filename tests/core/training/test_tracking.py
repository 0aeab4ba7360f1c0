"""Metrics and TensorBoard events: readable, never twice, whole after a kill."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from wavslm_core.errors import WavslmError
from wavslm_core.machine.terminal import spell_seconds
from wavslm_core.run.metrics_file import METRICS_FILE, read_metrics
from wavslm_core.training.tracking import Tracker


def events(run_dir: Path, stage: str) -> EventAccumulator:
    accumulator = EventAccumulator(str(run_dir / "tensorboard" / stage))
    accumulator.Reload()
    return accumulator


def test_writes_scalars_audio_and_figures(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    with Tracker(tmp_path, "train_lm") as tracker:
        tracker.scalars("train", 10, {"loss": torch.tensor(2.5), "lr": 1e-4})
        tracker.scalars("valid", 10, {"loss": math.nan})
        tracker.audio("speech", torch.linspace(-2, 2, 1600), 16000, 10)
        tracker.figure("spectrogram", lambda: figure, 10)
    first, second = (json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines())
    assert {key: first[key] for key in ("stage", "step", "split", "loss", "lr")} == {
        "stage": "train_lm",
        "step": 10,
        "split": "train",
        "loss": 2.5,
        "lr": 1e-4,
    }
    assert second["loss"] is None
    found = events(tmp_path, "train_lm")
    assert [event.value for event in found.Scalars("train/loss")] == [2.5]
    assert found.Audio("speech")[0].sample_rate == 16000
    image = found.Images("spectrogram")[0]
    assert (image.width, image.height) == (200, 100)


def test_a_single_sample_of_audio_is_logged(tmp_path: Path) -> None:
    with Tracker(tmp_path, "train_codec") as tracker:
        tracker.audio("speech", torch.ones(1), 16000, 1)
    assert events(tmp_path, "train_codec").Audio("speech")[0].length_frames == 2


def test_what_cannot_be_shown_is_named_once_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def draw() -> Figure:
        raise ValueError("Unknown symbol")

    with Tracker(tmp_path, "train_codec") as tracker:
        for step in (1, 2):
            tracker.figure("spectrograms", draw, step)
            tracker.audio("speech", torch.ones(2, 2, 2), 16000, step)
            tracker.scalars("train", step, {"loss": 1.0})
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "train_codec does not show the picture 'spectrograms'",
        "train_codec does not show the audio 'speech'",
    ]
    assert "ValueError: Unknown symbol" in caplog.text
    assert [event.step for event in events(tmp_path, "train_codec").Scalars("train/loss")] == [1, 2]


def test_without_tensorboard_the_numbers_are_still_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").write_text("a file where a folder should be")
    with Tracker(tmp_path, "train_lm") as tracker:
        tracker.scalars("train", 1, {"loss": 2.0})
        tracker.audio("speech", torch.zeros(160), 16000, 1)
        tracker.flush()
    assert [line["loss"] for line in read_metrics(tmp_path / METRICS_FILE)] == [2.0]
    (record,) = caplog.records
    assert record.message.startswith("train_lm does not show anything in TensorBoard: ")


def test_event_files_sort_in_the_order_they_were_opened(tmp_path: Path) -> None:
    """Within one second, names of one process end in a counter: 10 sorts before 9."""
    names = []
    for _ in range(3):
        Tracker(tmp_path, "train_lm").close()
        (new,) = {path.name for path in (tmp_path / "tensorboard" / "train_lm").iterdir()} - set(names)
        names.append(new)
    assert names == sorted(names)
    assert len({name.split(".")[3] for name in names}) == 3


def test_a_resume_cuts_back_its_own_stage_only(tmp_path: Path) -> None:
    with Tracker(tmp_path, "tokenize") as tracker:
        tracker.scalars("train", 99, {"loss": 0.0})
    with Tracker(tmp_path, "train_lm") as tracker:
        for step in (10, 20, 30):
            tracker.scalars("train", step, {"loss": float(step)})
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"stage": "train_lm", "step": 4')
    with Tracker(tmp_path, "train_lm", start_step=20) as tracker:
        tracker.scalars("train", 30, {"loss": 31.0})
    lines = [(line["stage"], line["step"], line["loss"]) for line in read_metrics(tmp_path / METRICS_FILE)]
    assert lines == [
        ("tokenize", 99, 0.0),
        ("train_lm", 10, 10.0),
        ("train_lm", 20, 20.0),
        ("train_lm", 30, 31.0),
    ]
    scalars = events(tmp_path, "train_lm").Scalars("train/loss")
    assert [(event.step, event.value) for event in scalars] == [(10, 10.0), (20, 20.0), (30, 31.0)]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (65, "1:05"), (3723, "1:02:03")])
def test_time_left_is_spelt(seconds: float, text: str) -> None:
    assert spell_seconds(seconds) == text


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    (tmp_path / METRICS_FILE).symlink_to(mine)
    with Tracker(tmp_path, "train_lm") as tracker:
        tracker.scalars("train", 10, {"loss": 2.5})
    assert [line["step"] for line in read_metrics(tmp_path / METRICS_FILE)] == [10]
    assert mine.read_text() == "precious"
    (tmp_path / METRICS_FILE).unlink()
    (tmp_path / METRICS_FILE).symlink_to(tmp_path / "made")
    with pytest.raises(WavslmError, match=r"cannot be written .*metrics.jsonl is a link"):
        Tracker(tmp_path, "train_lm")
    assert not (tmp_path / "made").exists()


def test_names_of_event_files_cannot_be_foreseen(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Tracker(tmp_path, name).close()
    first, second = (path.name.split(".")[-1] for path in sorted(tmp_path.glob("tensorboard/*/*")))
    assert first != second
