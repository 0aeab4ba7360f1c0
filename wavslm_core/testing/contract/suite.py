"""The contract of suites, held over a copy of the data where the config says it is."""

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import pytest
import torch

from wavslm_core.data.audio import read_audio
from wavslm_core.data.audio_files import audio_info
from wavslm_core.data.suites import PairList, Suite
from wavslm_core.errors import DataError
from wavslm_core.testing.contract.config_checks import ConfigChecks


class SuiteContract(ConfigChecks):
    cache_dir: ClassVar[Path]
    """One for all checks: what a suite makes is made by the first that reads it, and kept for the others."""

    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        if "cache_dir" not in vars(type(self)):
            type(self).cache_dir = tmp_path_factory.mktemp("cache")

    def built(self, cache_dir: Path | None = None) -> Suite[Any]:
        suite: Suite[Any] = self.subject.registry.build(
            self.subject.config, cache_dir=cache_dir or self.cache_dir
        )
        return suite

    def opened(self, cache_dir: Path | None = None) -> tuple[Suite[Any], PairList]:
        """Return the suite and what it reads, which must be all well; made anew for a `cache_dir`."""
        suite = self.built(cache_dir)
        found = suite.read()
        self.require(
            bool(found.pairs) and not found.findings,
            f"read() gave {len(found.pairs)} pairs and found {[finding.what for finding in found.findings]}",
            "a copy without a fault has pairs and no findings: give the contract one",
        )
        return suite, found

    def test_what_tables_call_it(self) -> None:
        suite = self.built()
        names = [group.name for group in suite.groups]
        averages = [average.name for average in suite.averages]
        titles = [
            suite.title,
            *(group.title for group in suite.groups),
            *(mean.title for mean in suite.averages),
        ]
        self.require(
            all(isinstance(title, str) and title.strip() for title in titles),
            "a title is empty",
            "titles show",
        )
        self.require(
            len({*names}) == len(names) and len({*averages}) == len(averages) > 0,
            f"its groups are {names}, its averages {averages}",
            "names of groups and of averages are unique, and the first average stands for the suite",
        )
        over = [average.over for average in suite.averages if average.over]
        over += [average.without[0] for average in suite.averages if average.without]
        self.require(
            {*over} <= {*names}, f"averages speak of {sorted({*over} - {*names})}", "they name groups"
        )
        self.require(
            0 < suite.chance < 1, f"its chance level is {suite.chance}", "it is a share, such as 0.5"
        )

    def test_read_again_or_made_anew_it_is_the_same(self, tmp_path: Path) -> None:
        (suite, first), (_, second), (anew, third) = self.opened(), self.opened(), self.opened(tmp_path)
        self.require(
            list(first.pairs) == list(second.pairs) == list(third.pairs),
            "read twice, it has other pairs or another order",
            "pairs come in a fixed order, so that an evaluation can continue",
        )
        for name in (first.pairs[0].positive, first.pairs[-1].negative):
            self.require(
                torch.equal(read_audio(suite.source(name)), read_audio(anew.source(name))),
                f"{name} sounds otherwise when it is made anew",
                "what a suite makes follows from its config and its data alone",
            )

    def test_pairs(self) -> None:
        suite, found = self.opened()
        twice = [name for name, count in Counter(pair.id for pair in found.pairs).items() if count > 1]
        self.require(not twice, f"the ids {twice[:3]} are there twice", "the id of a pair is unique")
        known = {group.name for group in suite.groups}
        for pair in found.pairs:
            self.require(
                bool(pair.item) and pair.positive != pair.negative and {*pair.groups} <= known,
                f"it has {pair!r}",
                "a pair has an item, two recordings, and groups that the suite names",
            )

    def test_recordings(self) -> None:
        suite, found = self.opened()
        rule = "every recording of a pair can be read, and a pair splits inside of both"
        for pair in (found.pairs[0], found.pairs[-1]):
            for side, name in enumerate((pair.positive, pair.negative)):
                with self.attempt(f"reading {name}", rule):
                    source = suite.source(name)
                    read_audio(source)
                    info = audio_info(source)
                split_s = 0.0 if pair.split_s is None else pair.split_s[side]
                seconds = info.samples / info.sample_rate_hz
                self.require(
                    0 <= split_s < seconds,
                    f"{name} lasts {seconds:.2f} s and splits at {split_s:.2f} s",
                    rule,
                )

    def test_what_official_scorers_read_and_write(self) -> None:
        suite, found = self.opened()
        scores = {name: -1.5 for pair in found.pairs for name in (pair.positive, pair.negative)}
        written = {**suite.submission(scores), **suite.official([(pair, 1.0) for pair in found.pairs])}
        for path, text in written.items():
            self.require(
                bool(text) and not PurePosixPath(path).is_absolute() and ".." not in path.split("/"),
                f"it writes {len(text)} characters to '{path}'",
                "texts are written to relative paths",
            )

    def test_what_is_not_there(self) -> None:
        config = self.subject.config
        if "path" not in type(config).model_fields:
            return
        rule = "a path without the data is a DataError that says what should be there"
        absent = self.subject.registry.build(config.model_copy(update={"path": "no/such/place"}))
        try:
            absent.read()
        except DataError:
            return
        except Exception as error:
            self.require(False, f"it raised {type(error).__name__}", rule)
        self.require(False, "it read pairs from no/such/place", rule)
