"""What a sweep's report shows beyond its table: pictures over axes, TensorBoard's HParams."""

import math
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from wavslm_core.recipe.sweep_block import SweepMetric
from wavslm_core.sweep.comparison import Comparison, compare
from wavslm_core.sweep.figures import axis_figures
from wavslm_core.sweep.page import comparison_page, ranking_markdown, write_comparison, write_hparams
from wavslm_core.sweep.trial_state import Row

HEADS = ("next_chunk", "bitwise")
RATES = (1e-4, 1e-3, 1e-2)


def six_trials(folder: Path, **metric: Any) -> Comparison:
    """Two heads at three rates; one was stopped, one failed."""
    results = []
    for place, (head, rate) in enumerate((head, rate) for head in HEADS for rate in RATES):
        state = {2: "pruned", 5: "failed"}.get(place, "finished")
        results.append(
            Row(
                variant=f"{head}, lr {rate:g}",
                settings={"head.name": head, "train.lr": rate},
                seed=None,
                folder=folder / f"run-{place}",
                state=state,
                error="<no> shelf" if state == "failed" else "",
                value=None if state == "failed" else 5.0 - place / 10,
            )
        )
    return compare(results, (), SweepMetric.model_validate({"path": "valid.loss", **metric}))


def points(figure: Any) -> list[tuple[float, float, bool]]:
    """Return (x, y, filled) of every dot."""
    lines = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    return [
        (line.get_xdata()[0], line.get_ydata()[0], line.get_markerfacecolor() != "none") for line in lines
    ]


def test_a_picture_over_each_axis(tmp_path: Path) -> None:
    (said, draw_by_head), (_, draw_by_rate) = axis_figures(six_trials(tmp_path))
    by_head, by_rate = draw_by_head(), draw_by_rate()
    assert said.startswith("valid.loss over head.name: next_chunk 5, next_chunk 4.9, next_chunk 4.8, bitwise")
    assert points(by_rate) == [
        (1e-4, 5.0, True), (1e-3, 4.9, True), (1e-2, 4.8, False), (1e-4, 4.7, True), (1e-3, 4.6, True),
    ]  # fmt: skip
    assert by_rate.axes[0].get_xscale() == "log"
    assert by_head.axes[0].get_xscale() == "linear"
    assert [label.get_text() for label in by_head.axes[0].get_xticklabels()] == list(HEADS)
    # Bars are means of what has finished.
    lines: Any = by_head.axes[0].lines
    bars = [line.get_ydata()[0] for line in lines if len(line.get_xdata()) == 2]
    assert bars == pytest.approx([4.95, 4.65])


def test_an_axis_with_one_value_says_nothing(tmp_path: Path) -> None:
    comparison = six_trials(tmp_path)
    alone = compare([comparison.results[0]], (), comparison.metric)
    assert axis_figures(alone) == []
    assert axis_figures(compare(comparison.results, ())) == []


def test_the_ranking(tmp_path: Path) -> None:
    lines = ranking_markdown(six_trials(tmp_path)).splitlines()
    assert lines[0] == "|  | head.name | train.lr | valid.loss ↓ | state |"
    assert lines[2] == "| **1** | **bitwise** | **0.001** | **4.600** | **finished** |"
    assert lines[6:] == [
        "|  | next_chunk | 0.01 | 4.800 so far | pruned |",
        "|  | bitwise | 0.01 | – | failed: <no> shelf |",
    ]
    upwards = ranking_markdown(six_trials(tmp_path, goal="max")).splitlines()
    assert "valid.loss ↑" in upwards[0]
    assert "| **1** | **next_chunk** | **0.0001** |" in upwards[2]


def test_report_and_files(tmp_path: Path) -> None:
    write_comparison(tmp_path, six_trials(tmp_path), title="t", subtitle="s", recipe="name: x")
    assert {path.name for path in tmp_path.glob("axis_*.png")} == {"axis_1.png", "axis_2.png"}
    html = comparison_page(six_trials(tmp_path), title="t", subtitle="s", recipe="name: x")
    assert html.count("<svg") == 2
    assert "<h2>Ranking</h2>" in html
    assert "failed: &lt;no&gt; shelf" in html


def test_hparams_has_a_session_for_each_trial_with_a_number(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    write_hparams(folder, six_trials(tmp_path))
    # Once more: old sessions go, none is there twice.
    write_hparams(folder, six_trials(tmp_path))
    assert sorted(path.name for path in folder.iterdir()) == [f"run-{place}" for place in range(5)]
    for place in (0, 2):
        assert len(list((folder / f"run-{place}").iterdir())) == 1
        events = EventAccumulator(str(folder / f"run-{place}"))
        events.Reload()
        (value,) = events.Scalars("valid.loss")
        assert value.value == pytest.approx(5.0 - place / 10)
        plugin = events.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
        settings = metadata.parse_session_start_info_plugin_data(plugin).hparams
        assert settings["head.name"].string_value == "next_chunk"
        assert math.isclose(settings["train.lr"].number_value, RATES[place])
        assert settings["state"].string_value == ("finished" if place == 0 else "pruned")
        experiment = events.summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
        (metric,) = metadata.parse_experiment_plugin_data(experiment).metric_infos
        assert metric.name.tag == "valid.loss"


def test_pictures_of_axes_that_are_gone_are_removed(tmp_path: Path) -> None:
    for old in ("axis_9.png", "plot_9.png", "axis_mine.png"):
        (tmp_path / old).touch()
    write_comparison(tmp_path, six_trials(tmp_path), title="t", subtitle="s", recipe="name: one")
    assert (tmp_path / "axis_2.png").stat().st_size > 1000
    left = {path.name for path in tmp_path.glob("*.png")}
    assert "axis_mine.png" in left
    assert left.isdisjoint({"axis_9.png", "plot_9.png"})
