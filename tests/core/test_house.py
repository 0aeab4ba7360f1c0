"""The plan of the core: every arrow between rooms points down, and its tests lie as it does."""

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


SMALL = {
    "a verb, a stage, a part or the contract of one is a file": """
        wavslm_core/cli/compare.py wavslm_core/cli/stop.py wavslm_core/stages/report.py
        wavslm_core/stages/train_codec.py wavslm_core/builtin.py
        wavslm_core/testing/contract/decoder.py wavslm_next_chunk/head.py
        wavslm_judges/vocabulary.py wavslm_onnx/command.py wavslm_discriminators/multi_period.py
        wavslm_discriminators/multi_scale.py wavslm_suites/prosaudit.py
    """,
    "configs live without torch, apart from what they configure": """
        wavslm_core/model/chain.py wavslm_next_chunk/config.py
        wavslm_discriminators/config.py
        wavslm_vector_quantize/focal_options.py wavslm_focalcodec_stream/maps.py
    """,
    "several neighbours stand on it": """
        wavslm_core/launch/launchers.py wavslm_core/recipe/places.py wavslm_core/parts/promises.py
        wavslm_core/data/containers/tags.py wavslm_core/data/containers/layout.py
        wavslm_core/testing/contract/chi_square.py wavslm_corpora/extras.py wavslm_corpora/unpack.py
        wavslm_tiny_speech/cache.py wavslm_tiny_speech/voices.py wavslm_discriminators/layers.py
        wavslm_judges/words.py wavslm_judges/libraries.py wavslm_serve/server.py
    """,
    "an algorithm with its source or its reason": """
        wavslm_x_transformers/rotary.py wavslm_vector_quantize/sign_entropy.py wavslm_wavlm/filterbank.py
    """,
    "the one reader of such files, or the one that needs torch or threads there": """
        wavslm_core/machine/npy_files.py wavslm_core/machine/joining.py wavslm_core/data/prefetch.py
        wavslm_suites/slamkit.py
    """,
}
"""Why files of fewer than 60 lines are files."""


def test_a_small_file_has_a_reason_of_its_own() -> None:
    explained = {name for names in SMALL.values() for name in names.split()}
    small = {
        path.relative_to(folder.parent).as_posix()
        for folder in (ROOT / PACKAGE, *ROOT.glob("plugins/*/wavslm_*"))
        for path in folder.rglob("*.py")
        if path.name not in ("__init__.py", "plugin.py")
        and len(path.read_text(encoding="utf-8").splitlines()) < 60
    }
    assert small <= explained, "merge it into the page of its noun, or say here why not"
    assert explained <= small, "no longer small, or gone"


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
