"""What test files share: waiting for something that happens elsewhere, and a corpus."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
PATIENCE_S = 300.0
"""Longer than anything takes on a machine that does five things at once."""


def until(
    what: str,
    condition: Callable[[], T | None],
    process: Popen[Any] | None = None,
    *,
    seen: Callable[[], object] | None = None,
    every_s: float = 0.02,
) -> T:
    """Return what `condition` gives once that is true; fail with what was waited for, and what `seen` gives.

    A `process` that ends meanwhile ends the waiting too: what it printed is shown.
    """
    __tracebackhide__ = True
    end = time.monotonic() + PATIENCE_S
    while True:
        ended = process is not None and process.poll() is not None
        if found := condition():
            return found
        if ended or time.monotonic() > end:
            break
        time.sleep(every_s)
    shown = f"\n{seen()}" if seen else ""
    if process is not None and ended:
        pytest.fail(f"waited for {what}, but it ended: {process.returncode}, {process.communicate()}{shown}")
    pytest.fail(f"waited {PATIENCE_S:.0f} s for {what}{shown}")


def noise_corpus(folder: Path) -> Path:
    """Write recordings of three seconds of noise, six to train on and three to validate; return where."""
    import torch

    from wavslm_core.data.audio import write_audio

    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 6), ("valid", 3)):
        for number in range(count):
            noise_S = 0.1 * torch.randn(48_000, generator=generator)
            write_audio(folder / split / f"{number}.wav", noise_S, 16_000)
    return folder
