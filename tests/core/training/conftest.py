"""The tiny job as a module, whatever pytest's import mode."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def tiny_job() -> ModuleType:
    path = Path(__file__).with_name("tiny_job.py")
    spec = importlib.util.spec_from_file_location("wavslm_tiny_job", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wavslm_tiny_job"] = module
    spec.loader.exec_module(module)
    return module
