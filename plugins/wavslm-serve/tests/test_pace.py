"""How many a machine serves, from steps that were measured and how long the last ones took."""

import time

import pytest

from wavslm_serve import pace as pacing
from wavslm_serve.pace import Pace, StepTimes, between


def paced(hear: dict[int, float], speak: dict[int, float]) -> Pace:
    return Pace(StepTimes(hear, speak), heard_chunk_s=0.08, chunk_s=0.08)


def test_sizes_that_were_not_measured_lie_between_those_that_were() -> None:
    times = {1: 0.01, 2: 0.012, 4: 0.02}
    found = [between(times, rows) for rows in range(7)]
    assert found == pytest.approx([0, 0.01, 0.012, 0.016, 0.02, 0.02 + 0.01 / 3, 0.02 + 0.02 / 3])
    assert between({1: 0.01}, 3) == pytest.approx(0.03)
    assert between({}, 3) == 0


@pytest.mark.parametrize(("each_s", "room"), [(0.0001, 8), (0.004, 6), (0.03, 1), (1.0, 1)])
def test_as_many_as_hear_and_speak_in_real_time(each_s: float, room: int) -> None:
    """Steps cost 10 ms and something for each row: two of them have 72 ms."""
    times = {rows: 0.01 + rows * each_s for rows in (1, 2, 4, 8)}
    pace = paced(times, times)
    assert pace.room(most=8, share=0.9) == room
    assert pace.load(room) == pytest.approx(2 * (0.01 + room * each_s) / 0.08)
    assert pace.load(room) <= 0.9 or room == 1


def test_the_last_steps_tell_how_fast_it_is_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {1: 0.01, 2: 0.011, 4: 0.013}
    pace = paced(times, times)
    assert pace.room(most=4, share=0.9) == 4
    for count in range(pacing.LEAST_STEPS):
        assert pace.slowdown == 1.0, count
        pace.took(0.0352, hearing=2, speaking=0)
    assert pace.slowdown == pytest.approx(3.2)
    assert pace.room(most=4, share=0.9) == 2
    # Steps of long ago tell nothing.
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + pacing.RECENT_S + 1)
    assert pace.slowdown == 1.0
    assert pace.room(most=4, share=0.9) == 4
