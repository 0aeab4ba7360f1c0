"""Word errors: counting, recognising, and what they are counted against."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from pydantic import ValidationError
from torch import Tensor

from wavslm_core.data.corpora import Split, open_split
from wavslm_core.errors import WavslmError
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_judges.config import WordErrorConfig
from wavslm_judges.recognisers import edits, words_of
from wavslm_judges.word_error import WordError

pytestmark = pytest.mark.slow

RATE_HZ = 16_000
WORDS = st.lists(st.sampled_from("abc"), max_size=6)


@given(WORDS, WORDS)
def test_edits_are_the_fewest(wanted: list[str], heard: list[str]) -> None:
    @cache
    def fewest(i: int, j: int) -> int:
        """Edits from wanted[:i] to heard[:j], straight from the definition."""
        if i == 0 or j == 0:
            return i + j
        substituted = fewest(i - 1, j - 1) + (wanted[i - 1] != heard[j - 1])
        return min(fewest(i - 1, j) + 1, fewest(i, j - 1) + 1, substituted)

    assert edits(wanted, heard) == fewest(len(wanted), len(heard))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don\u2019t stop, Anna!", ["don't", "stop", "anna"]),
        ("a well-known 'quote'", ["a", "well", "known", "quote"]),
        (" … ", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Split:
    document = {"name": "stories", "data": {"corpus": "tiny_speech", "minutes": 2, "valid_minutes": 0.5}}
    data = recipe_from_dict(document).data
    assert data is not None
    return open_split(data, "train", cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def sentences(stories: Split, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "sentences.txt"
    path.write_text("\n".join(str(utterance.text) for utterance in stories.utterances))
    return str(path)


def some(stories: Split, count: int) -> list[tuple[Tensor, str]]:
    return [
        (stories.load(index, sample_rate_hz=RATE_HZ), str(stories.utterances[index].text))
        for index in range(count)
    ]


def test_speech_is_told_from_noise(stories: Split, sentences: str) -> None:
    """Some synthetic voices it does not understand at all, some it does; noise says nothing of all this."""
    metric = WordError(WordErrorConfig(language_model=sentences))
    shares = []
    for speech_S, text in some(stories, 6):
        noise_S = 0.1 * torch.randn(speech_S.shape, generator=torch.Generator().manual_seed(0))
        wrong, words = metric.measure(speech_S, speech_S, sample_rate_hz=RATE_HZ, text=text)[""]
        in_noise, _ = metric.measure(speech_S, noise_S, sample_rate_hz=RATE_HZ, text=text)[""]
        assert words == len(words_of(text)) == in_noise
        shares.append(wrong / words)
    assert min(shares) < 0.5
    assert sum(shares) / len(shares) < 0.9


def test_against_the_original(stories: Split, sentences: str) -> None:
    ((speech_S, _), (other_S, _)) = some(stories, 2)
    metric = WordError(WordErrorConfig(language_model=sentences, against="original"))
    # Heard twice with something else in between: nothing is carried over.
    wrong, words = metric.measure(speech_S, speech_S, sample_rate_hz=RATE_HZ, text="wrong on purpose")[""]
    assert (wrong, words > 0) == (0.0, True)
    size = min(speech_S.numel(), other_S.numel())
    assert metric.compute(speech_S[:size], other_S[:size], sample_rate_hz=RATE_HZ) > 0.3
    assert metric.compute(speech_S, speech_S, sample_rate_hz=RATE_HZ) == 0.0


def test_a_transcript_comes_first_and_silence_has_no_words(stories: Split, sentences: str) -> None:
    metric = WordError(WordErrorConfig(language_model=sentences))
    silence_S = torch.zeros(RATE_HZ)
    assert metric.measure(silence_S, silence_S, sample_rate_hz=RATE_HZ, text="one two three")[""][1] == 3
    assert metric.measure(silence_S, silence_S, sample_rate_hz=RATE_HZ, text="")[""] == (0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recogniser": "faster_whisper"}, "needs `model`"),
        ({"recogniser": "faster_whisper", "model": "m", "language_model": "t"}, "for pocketsphinx only"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        WordErrorConfig.model_validate(options)


def test_missing_files_and_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WavslmError, match=r"language_model is '.*nowhere', which does not exist"):
        WordError(WordErrorConfig(language_model=str(tmp_path / "nowhere")))
    empty = tmp_path / "empty.txt"
    empty.write_text("…\n")
    with pytest.raises(WavslmError, match="has no words"):
        WordError(WordErrorConfig(language_model=str(empty)))
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(
        WavslmError, match=r"needs pocketsphinx, .*pip install 'wavslm-judges\[pocketsphinx\]'"
    ):
        WordError(WordErrorConfig())
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(WavslmError, match=r"pip install 'wavslm-judges\[whisper\]'"):
        WordError(WordErrorConfig(recogniser="faster_whisper", model=str(tmp_path)))
