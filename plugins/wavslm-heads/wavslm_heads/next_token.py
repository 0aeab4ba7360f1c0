"""The plain head of a language model: each hidden state predicts the token after it."""

from __future__ import annotations

import torch
from torch import Tensor

from wavslm_core.plugin import Draw, Head
from wavslm_heads.chunks import nothing_predicted, with_first_chunk
from wavslm_heads.config import NextTokenConfig
from wavslm_heads.outputs import LinearOutput


class NextTokenHead(Head[NextTokenConfig]):
    """One linear map, and one step of the backbone for each token."""

    def __init__(self, config: NextTokenConfig) -> None:
        super().__init__(config)
        self.output = LinearOutput(config.input_dim, config.vocab_size)

    def log_probs(self, hidden_BTD: Tensor, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return log p(token | those before it) in nats, (B,T); NaN at the first."""
        batch, size = tokens_BT.shape
        if size < 2:
            return nothing_predicted(tokens_BT)
        values_N = self.output.log_probs(hidden_BTD[:, :-1].flatten(0, 1), tokens_BT[:, 1:].flatten())
        return with_first_chunk(values_N.view(batch, size - 1), tokens_BT, lengths)

    @torch.no_grad()
    def propose(self, hidden_BCD: Tensor, draw: Draw) -> Tensor:
        """Draw the next token, (B,1)."""
        return self.output.draw(hidden_BCD, draw)
