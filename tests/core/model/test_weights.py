"""What concerns only who loads weights."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

from wavslm_core.model.weights import SkipInitialisation


def test_a_thread_that_loads_leaves_the_initial_weights_of_others_alone() -> None:
    loading, looked = threading.Event(), threading.Event()

    def load() -> None:
        with SkipInitialisation():
            loading.set()
            looked.wait(60)

    thread = threading.Thread(target=load)
    thread.start()
    assert loading.wait(60)
    active, layer = SkipInitialisation.active(), nn.Linear(4, 4)
    looked.set()
    thread.join()
    assert not active
    assert float(layer.weight.detach().abs().sum()) > 0


def test_skipping_within_skipping_ends_with_the_outer_one() -> None:
    with SkipInitialisation():
        with SkipInitialisation():
            assert SkipInitialisation.active()
        assert SkipInitialisation.active()
    assert not SkipInitialisation.active()


@pytest.mark.parametrize(
    "layer", [lambda: nn.Linear(6, 4), lambda: nn.Embedding(6, 4), lambda: nn.Conv1d(6, 4, 3)]
)
def test_nothing_is_drawn_for_weights_that_are_about_to_be_loaded(layer: Callable[[], nn.Module]) -> None:
    before = torch.get_rng_state()
    with SkipInitialisation():
        layer()
    assert torch.equal(torch.get_rng_state(), before)
    layer()
    assert not torch.equal(torch.get_rng_state(), before)
