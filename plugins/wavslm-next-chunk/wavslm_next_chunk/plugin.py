"""Registers the head `next_chunk` and the samplers."""

from __future__ import annotations

from wavslm_core.plugin import Register, hookimpl
from wavslm_next_chunk.config import NextChunkConfig
from wavslm_next_chunk.sampler_configs import (
    BestOfConfig,
    GreedyConfig,
    MinPConfig,
    RepetitionAwareConfig,
    RepetitionPenaltyConfig,
    TemperatureConfig,
    TopKConfig,
    TopPConfig,
    TypicalConfig,
)


@hookimpl
def register_heads(register: Register) -> None:
    register(NextChunkConfig, "wavslm_next_chunk.head:NextChunkHead")


@hookimpl
def register_samplers(register: Register) -> None:
    register(GreedyConfig, "wavslm_next_chunk.truncating:GreedySampler")
    register(TopPConfig, "wavslm_next_chunk.truncating:TopPSampler")
    register(TopKConfig, "wavslm_next_chunk.truncating:TopKSampler")
    register(MinPConfig, "wavslm_next_chunk.truncating:MinPSampler")
    register(TypicalConfig, "wavslm_next_chunk.truncating:TypicalSampler")
    register(TemperatureConfig, "wavslm_next_chunk.reshaping:TemperatureSampler")
    register(RepetitionAwareConfig, "wavslm_next_chunk.reshaping:RepetitionAwareSampler")
    register(RepetitionPenaltyConfig, "wavslm_next_chunk.reshaping:RepetitionPenaltySampler")
    register(BestOfConfig, "wavslm_next_chunk.reshaping:BestOfSampler")
