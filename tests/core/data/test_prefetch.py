"""Reading ahead changes when something is read, never what comes out."""

import threading
from contextlib import closing

import pytest

from wavslm_core.data.prefetch import Prefetch
from wavslm_core.errors import AudioError


def test_any_order_of_numbers_gives_what_each_number_says() -> None:
    order = [0, 1, 2, 2, 7, 8, 3, 4, 9, 0]
    with closing(Prefetch(lambda number: number * number, ahead=2, end=10)) as reader:
        assert [reader.get(number) for number in order] == [number * number for number in order]


def test_the_next_ones_are_read_while_the_caller_works_and_no_more() -> None:
    read: list[int] = []
    third = threading.Event()

    def note(number: int) -> int:
        read.append(number)
        assert threading.current_thread() is not threading.main_thread()
        if number == 5:
            third.set()
        return number

    with closing(Prefetch(note, ahead=2, end=7)) as reader:
        assert reader.get(3) == 3
        assert third.wait(60)
        assert [reader.get(number) for number in (4, 5, 6)] == [4, 5, 6]
    assert read == [3, 4, 5, 6]


def test_one_that_is_asked_for_again_and_again_is_read_once() -> None:
    read: list[int] = []

    def note(number: int) -> int:
        read.append(number)
        return number

    with closing(Prefetch(note, ahead=1, end=9)) as reader:
        assert [reader.get(number) for number in (3, 3, 3, 8, 8, 8)] == [3, 3, 3, 8, 8, 8]
    assert [read.count(number) for number in (3, 8)] == [1, 1]


def test_an_error_comes_when_its_number_is_asked_for() -> None:
    def read(number: int) -> int:
        if number == 2:
            raise AudioError("2.flac is cut off")
        return number

    with closing(Prefetch(read, ahead=2, end=9)) as reader:
        assert [reader.get(0), reader.get(1)] == [0, 1]
        with pytest.raises(AudioError, match=r"2\.flac"):
            reader.get(2)
        assert reader.get(3) == 3


def test_closing_drops_what_waits_and_ends_the_thread() -> None:
    started, go_on = threading.Event(), threading.Event()
    read: list[int] = []

    def slow(number: int) -> int:
        if number:
            started.set()
            go_on.wait(60)
        read.append(number)
        return number

    before = threading.active_count()
    reader = Prefetch(slow, ahead=2, end=9)
    assert reader.get(0) == 0
    assert started.wait(60)
    # What is being read ends after what waits was dropped.
    reader._waiting[2].add_done_callback(lambda _: go_on.set())
    reader.close()
    assert read == [0, 1], "2 was waiting"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]
    assert threading.active_count() <= before + 1
    # A closed reader reads again when it is asked to.
    assert reader.get(4) == 4
    reader.close()


def test_as_many_as_are_asked_for_are_kept() -> None:
    read: list[int] = []

    def note(number: int) -> int:
        read.append(number)
        return number

    with closing(Prefetch(note, ahead=0, end=9, keep=2)) as reader:
        assert [reader.get(number) for number in (0, 1, 0, 1, 2, 1, 0)] == [0, 1, 0, 1, 2, 1, 0]
    assert read == [0, 1, 2, 0]
