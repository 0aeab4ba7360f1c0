"""Options of the next-chunk head."""

from typing import Literal

from pydantic import Field

from wavslm_core.plugin import HeadConfig, HeadFacts, linked


class NextChunkConfig(HeadConfig):
    """A linear head whose logits at position t predict token t + chunk_tokens (WavSLM)."""

    name: Literal["next_chunk"] = "next_chunk"
    input_dim: int = linked("backbone.output_dim")
    """Width of the hidden states."""
    vocab_size: int = linked("quantizer.vocab_size")
    """Number of codes."""
    chunk_tokens: int = Field(default=4, gt=0)
    """Tokens predicted at once, independently of each other given what came before."""

    def facts(self) -> HeadFacts:
        return HeadFacts(input_dim=self.input_dim, vocab_size=self.vocab_size, chunk_tokens=self.chunk_tokens)
