"""What test files share: waiting for something that happens elsewhere, a corpus, models with names."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from subprocess import Popen
from typing import Any, TypeVar

import pytest

from wavslm_core.parts import plugins

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


BOX = """
from pathlib import Path

from wavslm_core.plugin import hookimpl


@hookimpl
def register_checkpoints(register):
    for place in sorted(Path(__file__).parent.glob("*/*")):
        name, kind = place.parts[-2:]
        if name != "__pycache__":
            register(name, kind=kind, folder=place, about="for tests", license="Apache-2.0")
"""


def bring(monkeypatch: pytest.MonkeyPatch, site: Path, models: Mapping[str, Path]) -> Path:
    """Install a distribution `wavslm-box` of models, given as "name/kind"; return where they lie."""
    package, info = site / "wavslm_box", site / "wavslm_box-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wavslm-box\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[wavslm]\nbox = wavslm_box\n")
    for place, folder in models.items():
        shutil.copytree(folder, package / place)
    (package / "__init__.py").write_text(BOX)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "wavslm_box", raising=False)
    loaded = plugins.load_from(entry_points(group=plugins.GROUP))
    monkeypatch.setattr(plugins, "load", lambda: loaded)
    return package
