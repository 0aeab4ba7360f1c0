"""One scorer for all suites: its sign, its arithmetic by hand, what is kept, and what is a tie."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

from wavslm_core.data.audio import write_audio
from wavslm_core.data.audio_source import AudioSource
from wavslm_core.data.suites import Group, Pair, PairList, Suite
from wavslm_core.errors import CheckpointError
from wavslm_core.evaluation.pair_data import check_suites
from wavslm_core.evaluation.pair_scores import (
    SCORES,
    PairScore,
    TokenCache,
    score_pairs,
    tokens_before,
)
from wavslm_core.machine.processes import ALONE
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.configs import SuiteConfig
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm


class ToySuiteConfig(SuiteConfig):
    """Files of a folder."""

    name: Literal["toy"] = "toy"
    path: str
    """Where they are."""


class ToySuite(Suite[ToySuiteConfig]):
    """`<item>-<voice>-<good|bad>.wav`; those of voice `b` tell where they split."""

    title: ClassVar[str] = "Toy"
    groups: ClassVar[tuple[Group, ...]] = (Group("voice", "voice"),)

    def read(self) -> PairList:
        names = sorted(path.stem for path in Path(self.config.path).glob("*-good.wav"))
        pairs = []
        for name in names:
            stem = name.removesuffix("-good")
            item, voice = stem.split("-")
            split_s = (0.4, 0.4) if voice == "b" else None
            pairs.append(Pair(stem, name, f"{stem}-bad", item, {"voice": voice}, split_s))
        return PairList(pairs)

    def source(self, name: str) -> AudioSource:
        return Path(self.config.path) / f"{name}.wav"


def toy_suite(folder: Path, *, items: int = 5, rate_hz: int = 16_000) -> ToySuite:
    """Write noises, the bad ones louder and as long; silence is not among them."""
    generator = torch.Generator().manual_seed(items)
    for item in range(items):
        for voice in "ab":
            samples = round((0.6 + 0.05 * item) * rate_hz)
            for side in ("good", "bad"):
                noise_S = 0.2 * torch.randn(samples, generator=generator)
                write_audio(folder / f"{item}-{voice}-{side}.wav", noise_S, rate_hz)
    return ToySuite(ToySuiteConfig(path=str(folder)))


def toy_model(seed: int = 0, **options: Any) -> SpeechLM:
    torch.manual_seed(seed)
    return fake_speech_lm(fake_codec(max_run=options.pop("max_run", 1)), **options)


def scored(speech_lm: SpeechLM, suite: ToySuite, folder: Path, **options: Any) -> list[PairScore]:
    checked = check_suites({"toy": suite}, allow_partial=False, processes=ALONE)
    work = [(one, pair) for one in checked for pair in one.pairs]
    cache = TokenCache.open(folder / "tokens", speech_lm.codec)
    try:
        return score_pairs(speech_lm, work, cache=cache, **options)
    finally:
        cache.lines.close()


def test_scores_by_hand(tmp_path: Path) -> None:
    """Against one recording after the other, without batches, cache or padding."""
    speech_lm, suite = toy_model(), toy_suite(tmp_path / "audio")
    for found in scored(speech_lm, suite, tmp_path):
        for side in (found.positive, found.negative):
            waveform_S = torch.from_numpy(_samples(suite.source(side.name)))
            alone = speech_lm.score_speech(waveform_S, sample_rate=16_000)
            assert side.nats == pytest.approx(alone.nats.item(), abs=1e-4)
            assert side.tokens == int(alone.counts)
            assert side.value("sum") == side.nats
            assert side.value("mean") == pytest.approx(side.nats / side.tokens)
            if found.split_s is None:
                assert math.isnan(side.value("localised"))
                continue
            # 0.4 s are 20 tokens, five whole chunks.
            after = alone.log_probs_BT[0, 20:].double()
            assert side.value("localised") == pytest.approx(after.mean().item(), abs=1e-5)
            continued = speech_lm.score(alone.tokens_BT[:, 20:])[0, 4:].double()
            gain = (after[4:] - continued).mean().item()
            assert side.value("normalised") == pytest.approx(gain, abs=1e-5)
            assert side.gain is not None
            assert side.gain[1] == len(continued)


def _samples(source: AudioSource) -> np.ndarray:
    import soundfile

    assert isinstance(source, Path)
    return np.asarray(soundfile.read(source, dtype="float32")[0])


def test_batches_change_nothing(tmp_path: Path) -> None:
    speech_lm, suite = toy_model(), toy_suite(tmp_path / "audio")
    together = scored(speech_lm, suite, tmp_path / "one", batch_seconds=60.0)
    alone = scored(speech_lm, suite, tmp_path / "other", batch_seconds=0.001)
    assert [found.id for found in together] == [found.id for found in alone]
    for one, other in zip(together, alone, strict=True):
        for score in SCORES:
            assert one.values(score) == pytest.approx(other.values(score), abs=1e-4, nan_ok=True)


def test_a_model_that_is_built_to_prefer_positives_does(tmp_path: Path) -> None:
    """The sign: every token of a positive is its likeliest one."""
    speech_lm = toy_model()
    loud_S = 0.4 * torch.ones(16_000)
    liked = int(speech_lm.codec.encode(loud_S)[0, 0])
    for item in range(12):
        for side, waveform_S in {"good": loud_S, "bad": 0.1 * torch.randn(16_000)}.items():
            write_audio(
                tmp_path / "audio" / f"{item}-a-{side}.wav", waveform_S[: 16_000 - 320 * item], 16_000
            )
    with torch.no_grad():
        speech_lm.head.linear.weight.zero_()
        speech_lm.head.linear.bias.zero_()[liked] = 5.0
    suite = ToySuite(ToySuiteConfig(path=str(tmp_path / "audio")))
    for found in scored(speech_lm, suite, tmp_path):
        for score in ("mean", "sum"):
            positive, negative = found.values(score)
            assert positive > negative


def test_what_the_codec_cannot_tell_apart_is_exactly_a_tie(tmp_path: Path) -> None:
    speech_lm = toy_model()
    for name, samples in {
        "0-a-good": 16_000,
        "0-a-bad": 15_990,
        "1-a-good": 30_000,
        "1-a-bad": 29_990,
    }.items():
        write_audio(tmp_path / "audio" / f"{name}.wav", 0.3 * torch.ones(samples), 16_000)
    suite = ToySuite(ToySuiteConfig(path=str(tmp_path / "audio")))
    for found in scored(speech_lm, suite, tmp_path):
        assert found.positive.digest != found.negative.digest
        assert found.positive.nats == found.negative.nats


def test_what_is_shorter_than_two_chunks_has_no_score(tmp_path: Path) -> None:
    speech_lm = toy_model()
    for name, samples in {"0-b-good": 1200, "0-b-bad": 24_000}.items():
        write_audio(tmp_path / "audio" / f"{name}.wav", 0.1 * torch.randn(samples), 16_000)
    suite = ToySuite(ToySuiteConfig(path=str(tmp_path / "audio")))
    suite.read = lambda: PairList([Pair("0", "0-b-good", "0-b-bad", "0", {}, (0.05, 0.05))])  # type: ignore[method-assign]
    (found,) = scored(speech_lm, suite, tmp_path)
    assert (found.positive.tokens, found.positive.nats) == (0, 0.0)
    assert found.negative.tokens == 71
    for score in SCORES:
        positive, negative = found.values(score)
        assert math.isnan(positive)
        assert math.isfinite(negative)


def test_tokens_are_kept_for_the_next_model(tmp_path: Path) -> None:
    """A second model over the same codec reads no audio; one over another codec does."""
    suite = toy_suite(tmp_path / "audio", items=2)
    checked = check_suites({"toy": suite}, allow_partial=False, processes=ALONE)
    work = [(one, pair) for one in checked for pair in one.pairs]
    first = toy_model()
    second = fake_speech_lm(first.codec, chunk_tokens=8)
    expected = scored(second, suite, tmp_path / "fresh")
    scored(first, suite, tmp_path)
    for file in (tmp_path / "audio").iterdir():
        file.unlink()
    cache = TokenCache.open(tmp_path / "tokens", second.codec)
    for found, wanted in zip(score_pairs(second, work, cache=cache), expected, strict=True):
        assert found.values("sum") == pytest.approx(wanted.values("sum"), abs=1e-4)
    assert not TokenCache.open(tmp_path / "tokens", toy_model(seed=1).codec).known


def test_splits_of_merged_runs() -> None:
    codec = fake_codec(max_run=4)
    waveform_S = torch.cat(
        [0.3 * torch.ones(6400), 0.2 * torch.randn(6400, generator=torch.Generator().manual_seed(1))]
    )
    plain_1T = codec.encode(waveform_S)
    merged_1U, counts = codec.compact(plain_1T)
    tokens_U = merged_1U[0, : int(counts)].numpy()
    assert len(tokens_U) < plain_1T.shape[1] == 40
    for seconds in (0.0, 0.02, 0.2, 0.41, 0.8, 9.0):
        frames = min(40, round(seconds * 50 + 0.4999))
        runs = int(codec.compact(plain_1T[:, :frames])[1]) if frames else 0
        assert tokens_before(codec, tokens_U, seconds) == runs
    assert tokens_before(fake_codec(), np.arange(40), 1.28 - 0.5) == 39


def test_a_window_bounds_the_localised_score(tmp_path: Path) -> None:
    speech_lm, suite = toy_model(), toy_suite(tmp_path / "audio", items=1)
    (whole,), (short,) = (
        [found for found in scored(speech_lm, suite, tmp_path, local_seconds=seconds) if found.split_s]
        for seconds in (None, 0.1)
    )
    assert whole.positive.after is not None
    assert short.positive.after is not None
    assert (whole.positive.after[1], short.positive.after[1]) == (10, 5)


def test_a_model_without_numbers_is_refused(tmp_path: Path) -> None:
    speech_lm, suite = toy_model(), toy_suite(tmp_path / "audio", items=1)
    with torch.no_grad():
        speech_lm.head.linear.bias.fill_(-torch.inf)[0] = 0
    with pytest.raises(CheckpointError, match=r"no number|impossible"):
        scored(speech_lm, suite, tmp_path)
