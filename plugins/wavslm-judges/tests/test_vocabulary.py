"""Words of the corpus among those that are heard."""

from __future__ import annotations

import pytest
import torch

from wavslm_core.data.corpora import Split
from wavslm_core.errors import WavslmError
from wavslm_core.testing import contract_tests
from wavslm_judges.config import VocabularyConfig
from wavslm_judges.vocabulary import Vocabulary
from wavslm_judges.words import words_of

pytestmark = pytest.mark.slow

RATE_HZ = 16_000

TestVocabulary = contract_tests(VocabularyConfig(recogniser="pocketsphinx"))


def test_words_of_the_corpus_are_counted_among_those_heard(stories: Split) -> None:
    metric = Vocabulary(VocabularyConfig())
    speech_S = stories.load(0, sample_rate_hz=RATE_HZ)
    heard = words_of(metric.hear(speech_S, sample_rate_hz=RATE_HZ))
    assert len(heard) > 3
    metric.prepare({"train": [" ".join(heard[:-1])]})
    found = metric.measure(speech_S, speech_S, sample_rate_hz=RATE_HZ)
    known = sum(word in heard[:-1] for word in heard)
    assert found == {
        "": (known, len(heard)),
        "words_per_second": (len(heard), speech_S.numel() / RATE_HZ),
    }
    assert metric.measure_original(speech_S, sample_rate_hz=RATE_HZ) == found


def test_silence_has_no_share_but_a_rate(stories: Split) -> None:
    metric = Vocabulary(VocabularyConfig())
    silence_S = torch.zeros(2 * RATE_HZ)
    assert metric.measure(silence_S, silence_S, sample_rate_hz=RATE_HZ) == {
        "": (0.0, 0.0),
        "words_per_second": (0.0, 2.0),
    }


def test_a_corpus_without_transcripts_is_refused() -> None:
    with pytest.raises(WavslmError, match=r"which has no transcripts\. Leave 'vocabulary' out"):
        Vocabulary(VocabularyConfig()).prepare({"train": []})
