"""Headline numbers and score tables."""

from __future__ import annotations

from typing import Any

from wavslm_core.report.html import (
    by_stage,
    details,
    group,
    number,
    paragraph,
    section,
    table,
    tile,
    warning,
)
from wavslm_core.report.run_files import RunFiles

_MOST_PLACES = 8
_MOST_NAMED = 5


def headline(files: RunFiles) -> str:
    """Return the handful of numbers by which a run is known, for each evaluation."""
    several = len(files.evaluations) > 1
    return "\n".join(
        (paragraph(_title(stage, found), quiet=True) if several else "") + _tiles(found)
        for stage, found in files.evaluations.items()
    )


def _title(stage: str, evaluation: dict[str, Any]) -> str:
    """Return how an evaluation differs from the others of its run."""
    of = f", {evaluation['speech_lm']}" if "speech_lm" in evaluation else ""
    return f"{stage}: {evaluation['split']}{of}"


def _tiles(evaluation: dict[str, Any]) -> str:
    codec, language = evaluation.get("codec", {}), evaluation.get("language_model", {})
    tiles = []
    if language:
        tiles.append(tile("Bits per token", number(language["bits_per_token"]), _verdict(language)))
    for score in codec.get("metrics", {}).values():
        note = f"± {number(score['interval'])}" if score["interval"] is not None else ""
        tiles.append(tile(score["title"], f"{number(score['mean'])} {score['unit']}".strip(), note))
    for name, use in list(codec.get("codebook", {}).items())[:1]:
        share = f"{100 * use['used_fraction']:.0f}% of codes used"
        tiles.append(tile(f"Code entropy ({name})", f"{use['entropy_bits']:.2f} bits", share))
    if codec:
        rate = f"{codec['token_rate_hz']:g} tokens/s"
        tiles.append(
            tile("Codec", rate, f"{codec['vocab_size']} codes, {codec['latency_ms']:.0f} ms latency")
        )
    return group("tiles", tiles)


def best_fair_mark(language: dict[str, Any]) -> dict[str, Any] | None:
    """Return the strongest n-gram that sees no more than the language model does."""
    chunk = language["chunk_tokens"]
    fair = [mark for mark in language["baselines"] if mark["same_context"] or chunk == 1]
    return min(fair, key=lambda mark: mark["bits_per_token"], default=None)


def _verdict(language: dict[str, Any]) -> str:
    mark = best_fair_mark(language)
    if mark is None:
        return f"{number(language['bits_per_second'], 0)} bits per second"
    gain = mark["bits_per_token"] - language["bits_per_token"]
    return f"{abs(gain):.2f} {'below' if gain > 0 else 'above'} {mark['name']}"


def warnings(files: RunFiles) -> str:
    """Return what makes the numbers below doubtful."""
    return "".join(
        warning(f"{stage}: {found['text']}")
        for stage, evaluation in files.evaluations.items()
        for found in evaluation.get("disagreements", [])
    )


def score_tables(files: RunFiles) -> str:
    """Return the tables of reconstruction and of the language model beside its marks."""
    return section(
        "Scores",
        by_stage({_title(stage, found): _tables(found) for stage, found in files.evaluations.items()}),
    )


def _tables(evaluation: dict[str, Any]) -> str:
    codec, language = evaluation.get("codec", {}), evaluation.get("language_model", {})
    reconstruction = _reconstruction(codec, evaluation["split"]) if codec else ""
    return reconstruction + (_language(language) if language else "") + _speaking(evaluation)


def _speaking(evaluation: dict[str, Any]) -> str:
    """Return what judges make of the language model's own speech."""
    said, ahead = evaluation.get("continuations"), evaluation.get("chunk_ahead")
    pieces = []
    if said:
        speed = said["times_real_time"]
        made = "" if speed is None else f", made at {speed:.1f} × real time"
        caption = (
            f"Continuations: {said['count']} prompts of {said['prompt_seconds']:g} s, {said['seconds']:g} s "
            f"of new speech each{made}"
        )
        pieces.append(_scores(said, caption) or paragraph(caption))
    if ahead:
        caption = f"One chunk ahead: {ahead['count']} utterances, every chunk drawn given the true past"
        pieces.append(_scores(ahead, caption))
    return "".join(pieces)


def _scores(block: dict[str, Any], caption: str) -> str:
    rows = [
        [score["title"], number(score["mean"]), _interval(score["interval"]), f"{score['better']} is better"]
        for score in block["metrics"].values()
    ]
    return table(["", "mean", "95%", ""], rows, caption=caption) + _failed(block["metrics"])


def _failed(scores: dict[str, Any]) -> str:
    """Return a line for each score that leaves utterances out because its metric failed on them."""
    lines = []
    for score in scores.values():
        # Runs of older versions do not tell.
        named = [
            f"{failure['id']} ({failure['reason']})" for failure in score.get("failures", [])[:_MOST_NAMED]
        ]
        if named:
            more = score["failed"] - len(named)
            named += [f"and {more} more"] if more else []
            lines.append(f"{score['title']} failed on {number(score['failed'])}: {', '.join(named)}.")
    return "".join(paragraph(line, quiet=True) for line in lines)


def _reconstruction(codec: dict[str, Any], split: str) -> str:
    rows, speakers = [], []
    for score in codec["metrics"].values():
        title = f"{score['title']} ({score['unit']})" if score["unit"] else score["title"]
        arrow = "higher is better" if score["better"] == "higher" else "lower is better"
        rows.append(
            [title, number(score["mean"]), _interval(score["interval"]), arrow, number(score["count"])]
        )
        for speaker, found in score.get("by_speaker", {}).items():
            speakers.append([speaker, score["title"], number(found["mean"]), number(found["count"])])
    caption = (
        f"Reconstruction: {codec['utterances']} utterances of '{split}', {codec['seconds']:.0f} s, "
        f"compared at {codec['sample_rate_out_hz']} Hz; 95% intervals over utterances"
    )
    return (
        table(["", "mean", "95%", "", "utterances"], rows, caption=caption)
        + _failed(codec["metrics"])
        + details(
            "Reconstruction by speaker", table(["speaker", "metric", "mean", "utterances"], sorted(speakers))
        )
    )


def _language(language: dict[str, Any]) -> str:
    chunk = language["chunk_tokens"]
    places = range(chunk) if 1 < chunk <= _MOST_PLACES else range(0)
    header = ["", "bits per token", "95%", *(f"place {place + 1}" for place in places), "smoothing"]
    own = [
        "this model",
        number(language["bits_per_token"]),
        _interval(language["interval"]),
        *(number(language["bits_by_place"][place]) for place in places),
        "",
    ]
    marks = sorted(language["baselines"], key=lambda mark: mark["bits_per_token"])
    rows = [
        [
            mark["name"],
            number(mark["bits_per_token"]),
            "",
            *(number(mark["bits_by_place"][place]) for place in places),
            mark["smoothing"].replace("witten_bell", "Witten-Bell").replace("kneser_ney", "Kneser-Ney"),
        ]
        for mark in marks
    ]
    place_of_own = sum(mark["bits_per_token"] < language["bits_per_token"] for mark in marks)
    rows.insert(place_of_own, own)
    caption = (
        f"Language model: {number(language['tokens'])} predicted tokens of {language['utterances']} "
        f"utterances of '{language['split']}'; lower is better"
    )
    note = ""
    if marks:
        text = (
            f"n-grams are counted on {number(language['baseline_tokens'])} training tokens and scored on "
            "exactly these tokens, each with the better of two smoothings."
        )
        if chunk > 1:
            text += (
                f" The model speaks {chunk} tokens at once: those with the same context see, as it does, "
                "only what stands before the chunk; bigram and trigram also see the tokens just before."
            )
        note = paragraph(text, quiet=True)
    speakers = [
        [speaker, number(found["mean"]), _interval(found["interval"]), number(found["count"])]
        for speaker, found in language.get("by_speaker", {}).items()
    ]
    return (
        table(header, rows, caption=caption, strong=[place_of_own])
        + note
        + details("Bits by speaker", table(["speaker", "bits per token", "95%", "utterances"], speakers))
    )


def _interval(value: float | None) -> str:
    return "" if value is None else f"± {value:.3f}"
