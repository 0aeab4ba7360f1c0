"""How a run is left before it is finished."""

from __future__ import annotations


class Interrupted(Exception):
    """Raised at a safe point after Ctrl-C or a signal, once everything worth keeping is on disk."""


class Pruned(Interrupted):
    """Raised in the same way when the run is behind the others that a sweep compares it with."""
