"""What is looked at and listened to: curves, samples, codes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup

from wavslm_core.plotting import (
    Interval,
    codebook_figure,
    curve_figure,
    interval_figure,
    spectrogram_card,
)
from wavslm_core.report.html import DRAWING_INK, INK, drawing, picture, player
from wavslm_core.report.run_files import RunFiles
from wavslm_core.run.folder import readable

_MAIN_METRICS = ("bits_per_token", "loss")
_NOT_DRAWN = {"step", "time"}


def curves(files: RunFiles) -> tuple[list[Markup], list[Markup]]:
    """Return one chart per training stage, and those of everything else that was logged."""
    main: list[Markup] = []
    others: list[Markup] = []
    for stage in files.trained_stages:
        names = files.metric_names(stage)
        first = next((name for name in _MAIN_METRICS if name in names), None)
        for name in names:
            if name not in _NOT_DRAWN:
                (main if name == first else others).extend(_curve(files, stage, name))
    return main, others


def _curve(files: RunFiles, stage: str, name: str) -> Iterator[Markup]:
    found = {split: files.curve(stage, split, name) for split in ("train", "valid")}
    found = {split: curve for split, curve in found.items() if curve[0]}
    if not found:
        return
    label = name.replace("_", " ")
    marks = _marks(files) if name == "bits_per_token" else {}
    ends = ", ".join(f"{split} ends at {values[-1]:.4g}" for split, (_, values) in found.items())
    beside = "".join(f", {mark} at {value:.4g}" for mark, value in marks.items())
    yield drawing(
        lambda: curve_figure(found, title=f"{stage}: {label}", marks=marks, y_label=label, ink=DRAWING_INK),
        description=f"{stage}, {label} over steps: {ends}{beside}",
    )


def _marks(files: RunFiles) -> dict[str, float]:
    scored = [found["language_model"] for found in files.evaluations.values() if "language_model" in found]
    if not scored:
        return {}
    language = scored[0]
    marks = {
        mark["name"]: mark["bits_per_token"] for mark in language["baselines"] if mark["name"] == "trigram"
    }
    fair = best_fair_mark(language)
    return marks | ({fair["name"]: fair["bits_per_token"]} if fair else {})


def best_fair_mark(language: dict[str, Any]) -> dict[str, Any] | None:
    """Return the strongest n-gram that sees no more than the language model does."""
    chunk = language["chunk_tokens"]
    fair = [mark for mark in language["baselines"] if mark["same_context"] or chunk == 1]
    return min(fair, key=lambda mark: mark["bits_per_token"], default=None)


def samples(files: RunFiles, *, most: int) -> list[dict[str, Any]]:
    """Return title and cards of what is shown; the last sample of a stage says how many more there are."""
    shown = []
    for stage, found in files.samples.items():
        titles = {name: score["title"] for name, score in files.generations[stage].get("metrics", {}).items()}
        for place, (folder, sample) in enumerate(found[:most], start=1):
            title = f"{stage}: {sample['id']}" if len(files.samples) > 1 else str(sample["id"])
            # An original starts with its prompt.
            cards = [_card(folder, sample, name, titles) for name in sample["files"] if name != "prompt.wav"]
            shown.append(
                {
                    "title": title,
                    "heard": texts_heard(sample["judged"].get("prompt.wav", {}).get("heard", {})),
                    "cards": cards,
                    "left_out": len(found) - most if place == most else 0,
                    "folder": folder.parent.name,
                }
            )
    return shown


def texts_heard(heard: dict[str, str]) -> list[str]:
    """Return what metrics heard in one recording; those that listen alike heard the same."""
    return list(dict.fromkeys(heard.values()))


def _card(folder: Path, sample: dict[str, Any], name: str, titles: dict[str, str]) -> dict[str, Any]:
    """Return title, spectrogram and player of one recording, and what judges said of it."""
    from wavslm_core.data.audio import read_audio

    wav = folder / name
    title = readable(wav.stem)
    rate_hz = int(sample["sample_rate_hz"])
    boundary_s = float(sample["prompt_seconds"])
    described = f"{title} of {sample['id']}"
    image = picture(
        lambda: spectrogram_card(read_audio(wav), rate_hz, boundary_s=boundary_s, ink=INK),
        description=f"Spectrogram: {described}",
    )
    judged = sample["judged"].get(name, {})
    return {
        "title": title,
        "picture": image,
        "player": player(wav, label=described),
        "heard": texts_heard(judged.get("heard", {})),
        "scores": [(titles.get(score, score), value) for score, value in judged.get("scores", {}).items()],
    }


def suites(files: RunFiles) -> dict[str, Markup]:
    """Return stage → a drawing of the averages of its likelihood suites, by every score."""
    return {stage: _averages(found["suites"]) for stage, found in files.suites.items()}


def _averages(found: dict[str, Any]) -> Markup:
    rows = {
        f"{suite['named']}: {number['title']}": [
            Interval(score.replace("mean", "mean per token"), one["mean"], one["low"], one["high"])
            for score in suite["ties"]
            if (one := number.get(score)) and one["mean"] is not None
        ]
        + [
            Interval(f"{mark}, mean per token", one["mean"], one["low"], one["high"])
            for mark, numbers in suite.get("marks", {}).items()
            if (one := numbers[key].get("mean")) and one["mean"] is not None
        ]
        for suite in found.values()
        for key, number in suite["numbers"].items()
        if "=" not in key
    }
    told = "; ".join(f"{row} {several[0].value:.1f}" for row, several in rows.items() if several)
    return drawing(
        lambda: interval_figure(rows, x_label="accuracy (%)", mark=50.0, ink=DRAWING_INK),
        description=f"Accuracies of likelihood suites in percent: {told}",
    )


def codebooks(files: RunFiles) -> dict[str, dict[str, Any]]:
    """Return stage → use of the codes by split and its drawing; what several counted alike is there once."""
    shown: list[Any] = []
    found: dict[str, dict[str, Any]] = {}
    for stage, evaluation in files.evaluations.items():
        uses = evaluation.get("codec", {}).get("codebook", {})
        new = {split: use for split, use in uses.items() if (split, use) not in shown}
        shown += new.items()
        found[stage] = {"uses": new, "drawings": [_codes(*item) for item in list(new.items())[:1]]}
    return found


def _codes(split: str, use: dict[str, Any]) -> Markup:
    described = (
        f"Share of tokens over rank of code for {split}: {use['used']} of {use['vocab_size']} codes used, "
        f"entropy {use['entropy_bits']:.2f} bits"
    )
    return drawing(
        lambda: codebook_figure(use["rank_curve"], vocab_size=use["vocab_size"], ink=DRAWING_INK),
        description=described,
    )
