"""The contract over every part and discriminator that is registered in this repository; one without a case
fails."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest
import torch

from tests.contract.cases import CASES, Case
from wavslm_core.errors import StreamingError
from wavslm_core.parts.blocks import config_from_dict
from wavslm_core.parts.configs import PartConfig
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Entry, Registry
from wavslm_core.testing import contract_tests
from wavslm_core.testing.contract.streaming_checks import FlowChecks
from wavslm_core.testing.contract.subject import Contract
from wavslm_core.testing.fake_configs import FakeHeadConfig

ROOT = Path(__file__).parents[2]


ELSEWHERE = {"stage", "metric", "corpus", "suite", "format"}
"""Roles whose contracts stand with the tests of each implementation. A new role is none of them."""


def made(name: str, case: Case) -> type:
    config = cast(PartConfig, config_from_dict(case.role, dict(case.options), where=name))
    return contract_tests(config, **case.contract)


globals().update({f"Test{name}": made(name, case) for name, case in CASES.items()})


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"contract_of_{path.parents[1].name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def contracts() -> list[type[Contract]]:
    """Return every contract that pytest collects, here and with plugins."""
    names = dict(globals())
    for path in sorted(ROOT.glob("plugins/*/tests/test_*contract*.py")):
        names |= {f"{name}_{path}": value for name, value in vars(loaded(path)).items()}
    return [value for name, value in names.items() if name.startswith("Test") and _is_contract(value)]


def _is_contract(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Contract)


def covered() -> set[tuple[str, str]]:
    """Return the (role, name) of each of them."""
    configs = [contract.subject.config for contract in contracts()]
    return {(config.role, config.registered_name()) for config in configs}


def uncovered(registry: Registry) -> list[str]:
    """Return what no contract is tested for, of the other roles."""
    parts = {
        (entry.role, entry.name)
        for entry in registry
        if entry.role not in ELSEWHERE and not entry.target.startswith("wavslm_core.testing.")
    }
    return [f"{role} {name}" for role, name in sorted(parts - covered())]


def test_every_registered_part_has_a_case() -> None:
    missing = ", ".join(uncovered(load_registry()))
    assert not missing, (
        f"no contract is tested for {missing}: add a case to tests/contract/cases.py, or "
        "`Test… = contract_tests(config)` to tests/test_contract.py of the plugin"
    )


@torch.no_grad()
def test_no_step_copies_a_ring_or_takes_a_part_of_a_chunk() -> None:
    """More than the contract asks of parts of others: here, rings stay where they lie in memory."""
    for contract in contracts():
        if not issubclass(contract, FlowChecks) or not contract.subject.facts().streams:
            continue
        tests, name = contract(), contract.subject.described
        for flow in tests.flows(tests.part()):
            states = [flow.init_state(2)]
            for piece in flow.input(2, chunks=8).split(flow.chunk_in, dim=1):
                states.append(flow.step(piece.clone(), states[-1])[1])
            places = [[ring.data_ptr() for ring in state if ring.ndim > 2] for state in states]
            assert all(place == places[0] for place in places), f"{name} copies a ring in {flow.name}"
            chunk = tests.facts.frames_per_token if flow.name == "encode" else flow.chunk_in
            if chunk > 1:
                with pytest.raises(StreamingError, match="whole chunks of "):
                    flow.step(flow.input(2)[:, : chunk - 1], states[-1])


def test_a_part_without_a_case_is_missed() -> None:
    registry = Registry()
    for role, name in (("head", "novel"), ("head", "next_chunk"), ("stage", "novel")):
        registry.add(Entry(role, name, FakeHeadConfig, "somewhere:Head", "wavslm-novel", "1.0"))  # type: ignore[arg-type]
    assert uncovered(registry) == ["head novel"]
