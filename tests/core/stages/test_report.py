"""Stage report: one file, nothing fetched from anywhere, sections only for what there is."""

import json
import re
import shutil
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from wavslm_core.data.audio import write_audio
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.stages.evaluate import Evaluate, EvaluateConfig
from wavslm_core.stages.generate import Generate, GenerateConfig
from wavslm_core.stages.report import Report, ReportConfig
from wavslm_core.training.device import ChosenPrecision

pytestmark = pytest.mark.slow

VOID = {"meta", "img", "br", "hr", "link", "input", "source"}


class Outline(HTMLParser):
    """Checks nesting and collects what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report(context: StageContext, *, samples: int = 4) -> str:
    Report(ReportConfig(samples=samples)).run(context)
    return (context.run_dir / "report.html").read_text(encoding="utf-8")


def check_self_contained(text: str) -> None:
    for attributes in (attributes for _, attributes in Outline(text).tags):
        for name in ("src", "href", "xlink:href", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "<script" not in text


def test_whole_run(with_model: StageContext) -> None:
    Evaluate(EvaluateConfig()).run(with_model)
    Generate(GenerateConfig(prompts=2, prompt_seconds=1.0, new_seconds=0.5, continuations=2)).run(with_model)
    text = report(with_model)
    check_self_contained(text)
    outline = Outline(text)
    assert outline.headings == ["Listen", "Scores", "Learning", "Codebook", "How it was made"]
    # Original, reconstruction and two continuations of each of two prompts.
    assert len(outline.all("audio")) == len(outline.all("img")) == 8
    assert all(image["alt"] for image in outline.all("img"))
    assert all(player["aria-label"] for player in outline.all("audio"))
    assert len(outline.all("svg")) >= 3
    assert "trigram, same context" in text
    assert "name: fake" in text
    fewer = report(with_model, samples=1)
    assert len(Outline(fewer).all("audio")) == 4
    assert "1 more in the run" in fewer


def test_what_was_heard_is_shown_beside_the_originals(with_model: StageContext) -> None:
    said = {"count": 2, "prompt_seconds": 0.5, "seconds": 0.5, "metrics": ["syllables"]}
    Evaluate(EvaluateConfig(metrics=("syllables",), utterances=2, continuations=said)).run(with_model)  # type: ignore[arg-type]
    Generate(
        GenerateConfig(
            prompts=1, prompt_seconds=1.0, new_seconds=0.5, continuations=2, metrics=("syllables",)
        )
    ).run(with_model)
    text = report(with_model)
    check_self_contained(text)
    assert text.count("Heard in the prompt:") == 1
    # In original, reconstruction and two continuations.
    assert text.count("Heard in what follows the prompt:") == text.count('<p class="quiet">Syllables ') == 4
    scores = text[text.index("<h2>Scores") : text.index("<h2>Learning")]
    # Of reconstructions, of continuations, and of the samples.
    assert scores.count('<th scope="col">originals</th>') == 3
    assert scores.count("<summary>What was heard</summary>") == 2
    assert "&lt;la&gt;" in scores


def test_every_stage_of_a_kind_is_shown(with_model: StageContext, tmp_path: Path) -> None:
    shutil.copytree(with_model.speech_lm_dir, tmp_path / "another")
    Evaluate(EvaluateConfig(utterances=2)).run(with_model)
    second = replace(with_model, stage_name="evaluate_2")
    Evaluate(EvaluateConfig(utterances=3, speech_lm=str(tmp_path / "another"))).run(second)
    Evaluate(EvaluateConfig(split="train", utterances=2)).run(replace(with_model, stage_name="evaluate_10"))
    spoken: dict[str, Any] = {"prompt_seconds": 1.0, "new_seconds": 0.5, "continuations": 1}
    Generate(GenerateConfig(prompts=2, **spoken)).run(with_model)
    Generate(GenerateConfig(prompts=3, **spoken)).run(replace(with_model, stage_name="generate_2"))
    text = report(with_model, samples=2)
    check_self_contained(text)
    outline = Outline(text)
    assert outline.headings == ["Listen", "Scores", "Learning", "Codebook", "How it was made"]
    titles = ["evaluate: valid", f"evaluate_2: valid, {tmp_path / 'another'}", "evaluate_10: train"]
    scores = text[text.index("<h2>Scores") : text.index("<h2>Learning")]
    assert re.findall(r"<h3>(.*?)</h3>", scores) == titles
    assert all(f"Reconstruction: {count} utterances of" in scores for count in (2, 3))
    assert all(f'<p class="quiet">{title}</p>' in text for title in titles)
    assert text.count('<div class="label">Bits per token</div>') == 3
    # Original, reconstruction and one continuation of two samples each; a third is counted.
    assert len(outline.all("audio")) == 2 * 2 * 3
    assert len(re.findall(r"<h3>generate: ", text)) == len(re.findall(r"<h3>generate_2: ", text)) == 2
    assert "1 more in the run's folder samples_generate_2/." in text
    # All three counted the same token stores: shown once.
    codebook = text[text.index("<h2>Codebook") : text.index("<h2>How")]
    assert re.findall(r'<th scope="row">(\w+)</th>', codebook) == ["train", "valid"]


def test_tables_of_any_stage_are_shown(with_model: StageContext) -> None:
    table = {"caption": "How <loud>", "header": ["", "dB"], "rows": [["here", -3.25], ["there", None]]}
    results = with_model.run_dir / "results" / "measure.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps({"tables": [table]}))
    (with_model.run_dir / "stages.json").write_text(json.dumps({"measure": {"status": "finished"}}))
    text = report(with_model)
    check_self_contained(text)
    assert "How &lt;loud&gt;" in text
    assert '<th scope="row">here</th><td>-3.250</td>' in text
    assert '<th scope="row">there</th><td>–</td>' in text


def test_the_arithmetic_of_each_stage_is_told(with_model: StageContext) -> None:
    chosen = ChosenPrecision("bf16", "as right as rounding allows", "torch 2 on a CPU")
    row = {"what": "head", "of": "gradient", "error": 0.0123, "rounding": 0.0122, "allowed": 0.05}
    rows = [row, {"player": "critic", "step": 1234, **row}]
    results = {"precision": asdict(replace(chosen, proof=rows))}
    folder = with_model.run_dir / "results"
    (folder / "train_lm.json").write_text(json.dumps(results))
    (with_model.run_dir / "stages.json").write_text(json.dumps({"train_lm": {"status": "finished"}}))
    text = report(with_model)
    check_self_contained(text)
    for shown in (
        "Arithmetic by stage",
        "torch 2 on a CPU",
        "bf16 against fp32 in train_lm",
        "1.23%",
        "critic",
        "1234",
    ):
        assert shown in text


def test_stages_that_disagree_are_warned_of_above_all_numbers(
    with_model: StageContext, caplog: pytest.LogCaptureFixture
) -> None:
    document = with_model.recipe.to_dict()
    document["stages"] = [
        {"run": "train_codec", "steps": 1, "metrics": ["mel_distance"]},
        {"run": "evaluate"},
    ]
    context = replace(with_model, recipe=resolve(recipe_from_dict(document)), stage_name="evaluate")
    options = EvaluateConfig(metrics=("mel_distance",))
    Evaluate(options).run(context)
    results = context.run_dir / "results"
    evaluated = json.loads((results / "evaluate.json").read_text())
    assert evaluated["disagreements"] == []
    true = evaluated["codec"]["metrics"]["mel_distance"]["mean"]
    for factor, disagree in ((1.001, False), (10.0, True)):
        trained = {"valid": {"mel_distance": factor * true}, "valid_utterances": 6}
        (results / "train_codec.json").write_text(json.dumps(trained))
        caplog.clear()
        Evaluate(options).run(context)
        text = report(context)
        check_self_contained(text)
        assert ("mel_distance was" in caplog.text) is disagree
        assert ('role="alert"' in text) is disagree
    # Another number of the same name cannot be compared.
    other = EvaluateConfig(metrics=({"name": "mel_distance", "mel_bands": 40},))
    Evaluate(other).run(context)
    assert 'role="alert"' not in report(context)
    assert text.index('role="alert"') < text.index('class="tile"')
    assert "when train_codec validated what it left, and is" in text


def test_codec_alone(codec_only: StageContext) -> None:
    Evaluate(EvaluateConfig(utterances=2, metrics=("mel_distance",))).run(codec_only)
    text = report(codec_only)
    check_self_contained(text)
    assert Outline(text).headings == ["Scores", "Codebook", "How it was made"]
    assert "Bits per token" not in text


def test_empty_run(codec_only: StageContext) -> None:
    assert Outline(report(codec_only)).headings == ["How it was made"]


def test_names_with_dollars_are_drawn_and_what_cannot_be_is_said(
    codec_only: StageContext, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [
        {"stage": "train_codec", "step": step, "time": 0.0, "split": "train", "loss": 1.0, "a$b_{$": 2.0}
        for step in (1, 2)
    ]
    (codec_only.run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sample = codec_only.run_dir / "samples" / "00_a"
    for name in ("original", "continuation_0"):
        write_audio(sample / f"{name}.wav", torch.rand(1600) - 0.5, 16000)
    (sample / "original.wav").write_bytes(b"RIFF, and no more")
    document = {"id": "a", "sample_rate_hz": 16000, "prompt_seconds": 0.05}
    document["files"] = ["original.wav", "continuation_0.wav"]
    (sample / "sample.json").write_text(json.dumps(document))
    (codec_only.run_dir / "results").mkdir()
    (codec_only.run_dir / "results" / "generate.json").write_text('{"samples": [{"folder": "00_a"}]}')
    text = report(codec_only)
    check_self_contained(text)
    assert "a$b {$</text>" in text
    assert "Not drawn, see the log: Spectrogram: original of a" in text
    assert "not drawn: Spectrogram: original of a: AudioError: " in caplog.text
    assert len(Outline(text).all("img")) == 1


def test_what_comes_from_a_run_is_escaped(with_model: StageContext) -> None:
    Generate(GenerateConfig(prompts=1, prompt_seconds=1.0, new_seconds=0.5, continuations=1)).run(with_model)
    sample = next((with_model.run_dir / "samples").glob("*/sample.json"))
    document = json.loads(sample.read_text(encoding="utf-8"))
    document["id"] = '"><script>alert(1)</script>'
    sample.write_text(json.dumps(document), encoding="utf-8")
    check_self_contained(report(with_model))
