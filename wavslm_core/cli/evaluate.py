"""`wavslm evaluate`: likelihood suites for a language model, without a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wavslm_core.cli.inputs import DeviceOption, load_speech_lm, usable_device
from wavslm_core.errors import RecipeError, WavslmError
from wavslm_core.machine.devices import AUTO
from wavslm_core.machine.terminal import echo

if TYPE_CHECKING:
    from wavslm_core.parts.configs import SuiteConfig


def evaluate(
    model: Annotated[str, typer.Argument(help="Language model: a folder, a run's folder, or a hub id.")],
    suites: Annotated[
        list[str],
        typer.Option(
            "--suite",
            metavar="NAME[=PATH]",
            help="A suite and where its data is, if it needs any, as often as you like; or a block such as "
            "'{name: pairs, path: own.jsonl, groups: [voice]}'. `wavslm suites` lists them.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for tables, per-pair scores and official files.")],
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
    batch_seconds: Annotated[float, typer.Option(min=0.01, help="Audio in one padded batch.")] = 60.0,
    device: DeviceOption = AUTO,
) -> None:
    """Score suites of pairs: table.md, results.json, pairs.jsonl, submission/ and official/ in a folder.

    The same command again goes on where it was interrupted, to the pair. Nothing is ever downloaded.
    """
    from wavslm_core.evaluation.config import LikelihoodRules
    from wavslm_core.evaluation.suite_evaluation import TABLE_FILE, built_suites, evaluate_suites
    from wavslm_core.evaluation.suite_tables import number_text

    cache_dir = out.absolute().parent / ".cache"
    built = built_suites([suite_config(text) for text in suites], cache_dir=cache_dir)
    speech_lm = load_speech_lm(model, codec, device=usable_device(device))
    results = evaluate_suites(
        speech_lm,
        built,
        out,
        reference=model,
        cache_dir=cache_dir,
        rules=LikelihoodRules(ties=ties, submit=submit, local_seconds=local_seconds),
        allow_partial=allow_partial,
        batch_seconds=batch_seconds,
    )
    assert results is not None
    for found in results["suites"].values():
        number = found["numbers"][found["headline"]]
        partial = f" (PARTIAL: {found['described']})" if found["partial"] else ""
        echo(
            f"{found['title']}, {number['title']}: {number_text(number['mean'])}% per token, "
            f"{number_text(number['sum'])}% sum{partial}"
        )
    seconds, files = results["seconds"], results["files_scored"]
    echo(f"{files} files in {seconds:.1f} s ({files / seconds:.1f} files/s): {out / TABLE_FILE}")


def suite_config(text: str) -> SuiteConfig:
    """Return the config that `NAME=PATH`, `NAME` or a block stands for. Raises: WavslmError."""
    from wavslm_core.parts.blocks import config_from_dict
    from wavslm_core.parts.configs import SuiteConfig
    from wavslm_core.recipe.yaml import parse_yaml

    if text.lstrip().startswith("{"):
        block = parse_yaml(text, source=f"--suite {text}")
    else:
        name, separator, path = text.partition("=")
        block = {"name": name, **({"path": path} if separator else {})}
    try:
        config = config_from_dict("suite", block, where="--suite")
    except RecipeError as error:
        raise WavslmError(str(error)) from None
    assert isinstance(config, SuiteConfig)
    return config
