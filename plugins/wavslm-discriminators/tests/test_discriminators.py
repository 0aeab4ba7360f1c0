"""The published sizes, and what each discriminator looks at."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavslm_core.plugin import Discriminator, load_registry
from wavslm_discriminators.config import MultiPeriodConfig, MultiResolutionStftConfig, MultiScaleConfig
from wavslm_discriminators.multi_period import folded
from wavslm_discriminators.multi_resolution_stft import MultiResolutionStft


def built(config: Any) -> Discriminator[Any]:
    torch.manual_seed(0)
    part: Discriminator[Any] = load_registry().build(config)
    return part.eval()


def noise(samples: int, seed: int = 0) -> Tensor:
    return torch.rand(1, samples, generator=torch.Generator().manual_seed(seed)) - 0.5


@pytest.mark.parametrize(
    ("config", "millions", "judgements", "maps"),
    [
        # HiFi-GAN's: 41.1 and 29.6 million weights, five times six and three times eight maps.
        (MultiPeriodConfig(), 41.1, 5, 6),
        (MultiScaleConfig(), 29.6, 3, 8),
        (MultiResolutionStftConfig(), 0.47, 5, 6),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_sizes_are_the_published_ones(config: Any, millions: float, judgements: int, maps: int) -> None:
    with torch.device("meta"):
        part = built(config)
    assert sum(weight.numel() for weight in part.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    found = built(config.model_copy(update={"channels": 32}))(noise(4000))
    assert [len(one.maps) for one in found] == [maps] * judgements


def test_a_period_sees_its_own_columns_alone() -> None:
    waveform_BS = noise(1200)
    assert torch.equal(folded(waveform_BS, 3)[0, 1], waveform_BS[0, 1::3])
    # Filled up by reflection, or, where there is too little of it, with silence.
    assert torch.equal(folded(waveform_BS[:, :4], 3)[0, :, 1], waveform_BS[0, [3, 2, 1]])
    assert torch.equal(folded(waveform_BS[:, :1], 3)[0, 1:, 0], torch.zeros(2))
    part = built(MultiPeriodConfig(periods=(3,), channels=32))
    changed_BS = waveform_BS.clone()
    changed_BS[:, 1::3] += 0.1
    (one,), (other,) = part(waveform_BS), part(changed_BS)
    scores_3T = (one.scores_BN - other.scores_BN).unflatten(1, (3, -1))[0]
    assert scores_3T[1].all()
    assert not scores_3T[[0, 2]].any()


def test_the_first_scale_has_spectral_norm_and_hears_twice_the_rate_of_the_next() -> None:
    part = built(MultiScaleConfig(scales=2, channels=32))
    norms = {
        name.split(".")[1]: type(module).__name__
        for name, module in part.named_modules()
        if type(module).__name__ in ("_SpectralNorm", "_WeightNorm")
    }
    assert norms == {"0": "_SpectralNorm", "1": "_WeightNorm"}
    first, second = part(noise(6400))
    assert first.scores_BN.shape[1] == pytest.approx(2 * second.scores_BN.shape[1], abs=2)
    # What is at half of the rate is gone where two samples make one.
    tone_BS = torch.tensor([1.0, -1.0]).repeat(3200)[None]
    pairs = zip(part(tone_BS), part(torch.zeros(1, 6400)), strict=True)
    heard = [(one.maps[0] - quiet.maps[0]).abs()[..., 20:-20].max() for one, quiet in pairs]
    assert heard[1] < 1e-5 < heard[0]


def test_spectra_are_as_loud_at_every_resolution_and_magnitudes_forget_the_sign() -> None:
    part = built(MultiResolutionStftConfig(window_samples=(1024, 256), channels=4))
    assert isinstance(part, MultiResolutionStft)
    spectra = [part.spectrum(noise(16000), size)[:, :, 8:-8, 8:-8] for size in (1024, 256)]
    energies = [float(one.square().sum(1).mean()) for one in spectra]
    assert energies[0] == pytest.approx(energies[1], rel=0.1)
    for spectrum, same in (("complex", False), ("magnitude", True)):
        part = built(MultiResolutionStftConfig(spectrum=spectrum, window_samples=(256,), channels=4))
        (one,), (other,) = part(noise(4000)), part(-noise(4000))
        assert torch.allclose(one.scores_BN, other.scores_BN, atol=1e-6) == same


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window_samples": [100, 250]}, r"multiples of 4 and at least 64 samples, not \[250\]"),
        ({"channels": 0}, "greater than 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MultiResolutionStftConfig(**options)


@pytest.mark.slow
def test_each_of_them_learns_to_tell_noise_from_a_tone() -> None:
    tone_BS = 0.5 * torch.sin(torch.arange(1600) / 9)[None]
    for config in (
        MultiPeriodConfig(periods=(2, 3), channels=32),
        MultiScaleConfig(scales=2, channels=32),
        MultiResolutionStftConfig(window_samples=(256,), channels=4),
    ):
        part: nn.Module = built(config).train()
        optimizer = torch.optim.AdamW(part.parameters(), lr=3e-3)
        losses = []
        for step in range(40):
            pair = torch.cat([tone_BS, noise(1600, seed=step)])
            halves = [one.scores_BN.chunk(2) for one in part(pair)]
            loss = torch.stack([(1 - a).relu().mean() + (1 + b).relu().mean() for a, b in halves]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.5 < 1.9 < losses[0], (config.name, losses[-1])
