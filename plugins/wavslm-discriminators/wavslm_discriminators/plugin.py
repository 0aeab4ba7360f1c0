"""Registers the discriminators of this distribution. Like the configs it imports no torch."""

from __future__ import annotations

from wavslm_core.plugin import Register, hookimpl
from wavslm_discriminators.config import MultiPeriodConfig, MultiResolutionStftConfig, MultiScaleConfig


@hookimpl
def register_discriminators(register: Register) -> None:
    register(MultiPeriodConfig, "wavslm_discriminators.multi_period:MultiPeriod")
    register(MultiScaleConfig, "wavslm_discriminators.multi_scale:MultiScale")
    register(MultiResolutionStftConfig, "wavslm_discriminators.multi_resolution_stft:MultiResolutionStft")
