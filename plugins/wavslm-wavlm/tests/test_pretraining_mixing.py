"""A part of an utterance is drowned, as loud and as long as it is said, and always in the same way."""

from __future__ import annotations

import melodies
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from wavslm_core.plugin import Split
from wavslm_wavlm.pretraining.config import MixingConfig
from wavslm_wavlm.pretraining.mixing import Mixing, coloured_noise, mixed, random_crop


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("mixing")
    melodies.write_melodies(folder, {"train": [1.0, 0.3, 2.0], "valid": [0.5]})
    split: Split = melodies.make_context(folder).split("train")
    return split


def test_one_part_is_changed_and_the_energies_are_in_the_ratio_that_was_drawn() -> None:
    wave_S, other_S = melodies.melody(0, 1.0), 0.01 * torch.randn(12000)
    sizes, ratios_db = [], []
    for seed in range(200):
        out_S = mixed(wave_S, other_S, (-5.0, 20.0), 0.5, np.random.default_rng(seed))
        changed = (out_S != wave_S).nonzero()[:, 0]
        sizes.append(int(changed[-1] - changed[0]) + 1)
        added_S = (out_S - wave_S)[changed[0] : changed[-1] + 1]
        if sizes[-1] > 4000:
            ratios_db.append(float(10 * (wave_S.square().mean() / added_S.square().mean()).log10()))
    assert max(sizes) <= 8000
    assert 3000 < np.mean(sizes) < 5000
    assert -5.5 < min(ratios_db) < -3
    assert 18 < max(ratios_db) < 20.5


def test_shares_are_those_that_are_asked_for(speech: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    wave_S = melodies.melody(0, 0.2)
    loads: list[int] = []
    load = Split.load_crop
    monkeypatch.setattr(
        Split,
        "load_crop",
        lambda split, index, **options: loads.append(index) or load(split, index, **options),
    )
    mixing = Mixing(MixingConfig(probability=0.4, noise_probability=0.25), speech)
    outs = [mixing(wave_S, np.random.default_rng(seed)) for seed in range(600)]
    changed = sum(not torch.equal(out_S, wave_S) for out_S in outs)
    assert 0.34 < changed / 600 < 0.46
    assert 0.68 < len(loads) / changed < 0.82
    assert set(loads) == {0, 1, 2}
    again = mixing(wave_S, np.random.default_rng(5))
    assert torch.equal(outs[5], again)
    nothing = Mixing(MixingConfig(probability=0.0), speech)
    assert nothing(wave_S, np.random.default_rng(0)) is wave_S


def test_noise_can_be_recordings(speech: Split) -> None:
    config = MixingConfig(probability=1.0, noise_probability=1.0, noise_ratio_db=(0, 0))
    wave_S = melodies.melody(1, 0.3)
    made, recorded = (
        Mixing(config, speech, noise)(wave_S, np.random.default_rng(0)) - wave_S for noise in (None, speech)
    )
    assert made.abs().max() > 0
    assert recorded.abs().max() > 0
    assert not torch.equal(made, recorded)


def test_made_noise_falls_by_up_to_6_db_an_octave() -> None:
    slopes = []
    for seed in range(30):
        power_K = np.abs(np.fft.rfft(coloured_noise(16000, np.random.default_rng(seed)).numpy())) ** 2
        low, high = power_K[100:200].mean(), power_K[3200:6400].mean()
        slopes.append(10 * np.log10(low / high) / 5)
    assert -0.5 < min(slopes) < 1.5
    assert 4.5 < max(slopes) < 6.5


def test_silence_and_short_recordings_stay_what_they_are(speech: Split) -> None:
    wave_S, generator = melodies.melody(0, 0.1), np.random.default_rng(0)
    assert torch.equal(mixed(wave_S, torch.zeros(500), (0, 0), 0.5, generator), wave_S)
    assert torch.equal(mixed(torch.zeros(500), wave_S, (0, 0), 0.5, generator), torch.zeros(500))
    assert mixed(wave_S[:1], wave_S, (0, 0), 0.5, generator).isfinite().all()
    assert mixed(wave_S, wave_S[:1], (0, 0), 0.5, generator).isfinite().all()
    assert {len(random_crop(speech, 8000, np.random.default_rng(seed))) for seed in range(20)} == {4800, 8000}


def test_a_range_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(ValidationError, match="noise_ratio_db goes from 5 to -5: give the lower one first"):
        MixingConfig(noise_ratio_db=(5, -5))
