"""The processes that share a run, and what they do together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value")


class Processes:
    """One process alone; every call returns at once. Subclasses talk to the others.

    Every process has to make the same calls in the same order.
    """

    rank: int = 0
    world_size: int = 1

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return flag

    def barrier(self) -> None:
        """Wait until every process is here."""

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all processes, in the order of their ranks, to each of them."""
        return [value]

    def broadcast(self, value: Value) -> Value:
        """Return what rank 0 gave to each of them."""
        return value


ALONE = Processes()


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
