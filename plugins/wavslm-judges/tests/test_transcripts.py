"""Transcripts judged as text: by hand, and by models of text that are small."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
import torch

from wavslm_core.data.audio import load_torchaudio
from wavslm_core.data.corpora import Split
from wavslm_core.errors import WavslmError
from wavslm_core.testing import contract_tests
from wavslm_judges.config import AutoBleuConfig, PerplexityConfig, TypeTokenRatioConfig
from wavslm_judges.transcripts import (
    AutoBleu,
    HubTextModel,
    Perplexity,
    TypeTokenRatio,
    WordNgrams,
    auto_bleu,
)
from wavslm_judges.words import sentences_of

pytestmark = pytest.mark.slow

RATE_HZ = 16_000
SENTENCES = ("the boat is on the river", "the cat is on the roof", "a cat saw the boat")

TestPerplexity = contract_tests(PerplexityConfig(recogniser="pocketsphinx"))
TestAutoBleu = contract_tests(AutoBleuConfig(recogniser="pocketsphinx"))
TestTypeTokenRatio = contract_tests(TypeTokenRatioConfig(recogniser="pocketsphinx"))


def test_auto_bleu_by_hand() -> None:
    assert auto_bleu(["the", "boat", "the", "boat", "the", "boat"], order=2) == 1.0
    assert auto_bleu(["the", "cat", "saw", "a", "boat"], order=2) == 0.0
    # "the" and "cat" twice of six words; "the cat" twice of five pairs.
    assert auto_bleu(["the", "cat", "saw", "the", "cat", "run"], order=2) == pytest.approx(
        math.sqrt(4 / 6 * 2 / 5)
    )
    assert auto_bleu(["the", "cat", "saw", "the", "cat", "run"], order=1) == pytest.approx(4 / 6)
    assert math.isnan(auto_bleu(["cat"], order=2))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_n_grams_give_every_word_its_share(order: int) -> None:
    model = WordNgrams(SENTENCES, order)
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    for before in ([], ["the"], ["the", "cat"], ["cat", "the", "zebra"]):
        shares = [probabilities(model, [*before, word])[-2] for word in [*words, "zebra"]]
        ended = probabilities(model, before)[-1]
        assert sum(shares) + ended == pytest.approx(1.0, abs=1e-9)
        if before:
            bits, count = model.surprise(" ".join(before))
            assert bits == pytest.approx(-np.log2(probabilities(model, before)).sum())
            assert count == len(before) + 1


def probabilities(model: WordNgrams, words: list[str]) -> npt.NDArray[np.float64]:
    """Return p of each word given those before it, and of the end."""
    return model._model.probabilities(*model._events(words))


def test_order_and_words_are_heard_in_perplexity(stories: Split) -> None:
    texts = sentences_of(utterance.text for utterance in stories.utterances if utterance.text)
    model = WordNgrams(texts[:-3], 3)
    random = Random(0)
    for text in texts[-3:]:
        words = text.split()
        mixed = " ".join(random.sample(words, len(words)))
        strange = " ".join("zyx" for _ in words)
        bits = [model.surprise(one)[0] for one in (text, mixed, strange)]
        assert bits[0] < bits[1] < bits[2]
    assert model.surprise("") == (0.0, 0.0)


def test_the_metrics_judge_what_is_heard(stories: Split) -> None:
    speech_S = stories.load(0, sample_rate_hz=RATE_HZ)
    perplexity, bleu, ratio = (
        Perplexity(PerplexityConfig()),
        AutoBleu(AutoBleuConfig()),
        TypeTokenRatio(TypeTokenRatioConfig()),
    )
    texts = [utterance.text for utterance in stories.utterances if utterance.text]
    perplexity.prepare({"train": texts})
    heard = perplexity.hear(speech_S, sample_rate_hz=RATE_HZ)
    words = heard.split()
    assert len(words) > 3
    found = {
        metric: metric.measure(speech_S, speech_S, sample_rate_hz=RATE_HZ)[""]
        for metric in (perplexity, bleu, ratio)
    }
    assert found[perplexity] == WordNgrams(sentences_of(texts), 3).surprise(heard)
    assert found[ratio][1] >= len(words) - 1
    assert perplexity.versions().keys() >= {"faster-whisper", "recogniser", "n-grams"}
    silence_S = torch.zeros(RATE_HZ)
    for metric in found:
        assert metric.measure(silence_S, silence_S, sample_rate_hz=RATE_HZ) == {"": (0.0, 0.0)}


def test_a_text_file_is_learnt_from(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(SENTENCES))
    metric = Perplexity(PerplexityConfig(language_model=str(file), recogniser="pocketsphinx"))
    assert metric.told("the cat") == WordNgrams(SENTENCES, 3).surprise("the cat")
    with pytest.raises(WavslmError, match="learns from the corpus, which has no transcripts"):
        Perplexity(PerplexityConfig(recogniser="pocketsphinx")).prepare({"train": []})


def test_a_model_of_the_hub_is_asked_per_token(tmp_path: Path) -> None:
    load_torchaudio()
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {
        word: number for number, word in enumerate(["<s>", "<unk>", *sorted({*" ".join(SENTENCES).split()})])
    }
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<s>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=len(words), n_positions=32, n_embd=16, n_layer=2, n_head=2)
    ).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = HubTextModel(str(tmp_path))
    ids = torch.tensor([[0, *(words[word] for word in ["the", "cat", "saw"])]])
    with torch.no_grad():
        loss = model(ids, labels=ids).loss
    bits, count = found.surprise("the cat saw")
    assert count == 3
    assert bits / count == pytest.approx(float(loss) / math.log(2), abs=1e-4)
    assert found.surprise("") == (0.0, 0.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WavslmError, match="is no causal language model for transformers"):
        HubTextModel(str(tmp_path / "empty"))
