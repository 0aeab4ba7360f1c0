"""Heads that give each token of a chunk by itself: the plain next token, and the bits of a code. What all
heads share: which places are predicted, and what stands in those that are not.

Suffixes: B batch, T tokens, C chunk, N = B · chunks, D width of the backbone, E width of a head.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from wavslm_core.plugin import Draw, Head, valid_mask
from wavslm_heads.bit_output import BitOutput
from wavslm_heads.config import BitwiseConfig, NextTokenConfig
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


def predicted_chunks(tokens: int, chunk: int) -> int:
    """Return how many chunks have one before them; a ragged last one counts."""
    return max(0, -(-tokens // chunk) - 1)


def with_first_chunk(predicted_BT: Tensor, tokens_BT: Tensor, lengths: Tensor | None) -> Tensor:
    """Put NaN before predictions, to the size of `tokens_BT`, and in padded places."""
    size = tokens_BT.shape[1]
    result_BT = F.pad(predicted_BT, (size - predicted_BT.shape[1], 0), value=torch.nan)
    if lengths is None:
        return result_BT
    return result_BT.masked_fill(~valid_mask(lengths, size), torch.nan)


def nothing_predicted(tokens_BT: Tensor) -> Tensor:
    """Return (B,T) float32 of NaN."""
    return torch.full(tokens_BT.shape, torch.nan, dtype=torch.float32, device=tokens_BT.device)
