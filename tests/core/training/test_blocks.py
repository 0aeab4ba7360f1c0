"""What FSDP may gather block by block: layers that are run, not those that are read in other ways."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.training.blocks import read_outside, repeated_blocks


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return x + self.linear(x)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(3))
        self.pairs = nn.ModuleList(nn.ModuleList([nn.LayerNorm(4), Block()]) for _ in range(2))
        self.outputs = nn.ModuleList(nn.Linear(4, 2) for _ in range(2))
        self.register_buffer("codebook", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.codebook += torch.randn(4)
        for layer in self.layers:
            assert layer.linear.weight.shape == (4, 4)
            assert layer.linear.weight.device == x.device
            x = layer(x)
        for norm, block in self.pairs:
            x = block(norm(x))
        # Read past its forward pass.
        return F.linear(x, self.layers[1].linear.weight) @ self.pairs[0][1].linear.weight.T


def test_blocks_are_what_lists_hold() -> None:
    model = Model()
    assert list(repeated_blocks(model)) == [*model.layers, model.pairs[0][1], model.pairs[1][1]]


def test_blocks_that_are_read_in_other_ways_are_found() -> None:
    model = Model()
    blocks = list(repeated_blocks(model))
    drawn_before = torch.random.get_rng_state()
    assert read_outside(model, blocks, lambda: model(torch.randn(2, 4))) == {1, 3}
    assert all(not buffer.any() for buffer in model.buffers()), "buffers were not put back"
    assert torch.equal(torch.random.get_rng_state(), drawn_before)
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in blocks)
