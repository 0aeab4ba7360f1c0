"""The plan of the core: every arrow between rooms points down, and its tests lie as it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house import PACKAGE, ROOT, STOREYS, House, read_house

WHOLE_PACKAGE = {"test_house.py", "test_imports.py"}
"""Test files about all rooms together."""


@pytest.fixture(scope="module")
def house() -> House:
    return read_house()


def test_every_room_has_its_storey(house: House) -> None:
    planned = [room for rooms in STOREYS for room in sorted(rooms)]
    assert sorted(planned) == sorted({*house.rooms.values()})
    assert len(planned) <= 20


def test_no_import_points_up(house: House) -> None:
    assert house.upward == []


def test_it_stays_as_plain_as_it_is(house: House) -> None:
    assert house.floors <= 11
    assert len(house.arrows) <= 98
    assert house.circles == []


def test_no_plugin_imports_itself_in_a_circle() -> None:
    packages = sorted(path.parent for path in (ROOT / "plugins").glob("*/wavslm_*/__init__.py"))
    assert len(packages) > 10
    assert [circle for package in packages for circle in read_house(package).circles] == []


def test_the_map_for_contributors_has_every_room(house: House) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    unlisted = {"__init__", "builtin", "plotting"}
    assert {room for room in house.rooms.values() if f"| `{room}` |" not in page} == unlisted


def test_a_test_file_is_named_for_what_it_tests() -> None:
    """`<room>/test_<module>.py` or `test_<module>_<aspect>.py`; `test_<room>.py` walks through the room.

    What walks through the house lies in `tests/e2e` and the other folders beside `tests/core`.
    """
    here = Path(__file__).parent
    for path in sorted(here.rglob("test_*.py")):
        place = path.relative_to(here)
        room = ROOT / PACKAGE / place.parent
        modules = {room.name, *(module.stem for module in room.glob("*.py"))}
        words = path.stem.split("_")[1:]
        named = {"_".join(words[:count]) for count in range(1, len(words) + 1)}
        assert place.name in WHOLE_PACKAGE or (room.is_dir() and named & modules), (
            f"tests/core/{place} is named for no module of {PACKAGE}/{place.parent}: rename or merge it"
        )


def test_arrows_circles_and_floors_are_found() -> None:
    house = House(
        {
            "wavslm_core.cli.run": frozenset({"wavslm_core.data.audio", "wavslm_core.errors"}),
            "wavslm_core.data.audio": frozenset({"wavslm_core.data.files"}),
            "wavslm_core.data.files": frozenset({"wavslm_core.data.audio", "wavslm_core.cli.run"}),
            "wavslm_core.errors": frozenset(),
        }
    )
    assert {*house.arrows} == {("cli", "data"), ("cli", "errors"), ("data", "cli")}
    assert house.upward == ["wavslm_core.data.files → wavslm_core.cli.run"]
    assert [len(circle) for circle in house.circles] == [3]
    assert house.floors == 2
