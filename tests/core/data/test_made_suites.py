"""Suites that are made on the spot: once, the same again, and anew where anything is damaged or other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from wavslm_core.data.audio import read_audio
from wavslm_core.data.made_suites import MadePair, MadeSuite, Samples, spectral_distance_db
from wavslm_core.errors import DataError, PluginError
from wavslm_core.parts.configs import SuiteConfig

RATE_HZ = 16000


class NoiseConfig(SuiteConfig):
    """Noise that goes on, or does not."""

    name: Literal["noise"] = "noise"
    pairs: int = 2
    fails: bool = False


class Noise(MadeSuite[NoiseConfig]):
    title = "noise"
    sample_rate_hz = RATE_HZ
    made = 0

    def ingredients(self) -> dict[str, Any]:
        return {"pairs": self.config.pairs}

    def make(self, write: Callable[[MadePair], None]) -> str:
        self.made += 1
        for number in range(self.config.pairs):
            first, own, other = np.random.default_rng(number).integers(-999, 999, (3, 1600)).astype(np.int16)
            right, wrong = np.concatenate([first, own]), np.concatenate([first, other[:800]])
            write(MadePair(f"{number}", "all", right, wrong, 1600, {"kind": "white"}, ("a", "b")))
            if self.config.fails:
                raise DataError("nothing more")
        return "White."


def test_it_is_made_once_and_anew_where_it_is_damaged_or_other(tmp_path: Path) -> None:
    suite = Noise(NoiseConfig(), cache_dir=tmp_path)
    found = suite.read()
    assert (len(found.pairs), found.remark, found.findings) == (2, "White.", ())
    pair = found.pairs[1]
    assert (pair.id, pair.item, pair.groups, pair.split_s) == ("1", "all", {"kind": "white"}, (0.1, 0.1))
    assert pair.texts == ("a", "b")
    sides = [read_audio(suite.source(name)).numpy() for name in (pair.positive, pair.negative)]
    assert [len(side) for side in sides] == [3200, 2400]
    assert np.array_equal(sides[0][:1600], sides[1][:1600])
    assert suite.read() == found
    assert suite.made == 1
    (file,) = tmp_path.glob("noise-*/1-wrong.wav")
    whole = file.read_bytes()
    file.write_bytes(whole[:-2])
    assert suite.read() == found
    assert (suite.made, file.read_bytes()) == (2, whole)
    assert len(Noise(NoiseConfig(pairs=3), cache_dir=tmp_path).read().pairs) == 3
    assert len([*tmp_path.glob("noise-*")]) == 2


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing more"):
        Noise(NoiseConfig(fails=True), cache_dir=tmp_path).read()
    assert [*tmp_path.glob("noise-*")] == []


def test_spectra_are_compared_whatever_their_levels() -> None:
    def low(seed: int, level: float) -> Samples:
        noise = np.random.default_rng(seed).standard_normal(8000)
        return np.round(level * np.convolve(noise, np.ones(8) / 8, "same")).astype(np.int16)

    white = np.random.default_rng(2).integers(-3000, 3000, 8000).astype(np.int16)
    alike = spectral_distance_db(np.concatenate([low(0, 3000), low(1, 900)]), 8000)
    other = spectral_distance_db(np.concatenate([low(0, 3000), white]), 8000)
    assert alike < 2 < 5 < other


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"id": "a/b"}, "names files"),
        ({"id": "0"}, "another one has"),
        ({"groups": {"kind": 3}}, "give strings"),
        ({"right": np.zeros(20, dtype=np.float32)}, r"samples float32 \(20,\): give int16"),
        ({"right": np.zeros(0, dtype=np.int16)}, "splits at sample 5 of 0"),
        ({"right": np.ones(20, dtype=np.int16)}, "differ before sample 5"),
    ],
)
def test_what_is_no_pair_is_told_to_who_wrote_it(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    even = np.zeros(20, dtype=np.int16)
    pair = {"id": "1", "item": "all", "right": even, "wrong": even, "split": 5}

    class Odd(Noise):
        def make(self, write: Callable[[MadePair], None]) -> str:
            write(MadePair(**{**pair, "id": "0", "split": np.int64(5)}))
            write(MadePair(**{**pair, **wrong}))
            return ""

    with pytest.raises(PluginError, match=rf"Odd of the suite 'noise' wrote the pair .*{said}"):
        Odd(NoiseConfig(), cache_dir=tmp_path).read()
    assert not [*tmp_path.glob("noise-*/index.json")]
