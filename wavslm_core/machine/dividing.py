"""Work in pieces, such as padded batches to score, divided among the processes that share a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from wavslm_core.machine.interruption import Interrupted
from wavslm_core.machine.processes import Processes

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def divide(
    processes: Processes,
    pieces: Sequence[Piece],
    work: Callable[[Piece], Result],
    *,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[Result]:
    """Do each piece in one of the processes; return all results, in the order of the pieces, to each.

    What is done to a piece must not depend on who does it: then one process and many return the same.
    Raises: Interrupted, in every process, once one of them was asked to stop or `work` raised it.
    """
    own: list[Result] = []
    stopped = False
    for place in range(processes.rank, len(pieces), processes.world_size):
        if processes.heard(stop_requested()):
            stopped = True
            break
        try:
            own.append(work(pieces[place]))
        except Interrupted:
            stopped = True
            break
    shares = processes.gather_when_done((stopped, own))
    if any(stopped for stopped, _ in shares):
        raise Interrupted
    return [
        shares[place % processes.world_size][1][place // processes.world_size] for place in range(len(pieces))
    ]
