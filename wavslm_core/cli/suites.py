"""`wavslm suites`: which likelihood suites there are, where to get their data, and what a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavslm_core.errors import WavslmError
from wavslm_core.machine.terminal import echo

if TYPE_CHECKING:
    from wavslm_core.parts.configs import SuiteConfig


def suites(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Folders, or tables of pairs, to look at.", show_default=False)
    ] = None,
) -> None:
    """List suites: where to get the data, under which licence, how much it is; and what is found at paths.

    Nothing is ever downloaded.
    """
    from wavslm_core.parts.configs import SuiteConfig
    from wavslm_core.parts.plugins import load_registry

    registry = load_registry()
    configs = [config for config in registry.config_classes("suite") if issubclass(config, SuiteConfig)]
    if not configs:
        raise WavslmError(f"no suite is installed.{registry.not_installed('suite')}")
    for config in configs:
        about = " ".join((config.__doc__ or "").split())
        echo(f"{config.registered_name():<20}{about}")
        for what in ("homepage", "licence", "size"):
            if text := getattr(config, what):
                echo(f"{'':<20}{what}: {text}")
    for path in paths or ():
        looked = {config.registered_name(): _found(config, path) for config in configs}
        found = {name: said for name, (there, said) in looked.items() if there}
        echo(f"{path}:" if found else f"{path}: no suite that can be read")
        # Where there is none, why not: it may be damaged.
        for name, said in (found or {name: said for name, (_, said) in looked.items()}).items():
            echo(f"  {name:<20}{said}")


def _found(config: type[SuiteConfig], path: Path) -> tuple[bool, str]:
    """Return whether there is something of a suite at a path, judged by names alone, and what."""
    from collections import Counter

    from wavslm_core.parts.plugins import load_registry

    given = config.model_fields.get("path")
    if given is None:
        return False, "needs no copy: it is made where it is asked for"
    if not given.is_required():
        return False, "has no files of its own: it is cut out of the speech that its options name"
    try:
        suite = load_registry().build(config.model_validate({"path": str(path)}))
        found = suite.read()
    except WavslmError as error:
        return False, str(error)
    of = "" if found.published_pairs is None else f" of {found.published_pairs:,}"
    faults = Counter(finding.fault for finding in found.findings)
    named = "".join(f", {count} {fault}" for fault, count in sorted(faults.items()))
    first = f" (first: {found.findings[0].what})" if named else ""
    return True, f"{len(found.pairs):,}{of} pairs{named}{first} {found.remark}".rstrip()
