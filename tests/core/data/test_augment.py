"""What is done to audio before it is trained on: levels, places, rates, and what it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wavslm_core.data.audio import resample
from wavslm_core.data.augment import augmented
from wavslm_core.parts.augment_config import AugmentConfig

RATES = (16000, 24000)
SECONDS = 2.0
ALWAYS = {"probability": 1}


def tone(rate_hz: int, *, hz: float = 300.0, seconds: float = SECONDS) -> Tensor:
    return 0.1 * torch.sin(2 * torch.pi * hz * torch.arange(round(seconds * rate_hz)) / rate_hz)


ITEM = [tone(rate) for rate in RATES]


def voice(draw: np.random.Generator, units: int) -> list[Tensor]:
    """Another utterance: a stretch of another tone."""
    return [tone(rate, hz=2000.0)[: units * samples] for rate, samples in zip(RATES, (2, 3), strict=True)]


def heard(
    config: dict[str, Any], item: Sequence[Tensor] = ITEM, *, number: int = 0, seed: int = 0
) -> tuple[list[Tensor], list[Tensor]]:
    return augmented(
        AugmentConfig.model_validate(config), item, rates=RATES[: len(item)], key=(seed, number), other=voice
    )


def level_db(signal: Tensor, other: Tensor) -> float:
    return 10 * float((signal.square().mean() / other.square().mean()).log10())


def band_level(wave_S: Tensor, low_hz: float, high_hz: float, rate_hz: int) -> float:
    """Return the mean power of a band in dB."""
    spectrum_F = torch.fft.rfft(wave_S.double())
    spacing = rate_hz / len(wave_S)
    band = spectrum_F[round(low_hz / spacing) : round(high_hz / spacing)]
    return 10 * float(band.abs().square().mean().log10())


@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("snr_db", [-3.0, 20.0])
def test_noise_has_the_level_and_the_colour_that_are_asked_for(snr_db: float, colour: float) -> None:
    noisy, _ = heard({"noise": {**ALWAYS, "snr_db": [snr_db] * 2, "colour": [colour] * 2}})
    noise_S = noisy[0] - ITEM[0]
    assert level_db(ITEM[0], noise_S) == pytest.approx(snr_db, abs=0.01)
    # From one octave to the next, power falls by 3 dB for each step of the exponent.
    octaves = [band_level(noise_S, low, 2 * low, RATES[0]) for low in (500, 1000, 2000, 3900)]
    assert np.diff(octaves) == pytest.approx([-3.01 * colour] * 3, abs=1.2)


@pytest.mark.parametrize("effect", ["noise", "overlap", "frequency_drop", "chunk_drop", "gain"])
def test_both_rates_hear_the_same(effect: str) -> None:
    generator = torch.Generator().manual_seed(0)
    high_S = _below(0.1 * torch.randn(48000, generator=generator), RATES[1])
    item = [resample(high_S, RATES[1], RATES[0]), high_S]
    for number in range(3):
        changed, given = heard({effect: ALWAYS}, item, number=number)
        assert given is changed
        assert [len(wave_S) for wave_S in changed] == [len(wave_S) for wave_S in item]
        assert not torch.allclose(changed[0], item[0], atol=1e-4)
        low_S = _below(changed[0], RATES[0])
        again_S = resample(_below(changed[1], RATES[1]), RATES[1], RATES[0])
        assert level_db(low_S, (again_S - low_S)[100:-100]) > 35


def _below(wave_S: Tensor, rate_hz: int) -> Tensor:
    """Return what lies below 6.5 kHz, where the filter of resampling begins to fall."""
    spectrum_F = torch.fft.rfft(wave_S)
    spectrum_F[round(6500 * len(wave_S) / rate_hz) :] = 0
    return torch.fft.irfft(spectrum_F, len(wave_S))


@pytest.mark.parametrize("level", [-15.0, 5.0])
def test_another_utterance_is_as_loud_and_as_long_as_asked_for(level: float) -> None:
    mixed, _ = heard({"overlap": {**ALWAYS, "level_db": [level] * 2, "share": [0.25] * 2}})
    other_S = mixed[0] - ITEM[0]
    (places,) = torch.nonzero(other_S.abs() > 1e-6, as_tuple=True)
    stretch_S = other_S[places[0] : places[-1] + 1]
    assert len(stretch_S) == pytest.approx(0.25 * len(other_S), rel=0.01)
    assert level_db(stretch_S, ITEM[0]) == pytest.approx(level, abs=0.1)
    assert band_level(stretch_S, 1900, 2100, RATES[0]) > 30 + band_level(stretch_S, 200, 400, RATES[0])


def test_gain_is_what_was_asked_for_and_stops_at_full_scale() -> None:
    softer, _ = heard({"gain": {**ALWAYS, "gain_db": [-6, -6]}})
    torch.testing.assert_close(softer[0], ITEM[0] * 10 ** (-6 / 20))
    loudest, _ = heard({"gain": {**ALWAYS, "gain_db": [40, 40]}})
    assert max(float(wave_S.abs().max()) for wave_S in loudest) == pytest.approx(1.0)
    torch.testing.assert_close(loudest[0] / loudest[0].max(), ITEM[0] / ITEM[0].max())


def test_bands_are_taken_out_and_the_rest_stays_in_its_place() -> None:
    generator = torch.Generator().manual_seed(0)
    item = [0.1 * torch.randn(len(wave_S), generator=generator) for wave_S in ITEM]
    drop = {**ALWAYS, "bands": [1, 1], "width_hz": [200, 200], "frequency_hz": [3000, 3000]}
    dropped, _ = heard({"frequency_drop": drop}, item)
    for wave_S, before_S, rate in zip(dropped, item, RATES, strict=True):
        assert band_level(wave_S, 2950, 3050, rate) < band_level(before_S, 2950, 3050, rate) - 10
        for low, high in ((100, 2800), (3200, 7000)):
            assert band_level(wave_S, low, high, rate) == pytest.approx(
                band_level(before_S, low, high, rate), abs=0.05
            )
        assert level_db(before_S, wave_S - before_S) > 10


def test_stretches_are_silent_and_nothing_else_is_changed() -> None:
    item = [wave_S + 1e-3 for wave_S in ITEM]
    drop = {**ALWAYS, "per_second": [1.5, 1.5], "seconds": [0.05, 0.05]}
    counts = set()
    for number in range(8):
        dropped, _ = heard({"chunk_drop": drop}, item, number=number)
        silent = [wave_S == 0 for wave_S in dropped]
        for wave_S, before_S, gone in zip(dropped, item, silent, strict=True):
            assert torch.equal(wave_S[~gone], before_S[~gone])
        assert int(silent[0].sum()) * 3 == int(silent[1].sum()) * 2
        counts.add(int(silent[0].sum()))
    # Three of 800 samples, which may overlap.
    assert max(counts) == 2400
    assert min(counts) >= 800


def test_the_target_is_the_speech_alone_as_loud_as_it_is_heard() -> None:
    noise, gain = {**ALWAYS, "snr_db": [0, 0]}, {**ALWAYS, "gain_db": [-6, -6]}
    noisy, clean = heard({"target": "clean", "noise": noise, "gain": gain})
    for wave_S, rate_S in zip(clean, ITEM, strict=True):
        torch.testing.assert_close(wave_S, rate_S * 10 ** (-6 / 20))
    assert level_db(clean[0], noisy[0] - clean[0]) == pytest.approx(0, abs=0.01)
    # A loud voice over it makes both softer.
    loud = {**ALWAYS, "level_db": [30, 30], "share": [1, 1]}
    noisy, clean = heard({"target": "clean", "overlap": loud})
    assert max(float(wave_S.abs().max()) for wave_S in noisy) == pytest.approx(1.0)
    assert 10 ** (level_db(noisy[0], clean[0]) / 20) == pytest.approx(10 ** (30 / 20), rel=0.05)


EVERYTHING = {
    name: ALWAYS | ({"gain_db": [-9, -3]} if name == "gain" else {})
    for name in ("overlap", "noise", "frequency_drop", "chunk_drop", "gain")
}


def test_it_follows_from_seed_and_item_and_from_nothing_else() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    state = torch.get_rng_state()
    first, _ = heard(EVERYTHING, number=5)
    heard(EVERYTHING, number=6)
    again, _ = heard(EVERYTHING, number=5)
    assert torch.equal(torch.get_rng_state(), state), "the generator of the thread that trains"
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    for other in (heard(EVERYTHING, number=6), heard(EVERYTHING, number=5, seed=1)):
        assert not torch.equal(other[0][0], first[0])
    assert all(
        torch.equal(wave_S, before_S)
        for wave_S, before_S in zip(ITEM, [tone(rate) for rate in RATES], strict=True)
    ), "what was read stays as it is"


def test_an_effect_does_the_same_whatever_others_do() -> None:
    alone, _ = heard({"noise": ALWAYS})
    rest = {name: options for name, options in EVERYTHING.items() if name not in ("noise", "overlap")}
    softer, _ = heard({"noise": ALWAYS, "gain": rest["gain"]})
    ratio = softer[0] / alone[0]
    assert float(ratio.std()) < 1e-4
    assert 10 ** (-9 / 20) <= float(ratio.mean()) <= 10 ** (-3 / 20)


def test_effects_happen_as_often_as_asked_for_and_else_nothing_does() -> None:
    assert [heard({}), heard({"noise": {"probability": 0}})] == [(ITEM, ITEM)] * 2
    often = [
        heard({"gain": {"probability": 0.3, "gain_db": [-6, -6]}}, number=number) for number in range(400)
    ]
    happened = sum(changed[0] is not ITEM[0] for changed, _ in often)
    assert 90 <= happened <= 150
    assert all(changed[0] is ITEM[0] or float(changed[0].max()) < 0.06 for changed, _ in often)


@pytest.mark.parametrize("samples", [1, 2, 7, 4001])
def test_short_and_silent_items_stay_finite(samples: int) -> None:
    lengths = (samples, -(-samples * 3 // 2))
    for fill in (0.0, 0.1):
        for rates in (1, 2):
            item = [torch.full((length,), fill) for length in lengths[:rates]]
            effects = {name: EVERYTHING[name] for name in EVERYTHING if rates == 2 or name != "overlap"}
            changed, _ = heard(effects, item)
            assert [len(wave_S) for wave_S in changed] == list(lengths[:rates])
            assert all(bool(wave_S.isfinite().all()) for wave_S in changed)
            assert fill or not any(bool(wave_S.any()) for wave_S in changed), "noise is relative to speech"
