"""Peak memory is that of a span of time, not of a process's life."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wavslm_core.training import device as training_device
from wavslm_core.training.device import PeakMemory

SIZE = 200 << 20


@pytest.mark.skipif(not training_device.CLEAR_REFS.exists(), reason="the kernel keeps no such mark")
def test_what_was_freed_counts_while_it_is_measured_and_no_longer() -> None:
    before = PeakMemory(torch.device("cpu")).bytes()
    during = PeakMemory(torch.device("cpu"))
    held = torch.ones(SIZE, dtype=torch.uint8)
    del held
    peak, after = during.bytes(), PeakMemory(torch.device("cpu")).bytes()
    assert before is not None
    assert peak is not None
    assert after is not None
    assert before + 0.95 * SIZE < peak < before + 1.2 * SIZE
    assert after < before + 0.2 * SIZE


def test_where_it_cannot_be_known_nothing_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_device, "CLEAR_REFS", tmp_path / "absent" / "clear_refs")
    assert PeakMemory(torch.device("cpu")).bytes() is None
