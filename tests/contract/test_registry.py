"""The contract over every part that is registered in this repository; a part without a case fails."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import cast

from tests.contract.cases import CASES, Case
from wavslm_core.config_blocks import config_from_dict
from wavslm_core.configs import PART_ROLES, PartConfig
from wavslm_core.plugins import load_registry
from wavslm_core.testing import contract_tests
from wavslm_core.testing.contract.subject import Contract

ROOT = Path(__file__).parents[2]


def made(name: str, case: Case) -> type:
    config = cast(PartConfig, config_from_dict(case.role, dict(case.options), where=name))
    return contract_tests(config, **case.contract)


globals().update({f"Test{name}": made(name, case) for name, case in CASES.items()})


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"contract_of_{path.parents[1].name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def covered() -> set[tuple[str, str]]:
    """Return the (role, name) of every contract that is tested here or with a plugin."""
    values = list(globals().values())
    for path in sorted(ROOT.glob("plugins/*/tests/test_*contract*.py")):
        values += vars(loaded(path)).values()
    contracts = [value for value in values if isinstance(value, type) and issubclass(value, Contract)]
    configs = [contract.subject.config for contract in contracts if hasattr(contract, "subject")]
    return {(config.role, config.registered_name()) for config in configs}


def test_every_registered_part_has_a_case() -> None:
    registered = {
        (entry.role, entry.name)
        for entry in load_registry()
        if entry.role in PART_ROLES and not entry.target.startswith("wavslm_core.testing.")
    }
    missing = sorted(registered - covered())
    assert not missing, (
        f"no contract is tested for {', '.join(f'{role} {name}' for role, name in missing)}: add a case to "
        "tests/contract/cases.py, or `Test… = contract_tests(config)` to test_contract.py of the plugin"
    )
