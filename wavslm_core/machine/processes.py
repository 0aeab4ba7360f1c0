"""The processes that share a run, and what they do together. Importing this imports no torch."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")
Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Interrupted(Exception):
    """Raised at a safe point after Ctrl-C or a signal, once everything worth keeping is on disk."""


class Pruned(Interrupted):
    """Raised in the same way when the run is behind the others that a sweep compares it with."""


class Processes:
    """One process alone; every call returns at once. Subclasses talk to the others.

    Every process has to make the same calls in the same order, but for `heard` and `rank_0_first`.
    Raises (everywhere): LostProcessError when another process is gone.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Rank among the processes of this machine: the number of its GPU."""
    talk: Any = None
    """Torch's group for flags and objects; None for one process alone."""

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return flag

    def barrier(self) -> None:
        """Wait until every process is here."""

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all processes, in the order of their ranks, to each of them."""
        return [value]

    def gather_when_done(self, value: Value) -> list[Value]:
        """As `gather`, after work of which every process did its own: waits for as long as others work."""
        return [value]

    def broadcast(self, value: Value) -> Value:
        """Return what rank 0 gave to each of them."""
        return value

    def heard(self, flag: bool) -> bool:
        """Tell the others that a flag is set, and return whether any has told so yet; waits for nobody.

        Meant for work of which every process does its own: the answers differ for a moment. All is forgotten
        when the processes next come together.
        """
        return flag

    def rank_0_first(self, what: str) -> AbstractContextManager[None]:
        """Let rank 0 go through a block before the others do, however long it takes.

        `what` names the block; once rank 0 went through it, nobody waits for it any more.
        """
        return nullcontext()

    def losing_nobody(self) -> AbstractContextManager[None]:
        """Turn what torch's collectives raise about a lost process inside the block into one clear line."""
        return nullcontext()


ALONE = Processes()


def uneven_batch(micro_batch_size: int, *, accumulate: int, world_size: int) -> str | None:
    """Return what is wrong with a batch that processes are to share, if anything."""
    if micro_batch_size % world_size == 0:
        return None
    nearest = -(-micro_batch_size // world_size) * world_size * accumulate
    parts = "" if accumulate == 1 else f", in {accumulate} micro-batches of {micro_batch_size}"
    return (
        f"batch_size is {micro_batch_size * accumulate} over all processes{parts}, which {world_size} "
        f"processes cannot share evenly: choose batch_size {nearest}, or another number of processes"
    )


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


@dataclass(frozen=True)
class Share:
    """Which part of work that divides into pieces, such as the shards of a token store, a process does."""

    index: int = 0
    count: int = 1
    partial: bool = False
    """Others that this process does not wait for do the rest, and a later job puts it together."""

    def pieces(self, total: int) -> range:
        """Return the numbers of the pieces that are this share's."""
        return range(self.index, total, self.count)


WHOLE = Share()


def process_runs(pid: int) -> bool:
    """Tell whether a process of this machine runs; one that only waits for its parent to notice does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        # Somebody else's, or a system without /proc.
        return True
