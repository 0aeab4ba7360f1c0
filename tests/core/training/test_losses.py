"""Losses of codec training: zero for equals, in the units they claim, finite everywhere."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wavslm_core.training.losses import MelLoss, feature_distance

RATE_HZ = 16000


def noise(*, seconds: float = 0.5, level: float = 0.1, seed: int = 0, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return level * torch.randn(batch, round(seconds * RATE_HZ), generator=generator)


def test_equal_waveforms_have_no_distance() -> None:
    waveform_BS = noise()
    assert MelLoss(RATE_HZ)(waveform_BS, waveform_BS.clone()).item() == 0.0


def test_gain_is_measured_in_nepers() -> None:
    waveform_BS = noise()
    distance = MelLoss(RATE_HZ, floor=1e-9)(waveform_BS * 2, waveform_BS).item()
    assert distance == pytest.approx(math.log(2), rel=1e-4)


def test_distance_grows_with_what_is_added() -> None:
    loss, clean_BS = MelLoss(RATE_HZ), noise()
    distances = [loss(clean_BS + noise(level=level, seed=1), clean_BS).item() for level in (0.003, 0.03, 0.3)]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_below_the_floor_hardly_counts() -> None:
    silence_BS, hiss_BS = torch.zeros(2, 8000), noise(level=1e-6)
    assert MelLoss(RATE_HZ, floor=1e-2)(hiss_BS, silence_BS).item() < 1e-3
    assert MelLoss(RATE_HZ, floor=1e-9)(hiss_BS, silence_BS).item() > 1


def test_it_is_the_mean_over_resolutions() -> None:
    clean_BS, noisy_BS = noise(), noise() + noise(level=0.02, seed=1)
    sizes = (256, 1024, 4096)
    each = [MelLoss(RATE_HZ, window_samples=[size])(noisy_BS, clean_BS).item() for size in sizes]
    assert len(set(each)) == len(sizes)
    together = MelLoss(RATE_HZ, window_samples=sizes)(noisy_BS, clean_BS).item()
    assert together == pytest.approx(sum(each) / len(each), rel=1e-5)


def test_gradient_is_finite_at_silence_and_for_a_few_samples() -> None:
    for size in (1, 100, 8000):
        estimate_BS = torch.zeros(2, size, requires_grad=True)
        MelLoss(RATE_HZ)(estimate_BS, 0.1 * torch.ones(2, size)).backward()
        assert estimate_BS.grad is not None
        assert torch.isfinite(estimate_BS.grad).all()


def test_autocast_changes_nothing() -> None:
    loss, clean_BS, noisy_BS = MelLoss(RATE_HZ), noise(), noise(seed=1)
    expected = loss(noisy_BS, clean_BS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(noisy_BS, clean_BS), expected)


def test_descending_it_brings_waveforms_together() -> None:
    loss, target_BS = MelLoss(RATE_HZ), noise(batch=1)
    estimate_BS = noise(batch=1, seed=1, level=0.01).requires_grad_()
    optimizer = torch.optim.Adam([estimate_BS], lr=5e-3)
    before = loss(estimate_BS, target_BS).item()
    for _ in range(40):
        optimizer.zero_grad()
        loss(estimate_BS, target_BS).backward()
        optimizer.step()
    assert loss(estimate_BS, target_BS).item() < before / 2


def test_feature_distance_ignores_level_and_spares_the_target() -> None:
    target_BTD = torch.randn(2, 5, 8, requires_grad=True)
    estimate_BTD = torch.randn(2, 5, 8, requires_grad=True)
    distance = feature_distance(estimate_BTD, target_BTD)
    assert torch.allclose(distance, feature_distance(3 * estimate_BTD + 1, 0.5 * target_BTD), rtol=1e-3)
    assert feature_distance(2 * target_BTD, target_BTD).item() < 1e-6
    distance.backward()
    assert target_BTD.grad is None
    assert estimate_BTD.grad is not None


def test_feature_distance_sees_valid_frames_only() -> None:
    target_BTD, estimate_BTD = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    mask_BT = torch.arange(5) < torch.tensor([5, 2])[:, None]
    expected = feature_distance(estimate_BTD, target_BTD, mask_BT)
    estimate_BTD[1, 2:] = 100 * torch.randn(3, 8)
    assert torch.equal(feature_distance(estimate_BTD, target_BTD, mask_BT), expected)
