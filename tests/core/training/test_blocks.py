"""What FSDP may gather block by block: layers that are run, not those that are read in other ways.

And what may be computed twice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.training.blocks import read_outside, recomputed, repeated_blocks, steady


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


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 64)
        self.back = nn.Linear(64, 4)

    def forward(self, x: Tensor, *, gain: float = 1.0) -> Tensor:
        return x + gain * self.back(F.dropout(self.linear(x).tanh(), 0.5))


def test_what_moves_its_buffers_runs_once() -> None:
    model = nn.ModuleList([*(Layer() for _ in range(2)), Block()])
    found = steady(model, list(model), lambda: [layer(torch.randn(2, 4)) for layer in model])
    assert found == [model[0], model[1]]
    assert model[2].seen == 0, "buffers were not put back"


def test_recomputing_keeps_less_and_changes_no_bit_of_a_gradient() -> None:
    layers = nn.ModuleList(Layer() for _ in range(3))

    def gradients(blocks: list[nn.Module]) -> tuple[list[Tensor], int]:
        kept: dict[int, int] = {}

        def keep(x: Tensor) -> Tensor:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        layers.zero_grad()
        torch.manual_seed(0)
        x = torch.randn(50, 4)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), recomputed(blocks):
            for layer in layers:
                x = layer(x, gain=0.5)
        assert not any("forward" in vars(layer) for layer in layers)
        x.square().mean().backward()
        return [parameter.grad.clone() for parameter in layers.parameters()], sum(kept.values())

    whole, bytes_whole = gradients([])
    again, bytes_again = gradients(list(layers))
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    assert bytes_again < bytes_whole / 4


def test_a_layer_in_two_places_and_one_with_a_forward_of_its_own_stay_as_they_were() -> None:
    tied, wrapped = Layer(), Layer()
    own = wrapped.forward
    wrapped.forward = lambda x: own(x, gain=0.0)  # type: ignore[method-assign]
    before = vars(wrapped)["forward"]
    x = torch.randn(3, 4, requires_grad=True)
    with recomputed([tied, wrapped, tied]):
        y = wrapped(tied(x))
    y.sum().backward()
    assert vars(wrapped)["forward"] is before
    assert "forward" not in vars(tied)
    assert torch.equal(wrapped(x), x)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + 1
        return self.linear(x)


def test_a_buffer_that_is_another_one_each_time_is_put_back() -> None:
    model = nn.ModuleList([Counter(), Layer()])
    before = model[0].seen
    found = steady(model, list(model), lambda: [layer(torch.randn(2, 4)) for layer in model])
    assert found == [model[1]]
    assert model[0].seen is before
    assert model[0].seen == 0
