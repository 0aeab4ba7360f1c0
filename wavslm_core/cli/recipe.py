"""`wavslm recipe show|check|schema`: look at recipes without running them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavslm_core.machine.terminal import echo

if TYPE_CHECKING:
    from wavslm_core.recipe.model import ResolvedRecipe

RecipePath = Annotated[Path, typer.Argument(help="A recipe: a YAML file.", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to it, such as seed=1.", metavar="[KEY=VALUE]...", show_default=False),
]


def show(recipe: RecipePath, overrides: Overrides = None) -> None:
    """Print the resolved recipe as YAML: everything that it extends, every default, every linked number."""
    from wavslm_core.recipe.loading import load_recipe
    from wavslm_core.recipe.resolving import resolve
    from wavslm_core.recipe.yaml import dump_yaml

    echo(dump_yaml(resolve(load_recipe(recipe, overrides or [])).to_dict()), end="")


def check(recipe: RecipePath, overrides: Overrides = None) -> None:
    """Check that a recipe is valid and its parts fit; list every problem otherwise."""
    from wavslm_core.recipe import checks
    from wavslm_core.recipe.loading import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if loaded.sweep is not None:
        from wavslm_core.sweep.expansion import expand_sweep, sweep_of, trial_count

        trials = expand_sweep(loaded)
        chosen = "" if trials else ", chosen while they run"
        echo(f"{recipe}: ok, {trial_count(sweep_of(loaded))} trials{chosen}")
        for trial in trials:
            echo(f"  {trial.label}")
        return
    checked = checks.check(loaded)
    echo(f"{recipe}: ok")
    for line in _facts(checked):
        echo(f"  {line}")


def schema() -> None:
    """Print the JSON schema of recipes made of what is installed, for editors."""
    from wavslm_core.parts.plugins import load_registry
    from wavslm_core.recipe.schema import recipe_schema

    echo(json.dumps(recipe_schema(load_registry()), indent=2))


def _facts(recipe: ResolvedRecipe) -> list[str]:
    """Return what follows from the parts, in a few lines."""
    parts = recipe.part_configs
    lines = (
        [", ".join(f"{role} {config.registered_name()}" for role, config in parts.items())] if parts else []
    )
    if {"encoder", "quantizer", "decoder"} <= parts.keys():
        facts = recipe.codec_facts()
        streaming = f"streams at {facts.latency_ms:g} ms latency" if facts.streams else "does not stream"
        most = "up to " if facts.quantizer.variable_rate else ""
        lines.append(
            f"codec: {facts.sample_rate_in_hz} Hz in, {facts.sample_rate_out_hz} Hz out, "
            f"{most}{facts.token_rate_hz:g} tokens a second of {facts.quantizer.vocab_size} codes, "
            f"{streaming}"
        )
    if recipe.stages:
        lines.append(f"stages: {', '.join(stage.registered_name() for stage in recipe.stages)}")
    lines.append(f"run: {recipe.name}-{recipe.digest()}")
    return lines
