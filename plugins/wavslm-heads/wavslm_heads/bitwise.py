"""The next-chunk head over the bits of codes: as many outputs as a code has bits, not as there are codes."""

from __future__ import annotations

import torch
from torch import Tensor

from wavslm_core.plugin import Draw, Head
from wavslm_heads.bit_output import BitOutput
from wavslm_heads.chunks import nothing_predicted, with_first_chunk
from wavslm_heads.config import BitwiseConfig


class BitwiseHead(Head[BitwiseConfig]):
    """Position t predicts the bits of token t + C; tokens of a chunk are independent, bits of a token not."""

    def __init__(self, config: BitwiseConfig) -> None:
        super().__init__(config)
        self.output = BitOutput(config.input_dim, config.vocab_size, hidden_dim=config.bit_dim)

    def log_probs(self, hidden_BTD: Tensor, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return log p(token | the chunks before its own) in nats, (B,T); NaN in the first chunk."""
        batch, size = tokens_BT.shape
        chunk = self.config.chunk_tokens
        if size <= chunk:
            return nothing_predicted(tokens_BT)
        values_N = self.output.log_probs(hidden_BTD[:, :-chunk].flatten(0, 1), tokens_BT[:, chunk:].flatten())
        return with_first_chunk(values_N.view(batch, size - chunk), tokens_BT, lengths)

    @torch.no_grad()
    def propose(self, hidden_BCD: Tensor, draw: Draw) -> Tensor:
        """Draw the next chunk (B,C), each token bit by bit."""
        return self.output.draw(hidden_BCD, draw)
