"""Core's own stages, corpora and metrics, registered through the same door as everyone else's."""

from __future__ import annotations

from wavslm_core.hookspecs import Register
from wavslm_core.plugins import hookimpl


@hookimpl
def register_stages(register: Register) -> None:
    pass


@hookimpl
def register_corpora(register: Register) -> None:
    pass


@hookimpl
def register_metrics(register: Register) -> None:
    pass
