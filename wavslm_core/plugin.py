"""All that a plugin needs of wavslm; `wavslm_core.testing` holds it to its contract.

The names are those of the stub beside this file, `plugin.pyi`, which type checkers and editors read. Each is
imported when it is first asked for: configs, facts, hooks and errors without torch, modules with it. What is
not here may move.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

_HOMES = {
    alias.name: str(statement.module)
    for statement in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(statement, ast.ImportFrom)
    for alias in statement.names
}
"""Name → the module that it is imported from."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"wavslm_core.plugin has no {name}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return __all__
