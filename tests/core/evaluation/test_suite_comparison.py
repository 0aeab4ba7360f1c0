"""Evaluations side by side: tables in every form, tests over items that both scored, what is published."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.core.evaluation.test_pair_scores import ToySuite, ToySuiteConfig, toy_model, toy_suite
from wavslm_core.errors import DataError
from wavslm_core.evaluation.comparison_tables import (
    comparison_csv,
    comparison_latex,
    comparison_markdown,
    comparison_rows,
    write_comparison,
)
from wavslm_core.evaluation.suite_comparison import compare_evaluations
from wavslm_core.evaluation.suite_evaluation import evaluate_suites
from wavslm_core.parts.configs import Published
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Entry


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Two models on one suite, a third on a part of it."""
    folder = tmp_path_factory.mktemp("evaluations")
    suite = toy_suite(folder / "audio", items=12)
    part = toy_suite(folder / "part", items=11)
    (folder / "part" / "3-a-good.wav").write_bytes(b"")
    cases = {"one_model": (0, suite), "other": (4, suite), "part": (4, part)}
    for name, (seed, of) in cases.items():
        evaluate_suites(
            toy_model(seed),
            {"toy": of},
            folder / name,
            reference=name,
            cache_dir=folder / ".cache",
            allow_partial=True,
        )
    return {name: folder / name for name in cases}


class PublishedSuiteConfig(ToySuiteConfig):
    """With a number of others."""

    published = (Published("Elder 8B", "all", 61.5, "mean & ties 0", "arXiv 0000.00000"),)


@pytest.fixture
def _published(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_registry()
    target = f"{ToySuite.__module__}:{ToySuite.__qualname__}"
    entry = Entry("suite", "toy", PublishedSuiteConfig, target, "wavslm-toy", "1.0")
    monkeypatch.setitem(registry._entries, ("suite", "toy"), entry)


@pytest.mark.usefixtures("_published")
def test_two_models_in_one_table(evaluations: Mapping[str, Path], tmp_path: Path) -> None:
    comparison = compare_evaluations([evaluations["one_model"], evaluations["other"]])
    (row,) = comparison.rows
    means = [number["mean"] for _, number in comparison.cells(row) if number]
    ((title, *cells, published),) = comparison_rows(comparison, "<{}>".format)
    assert (title, published) == ("Toy: all pairs", "61.5")
    assert [cell.startswith("<") for cell in cells] == [mean == max(means) for mean in means]
    test = comparison.tests["toy", "all", "other"]
    assert test.better + test.worse <= 12
    assert (test.better > test.worse) == (means[1] > means[0]) or test.better == test.worse
    page = comparison_markdown(comparison)
    assert "| Elder 8B (published) |" in page
    assert "Elder 8B, published: mean & ties 0 (arXiv 0000.00000)." in page
    assert f"({test.better}:{test.worse}, p " in page
    assert "has no past and is not scored" in page
    latex = comparison_latex(comparison)
    assert r"one\_model" in latex
    assert latex.count(r"\textbf{") == 1
    lines = list(csv.DictReader(io.StringIO(comparison_csv(comparison))))
    assert [(line["model"], line["published"]) for line in lines] == [
        ("one_model", "0"), ("other", "0"), ("Elder 8B", "1"),
    ]  # fmt: skip
    assert float(lines[1]["percent"]) == means[1]
    assert float(lines[1]["p"]) == test.p
    written = write_comparison(tmp_path / "out", comparison)
    assert written == ["compare.md", "compare.csv", "compare.tex", "compare.png", "tensorboard/"]
    assert (tmp_path / "out" / "compare.png").read_bytes()[:4] == b"\x89PNG"
    assert scalars(tmp_path / "out" / "tensorboard" / "other") == {
        "toy/all/mean": [pytest.approx(means[1], abs=1e-4)]
    }


def scalars(folder: Path) -> dict[str, list[Any]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_what_has_other_data_is_not_tested(evaluations: Mapping[str, Path]) -> None:
    comparison = compare_evaluations([evaluations["one_model"], evaluations["part"]], everything=True)
    assert comparison.tests == {}
    assert [row.title for row in comparison.rows] == [
        "Toy (PARTIAL): all pairs", "Toy (PARTIAL): voice a", "Toy (PARTIAL): voice b",
    ]  # fmt: skip
    page = comparison_markdown(comparison)
    assert "PARTIAL: toy: part 21 pairs (1 unreadable)." in page
    assert "toy: not the same data in all of them" in page


def test_localised_scores_are_compared_where_pairs_split(evaluations: Mapping[str, Path]) -> None:
    paths = [evaluations["one_model"], evaluations["other"]]
    comparison = compare_evaluations(paths, score="localised", everything=True)
    cells = {row[0]: row[1:] for row in comparison_rows(comparison)}
    assert cells["Toy: voice a"] == ["–", "–"]
    assert "–" not in cells["Toy: voice b"]
    assert ("toy", "voice=a", "other") not in comparison.tests
    assert ("toy", "voice=b", "other") in comparison.tests


def test_one_evaluation_alone(evaluations: Mapping[str, Path]) -> None:
    page = comparison_markdown(compare_evaluations([evaluations["other"]]))
    assert "**" not in page
    assert "McNemar" not in page


def test_an_evaluation_is_compared_with_others(evaluations: Mapping[str, Path]) -> None:
    with pytest.raises(DataError, match="other is given twice"):
        compare_evaluations([evaluations["other"], evaluations["other"]])


def test_a_folder_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "results.json").write_text('{"suites": {"toy": {"numbers": []}}}')
    with pytest.raises(DataError, match=r"results.json is damaged .* Evaluate again"):
        compare_evaluations([tmp_path / "damaged"])
    with pytest.raises(DataError, match="holds no evaluation; give what `wavslm evaluate --out` wrote"):
        compare_evaluations([tmp_path])
