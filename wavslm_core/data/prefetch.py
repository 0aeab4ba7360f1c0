"""Reads ahead in the background, so that decoding audio costs a training step nothing."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """`read(number)` for numbers that mostly count up, with the next ones under way in one other thread.

    What comes out depends on the number alone: numbers may start anywhere, skip and repeat; one that is asked
    for again and again is read once. `read` must not touch torch's global generator, which belongs to the
    thread that trains.
    """

    def __init__(self, read: Callable[[int], T], *, ahead: int, end: int, keep: int = 1) -> None:
        """Keep up to `ahead` results waiting, and the last `keep` that were asked for.

        Nothing is read ahead from `end` on.
        """
        self._read = read
        self._ahead = ahead
        self._end = end
        self._keep = keep
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: dict[int, Future[T]] = {}
        self._kept: dict[int, T] = {}

    def get(self, number: int) -> T:
        """Return `read(number)`. Raises: what `read` raised for this very number."""
        if number in self._kept:
            return self._kept[number]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        upcoming = range(number + 1, min(self._end, number + 1 + self._ahead))
        for other in [other for other in self._waiting if other != number and other not in upcoming]:
            self._waiting.pop(other).cancel()
        for wanted in (number, *upcoming):
            if wanted not in self._waiting:
                self._waiting[wanted] = self._pool.submit(self._read, wanted)
        result = self._waiting.pop(number).result()
        self._kept[number] = result
        while len(self._kept) > self._keep:
            del self._kept[next(iter(self._kept))]
        return result

    def close(self) -> None:
        """Drop what was read ahead and end the thread, at the latest when it has read what it is reading."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._kept.clear()
        self._waiting.clear()
