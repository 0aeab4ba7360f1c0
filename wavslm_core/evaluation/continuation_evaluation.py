"""Judged continuations in a folder: what was said after each prompt, and numbers with anchors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from wavslm_core.data.audio import write_audio
from wavslm_core.data.corpora import Split, open_split
from wavslm_core.errors import WavslmError
from wavslm_core.evaluation.config import ContinuationsConfig
from wavslm_core.evaluation.continuations import folder_name
from wavslm_core.evaluation.pair_scores import codec_digest, model_digest
from wavslm_core.evaluation.speaking import CONTINUATION, ORIGINAL, Spoken, score_continuations
from wavslm_core.machine.files import write_json, write_text
from wavslm_core.machine.terminal import markdown_table
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.model.token_lm import SamplerLike
from wavslm_core.parts.configs import DataConfig, MetricConfig
from wavslm_core.parts.estimates import json_value
from wavslm_core.parts.metric import Metric
from wavslm_core.parts.plugins import load_registry

FOLDER = "continuations"
TABLE_FILE = "table.md"
RESULTS_FILE = "results.json"
TITLES = {CONTINUATION: "continuation", ORIGINAL: "recording", "codec": "codec", "shuffled": "shuffled"}


@dataclass(frozen=True)
class Judges:
    """Metrics that judge continuations, and those that cannot."""

    metrics: Mapping[str, Metric[Any]]
    missing: Mapping[str, str] = field(default_factory=dict)
    """Name → why it does not judge: it is named in the table."""

    @classmethod
    def build(cls, configs: Iterable[MetricConfig], data: DataConfig, *, cache_dir: Path) -> Judges:
        """Build metrics and let them learn from the transcripts of a corpus; what fails is missing."""
        metrics: dict[str, Metric[Any]] = {}
        missing: dict[str, str] = {}
        texts: dict[str, list[str]] = {}
        for config in configs:
            name = config.registered_name()
            try:
                metric: Metric[Any] = load_registry().build(config)
                needed = config.needed_splits()
                for split in needed:
                    if split not in texts:
                        opened = open_split(data, split, cache_dir=cache_dir)
                        texts[split] = [one.text for one in opened.utterances if one.text]
                if needed:
                    metric.prepare({split: texts[split] for split in needed})
            except WavslmError as error:
                missing[name] = str(error)
            else:
                metrics[name] = metric
        return cls(metrics, missing)


def usual_judges() -> tuple[list[MetricConfig], dict[str, str]]:
    """Return all that is installed, by its default options, and why others have to be asked for by name."""
    chosen: list[MetricConfig] = []
    others: dict[str, str] = {}
    for config_class in load_registry().config_classes("metric"):
        assert issubclass(config_class, MetricConfig)
        if config_class.needs_reference and not config_class.takes_prompt:
            continue
        name = config_class.registered_name()
        if config_class.fetches:
            others[name] = f"fetches weights from the hub: ask for it as --judge {name}"
        else:
            chosen.append(config_class())
    return chosen, others


def evaluate_continuations(
    speech_lm: SpeechLM,
    split: Split,
    judges: Judges,
    out: Path,
    *,
    config: ContinuationsConfig,
    reference: str,
    seed: int = 0,
    sampler: SamplerLike = None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Continue recordings of a split and judge them; write audio, table and results into `out`.

    `config`: how many, how long, anchors; its metrics are those of `judges`. The same arguments give the same
    numbers but for the speed. Returns `results.json`. Raises: Interrupted; DataError.
    """

    def write(spoken: Spoken) -> None:
        folder = out / folder_name(spoken.seed - seed, spoken.id)
        for name, sound_S in {"prompt": spoken.prompt_S, **spoken.sounds}.items():
            write_audio(folder / f"{name}.wav", sound_S, spoken.sample_rate_hz)
        tokens = {"prompt": spoken.prompt_tokens_T.tolist(), "new": spoken.new_tokens_T.tolist()}
        write_json(folder / "tokens.json", tokens)

    scores = score_continuations(
        speech_lm,
        split,
        judges.metrics,
        count=config.count,
        prompt_seconds=config.prompt_seconds,
        seconds=config.seconds,
        seed=seed,
        sampler=sampler,
        anchors=config.anchors,
        after_each=write,
        stop_requested=stop_requested,
    )
    results: dict[str, Any] = json_value(
        {
            "wavslm": version("wavslm-core"),
            "model": {"reference": reference, "digest": model_digest(speech_lm)},
            "codec": {"digest": codec_digest(speech_lm.codec)},
            "corpus": split.corpus.fingerprint(split.name),
            "split": split.name,
            **scores,
            "missing": dict(judges.missing),
        }
    )
    write_json(out / RESULTS_FILE, results)
    write_text(out / TABLE_FILE, continuations_markdown(results))
    return results


def continuation_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Return a header and a row for each number, and for each judge that is missing."""
    metrics: Mapping[str, Any] = results["metrics"]
    anchors = list(next((found["anchors"] for found in metrics.values() if "anchors" in found), {}))
    shown = [CONTINUATION, ORIGINAL, *anchors]
    rows = [["judge", *(TITLES.get(name, name) for name in shown), "better"]]
    for found in metrics.values():
        beside = {CONTINUATION: found, ORIGINAL: found.get("original"), **found.get("anchors", {})}
        unit = f" ({found['unit']})" if found["unit"] else ""
        failed = f", failed on {found['failed']}" if found["failed"] else ""
        cells = [_estimate_text(beside[name]) for name in shown]
        rows.append([f"{found['title']}{unit}{failed}", *cells, found["better"]])
    rows += [[name, *("–" for _ in shown), "not judged"] for name in results["missing"]]
    return rows


def continuations_markdown(results: Mapping[str, Any]) -> str:
    """Return the page: the table, how it was made, and by which judges."""
    header, *rows = continuation_rows(results)
    prompts = results["prompt_seconds"]
    first = "the first half" if prompts == "half" else f"the first {prompts:g} s"
    speed = results["times_real_time"]
    pieces = [
        "# Continuations",
        f"Language model `{results['model']['reference']}` ({results['model']['digest']}), codec "
        f"{results['codec']['digest']}, wavslm {results['wavslm']}.",
        markdown_table(header, rows),
        f"{results['count']} recordings of '{results['split']}', each continued by {results['seconds']:g} s "
        f"after {first}; prompt p draws with seed {results['seed']} + p, by {results['sampler']}. Judged is "
        "what comes after the prompt; ± is half of a 95% interval over recordings. recording: how it really "
        "goes on; codec: that as the codec gives it back, in whole chunks; shuffled: its tokens in random "
        "order."
        + ("" if speed is None else f" Drawn and decoded at {speed:.1f} × real time, one after another."),
        "\n".join(f"- {name}: {_about(judge)}" for name, judge in results["judges"].items()),
        "\n".join(f"- not judged by {name}: {why}" for name, why in results["missing"].items()),
    ]
    return "\n\n".join(piece for piece in pieces if piece) + "\n"


def _about(judge: Mapping[str, Any]) -> str:
    told = {**judge["options"], **judge["versions"]}
    shown = [f"{key} {value}" for key, value in told.items() if key != "name" and value is not None]
    return ", ".join(shown) or "no options"


def _estimate_text(found: Mapping[str, Any] | None) -> str:
    if found is None or found["mean"] is None:
        return "–"
    if found["interval"] is None:
        return f"{found['mean']:.3g}"
    return f"{found['mean']:.3f} ± {found['interval']:.3f}"
