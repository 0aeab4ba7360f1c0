"""Comparing runs: intervals over seeds, paired differences, picked columns, pictures."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavslm_core.recipe.sweep_block import Column, SweepMetric
from wavslm_core.sweep.comparison import Comparison, compare, paired_difference, repeated, t_quantile
from wavslm_core.sweep.figures import comparison_figures
from wavslm_core.sweep.page import comparison_document, comparison_markdown, comparison_page, write_comparison
from wavslm_core.sweep.trial_state import Row


def test_t_quantiles_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for degrees in (1, 2, 7, 30, 31, 60, 1000):
        assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-3)


def test_intervals_cover_as_often_as_they_say() -> None:
    values = np.random.default_rng(0).normal(size=(4000, 3))
    covered = [abs(e.mean) <= e.interval for e in map(repeated, values.tolist())]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)


def test_too_few_repetitions() -> None:
    assert repeated([]).count == 0
    alone = repeated([2.0, math.nan])
    assert (alone.mean, alone.count, math.isnan(alone.interval)) == (2.0, 1, True)


def test_what_seeds_share_cancels_out() -> None:
    ours, theirs = {0: 5.0, 1: 7.0, 2: 9.0}, {0: 5.5, 1: 7.5, 2: 9.5, 3: 1.0}
    difference = paired_difference(ours, theirs)
    assert difference.mean == pytest.approx(-0.5)
    assert difference.interval == pytest.approx(0.0, abs=1e-9)
    assert difference.count == 3


def a_run(folder: Path, *, bits: float, stoi: float, seconds: float = 2.0) -> Path:
    (folder / "results").mkdir(parents=True)
    evaluate = {
        "language_model": {"bits_per_token": bits, "interval": 0.25, "bits_by_place": [bits, bits + 1]},
        "codec": {"metrics": {"stoi": {"title": "STOI", "unit": "", "better": "higher", "mean": stoi,
                                       "interval": 0.01, "count": 4}}},
    }  # fmt: skip
    (folder / "results" / "evaluate.json").write_text(json.dumps(evaluate))
    (folder / "stages.json").write_text(json.dumps({"train_lm": {"status": "finished", "seconds": seconds}}))
    return folder


def four_runs(tmp_path: Path, **last: Any) -> list[Row]:
    runs = []
    for place, (variant, seed) in enumerate((v, s) for v in ("a", "b") for s in (0, 1)):
        folder = a_run(tmp_path / str(place), bits=8.0 - place / 4, stoi=0.5)
        runs.append(Row(variant, {"head": variant}, seed, folder, "finished"))
    return runs


def test_default_columns_leave_out_what_is_the_same(tmp_path: Path) -> None:
    comparison = compare(four_runs(tmp_path), ())
    assert [column.title for column in comparison.columns] == ["bits per token"]
    assert comparison.columns[0].best == "b"
    assert comparison.constant == ("STOI", "train lm seconds")
    cell = comparison.variants[1].cells["evaluate.language_model.bits_per_token"]
    assert cell.mean == pytest.approx(7.375)
    assert cell.interval == pytest.approx(12.706 * 0.125, rel=1e-3)
    difference = comparison.variants[1].differences["evaluate.language_model.bits_per_token"]
    assert difference.mean == pytest.approx(-0.5)
    assert difference.interval == pytest.approx(0.0, abs=1e-9)


def test_headlines_of_suites_are_compared(tmp_path: Path) -> None:
    runs = four_runs(tmp_path)
    for place, run in enumerate(runs):
        assert run.folder is not None
        scores = {"title": "SALMon (mean per token)", "unit": "%", "better": "higher", "mean": 50.0 + place}
        suite = {"headline": "mean", "numbers": {"mean": {"mean": scores}, "task=room": {"mean": scores}}}
        document = {"suites": {"salmon": suite, "damaged": None}, "rules": {}}
        (run.folder / "results" / "score_suites_2.json").write_text(json.dumps(document))
    comparison = compare(runs, ())
    (column,) = (c for c in comparison.columns if "suites" in c.path)
    assert (column.path, column.title, column.best) == (
        "score_suites_2.suites.salmon.numbers.mean.mean", "SALMon (mean per token) (%), score_suites_2", "b",
    )  # fmt: skip
    assert comparison.variants[0].cells[column.path].mean == 50.5


def test_without_a_stage_that_evaluates_training_is_compared(tmp_path: Path) -> None:
    runs = four_runs(tmp_path)
    for place, run in enumerate(runs):
        (run.folder / "results" / "evaluate.json").unlink()
        trained = {"valid": {"loss": 3.0 - place}, "parameters": 7}
        (run.folder / "results" / "train_codec_2.json").write_text(json.dumps(trained))
    comparison = compare(runs, ())
    assert [column.title for column in comparison.columns] == ["validation loss of train_codec_2"]
    assert comparison.columns[0].best == "b"


def test_what_a_killed_process_left_is_no_result(tmp_path: Path) -> None:
    runs = four_runs(tmp_path)
    (runs[0].folder / "results" / ".writing-01234567-evaluate.json").write_text("{")
    assert [column.title for column in compare(runs, ()).columns] == ["bits per token"]


def test_columns_that_are_asked_for(tmp_path: Path) -> None:
    columns = (
        Column(path="evaluate.codec.metrics.*"),
        Column(path="evaluate.language_model.bits_by_place.1", title="second", better="lower"),
        Column(path="stages.train_lm.seconds"),
        Column(path="evaluate.nothing"),
    )
    comparison = compare(four_runs(tmp_path), columns)
    assert [column.title for column in comparison.columns] == ["STOI", "second", "train lm seconds"]
    assert [column.better for column in comparison.columns] == ["higher", "lower", None]
    assert comparison.columns[1].best == "b"


def test_one_seed_shows_the_interval_over_utterances(tmp_path: Path) -> None:
    comparison = compare(four_runs(tmp_path)[::2], ())
    cell = comparison.variants[0].cells["evaluate.language_model.bits_per_token"]
    assert (cell.mean, cell.interval) == (8.0, 0.25)
    markdown = comparison_markdown(comparison)
    assert "| b | **7.500 ± 0.250** |" in markdown
    assert "over utterances" in markdown


def test_runs_that_did_not_finish_are_shown_without_numbers(tmp_path: Path) -> None:
    runs = four_runs(tmp_path)[:3]
    runs.append(Row("c", {"head": "c|d"}, 0, tmp_path / "none", "failed", error="<no> shelf"))
    comparison = compare(runs, ())
    markdown = comparison_markdown(comparison)
    assert "| c\\|d | – |" in markdown
    assert "1 of 4 runs are not in it" in markdown
    page = comparison_page(comparison, title="t", subtitle="s", recipe="name: <x>")
    assert "&lt;no&gt; shelf" in page
    assert "<no>" not in page
    document = json.dumps(comparison_document(comparison), allow_nan=False)
    assert '"folder": "none"' in document


def over_numbers(tmp_path: Path) -> Comparison:
    runs = []
    for place, (head, chunk) in enumerate((h, c) for h in ("x", "y") for c in (1, 4, 16)):
        folder = a_run(tmp_path / str(place), bits=5.0 + place, stoi=0.5)
        settings = {"head": head, "chunk_tokens": chunk}
        runs.append(Row(f"{head}, {chunk}", settings, None, folder, "finished"))
    return compare(runs, ())


def test_a_sweep_is_written_whatever_its_names_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = []
    for place, price in enumerate(("$a", "b_{$")):
        folder = a_run(tmp_path / str(place), bits=5.0 + place, stoi=0.5)
        runs.append(Row(price, {"the $ or $": price}, None, folder, "finished", value=5.0 + place))
    written: dict[str, Any] = {"title": "prices", "subtitle": "", "recipe": ""}
    comparison = compare(runs, (), SweepMetric(path="evaluate.language_model.bits_per_token"))
    write_comparison(tmp_path / "out", comparison, **written)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count(">b_{$</text>") == page.count(">$a</text>") == 2
    assert caplog.text == ""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no pencil")

    monkeypatch.setattr("matplotlib.figure.Figure.draw", fail)
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", fail)
    write_comparison(tmp_path / "out", comparison, **written)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Not drawn, see the log: bits per token: $a 5, b_{$ 6" in page
    assert not list((tmp_path / "out").glob("*.png"))
    assert "the sweep is not shown in TensorBoard: RuntimeError: no pencil" in caplog.text


def test_numbers_are_drawn_as_lines_and_names_as_points(tmp_path: Path) -> None:
    ((said, draw),) = comparison_figures(over_numbers(tmp_path / "lines"))
    lines = draw()
    assert said.startswith("bits per token: x, 1 5, x, 4 6")
    plot: Any = lines.axes[0]
    assert plot.get_xlabel() == "chunk_tokens"
    assert plot.get_xscale() == "log"
    drawn = [container.lines[0].get_xydata().tolist() for container in plot.containers]
    assert drawn == [[[1, 5], [4, 6], [16, 7]], [[1, 8], [4, 9], [16, 10]]]
    ((_, draw),) = comparison_figures(compare(four_runs(tmp_path / "points"), ()))
    points = draw()
    assert [label.get_text() for label in points.axes[0].get_yticklabels()] == ["a", "b"]
