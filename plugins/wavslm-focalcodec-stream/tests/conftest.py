"""Parity folders, small random models, and the tolerance that the parity models state."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

# Tests are imported without their folder on the path; what lies beside this is theirs alone.
sys.path.insert(0, str(Path(__file__).parent))

SHARED = Path(os.environ.get("WAVSLM_SHARED", Path(__file__).resolve().parents[3] / "../shared"))
PARITY = SHARED / "parity"


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.fixture
def parity_folder() -> Callable[[str], Path]:
    def find(name: str) -> Path:
        if not (PARITY / name).exists():
            pytest.skip(f"{PARITY / name} is absent: set WAVSLM_SHARED to the folder that holds parity/")
        return PARITY / name

    return find


@pytest.fixture
def parity_io(parity_folder: Callable[[str], Path]) -> Callable[[str], dict[str, Tensor]]:
    return lambda name: load_file(parity_folder(name) / "io.safetensors")


@pytest.fixture
def assert_parity() -> Callable[[Tensor, Tensor], None]:
    def check(actual: Tensor, expected: Tensor) -> None:
        tolerance = 2e-4 + 1e-5 * float(expected.abs().max())
        assert actual.shape == expected.shape
        assert float((actual - expected).abs().max()) <= tolerance

    return check
