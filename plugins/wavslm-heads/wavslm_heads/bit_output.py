"""The distribution of a code as that of its bits in order: 16 logits instead of 65,536.

Each bit has hidden units of its own, which see the bits j < k through one vector for each pair, as in MADE
(arXiv 1502.03509), so that all bits of all tokens are scored in one pass; the bits share a second layer:

    u_k = gelu(P_k x + c_k + Σ_{j<k} ±U_jk)                        with + for bit j = 1, - for 0
    logit_k = v_k · (u_k + gelu(L u_k)) + b_k

A code's probability is the product of its bits': exact, and normalised by construction.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import Draw, LinearGelu
from wavslm_heads.embeddings import bit_count, code_bits
from wavslm_heads.outputs import Output


class BitOutput(Output):
    """One logit a bit. K here: bits; H: hidden units of one bit; P: pairs of bits j < k, ordered by j."""

    def __init__(self, input_dim: int, vocab_size: int, *, hidden_dim: int) -> None:
        super().__init__()
        self.bits = bits = bit_count(vocab_size)
        self.hidden_dim = hidden_dim
        self.project = nn.Linear(input_dim, bits * hidden_dim)
        self.mix = LinearGelu(hidden_dim, hidden_dim)
        self.earlier_PH = nn.Parameter(torch.empty(bits * (bits - 1) // 2, hidden_dim))
        self.readout_KH = nn.Parameter(torch.empty(bits, hidden_dim))
        self.bias_K = nn.Parameter(torch.zeros(bits))
        nn.init.normal_(self.earlier_PH, std=bits**-0.5)
        nn.init.normal_(self.readout_KH, std=hidden_dim**-0.5)

    def log_probs(self, states_NE: Tensor, tokens_N: Tensor) -> Tensor:
        bits_NK = code_bits(tokens_N, self.bits)
        own_NKH = self.project(states_NE).unflatten(-1, (self.bits, self.hidden_dim))
        signs_NK = (2 * bits_NK - 1).to(own_NKH.dtype)
        # One product for all bits: the table of pairs as a matrix whose entries with j >= k are zero.
        first, second = torch.triu_indices(self.bits, self.bits, offset=1, device=bits_NK.device)
        pairs_KKH = self.earlier_PH.new_zeros(self.bits, self.bits, self.hidden_dim)
        pairs_KKH = pairs_KKH.index_put((first, second), self.earlier_PH)
        earlier_NKH = (signs_NK @ pairs_KKH.flatten(1).to(signs_NK.dtype)).view_as(own_NKH)
        units_NKH = F.gelu(own_NKH + earlier_NKH)
        units_NKH = units_NKH + self.mix(units_NKH)
        logits_NK = torch.einsum("nkh,kh->nk", units_NKH, self.readout_KH) + self.bias_K
        losses_NK = F.binary_cross_entropy_with_logits(logits_NK.float(), bits_NK.float(), reduction="none")
        return -losses_NK.sum(dim=-1)

    def draw(self, states_BKE: Tensor, draw: Draw) -> Tensor:
        hidden_BTKH = self.project(states_BKE).unflatten(-1, (self.bits, self.hidden_dim))
        codes_BT = torch.zeros(states_BKE.shape[:2], dtype=torch.int64, device=states_BKE.device)
        pair = 0
        for bit in range(self.bits):
            units_BTH = F.gelu(hidden_BTKH[:, :, bit])
            units_BTH = units_BTH + self.mix(units_BTH)
            logits_BT = units_BTH @ self.readout_KH[bit] + self.bias_K[bit]
            bits_BT = draw.symbols(torch.stack([torch.zeros_like(logits_BT), logits_BT], dim=-1))
            codes_BT = 2 * codes_BT + bits_BT
            later = self.bits - bit - 1
            signs_BT11 = (2 * bits_BT - 1).to(hidden_BTKH.dtype)[..., None, None]
            hidden_BTKH[:, :, bit + 1 :] += signs_BT11 * self.earlier_PH[pair : pair + later]
            pair += later
        return codes_BT
