"""`wavslm plugins`: what is installed, what it registers, and what failed to load."""

from __future__ import annotations

import json
from shutil import get_terminal_size
from textwrap import wrap
from typing import Annotated, Any

import typer

from wavslm_core.machine.terminal import byte_text, echo


def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List plugins: distribution, version, what each registers, load errors."""
    listed = _listed()
    if as_json:
        echo(json.dumps(listed, indent=2))
        return
    rows = [["plugin", "distribution", "version", "registers"]]
    for plugin in listed:
        lines = [f"{role}: {', '.join(names)}" for role, names in plugin["roles"].items()]
        lines += [
            f"checkpoint: {held['name']} ({held['kind']}), {byte_text(held['bytes'])}, {held['license']}: "
            f"{held['about']}"
            for held in plugin["checkpoints"]
        ]
        lines += [f"command: wavslm {held['name']}: {held['about']}" for held in plugin["commands"]]
        lines += [f"engine: {held['name']}: {held['about']}" for held in plugin["engines"]]
        if plugin["error"]:
            lines = ["failed to load: see below"]
        rows.append(
            [plugin["name"], plugin["distribution"], plugin["version"], "\n".join(lines) or "nothing"]
        )
    # By hand: importing rich would take a quarter of the time that listing takes.
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    room = max(20, get_terminal_size().columns - sum(widths) - 2 * len(widths))
    for *names, text in rows:
        for line in text.split("\n"):
            for piece in wrap(line, room):
                named = [name.ljust(width) for name, width in zip(names, widths, strict=True)]
                echo("  ".join([*named, piece]))
                names = ["", "", ""]
    for plugin in listed:
        if plugin["error"]:
            echo(f"\n{plugin['name']} of {plugin['distribution']} failed to load: {plugin['error']}")


def _listed() -> list[dict[str, Any]]:
    from wavslm_core.machine.regular_files import size_below
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
                "checkpoints": [
                    {
                        "name": held.name,
                        "kind": held.kind,
                        "about": held.about,
                        "license": held.license,
                        "folder": str(held.folder),
                        "bytes": size_below(held.folder),
                    }
                    for held in loaded.registry.checkpoints()
                    if (held.plugin, held.distribution) == (plugin.name, plugin.distribution)
                ],
                "commands": [
                    {"name": held.name, "about": held.about}
                    for held in loaded.registry.commands()
                    if (held.plugin, held.distribution) == (plugin.name, plugin.distribution)
                ],
                "engines": [
                    {"name": held.name, "about": held.about, "weights": [*held.weights]}
                    for held in loaded.registry.engines()
                    if (held.plugin, held.distribution) == (plugin.name, plugin.distribution)
                ],
                "error": None if error is None else f"{type(error).__name__}: {error}",
            }
        )
    return listed
