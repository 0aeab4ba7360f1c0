"""Causal maps between features and latents: convolutions that stream, or one linear map."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.interfaces import State
from wavslm_core.streaming import CausalConv1d, StateReader, join_states
from wavslm_vector_quantize.config import ConvOptions, LinearOptions


class CausalMap(nn.Module, ABC):
    """Maps (B,T,D_in) to (B,T,D_out). No frame depends on a later one: padding at the end changes nothing."""

    @abstractmethod
    def forward(self, x_BTD: Tensor) -> Tensor: ...

    @abstractmethod
    def init_state(self, batch_size: int) -> State: ...

    @abstractmethod
    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]: ...


class LinearMap(CausalMap):
    """One linear map of each frame."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_dim, output_dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        y_BTD: Tensor = self.linear(x_BTD)
        return y_BTD

    def init_state(self, batch_size: int) -> State:
        return ()

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        return self(x_BTD), state


class ConvLayer(nn.Module):
    """LayerNorm, convolution, GELU and a linear map, added to the input."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv = CausalConv1d(dim, dim, kernel_size, left_padding="zeros")
        self.linear = nn.Linear(dim, dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        y_BTD: Tensor = x_BTD + self.linear(F.gelu(self.conv(self.norm(x_BTD))))
        return y_BTD

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        convolved_BTD, state = self.conv.step(self.norm(x_BTD), state)
        return x_BTD + self.linear(F.gelu(convolved_BTD)), state


class ConvMap(CausalMap):
    """Linear map, residual convolution layers, LayerNorm, linear map."""

    def __init__(self, input_dim: int, output_dim: int, options: ConvOptions, *, dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(input_dim, dim)
        self.blocks = [ConvLayer(dim, options.kernel_size) for _ in range(options.num_layers)]
        self.layers = nn.ModuleList(self.blocks)
        self.norm = nn.LayerNorm(dim)
        self.out_proj = nn.Linear(dim, output_dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = self.in_proj(x_BTD)
        for layer in self.blocks:
            x_BTD = layer(x_BTD)
        y_BTD: Tensor = self.out_proj(self.norm(x_BTD))
        return y_BTD

    def init_state(self, batch_size: int) -> State:
        return join_states(*(layer.conv.init_state(batch_size) for layer in self.blocks))

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        reader = StateReader(state)
        states: list[State] = []
        x_BTD = self.in_proj(x_BTD)
        for layer in self.blocks:
            x_BTD, layer_state = layer.step(x_BTD, reader.take(layer.conv.state_tensors))
            states.append(layer_state)
        return self.out_proj(self.norm(x_BTD)), join_states(*states)


def build_map(
    input_dim: int, output_dim: int, options: ConvOptions | LinearOptions, *, features_dim: int
) -> CausalMap:
    """Build the map that the options name; convolutions are as wide as the features unless told otherwise."""
    if isinstance(options, LinearOptions):
        return LinearMap(input_dim, output_dim)
    return ConvMap(input_dim, output_dim, options, dim=options.dim or features_dim)
