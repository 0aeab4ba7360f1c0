"""Registers the head `next_chunk`."""

from wavslm_core.plugin import Register, hookimpl
from wavslm_next_chunk.config import NextChunkConfig


@hookimpl
def register_heads(register: Register) -> None:
    register(NextChunkConfig, "wavslm_next_chunk.head:NextChunkHead")
