"""Timings are taken once on a kind of machine, and anew where what is kept says nothing."""

from pathlib import Path

import pytest

from wavslm_core.machine.timings import FOLDER_VARIABLE, cache_folder, in_turns, processor, remembered


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


class Measurement:
    def __init__(self, **seconds: float) -> None:
        self.seconds, self.times = seconds, 0

    def __call__(self) -> dict[str, float]:
        self.times += 1
        return self.seconds


def test_what_was_measured_is_not_measured_again(folder: Path) -> None:
    measure = Measurement(slow=2.0, fast=1.0)
    for _ in range(3):
        assert remembered({"what": "a test", "threads": 1}, measure) == {"slow": 2.0, "fast": 1.0}
    assert measure.times == 1
    assert remembered({"what": "a test", "threads": 2}, measure)
    assert measure.times == 2
    assert len([*folder.rglob("*.json")]) == 2


@pytest.mark.parametrize(
    "damaged", [b"", b"{", b'{"measured_on": {}, "seconds": {"slow": 1.0}}', b"[" * 10000]
)
def test_what_is_damaged_or_of_another_machine_is_measured_again(folder: Path, damaged: bytes) -> None:
    measure = Measurement(slow=2.0)
    remembered({"what": "a test"}, measure)
    (path,) = folder.rglob("*.json")
    path.write_bytes(damaged)
    assert remembered({"what": "a test"}, measure) == {"slow": 2.0}
    assert remembered({"what": "a test"}, measure) == {"slow": 2.0}
    assert measure.times == 2


def test_where_nothing_can_be_kept_it_is_measured_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    measure = Measurement(slow=2.0)
    for _ in range(2):
        assert remembered({"what": "a test"}, measure) == {"slow": 2.0}
    assert measure.times == 2


def test_the_users_own_cache_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "wavslm"
    assert processor()


def test_calls_take_turns() -> None:
    order: list[str] = []
    seconds = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order == ["a", "b"] * 4
    assert all(value >= 0 for value in seconds.values())
