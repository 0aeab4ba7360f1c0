"""A server that tests of a module have in common."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests are imported without their folder on the path; this module is theirs alone.
sys.path.insert(0, str(Path(__file__).parent))

from loopback import Served, model_of, serving

from wavslm_serve import scheduler


@pytest.fixture(scope="module", autouse=True)
def _any_machine_is_fast_enough() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "BUSY_SHARE", 1e9)
        yield


@pytest.fixture(scope="module")
def _running(_any_machine_is_fast_enough: None) -> Iterator[Served]:
    with serving(model_of(delay_samples=700)) as running:
        yield running


@pytest.fixture
def served(_running: Served) -> Iterator[Served]:
    """Return a server without sessions, for tests that leave it as it was."""
    yield _running
    _running.part()
