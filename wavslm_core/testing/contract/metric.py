"""The contract of metrics."""

import math
from typing import Any, get_args

import torch
from torch import Tensor

from wavslm_core.errors import AudioError
from wavslm_core.parts.configs import MetricConfig
from wavslm_core.parts.metric import Better, Measured, Metric, ReferenceFreeMetric
from wavslm_core.testing.contract.config_checks import ConfigChecks
from wavslm_core.testing.contract.subject import generator

RATES_HZ = (16_000, 24_000)
SHORT_SAMPLES = (1, 40, 400, 4000)


def babble(samples: int, *, seed: int = 0) -> Tensor:
    """Return noise whose level rises and falls as that of speech does, (S,) in [-1, 1]."""
    noise_S = torch.rand(samples, generator=generator(seed)) - 0.5
    return noise_S * (1 + torch.sin(torch.arange(samples) / 640)) / 2


SAID = "one two three"


class MetricContract(ConfigChecks):
    def part(self, *, seed: int = 0) -> Metric[Any]:
        """Return the metric, which has learnt from what it asks for."""
        metric: Metric[Any] = super().part(seed=seed)
        splits = metric.config.needed_splits()
        if splits:
            with self.attempt(f"prepare() with transcripts of {', '.join(splits)}", "it learns from texts"):
                metric.prepare({split: [SAID] for split in splits})
        return metric

    @property
    def compares(self) -> bool:
        config = self.subject.config
        assert isinstance(config, MetricConfig)
        return config.needs_reference

    @property
    def takes_prompt(self) -> bool:
        config = self.subject.config
        assert isinstance(config, MetricConfig)
        return config.takes_prompt

    def measure(self, metric: Metric[Any], reference_S: Tensor, estimate_S: Tensor) -> dict[str, Measured]:
        return metric.measure(reference_S, estimate_S, sample_rate_hz=RATES_HZ[0], text=SAID)

    def test_what_reports_call_it(self) -> None:
        metric = self.part()
        texts = {"title": metric.title, **{f"extra[{name!r}]": title for name, title in metric.extra.items()}}
        wrong = [name for name, text in texts.items() if not isinstance(text, str) or not text.strip()]
        self.require(
            not wrong and "" not in metric.extra and isinstance(metric.unit, str),
            f"{', '.join(wrong) or 'a name in extra or the unit'} is no text",
            "`title` and the titles in `extra` say what the report calls each number; `unit` may be empty",
        )
        self.require(
            metric.better in get_args(Better),
            f"`better` is {metric.better!r}",
            f"`better` is one of {', '.join(get_args(Better))}",
        )

    def test_whether_it_needs_a_reference(self) -> None:
        alone = isinstance(self.part(), ReferenceFreeMetric)
        self.require(
            alone != self.compares,
            f"needs_reference is {self.compares}, and it {'is a' if alone else 'is no'} ReferenceFreeMetric",
            "a metric that judges speech by itself derives from ReferenceFreeMetric, and its config says "
            "`needs_reference: ClassVar[bool] = False`",
        )

    def test_every_number_is_given(self) -> None:
        metric = self.part()
        rule = 'measure() gives a pair of finite floats (sum, count) for "" and every name in `extra`'
        for rate_hz in RATES_HZ:
            with self.attempt(f"a second at {rate_hz} Hz", rule):
                found = metric.measure(babble(rate_hz), babble(rate_hz, seed=1), sample_rate_hz=rate_hz)
            self.require(set(found) == {"", *metric.extra}, f"it gave the names {sorted(found)}", rule)
            for name, pair in found.items():
                finite = len(pair) == 2 and all(math.isfinite(number) for number in pair)
                self.require(finite and pair[1] >= 0, f"it gave {pair} for {name!r}", rule)

    def test_what_the_original_gets(self) -> None:
        metric = self.part()
        rule = "measure_original() gives what measure() gives, or nothing where it is known beforehand"
        with self.attempt("a second of noise", rule):
            found = metric.measure_original(babble(RATES_HZ[0]), sample_rate_hz=RATES_HZ[0], text=SAID)
        self.require(set(found) in (set(), {"", *metric.extra}), f"it gave the names {sorted(found)}", rule)
        finite = all(math.isfinite(number) for pair in found.values() for number in pair)
        self.require(finite, f"it gave {found}", rule)

    def test_what_it_hears(self) -> None:
        metric = self.part()
        rule = "hear() gives the words, none of silence, or None from a metric that does not listen to words"
        for what, audio_S in {"noise": babble(RATES_HZ[0]), "silence": torch.zeros(RATES_HZ[0])}.items():
            with self.attempt(f"a second of {what}", rule):
                heard = metric.hear(audio_S, sample_rate_hz=RATES_HZ[0])
            words = heard is None or (isinstance(heard, str) and (what == "noise" or not heard.split()))
            self.require(words, f"it heard {heard!r} in {what}", rule)

    def test_the_same_audio_gives_the_same_numbers(self) -> None:
        metric = self.part()
        reference_S, estimate_S = babble(RATES_HZ[0]), babble(RATES_HZ[0], seed=1)
        kept = reference_S.clone(), estimate_S.clone()
        first, second = (self.measure(metric, reference_S, estimate_S) for _ in range(2))
        self.require(first == second, f"it gave {first}, then {second}", "nothing is left to chance")
        self.require(
            torch.equal(reference_S, kept[0]) and torch.equal(estimate_S, kept[1]),
            "it changed the audio that it was given",
            "other metrics are given the same audio",
        )

    def test_short_and_silent_audio(self) -> None:
        metric = self.part()
        rule = "where it is not defined it gives NaN, or (0, 0) from measure(), and raises nothing"
        for size in (*SHORT_SAMPLES, RATES_HZ[0]):
            for what, audio_S in {"silence": torch.zeros(size), "noise": babble(size)}.items():
                with self.attempt(f"{size} samples of {what}", rule):
                    self.measure(metric, audio_S, audio_S.clone())

    def test_nothing_is_better_than_the_original(self) -> None:
        if not self.compares:
            return
        metric = self.part()
        reference_S = babble(RATES_HZ[0])
        perfect, noise = (
            self.measure(metric, reference_S, estimate_S)[""]
            for estimate_S in (reference_S.clone(), babble(RATES_HZ[0], seed=1))
        )
        if not perfect[1] or not noise[1]:
            return
        best, worse = perfect[0] / perfect[1], noise[0] / noise[1]
        self.require(
            best >= worse if metric.better == "higher" else best <= worse,
            f"the original itself scores {best:.4g}, noise {worse:.4g}, but {metric.better} is called better",
            "`better` says in which direction estimates improve",
        )

    def test_a_prompt_is_a_reference_of_any_length(self) -> None:
        if not self.takes_prompt:
            return
        self.require(
            self.compares,
            "takes_prompt is True, needs_reference False",
            "what takes a prompt compares with it",
        )
        metric = self.part()
        rule = "measure() gives finite numbers beside a prompt of another length"
        with self.attempt("a second after half a second", rule):
            found = self.measure(metric, babble(RATES_HZ[0] // 2, seed=1), babble(RATES_HZ[0]))
        finite = all(math.isfinite(number) for pair in found.values() for number in pair)
        self.require(finite, f"it gave {found}", rule)

    def test_audio_of_unequal_length_is_refused(self) -> None:
        if not self.compares or self.takes_prompt:
            return
        metric = self.part()
        rule = "what is not comparable is an AudioError"
        try:
            metric.compute(babble(8000), babble(8001), sample_rate_hz=RATES_HZ[0])
        except AudioError:
            return
        except Exception as error:
            self.require(False, f"it raised {type(error).__name__}", rule)
        self.require(False, "it compared 8000 with 8001 samples", rule)
