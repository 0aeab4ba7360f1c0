"""The command `wavslm`. Its verbs are sibling modules; each imports what is heavy only when it runs, so that
`--help` stays quick. Plugins bring further ones.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer
from typer.core import TyperGroup

from wavslm_core import cli
from wavslm_core.cli.guard import guarded
from wavslm_core.errors import PluginError, WavslmError, did_you_mean, summary
from wavslm_core.machine.terminal import echo
from wavslm_core.parts.commands import VERBS

# Each of `VERBS` is a function in a module of its name, or one of these groups of functions there.
GROUPS = {
    "data": ("Look at corpora.", ("stats", "rejected")),
    "recipe": ("Show, check or describe recipes.", ("show", "check", "schema")),
    "sweep": (
        "Look at sweeps, run failed trials again, or stop them.",
        ("status", "results", "retry", "stop"),
    ),
}


class _Verbs(TyperGroup):
    """Lists wavslm's own verbs before those of plugins."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return sorted(self.commands, key=lambda name: (name not in VERBS, name))


def build_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the command with all its verbs, or with the one alone that the arguments name."""
    app = typer.Typer(
        cls=_Verbs,
        help="Speech language models: work with recipes, plugins, codecs and language models.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    if named not in VERBS and "--version" not in arguments:
        _add_of_plugins(app, named)
    for verb in [named] if named in VERBS else VERBS:
        name = verb.replace("-", "_")
        module = import_module(f"{cli.__name__}.{name}")
        if verb in GROUPS:
            about, names = GROUPS[verb]
            group = typer.Typer(help=about, no_args_is_help=True, rich_markup_mode=None)
            app.add_typer(group, name=verb)
        else:
            group, names = app, (name,)
        for name in names:
            function = getattr(module, name)
            # What is given is shown whole; of help texts, only what fits into a line.
            about = " ".join(function.__doc__.partition("\n\n")[0].split())
            group.command(short_help=about)(function)
    return app


def _add_of_plugins(app: typer.Typer, named: str | None) -> None:
    """Add the verb of a plugin that is named, or all of them to be listed.

    Raises: PluginError when it cannot be imported, or comes with a plugin that is not here.
    """
    from wavslm_core.parts.plugins import load_registry
    from wavslm_core.parts.registry import how_to_install, known_providers

    registry = load_registry()
    for command in registry.commands():
        if named is None:
            # Listed, not imported: one that is broken must not take the others' help down.
            app.command(command.name, short_help=command.about)(lambda: None)
        elif named == command.name:
            app.command(command.name)(command.load())
            return
    provider = known_providers("command").get(named or "")
    if provider is not None:
        error = registry.load_errors.get(provider)
        if error is not None:
            raise PluginError(f"wavslm {named} comes with {provider}, which failed to load: {summary(error)}")
        raise PluginError(
            f"wavslm {named} comes with {provider}, which is not installed{how_to_install(provider)}"
        )
    if named is not None:
        names = {*VERBS, *(command.name for command in registry.commands()), *known_providers("command")}
        broken = ", unless a plugin that failed to load has it" if registry.load_errors else ""
        raise WavslmError(
            f"there is no command '{named}'{broken}.{did_you_mean(named, names)} `wavslm --help` lists all"
            f"{registry.failures()}"
        )


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

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
    sys.exit(guarded(lambda arguments: build_app(arguments)(arguments, prog_name="wavslm")))


if __name__ == "__main__":
    main()
