"""Registers the head `next_chunk` and the samplers `top_p`, `top_k`, `min_p` and `greedy`."""

from __future__ import annotations

from wavslm_core.hookspecs import Register
from wavslm_core.plugins import hookimpl
from wavslm_next_chunk.config import GreedyConfig, MinPConfig, NextChunkConfig, TopKConfig, TopPConfig


@hookimpl
def register_heads(register: Register) -> None:
    register(NextChunkConfig, "wavslm_next_chunk.head:NextChunkHead")


@hookimpl
def register_samplers(register: Register) -> None:
    register(TopPConfig, "wavslm_next_chunk.samplers:TopPSampler")
    register(TopKConfig, "wavslm_next_chunk.samplers:TopKSampler")
    register(MinPConfig, "wavslm_next_chunk.samplers:MinPSampler")
    register(GreedyConfig, "wavslm_next_chunk.samplers:GreedySampler")
