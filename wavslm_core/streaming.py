"""Building blocks that obey the streaming contract: a causal convolution, and flat states.

Every block has `forward(x)`, `init_state(batch_size)` and `step(x, state)`, with `state_tensors` telling
how many tensors its state holds, so that a parent can keep one flat tuple for all its children:

    reader = StateReader(state)
    for layer in self.layers:
        x, new = layer.step(x, reader.take(layer.state_tensors))
        states.append(new)
    return x, join_states(*states)

Positions are 0-d int64 tensors on the CPU, whatever the device of the caches: reading one never waits
for a GPU.
"""

from __future__ import annotations

from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.interfaces import State

Padding = Literal["replicate", "zeros"]


def join_states(*states: State) -> State:
    """Return one flat state."""
    return tuple(chain.from_iterable(states))


class StateReader:
    """Hands out a flat state piece by piece, in the order in which it was joined."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._next = 0

    def take(self, count: int) -> State:
        piece = self._state[self._next : self._next + count]
        if len(piece) != count:
            raise ValueError(f"state holds {len(self._state)} tensors, more were asked for")
        self._next += count
        return piece


def new_position() -> Tensor:
    """Return a stream position of zero."""
    return torch.zeros((), dtype=torch.int64, device="cpu")


class CausalConv1d(nn.Conv1d):
    """Convolution over time whose output never sees the future: kernel−1 steps of padding on the left.

    `left_padding="replicate"` repeats the first input, `"zeros"` puts zeros. With a stride s, output o is
    aligned with input o·s. State: the last kernel−1 inputs and the position; right for short kernels, for a
    kernel of hundreds of steps keep a ring instead.
    """

    state_tensors = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        left_padding: Padding = "replicate",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, groups=groups, bias=bias)
        self.left_padding = left_padding

    @property
    def context(self) -> int:
        """Inputs before the current one that an output sees."""
        return self.kernel_size[0] - 1

    def forward(self, x_BDT: Tensor) -> Tensor:
        """Map (B, D_in, T) to (B, D_out, ⌈T / stride⌉)."""
        if self.left_padding == "replicate":
            padded = F.pad(x_BDT, (self.context, 0), mode="replicate")
        else:
            padded = F.pad(x_BDT, (self.context, 0))
        return super().forward(padded)

    def init_state(self, batch_size: int) -> State:
        cache = self.weight.new_zeros(batch_size, self.in_channels, self.context)
        return cache, new_position()

    def step(self, x_BDT: Tensor, state: State) -> tuple[Tensor, State]:
        """Map the next (B, D_in, n·stride) inputs to (B, D_out, n)."""
        cache, position = state
        if self.left_padding == "replicate" and position.item() == 0:
            cache = x_BDT[..., :1].expand(-1, -1, self.context)
        joined = torch.cat([cache, x_BDT], dim=-1)
        new_cache = joined[..., joined.shape[-1] - self.context :].clone()
        return super().forward(joined), (new_cache, position + x_BDT.shape[-1])
