"""What concerns only who loads weights."""

import threading

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
