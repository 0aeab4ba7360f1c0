"""The next-chunk head of WavSLM (arXiv 2603.05299): one linear map, shifted by a whole chunk.

The hidden state at position t has seen its whole chunk, so it may not predict t + 1; it predicts token
t + C. The C tokens of a chunk are therefore drawn independently of each other, from one backbone step.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import Draw, Head, PackLinear, valid_mask
from wavslm_next_chunk.config import NextChunkConfig


class NextChunkHead(Head[NextChunkConfig]):
    """Linear head without bias. Its state dict has the one key `weight` (V,D), as official checkpoints do."""

    def __init__(self, config: NextChunkConfig) -> None:
        super().__init__(config)
        linear = nn.Linear(config.input_dim, config.vocab_size, bias=False)
        self.weight = linear.weight
        self.packed: nn.Module | None = None

    def pack_weights(self, pack: PackLinear) -> None:
        """Replace the weight for fast inference."""
        self.packed = pack(self.weight, None)

    def logits(self, hidden: Tensor) -> Tensor:
        """Map (…,D) to (…,V)."""
        return F.linear(hidden, self.weight) if self.packed is None else self.packed(hidden)

    def log_probs(self, hidden_BTD: Tensor, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return log p(token | the chunks before its own) in nats, (B,T); NaN in the first chunk."""
        batch, size = tokens_BT.shape
        chunk = self.config.chunk_tokens
        result_BT = torch.full((batch, size), torch.nan, dtype=torch.float32, device=hidden_BTD.device)
        if size <= chunk:
            return result_BT
        logits_NV = self.logits(hidden_BTD[:, :-chunk]).flatten(0, 1).float()
        losses_N = F.cross_entropy(logits_NV, tokens_BT[:, chunk:].flatten(), reduction="none")
        predicted_BT = -losses_N.view(batch, size - chunk)
        if lengths is not None:
            padded = ~valid_mask(lengths, size)[:, chunk:]
            predicted_BT = predicted_BT.masked_fill(padded, torch.nan)
        return torch.cat([result_BT[:, :chunk], predicted_BT], dim=1)

    def propose(self, hidden_BCD: Tensor, draw: Draw) -> Tensor:
        """Draw the next chunk (B,C), each token from its own logits."""
        return draw.tokens(self.logits(hidden_BCD))
