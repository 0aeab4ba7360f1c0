"""The plan of `wavslm_core`: which room may import from which, and what it looks like now.

python -m tests.house

A room is a folder or a file at the top. Imports inside of functions and under TYPE_CHECKING count.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "wavslm_core"
STOREYS = (
    {"__init__", "cli", "plugin"},
    {"builtin", "testing"},
    {"sweep"},
    {"launch"},
    {"stages"},
    {"report"},
    {"training"},
    {"evaluation"},
    {"run"},
    {"recipe"},
    {"model"},
    {"data"},
    {"parts"},
    {"machine", "plotting"},
    {"errors"},
)
"""From the top: a room imports from those below it."""


@dataclass(frozen=True)
class House:
    """The files of a package and what they import of it."""

    imports: Mapping[str, frozenset[str]]
    """Module → the modules of the package that it imports."""

    @cached_property
    def rooms(self) -> dict[str, str]:
        """Module → its room."""
        return {module: _room(module) for module in self.imports}

    @cached_property
    def arrows(self) -> dict[tuple[str, str], list[str]]:
        """(room, room it imports from) → "module → module" of each import between them."""
        found: dict[tuple[str, str], list[str]] = {}
        for module, others in self.imports.items():
            for other in others:
                pair = self.rooms[module], self.rooms[other]
                if pair[0] != pair[1]:
                    found.setdefault(pair, []).append(f"{module} → {other}")
        return found

    @cached_property
    def upward(self) -> list[str]:
        """Imports from a room that is not below."""
        storey = {room: place for place, rooms in enumerate(STOREYS) for room in rooms}
        return [
            line
            for (room, other), lines in sorted(self.arrows.items())
            if storey[room] >= storey[other]
            for line in sorted(lines)
        ]

    @cached_property
    def circles(self) -> list[list[str]]:
        """Files that import each other in a circle."""
        return [sorted(circle) for circle in _circles(self.imports) if len(circle) > 1]

    @cached_property
    def floors(self) -> int:
        """How many rooms lie above each other at most; those of a circle are one floor."""
        below: dict[str, frozenset[str]] = {
            room: frozenset(other for one, other in self.arrows if one == room)
            for room in {*self.rooms.values()}
        }
        heights: dict[str, int] = {}
        for circle in _circles(below):
            under = {other for room in circle for other in below[room]} - circle
            height = 1 + max((heights[room] for room in under), default=0)
            heights |= dict.fromkeys(circle, height)
        return max(heights.values())


def read_house(root: Path = ROOT / PACKAGE) -> House:
    """Read all files of a package."""
    paths = {_module(path, root): path for path in sorted(root.rglob("*.py"))}
    stubs = {_module(path, root): path for path in sorted(root.rglob("*.pyi"))}
    return House(
        {
            # A module with a stub imports by name what the stub shows.
            module: frozenset(_imported(stubs.get(module, path), module, paths)) - {module}
            for module, path in paths.items()
        }
    )


def _module(path: Path, root: Path) -> str:
    parts = [root.name, *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def _imported(path: Path, module: str, modules: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in modules:
                    yield inner
                elif node.module in modules:
                    yield node.module


def _circles(below: Mapping[str, frozenset[str]]) -> list[set[str]]:
    """Return the strongly connected components, each after those that it points to (Tarjan)."""
    found: list[set[str]] = []
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    open_: list[str] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        open_.append(node)
        for other in sorted(below[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in open_:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = open_.index(node)
            found.append(set(open_[at:]))
            del open_[at:]

    for node in sorted(below):
        if node not in index:
            visit(node)
    return found


def main() -> int:
    house = read_house()
    rooms = sorted({*house.rooms.values()})
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / PACKAGE).rglob("*.py"))
    print(f"files {len(house.imports)}, lines {lines}")
    print(f"rooms {len(rooms)}, floors {house.floors}, arrows {len(house.arrows)}")
    print(f"upward {len(house.upward)}")
    for line in house.upward:
        print("  " + line)
    print(f"circles {[len(circle) for circle in house.circles]}")
    for circle in house.circles:
        print("  " + ", ".join(circle))
    return 0


if __name__ == "__main__":
    sys.exit(main())
