"""A player that is of no use to the others: said once, an error when it lasts, forgotten when it recovers."""

from __future__ import annotations

import logging
from functools import partial

import pytest

from wavslm_core.training.guards import SAID_AFTER, StuckGuard, TrainingError

WHY = "critic knows nothing"


def test_it_is_said_once_and_an_error_when_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    since: dict[str, int] = {}
    guard = StuckGuard(since)
    observe = partial(guard.observe, most_steps=40, says=True)
    with caplog.at_level(logging.WARNING):
        for step in range(10, SAID_AFTER + 50, 10):
            observe(step, "critic", WHY)
    assert caplog.messages == [f"from step 10 to step {SAID_AFTER + 10}, {WHY}"]
    # A run that goes on knows since when.
    again, last = StuckGuard(dict(since)), SAID_AFTER + 50
    with pytest.raises(TrainingError, match=f"from step 10 to step {last}, {WHY}. Weights and checkpoints"):
        again.observe(last, "critic", WHY, most_steps=40, says=False)
    guard.observe(last, "critic", WHY, most_steps=None, says=True)
    observe(last + 10, "critic", None)
    assert since == {}
    observe(last + 20, "critic", WHY)
    assert since == {"critic": last + 20}
