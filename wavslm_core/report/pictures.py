"""Sections that are looked at and listened to: curves, samples, codes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from wavslm_core.evaluation.continuations import readable
from wavslm_core.plotting import codebook_figure, curve_figure, spectrogram_card
from wavslm_core.report.html import (
    INK,
    by_stage,
    details,
    drawing,
    drawing_ink,
    group,
    number,
    paragraph,
    picture,
    player,
    section,
    table,
)
from wavslm_core.report.run_files import RunFiles, Sample
from wavslm_core.report.scores import best_fair_mark

_MAIN_METRICS = ("bits_per_token", "loss")
_NOT_DRAWN = {"step", "time"}


def curves(files: RunFiles) -> str:
    """Return one chart per training stage, and everything else that was logged on demand."""
    main: list[str] = []
    others: list[str] = []
    for stage in files.trained_stages:
        names = files.metric_names(stage)
        first = next((name for name in _MAIN_METRICS if name in names), None)
        for name in names:
            if name in _NOT_DRAWN:
                continue
            chart = _curve(files, stage, name, with_marks=name == "bits_per_token")
            (main if name == first else others).append(chart)
    return section(
        "Learning", group("drawings", main), details("Everything that was logged", group("drawings", others))
    )


def _curve(files: RunFiles, stage: str, name: str, *, with_marks: bool) -> str:
    found = {split: files.curve(stage, split, name) for split in ("train", "valid")}
    found = {split: curve for split, curve in found.items() if curve[0]}
    if not found:
        return ""
    label = name.replace("_", " ")
    marks = _marks(files) if with_marks else {}
    ends = ", ".join(f"{split} ends at {values[-1]:.4g}" for split, (_, values) in found.items())
    beside = "".join(f", {mark} at {value:.4g}" for mark, value in marks.items())
    return drawing(
        lambda: curve_figure(found, title=f"{stage}: {label}", marks=marks, y_label=label, ink=drawing_ink()),
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


def samples(files: RunFiles, *, most: int) -> str:
    """Return players and spectrograms of originals, reconstructions and continuations, side by side."""
    intro = (
        "Each continuation starts with its prompt; the dashed line is where the model takes over. "
        "The original goes on as the speaker did. Colours span 80 dB below each recording's loudest point."
    )
    several = len(files.samples) > 1
    blocks = [
        block
        for stage, found in files.samples.items()
        for block in _samples(found, most=most, prefix=f"{stage}: " if several else "")
    ]
    return section("Listen", paragraph(intro, quiet=True), *blocks) if blocks else ""


def _samples(found: Sequence[Sample], *, most: int, prefix: str) -> list[str]:
    blocks = []
    for folder, sample in found[:most]:
        cards = [_card(folder, sample, name) for name in sample["files"] if name != "prompt.wav"]
        blocks.append(f"<h3>{escape(prefix + str(sample['id']))}</h3>\n{group('cards', cards)}")
    left_out = found[most:]
    if blocks and left_out:
        place = left_out[0][0].parent.name
        blocks.append(paragraph(f"{len(left_out)} more in the run's folder {place}/.", quiet=True))
    return blocks


def _card(folder: Path, sample: dict[str, Any], name: str) -> str:
    from wavslm_core.data.audio import read_audio

    wav = folder / name
    title = readable(wav.stem)
    rate_hz = int(sample["sample_rate_hz"])
    boundary_s = float(sample["prompt_seconds"]) if wav.stem.startswith("continuation") else None
    described = f"{title} of {sample['id']}"
    image = picture(
        lambda: spectrogram_card(read_audio(wav), rate_hz, boundary_s=boundary_s, ink=INK),
        description=f"Spectrogram: {described}",
    )
    return group("card", [f"<h4>{escape(title)}</h4>", image, player(wav, label=described)])


def codes(files: RunFiles) -> str:
    """Return how evenly the codes are used; what several evaluations counted alike is shown once."""
    shown: list[Any] = []
    blocks: dict[str, str] = {}
    for stage, evaluation in files.evaluations.items():
        uses = evaluation.get("codec", {}).get("codebook", {})
        new = {split: use for split, use in uses.items() if (split, use) not in shown}
        shown += new.items()
        blocks[stage] = _codes(new)
    return section("Codebook", by_stage(blocks))


def _codes(uses: dict[str, Any]) -> str:
    if not uses:
        return ""
    rows = [
        [
            split,
            number(use["tokens"]),
            f"{use['used']} of {use['vocab_size']}",
            f"{100 * use['used_fraction']:.1f}%",
            f"{use['entropy_bits']:.2f}",
            f"{use['perplexity']:.0f}",
            ", ".join(f"{code} ({100 * share:.1f}%)" for code, share in use["top"][:3]),
        ]
        for split, use in uses.items()
    ]
    header = ["split", "tokens", "codes used", "share", "entropy (bits)", "perplexity", "most frequent"]
    split, use = next(iter(uses.items()))
    described = (
        f"Share of tokens over rank of code for {split}: {use['used']} of {use['vocab_size']} codes used, "
        f"entropy {use['entropy_bits']:.2f} bits"
    )
    chart = drawing(
        lambda: codebook_figure(use["rank_curve"], vocab_size=use["vocab_size"], ink=drawing_ink()),
        description=described,
    )
    return table(header, rows) + group("drawings", [chart])
