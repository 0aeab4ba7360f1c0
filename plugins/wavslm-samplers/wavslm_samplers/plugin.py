"""Registers the samplers."""

from wavslm_core.plugin import Register, hookimpl
from wavslm_samplers import config


@hookimpl
def register_samplers(register: Register) -> None:
    register(config.GreedyConfig, "wavslm_samplers.truncating:GreedySampler")
    register(config.TopPConfig, "wavslm_samplers.truncating:TopPSampler")
    register(config.TopKConfig, "wavslm_samplers.truncating:TopKSampler")
    register(config.MinPConfig, "wavslm_samplers.truncating:MinPSampler")
    register(config.TypicalConfig, "wavslm_samplers.truncating:TypicalSampler")
    register(config.TemperatureConfig, "wavslm_samplers.reshaping:TemperatureSampler")
    register(config.RepetitionAwareConfig, "wavslm_samplers.reshaping:RepetitionAwareSampler")
    register(config.RepetitionPenaltyConfig, "wavslm_samplers.reshaping:RepetitionPenaltySampler")
    register(config.BestOfConfig, "wavslm_samplers.reshaping:BestOfSampler")
