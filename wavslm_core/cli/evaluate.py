"""`wavslm evaluate`: likelihood suites and judged continuations for a language model, without a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from wavslm_core.cli.inputs import DeviceOption, load_speech_lm, sampler_options, usable_device
from wavslm_core.errors import RecipeError, WavslmError
from wavslm_core.machine.devices import AUTO
from wavslm_core.machine.terminal import echo

if TYPE_CHECKING:
    from wavslm_core.parts.configs import Config, CorpusConfig, MetricConfig, SuiteConfig


def evaluate(
    model: Annotated[
        str, typer.Argument(help="Language model: a folder, a run's folder, a name, or a hub id.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for tables, per-pair scores, audio and official files.")],
    suites: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            metavar="NAME[=PATH]",
            help="A suite and where its data is, if it needs any, as often as you like; or a block such as "
            "'{name: pairs, path: own.jsonl, groups: [voice]}'. `wavslm suites` lists them.",
        ),
    ] = None,
    continuations: Annotated[
        str | None,
        typer.Option(
            metavar="CORPUS[=PATH]",
            help="Continue recordings of a corpus and judge what is said; or a block such as "
            "'{corpus: folder, path: speech}'.",
        ),
    ] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            metavar="METRIC",
            help="A judge of continuations by name, or a block such as '{name: utmos, model: folder}', as "
            "often as you like. Default: all that are installed and need no download.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of CORPUS that is continued.")] = "valid",
    prompts: Annotated[int, typer.Option(min=1, help="How many recordings of it.")] = 32,
    prompt_seconds: Annotated[
        str,
        typer.Option(metavar="SECONDS|half", help="How much of each is given, from its start."),
    ] = "3",
    seconds: Annotated[float, typer.Option(min=0.01, max=3600, help="How long to speak on.")] = 4.0,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Prompt p draws with seed + p.")] = 0,
    sampler: Annotated[str | None, typer.Option(help="Another sampler than the model's own.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="Option of that sampler: --set p=0.9")
    ] = None,
    codec: Annotated[str | None, typer.Option(help="Another codec than the model names.")] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Score what is there of a suite that is not whole.")
    ] = False,
    ties: Annotated[
        Literal["half", "strict"], typer.Option(help="Equally likely: counts one half, or nothing.")
    ] = "half",
    submit: Annotated[
        Literal["mean", "sum"], typer.Option(help="Score in files for official scorers.")
    ] = "mean",
    local_seconds: Annotated[
        float | None, typer.Option(min=0.01, help="How much the localised score looks at after a split.")
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(
            help="Run, or token store, on whose training tokens n-grams are counted, to be scored beside. "
            "Default: those of MODEL, if it is a run that has them."
        ),
    ] = None,
    batch_seconds: Annotated[float, typer.Option(min=0.01, help="Audio in one padded batch.")] = 60.0,
    device: DeviceOption = AUTO,
) -> None:
    """Score suites of pairs, and judge continuations: tables and all that they stand on, in a folder.

    Suites leave table.md, results.json, pairs.jsonl, submission/ and official/, and the same command again
    goes on where it was interrupted, to the pair. Continuations leave continuations/ with a table, results
    and audio. Data is never downloaded, and weights of judges only where you name one that needs them.
    """
    from wavslm_core.evaluation.suite_evaluation import built_suites

    if not suites and continuations is None:
        raise WavslmError(
            "there is nothing to evaluate: give --suite, such as --suite salmon=PATH, or --continuations "
            "CORPUS. `wavslm suites` lists suites"
        )
    cache_dir = out.absolute().parent / ".cache"
    built = built_suites([suite_config(text) for text in suites or ()], cache_dir=cache_dir)
    corpus = None if continuations is None else corpus_config(continuations)
    chosen_judges = judge_configs(judges or ())
    chosen_sampler = sampler_options(sampler, options or [])
    given_seconds = _prompt_seconds(prompt_seconds)
    speech_lm = load_speech_lm(model, codec, device=usable_device(device))
    speech_lm.make_sampler(chosen_sampler)
    if built:
        from wavslm_core.evaluation.config import LikelihoodRules
        from wavslm_core.evaluation.suite_evaluation import evaluate_suites
        from wavslm_core.evaluation.suite_marks import Marks

        if tokens is None and codec is None:
            tokens = _own_tokens(model)
        results = evaluate_suites(
            speech_lm,
            built,
            out,
            reference=model,
            cache_dir=cache_dir,
            rules=LikelihoodRules(ties=ties, submit=submit, local_seconds=local_seconds),
            allow_partial=allow_partial,
            batch_seconds=batch_seconds,
            marks=None if tokens is None else Marks.of_run(tokens, speech_lm),
        )
        assert results is not None
        _echo_suites(results, out)
    if corpus is not None:
        from wavslm_core.data.corpora import open_split
        from wavslm_core.evaluation.config import ContinuationsConfig
        from wavslm_core.evaluation.continuation_evaluation import (
            FOLDER,
            Judges,
            evaluate_continuations,
            usual_judges,
        )
        from wavslm_core.parts.configs import EVERY_SPLIT, DataConfig

        data = DataConfig(((EVERY_SPLIT, corpus),))
        others: dict[str, str] = {}
        if not chosen_judges:
            chosen_judges, others = usual_judges()
        found = Judges.build(chosen_judges, data, cache_dir=cache_dir)
        results = evaluate_continuations(
            speech_lm,
            open_split(data, split, cache_dir=cache_dir),
            Judges(found.metrics, {**found.missing, **others}),
            out / FOLDER,
            config=ContinuationsConfig(
                count=prompts, prompt_seconds=given_seconds, seconds=seconds, anchors=("codec", "shuffled")
            ),
            reference=model,
            seed=seed,
            sampler=chosen_sampler,
        )
        _echo_continuations(results, out / FOLDER)


def _echo_suites(results: Mapping[str, Any], out: Path) -> None:
    from wavslm_core.evaluation.suite_evaluation import TABLE_FILE

    for found in results["suites"].values():
        number = found["numbers"][found["headline"]]
        partial = f" (PARTIAL: {found['described']})" if found["partial"] else ""
        echo(f"{found['title']}, {number['title']}: {_counts(number)}{partial}")
        for mark, numbers in found.get("marks", {}).items():
            echo(f"  {mark}: {_counts(numbers[found['headline']])}")
    took, files = results["seconds"], results["files_scored"]
    echo(f"{files} files in {took:.1f} s ({files / took:.1f} files/s): {out / TABLE_FILE}")


def _counts(number: Mapping[str, Any]) -> str:
    """Return what an average is by every way to count, one of whom may be what a suite is made for."""
    from wavslm_core.evaluation.suite_tables import COUNTS, TITLES, number_text

    return ", ".join(f"{number_text(number[count])}% {TITLES[count]}" for count in COUNTS if count in number)


def _echo_continuations(results: Mapping[str, Any], out: Path) -> None:
    from wavslm_core.evaluation.continuation_evaluation import TABLE_FILE, continuation_rows

    header, *rows = continuation_rows(results)
    for name, *cells, _ in rows:
        told = ", ".join(
            f"{cell} {title}" for title, cell in zip(header[1:-1], cells, strict=True) if cell != "–"
        )
        echo(f"{name}: {told or 'not judged: ' + results['missing'].get(name, 'nothing to judge')}")
    speed = results["times_real_time"]
    at = "" if speed is None else f" at {speed:.1f} × real time"
    echo(f"{results['count']} continuations{at}: {out / TABLE_FILE}")


def _prompt_seconds(text: str) -> float | Literal["half"]:
    """Return what --prompt-seconds stands for. Raises: WavslmError."""
    if text == "half":
        return "half"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 3600:
        raise WavslmError(f"--prompt-seconds is '{text}'; give a number of seconds up to 3600, or half")
    return seconds


def _own_tokens(model: str) -> Path | None:
    """Return the run that a model is, if it has tokens that it learnt from."""
    from wavslm_core.evaluation.suite_marks import TRAINING_TOKENS

    return Path(model) if (Path(model) / TRAINING_TOKENS).is_dir() else None


def judge_configs(choices: Sequence[str]) -> list[MetricConfig]:
    """Return the configs of judges by name or block.

    Raises: WavslmError for an unknown one, one that is there twice, and one that compares with the truth.
    """
    from wavslm_core.evaluation.config import metric_configs, without_reference
    from wavslm_core.recipe.yaml import parse_yaml

    blocks = tuple(
        parse_yaml(text, source=f"--judge {text}") if text.lstrip().startswith("{") else text
        for text in choices
    )
    try:
        return metric_configs(without_reference(blocks))
    except ValueError as error:
        raise WavslmError(f"--judge: {error}") from None


def corpus_config(text: str) -> CorpusConfig:
    """Return the config that `CORPUS=PATH`, `CORPUS` or a block stands for. Raises: WavslmError."""
    from wavslm_core.parts.configs import CorpusConfig

    config = _named_config("corpus", text, "--continuations")
    assert isinstance(config, CorpusConfig)
    return config


def suite_config(text: str) -> SuiteConfig:
    """Return the config that `NAME=PATH`, `NAME` or a block stands for. Raises: WavslmError."""
    from wavslm_core.parts.configs import SuiteConfig

    config = _named_config("suite", text, "--suite")
    assert isinstance(config, SuiteConfig)
    return config


def _named_config(role: Literal["corpus", "suite"], text: str, option: str) -> Config:
    from wavslm_core.parts.blocks import config_from_dict
    from wavslm_core.recipe.yaml import parse_yaml

    if text.lstrip().startswith("{"):
        block = parse_yaml(text, source=f"{option} {text}")
    else:
        name, separator, path = text.partition("=")
        block = {"corpus" if role == "corpus" else "name": name, **({"path": path} if separator else {})}
    try:
        return config_from_dict(role, block, where=option)
    except RecipeError as error:
        raise WavslmError(str(error)) from None
