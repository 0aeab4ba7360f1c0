"""Codes as bits, and what bits save."""

import math

import pytest
import torch
from torch.nn.functional import gelu

from wavslm_heads.bit_output import BitOutput
from wavslm_heads.config import BitwiseConfig
from wavslm_heads.embeddings import BitEmbedding, code_bits
from wavslm_heads.heads import BitwiseHead
from wavslm_next_chunk.config import NextChunkConfig
from wavslm_next_chunk.head import NextChunkHead


def test_the_most_significant_bit_comes_first() -> None:
    assert code_bits(torch.tensor([[6, 1]]), 3).tolist() == [[[1, 1, 0], [0, 0, 1]]]


def test_log_probs_are_sums_over_bits_in_order() -> None:
    """Against the formula, a bit at a time."""
    torch.manual_seed(0)
    output = BitOutput(5, 16, hidden_dim=7)
    x, token = torch.randn(1, 5), torch.tensor([0b1011])
    bits, total = [1, 0, 1, 1], 0.0
    pair: dict[tuple[int, int], torch.Tensor] = {}
    own = output.project(x).view(4, 7)
    for first in range(4):
        for second in range(first + 1, 4):
            pair[first, second] = output.earlier_PH[len(pair)]
    for k in range(4):
        hidden = own[k] + sum((2 * bits[j] - 1) * pair[j, k] for j in range(k))
        units = gelu(hidden)
        units = units + gelu(units @ output.mix.weight.T + output.mix.bias)
        logit = units @ output.readout_KH[k] + output.bias_K[k]
        p = torch.sigmoid(logit).item()
        total += math.log(p if bits[k] else 1 - p)
    assert output.log_probs(x, token).item() == pytest.approx(total, abs=1e-5)


def test_bits_can_depend_on_each_other() -> None:
    """Learns a distribution whose bits are each fair but whose parity is fixed."""
    torch.manual_seed(0)
    output = BitOutput(2, 8, hidden_dim=16)
    even = torch.tensor([0b000, 0b011, 0b101, 0b110])
    optimizer = torch.optim.Adam(output.parameters(), lr=0.05)
    for _ in range(150):
        loss = -output.log_probs(torch.ones(4, 2), even).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < math.log(4) + 0.02


def test_embeddings_tell_codes_apart() -> None:
    embedded = BitEmbedding(64, 8)(torch.arange(64))
    assert torch.cdist(embedded, embedded).add(torch.eye(64)).min() > 1e-3


def test_parameters_for_65k_codes() -> None:
    """At the width of the published model."""
    bitwise = BitwiseHead(BitwiseConfig(input_dim=1024, vocab_size=65536))
    with torch.device("meta"):
        linear = NextChunkHead(NextChunkConfig(input_dim=1024, vocab_size=65536))
    counts = [sum(p.numel() for p in head.parameters()) for head in (bitwise, linear)]
    assert counts == [16 * 128 * 1025 + 120 * 128 + 129 * 128 + 16 * 129, 65536 * 1024]
    assert counts[0] < counts[1] / 30
