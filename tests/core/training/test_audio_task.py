"""What tasks over waveforms read: augmented as the recipe says, whoever reads it and whenever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wavslm_core.data.batches import Batching
from wavslm_core.data.corpora import Corpus, Split, Utterance
from wavslm_core.errors import DataError
from wavslm_core.parts.augment_config import AugmentConfig
from wavslm_core.parts.configs import CorpusConfig
from wavslm_core.training.audio_task import AudioBatch, AudioTask
from wavslm_core.training.config import AudioTrainingConfig

RATE_OUT = 24000
EVERYTHING = {
    "overlap": {"probability": 0.5},
    "noise": {"probability": 0.5},
    "frequency_drop": {"probability": 0.5},
    "chunk_drop": {"probability": 0.5},
    "gain": {"probability": 0.5},
}


class Tones(Corpus):
    """Tones of 1 to 3 seconds, at any rate the same."""

    def __init__(self) -> None:
        super().__init__(CorpusConfig(), cache_dir=Path())

    def utterances(self, split: str) -> Sequence[Utterance]:
        return [Utterance(f"{split}{n}", 16000 + 5001 * n, 16000) for n in range(5)]

    def load(self, utterance: Utterance, *, sample_rate_hz: int) -> Tensor:
        time_S = torch.arange(-(-utterance.samples * sample_rate_hz // 16000)) / sample_rate_hz
        return 0.1 * torch.sin(2 * torch.pi * 300 * (1 + int(utterance.id[5:])) * time_S)

    def fingerprint(self, split: str) -> dict[str, Any]:
        return {}


class Config(AudioTrainingConfig):
    run: Literal["read"] = "read"
    steps: int = 6
    batch_size: int = 4
    accumulate: int = 2
    crop_seconds: float = 0.75


class Reading(AudioTask[Config]):
    """Reads, and does nothing."""

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {}

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def validate(self) -> dict[str, float]:
        return {}


def reading(
    augment: dict[str, Any] | None, *, rank: int = 0, world_size: int = 1, utterances: int = 5, **options: Any
) -> Reading:
    corpus = Tones()
    chosen = None if augment is None else AugmentConfig.model_validate(augment)
    config = Config()
    batching = Batching(
        micro_batch_size=2, accumulate=config.accumulate, seed=7, rank=rank, world_size=world_size
    )
    return Reading(
        Split(corpus, "train", corpus.utterances("train")[:utterances], chosen),
        Split(corpus, "valid", corpus.utterances("valid")),
        config=config,
        batching=batching,
        **{"rate_in": 16000, "rate_out": RATE_OUT, "chunk_samples": 320} | options,
    )


def everything_read(task: Reading, first: int = 0) -> Iterator[AudioBatch]:
    with closing(task):
        for number in range(2 * first, 2 * task.config.steps):
            yield task.batch(*divmod(number, 2))


def equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("augment", [None, {}, {name: {"probability": 0} for name in EVERYTHING}])
def test_without_effects_everything_is_read_as_it_is(augment: dict[str, Any] | None) -> None:
    task = reading(augment)
    for batch in everything_read(task):
        for crop, waveform_S, target_S in zip(batch.crops, batch.waveforms, batch.targets, strict=True):
            whole_S = task.train.load(crop.utterance, sample_rate_hz=16000)
            assert torch.equal(waveform_S, whole_S[crop.start : crop.start + task.crop_samples])
            assert len(target_S) == -(-len(waveform_S) * 3 // 2)
    same_rate = reading(augment, rate_out=16000)
    batch = same_rate.batch(0, 0)
    assert batch.targets is batch.waveforms


def test_a_run_that_goes_on_hears_what_it_would_have_heard() -> None:
    whole = list(everything_read(reading(EVERYTHING)))
    resumed = list(everything_read(reading(EVERYTHING), first=3))
    assert len(resumed) == 6
    for one, other in zip(whole[6:], resumed, strict=True):
        assert equal(one.waveforms, other.waveforms)
        assert equal(one.targets, other.targets)
    clean = list(everything_read(reading(None)))
    changed = [
        not torch.equal(heard_S, clean_S)
        for heard, before in zip(whole, clean, strict=True)
        for heard_S, clean_S in zip(heard.waveforms, before.waveforms, strict=True)
    ]
    assert len(changed) == 24
    assert sum(changed) > 15, "31 of 32 are changed somehow"


def test_processes_hear_together_what_one_would_hear() -> None:
    alone = list(everything_read(reading(EVERYTHING)))
    shares = [list(everything_read(reading(EVERYTHING, rank=rank, world_size=2))) for rank in range(2)]
    for number, batch in enumerate(alone):
        parts = [share[number] for share in shares]
        assert equal(batch.waveforms, [*parts[0].waveforms, *parts[1].waveforms])
        assert equal(batch.targets, [*parts[0].targets, *parts[1].targets])


def test_the_thread_that_reads_ahead_leaves_the_global_generators_alone() -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    list(everything_read(reading(EVERYTHING)))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # type: ignore[index]


def test_a_clean_target_is_the_speech_and_equal_rates_share_one_list_only_when_they_are_the_same() -> None:
    noise = {"noise": {"probability": 1}}
    clean = reading(None, rate_out=16000).batch(0, 0)
    noisy = reading({"target": "clean", **noise}, rate_out=16000).batch(0, 0)
    assert equal(noisy.targets, clean.waveforms)
    assert not equal(noisy.waveforms, clean.waveforms)
    same = reading(noise, rate_out=16000).batch(0, 0)
    assert same.targets is same.waveforms
    assert equal(same.waveforms, noisy.waveforms)


def test_the_other_utterance_is_another_one() -> None:
    task = reading({"overlap": {"probability": 1, "share": [1, 1], "level_db": [0, 0]}}, chunk_samples=1)
    clean = reading(None, chunk_samples=1)
    others = set()
    for batch, before in zip(everything_read(task), everything_read(clean), strict=True):
        for crop, heard_S, clean_S in zip(batch.crops, batch.waveforms, before.waveforms, strict=True):
            spectrum_F = torch.fft.rfft(heard_S - clean_S).abs()
            number = round(float(spectrum_F.argmax()) * 16000 / len(heard_S) / 300) - 1
            assert number != crop.utterance
            others.add(number)
    assert others == {*range(5)}
    with pytest.raises(
        DataError, match=r"data\.augment\.overlap mixes utterances, but split 'train' has onl"
    ):
        reading({"overlap": {}}, utterances=1)
