"""The suites are balanced: what knows no language tells right from wrong in half of the pairs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from pydantic import ValidationError

from wavslm_core.data.made_suites import spectral_distance_db
from wavslm_core.data.suites import Pair, PairList
from wavslm_core.errors import DataError
from wavslm_core.parts.configs import SuiteConfig
from wavslm_core.parts.plugins import load_registry
from wavslm_core.testing import contract_tests
from wavslm_tiny_speech import words
from wavslm_tiny_speech.balance import balanced, longer
from wavslm_tiny_speech.config import (
    TinySalmonConfig,
    TinySblimpConfig,
    TinySpeechConfig,
    TinyStoryclozeConfig,
    TinySwuggyConfig,
)
from wavslm_tiny_speech.corpus import TinySpeech
from wavslm_tiny_speech.phonotactics import Phonotactics, kind_of
from wavslm_tiny_speech.sentences import vocabulary, words_of
from wavslm_tiny_speech.stories import PLOTS, is_held_out, subject
from wavslm_tiny_speech.takes import Take
from wavslm_tiny_speech.tiny_suite import VOICES, TinySuite
from wavslm_tiny_speech.voices import TRAIN_TIMBRES, voice

Floats = npt.NDArray[np.float64]
CONFIGS: tuple[SuiteConfig, ...] = (
    TinySwuggyConfig(pairs=100),
    TinySblimpConfig(pairs=34),
    TinySalmonConfig(pairs=34),
    TinyStoryclozeConfig(pairs=100),
)
"""Some 200 pairs of each."""
FRAME = 320
CLUSTERS = 64

TestTinySwuggy = pytest.mark.slow(contract_tests(TinySwuggyConfig(pairs=2)))
TestTinySblimp = pytest.mark.slow(contract_tests(TinySblimpConfig(pairs=2)))
TestTinySalmon = pytest.mark.slow(contract_tests(TinySalmonConfig(pairs=2)))
TestTinyStorycloze = contract_tests(TinyStoryclozeConfig(pairs=2))


@dataclass(frozen=True)
class Made:
    """A suite, made once, with its audio."""

    suite: TinySuite[Any]
    found: PairList
    audio: Mapping[str, Floats]

    def sides(self, pair: Pair) -> tuple[Floats, Floats]:
        return self.audio[pair.positive], self.audio[pair.negative]

    def sets(self) -> list[list[Pair]]:
        """Return the pairs that make up for each other."""
        sets: dict[str, list[Pair]] = defaultdict(list)
        for pair in self.found.pairs:
            sets[pair.item].append(pair)
        return list(sets.values())

    def group(self, pair: Pair) -> str:
        """Return what `TinySuite.kinds` calls it."""
        return pair.id.rpartition("-")[0]


def built(config: SuiteConfig, cache: Path) -> TinySuite[Any]:
    suite: TinySuite[Any] = load_registry().build(config, cache_dir=cache)
    return suite


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(
    scope="module",
    params=[pytest.param(config, id=config.registered_name(), marks=pytest.mark.slow) for config in CONFIGS],
)
def made(request: pytest.FixtureRequest, cache: Path) -> Made:
    suite = built(request.param, cache)
    found = suite.read()
    names = [name for pair in found.pairs for name in (pair.positive, pair.negative)]
    return Made(suite, found, {name: soundfile.read(suite.source(name))[0] for name in names})


def only(made: Made, name: str) -> None:
    if made.suite.config.registered_name() != name:
        pytest.skip(f"is about {name}")


class KMeansUnigrams:
    """Clusters of spectra of the corpus, and how often each comes there."""

    def __init__(self, cache: Path) -> None:
        corpus = TinySpeech(TinySpeechConfig(minutes=2.0), cache_dir=cache)
        audio = [
            corpus.load(utterance, sample_rate_hz=16000).numpy() for utterance in corpus.utterances("train")
        ]
        features = np.concatenate([self.features(waveform) for waveform in audio])
        self.centres = np.random.default_rng(0).permutation(features)[:CLUSTERS]
        for _ in range(8):
            tokens = self.nearest(features)
            self.centres = np.stack(
                [
                    features[tokens == token].mean(axis=0) if (tokens == token).any() else self.centres[token]
                    for token in range(CLUSTERS)
                ]
            )
        counts = np.bincount(self.nearest(features), minlength=CLUSTERS) + 1.0
        self.log_probs = np.log(counts / counts.sum())

    @staticmethod
    def features(waveform: Floats) -> Floats:
        frames = waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)
        bands = np.abs(np.fft.rfft(frames * np.hanning(FRAME)))[:, 1:] ** 2
        levels: Floats = np.log10(bands.reshape(len(bands), 20, -1).mean(axis=2) + 1e-7)
        return levels

    def nearest(self, features: Floats) -> npt.NDArray[np.int64]:
        distances = (self.centres**2).sum(axis=1) - 2 * features @ self.centres.T
        found: npt.NDArray[np.int64] = distances.argmin(axis=1)
        return found

    def mean(self, waveform: Floats) -> float:
        return float(self.log_probs[self.nearest(self.features(waveform))].mean())

    def sum(self, waveform: Floats) -> float:
        return float(self.log_probs[self.nearest(self.features(waveform))].sum())


@pytest.fixture(scope="module")
def unigrams(cache: Path) -> KMeansUnigrams:
    return KMeansUnigrams(cache)


def percent_right(pairs: Sequence[Pair], score: Callable[[Pair, int], float]) -> float:
    """Return how often the positive has the higher score; ties count one half."""
    credits = [np.sign(score(pair, 0) - score(pair, 1)) for pair in pairs]
    return 50 + 50 * float(np.mean(credits))


def test_length_duration_loudness_and_unigrams_alone_tell_nothing(
    made: Made, unigrams: KMeansUnigrams
) -> None:
    def heard(score: Callable[[Floats], float]) -> float:
        return percent_right(made.found.pairs, lambda pair, side: score(made.sides(pair)[side]))

    scores = {
        "words": percent_right(made.found.pairs, lambda pair, side: len(pair.texts[side].split())),
        "signs": percent_right(made.found.pairs, lambda pair, side: len(pair.texts[side].replace("|", ""))),
        "seconds": heard(len),
        "decibels": heard(lambda samples_S: round(10 * np.log10(np.mean(samples_S**2)), 2)),
        "unigrams, mean": heard(unigrams.mean),
        "unigrams, sum": heard(unigrams.sum),
    }
    assert len(made.found.pairs) >= 200
    assert all(abs(score - 50) <= 4 for score in scores.values()), scores


def test_likeness_of_spectra_tells_nothing_or_is_the_mark(made: Made) -> None:
    def alike(pair: Pair, side: int) -> float:
        assert pair.split_s is not None
        samples_S = np.round(32768 * made.sides(pair)[side]).astype(np.int16)
        return -spectral_distance_db(samples_S, round(16000 * pair.split_s[side]))

    marks = made.suite.about_spectra
    others = [pair for pair in made.found.pairs if made.group(pair) not in marks]
    score = percent_right(others, alike)
    assert abs(score - 50) <= 4
    for kind in marks:
        mark = percent_right([pair for pair in made.found.pairs if made.group(pair) == kind], alike)
        told = re.search(rf"spectra, {kind} ([0-9.]+)%", made.found.remark)
        assert told, made.found.remark
        assert mark > 65
        assert float(told[1]) == pytest.approx(mark, abs=0.1)


def test_a_pair_is_the_same_up_to_its_split(made: Made) -> None:
    for pair in made.found.pairs:
        assert pair.split_s is not None
        right, wrong = made.sides(pair)
        split = round(16000 * pair.split_s[0])
        assert np.array_equal(right[:split], wrong[:split])
        if made.suite.config.registered_name() in ("tiny_salmon", "tiny_storycloze"):
            assert split % 1280 == 0
        after = min(len(right), len(wrong), split + 1600)
        assert not np.array_equal(right[split:after], wrong[split:after])
        assert 0.1 < pair.split_s[0] < min(len(right), len(wrong)) / 16000 - 0.1


def test_kinds_have_equally_many_pairs_in_held_out_voices(made: Made) -> None:
    counts = Counter(made.group(pair) for pair in made.found.pairs)
    assert counts == dict.fromkeys(made.suite.kinds, made.suite.config.pairs)
    assert not {pair.groups["voice"] for pair in made.found.pairs} & {*TRAIN_TIMBRES}
    assert not {*VOICES} & {voice(number, held_out=True) for number in range(8)}
    for group in made.suite.groups:
        assert all(group.name in pair.groups for pair in made.found.pairs), group


def test_every_sentence_names_a_combination_that_training_lacks(made: Made) -> None:
    subjects = [subject(topic) for plot in PLOTS for topic in plot.topics] + [*words.PLACES]
    for pair in made.found.pairs:
        # What the last word was before its sounds took its place, only the sounds tell.
        text = re.sub(r"\[\[.*", "", pair.texts[0])
        names = [name for name in words.GIRLS + words.BOYS if re.search(rf"\b{name}\b", text)]
        told = [what for what in subjects if re.search(rf"\b{what}\b", text)]
        last = [
            what for what in subjects if "[[" in pair.texts[0] and text.endswith(what[: what.rfind(" ") + 1])
        ]
        assert any(is_held_out(name, what) for name in names for what in [*told, *last]), text


def test_all_words_are_the_corpus_s(made: Made) -> None:
    for pair in made.found.pairs:
        for text in pair.texts:
            assert {*words_of(re.sub(r"\[\[.*", "", text))} <= vocabulary().keys(), text


def test_what_is_right_once_is_wrong_once(made: Made) -> None:
    only_order = {"adjective_noun", "article_noun", "verb_object"}
    salmon = made.suite.config.registered_name() == "tiny_salmon"
    for pairs in made.sets():
        signs = re.compile(r"[^ |]+")
        right, wrong = (
            Counter(sign.strip("'[].,") for pair in pairs for sign in signs.findall(pair.texts[side].lower()))
            for side in (0, 1)
        )
        assert right == wrong
        alone = made.group(pairs[0]) in only_order
        assert len(pairs) == (1 if alone else 2)
        if salmon:
            one, other = pairs
            after = [
                made.sides(pair)[side][round(16000 * pair.split_s[side]) :]
                for pair, side in ((one, 0), (other, 1), (other, 0), (one, 1))
            ]
            assert np.array_equal(after[0], after[1])
            assert np.array_equal(after[2], after[3])


def test_non_words_are_legal_one_sound_off_and_no_words(made: Made) -> None:
    only(made, "tiny_swuggy")
    from wavslm_tiny_speech.espeak import Espeak

    known: dict[str, Phonotactics] = {}
    right_words = Counter[tuple[str, ...]]()
    with Espeak() as espeak:
        for each in VOICES:
            if each.accent not in known:
                known[each.accent] = Phonotactics.of(espeak.sounds(list(vocabulary()), each))
    for pair in made.found.pairs:
        right, wrong = (tuple(re.sub(r".*\[\[|\]\].*", "", text).split("|")) for text in pair.texts)
        assert len(right) == len(wrong) == int(pair.groups["length"])
        differing = [(a, b) for a, b in zip(right, wrong, strict=True) if a != b]
        assert len(differing) == 1
        assert kind_of(differing[0][0]) == kind_of(differing[0][1]) == pair.groups["type"]
        accents = {each.accent for each in VOICES if each.timbre == pair.groups["voice"]}
        assert any(known[accent].allows(wrong) for accent in accents)
        right_words[right] += 1
    assert len(right_words) > 60


def test_legal_is_what_some_word_has() -> None:
    legal = Phonotactics.of([("k", "'a", "t"), ("s", "t", "'o", "p"), ("p", "'a", "s")])
    assert legal.allows(("k", "'a", "s"))
    assert not legal.allows(("k", "'a", "t"))
    assert not legal.allows(("k", "'o", "t"))
    assert not legal.allows(("t", "s", "'o", "p"))
    assert not legal.allows(("p", "'a", "s", "t"))


@pytest.mark.slow
def test_made_again_elsewhere_it_is_the_same_and_a_damaged_one_is_mended(tmp_path: Path) -> None:
    config = TinyStoryclozeConfig(pairs=2)

    def files(cache: Path) -> dict[str, bytes]:
        built(config, cache).read()
        (folder,) = cache.glob("tiny_storycloze-*")
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    program = (
        "import sys; from pathlib import Path\n"
        "from wavslm_tiny_speech.config import TinyStoryclozeConfig\n"
        "from wavslm_tiny_speech.storycloze import TinyStorycloze\n"
        "TinyStorycloze(TinyStoryclozeConfig(pairs=2), cache_dir=Path(sys.argv[1])).read()"
    )
    environment = os.environ | {"PYTHONHASHSEED": "17"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "other")], check=True, env=environment)
    made = (tmp_path / "other").stat().st_mtime_ns
    first = files(tmp_path / "one")
    assert len(first) == 9
    assert files(tmp_path / "other") == first
    assert (tmp_path / "other").stat().st_mtime_ns == made
    (file,) = (tmp_path / "one").glob("*/reference-0001-wrong.wav")
    kept = file.with_name("index.json").stat().st_mtime_ns
    assert files(tmp_path / "one") == first
    assert file.with_name("index.json").stat().st_mtime_ns == kept
    file.write_bytes(b"RIFF")
    assert files(tmp_path / "one") == first
    seeded = built(config.model_copy(update={"seed": 1}), tmp_path / "one").read()
    assert {pair.texts for pair in seeded.pairs}.isdisjoint(
        pair.texts for pair in built(config, tmp_path / "one").read().pairs
    )


def test_a_clue_that_always_tells_is_refused() -> None:
    def take(right: int, wrong: int) -> Take:
        noise = np.random.default_rng(0).integers(-1000, 1000, 4000).astype(np.int16)
        return Take(noise[:right], noise[:wrong], 1000, ("", ""), {})

    with pytest.raises(DataError, match="duration would have told right from wrong"):
        list(balanced(([take(3000, 2000)] for _ in range(10**6)), 3, {"duration": longer}))
    turns = ([take(3000, 2000) if Random(n).random() < 0.8 else take(2000, 3000)] for n in range(10**6))
    found = [take for _, take, _ in balanced(turns, 40, {"duration": longer})]
    assert sum(len(take.right) - len(take.wrong) for take in found) == 0


def test_the_last_set_brings_a_lead_back_if_one_can() -> None:
    def take(lead: int) -> Take:
        samples = np.zeros(1000, np.int16)
        return Take(samples[: 500 + lead], samples[:500], 100, ("", ""), {})

    def leads(turns: Iterable[tuple[int, int]]) -> list[int]:
        sets = ([take(one), take(other)] for one, other in turns)
        found = list(balanced(sets, 4, {"duration": longer}))
        assert all(told == {"duration": longer(take)} for _, take, told in found)
        return [longer(take) for _, take, _ in found]

    assert leads([(1, 1), (1, -1), (-1, 0), (-1, -1)]) == [1, 1, -1, -1]
    # The last sets are chosen together, so that the first one can stay out.
    assert leads(chain([(1, 1)], repeat((1, -1)))) == [1, -1, 1, -1]
    assert leads([(1, 1), (1, 0), (1, 1), (-1, 0), (-1, -1)]) == [1, 0, -1, 0]
    # Nothing brings this back: it is what the lead may be at any time.
    assert leads(repeat((1, 0))) == [1, 0, 1, 0]


def test_what_a_user_can_get_wrong() -> None:
    with pytest.raises(ValidationError, match="multiple of 2"):
        TinySwuggyConfig(pairs=3)
    with pytest.raises(ValidationError, match="path"):
        TinySalmonConfig.model_validate({"path": "somewhere"})
