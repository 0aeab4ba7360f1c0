"""Stage score_suites: in a run, as a part of a job array, and in the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.evaluation.test_pair_scores import ToySuite, ToySuiteConfig, toy_suite
from wavslm_core.machine.processes import Share
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Entry
from wavslm_core.run.context import StageContext
from wavslm_core.stages.report import Report, ReportConfig
from wavslm_core.stages.score_suites import ScoreSuites, ScoreSuitesConfig


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoreSuites:
    target = f"{ToySuite.__module__}:{ToySuite.__qualname__}"
    entry = Entry("suite", "toy", ToySuiteConfig, target, "wavslm-toy", "1.0")
    monkeypatch.setitem(load_registry()._entries, ("suite", "toy"), entry)
    toy_suite(tmp_path / "audio", items=11)
    block = {"name": "toy", "path": str(tmp_path / "audio")}
    return ScoreSuites(ScoreSuitesConfig.model_validate({"suites": [block, {**block, "label": "again"}]}))


def test_it_leaves_tables_results_and_a_section_of_the_report(
    with_model: StageContext, stage: ScoreSuites
) -> None:
    context = replace(with_model, stage_name="score_suites")
    assert not stage.left_results(context)
    for index in range(2):
        stage.run(replace(context, share=Share(index, 2, partial=True)))
    assert not stage.results_file(context).exists()
    stage.run(context)
    assert stage.left_results(context)
    results = json.loads(stage.results_file(context).read_text())
    folder = context.run_dir / "score_suites"
    assert json.loads((folder / "results.json").read_text()) == results
    assert results["files_scored"] == 0
    number = results["suites"]["toy"]["numbers"]["all"]["mean"]
    assert results["suites"]["again"]["numbers"]["all"]["mean"] == number
    Report(ReportConfig()).run(context)
    page = (context.run_dir / "report.html").read_text(encoding="utf-8")
    assert "<h2>Likelihood suites</h2>" in page
    assert f"<td>{number['mean']:.1f} [{number['low']:.1f}, {number['high']:.1f}]</td>" in page
    assert "Toy again: all pairs" in page
    assert "has no past and is not scored" in page
    # The run has tokens that n-grams are counted on.
    beside = results["suites"]["toy"]["marks"]["trigram"]["all"]["mean"]
    assert "all pairs, trigram, same context" in page
    assert f"<td>{beside['mean']:.1f} [{beside['low']:.1f}, {beside['high']:.1f}]</td>" in page
    assert "n-grams counted on" in page


def test_a_label_belongs_to_one_suite(with_model: StageContext, stage: ScoreSuites) -> None:
    twice = stage.config.model_copy(update={"suites": stage.config.suites[:1] * 2})
    assert list(twice.problems(with_model.recipe)) == [
        "suites: toy is there twice: give one of them another `label`."
    ]
    assert list(stage.config.problems(with_model.recipe)) == []
