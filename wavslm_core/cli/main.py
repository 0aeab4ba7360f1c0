"""The command `wavslm`. Its verbs are the sibling modules that have `register(app)`; each imports what is
heavy only when it runs, so that `--help` stays quick.
"""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer

from wavslm_core import cli
from wavslm_core.cli.guard import guarded
from wavslm_core.machine.terminal import echo

NOT_VERBS = {
    "sweep_run",
    "main",
    "run",
    "guard",
    "blame",
    "devices",
    "inputs",
    "job_tables",
    "plan_tables",
    "corpus_tables",
}
"""Modules that have no `register`; not importing them keeps `--help` quick."""


def build_app() -> typer.Typer:
    """Return the command with all its verbs."""
    app = typer.Typer(
        help="Speech language models: work with recipes, plugins, codecs and language models.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for module in sorted(pkgutil.iter_modules(cli.__path__), key=lambda module: module.name):
        if module.name not in NOT_VERBS:
            register = getattr(import_module(f"{cli.__name__}.{module.name}"), "register", None)
            if register is not None:
                register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        echo(f"wavslm-core {version('wavslm-core')}")
        raise typer.Exit


def _options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_version)
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error arose.")] = False,
) -> None:
    """Take the options that every verb has."""


def main() -> None:
    """Entry point."""
    sys.exit(guarded(lambda arguments: build_app()(arguments, prog_name="wavslm")))


if __name__ == "__main__":
    main()
