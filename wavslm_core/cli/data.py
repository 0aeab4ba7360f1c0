"""`wavslm data stats|rejected`: what a corpus holds, and what was left out of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavslm_core.errors import RecipeError
from wavslm_core.machine.terminal import echo, echo_row

if TYPE_CHECKING:
    from wavslm_core.data.statistics import SplitStatistics
    from wavslm_core.parts.configs import DataConfig

LISTED = 10


def stats(
    corpus: Annotated[
        list[str],
        typer.Argument(
            metavar="[RECIPE] [KEY=VALUE]...",
            help="A recipe and changes to it, or a corpus: corpus=folder path=speech cut.by=fixed",
        ),
    ],
    split: Annotated[list[str] | None, typer.Option(help="Only this split; may be repeated.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Also write the histograms to this PNG.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    runs_dir: Annotated[Path, typer.Option(help="Where runs will be; manifests are kept there.")] = Path(
        "runs"
    ),
) -> None:
    """Show hours, durations, sampling rates, speakers, bad files and a histogram of every split."""
    from wavslm_core.cli.corpus_tables import print_statistics
    from wavslm_core.data.corpora import Corpus, outside_in_words
    from wavslm_core.data.statistics import split_statistics
    from wavslm_core.parts.plugins import load_registry

    data = _data_config(corpus)
    found: dict[str, SplitStatistics] = {}
    outside: set[str] = set()
    for name in split or data.splits:
        built: Corpus = load_registry().build(data.corpus_for(name), cache_dir=runs_dir / ".cache")
        found[name] = split_statistics(built, name)
        outside.add(outside_in_words(built))
    if picture is not None:
        _draw(found, picture)
    if as_json:
        echo(json.dumps({name: _document(item) for name, item in found.items()}, indent=1))
    else:
        print_statistics(found, listed=LISTED)
    for line in sorted(outside - {""}):
        echo(line, err=as_json)
    if picture is not None:
        echo(f"picture: {picture}", err=as_json)


def rejected(place: Annotated[Path, typer.Argument(help="A run's folder, or a token store.")]) -> None:
    """List what tokenising left out, with the shard and the reason: shard, file, reason in columns."""
    from wavslm_core.data.token_writer import stored_rejections, token_stores

    for name, store in token_stores(place).items():
        count = 0
        for shard, item in stored_rejections(store):
            echo_row(name, shard, item.id, item.reason)
            count += 1
        echo(f"{name}: {count} left out", err=True)


def _data_config(arguments: list[str]) -> DataConfig:
    """Return the `data:` block of a recipe, or of the corpus that the arguments spell."""
    from wavslm_core.recipe.loading import load_recipe, recipe_from_dict
    from wavslm_core.recipe.overrides import apply_overrides, parse_override

    first, *rest = arguments
    if "=" not in first:
        recipe = load_recipe(Path(first), rest)
    else:
        prefixed = [parse_override(f"data.{text}") for text in arguments]
        if not any(override.keys[-1] == "corpus" for override in prefixed):
            raise RecipeError(
                f"'{' '.join(arguments)}' names no corpus: add corpus=NAME, such as corpus=folder path=speech"
            )
        document: dict[str, Any] = {"name": "data", "data": {}}
        document, places = apply_overrides(document, prefixed)
        recipe = recipe_from_dict(document, source="arguments", places=places)
    if recipe.data is None:
        raise RecipeError(
            f"{first} has no `data:` block; name a recipe with one, or a corpus as corpus=NAME …"
        )
    return recipe.data


def _document(item: SplitStatistics) -> dict[str, Any]:
    return {
        "utterances": item.utterances,
        "hours": item.hours,
        "seconds": item.quantiles_s,
        "hours_by_rate_hz": item.hours_by_rate_hz,
        "hours_by_channels": item.hours_by_channels,
        "hours_by_speaker": item.hours_by_speaker,
        "histogram": {"edges_s": item.edges_s.tolist(), "utterances": item.counts.tolist()},
        "rejected": [{"id": left_out.id, "reason": left_out.reason} for left_out in item.rejected],
    }


def _draw(found: dict[str, SplitStatistics], picture: Path) -> None:
    from wavslm_core.machine.files import replacing
    from wavslm_core.plotting import histogram_figure, png_bytes

    if picture.suffix.lower() != ".png":
        raise RecipeError(f"--picture is {picture}: allowed is a file that ends in .png")
    figure = histogram_figure(
        {
            f"{name}: {item.utterances:,} utterances, {item.hours:.4g} h": (
                item.edges_s.tolist(),
                item.counts.tolist(),
            )
            for name, item in found.items()
        },
        x_label="duration (s)",
        y_label="utterances",
    )
    with replacing(picture) as beside:
        beside.write_bytes(png_bytes(figure))
