"""`wavslm plugins`: what is installed, what it registers, and what failed to load."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from wavslm_core.machine.terminal import echo, new_console


def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List plugins: distribution, version, what each registers, load errors."""
    listed = _listed()
    if as_json:
        echo(json.dumps(listed, indent=2))
        return
    from rich.table import Table

    table = Table("plugin", "distribution", "version", "registers", box=None, pad_edge=False)
    for plugin in listed:
        lines = [f"{role}: {', '.join(names)}" for role, names in plugin["roles"].items()]
        if plugin["error"]:
            lines = [f"failed to load: {plugin['error']}"]
        table.add_row(
            plugin["name"], plugin["distribution"], plugin["version"], "\n".join(lines) or "nothing"
        )
    new_console(soft_wrap=False).print(table)


def _listed() -> list[dict[str, Any]]:
    from wavslm_core.parts.plugins import load

    loaded = load()
    listed = []
    for plugin in loaded.plugins:
        roles: dict[str, list[str]] = {}
        for entry in loaded.registry:
            if (entry.plugin, entry.distribution) == (plugin.name, plugin.distribution):
                roles.setdefault(entry.role, []).append(entry.name)
        error = plugin.error
        listed.append(
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "roles": roles,
                "error": None if error is None else f"{type(error).__name__}: {error}",
            }
        )
    return listed


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(plugins)
