"""How far a run is, for whoever looks at it from outside."""

from __future__ import annotations


class Pulse:
    """Tells nobody."""

    def beat(
        self,
        *,
        stage: str,
        done: float,
        total: float | None = None,
        unit: str = "steps",
        loss: float | None = None,
    ) -> None:
        """Say that `done` of `total` units of a stage are done."""


SILENT = Pulse()
