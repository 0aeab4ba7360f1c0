"""Configs of the metrics that come with the core."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wavslm_core.parts.configs import MetricConfig


class MelDistanceConfig(MetricConfig):
    """Mean absolute difference of log-mel spectrograms, in dB; lower is better."""

    name: Literal["mel_distance"] = "mel_distance"
    mel_bands: int = Field(default=80, gt=0)
    """Mel bands between 0 Hz and half the sample rate."""
    window_ms: float = Field(default=50.0, gt=0)
    """Length of the Hann window."""
    hop_ms: float = Field(default=12.5, gt=0)
    """Time between frames."""
    range_db: float = Field(default=80.0, gt=0)
    """Everything further than this below the reference's loudest band counts as silence."""


class StoiConfig(MetricConfig):
    """Short-time objective intelligibility (Taal et al. 2011), 0 to 1; higher is better."""

    name: Literal["stoi"] = "stoi"
    extended: bool = False
    """Use the extended measure of Jensen and Taal (2016)."""
