"""Registers the heads `next_token`, `chunk_autoregressive` and `bitwise`."""

from wavslm_core.plugin import Register, hookimpl
from wavslm_heads.config import BitwiseConfig, ChunkAutoregressiveConfig, NextTokenConfig


@hookimpl
def register_heads(register: Register) -> None:
    register(NextTokenConfig, "wavslm_heads.heads:NextTokenHead")
    register(ChunkAutoregressiveConfig, "wavslm_heads.chunk_autoregressive:ChunkAutoregressiveHead")
    register(BitwiseConfig, "wavslm_heads.heads:BitwiseHead")
