"""Causal maps between features and latents: convolutions that stream, one linear map, or focal blocks."""

from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import CausalConv1d, State, StateReader, join_states
from wavslm_vector_quantize.config import ConvOptions, LinearOptions
from wavslm_vector_quantize.focal_options import FocalCompressorOptions, FocalDecompressorOptions


class CausalMap(Protocol):
    """Maps (B,T,D_in) to (B,T,D_out), or to fewer or more frames by a fixed factor.

    `lengths` counts the valid frames of the input; frames of one chunk may see each other.
    """

    def __call__(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor: ...

    def init_state(self, batch_size: int) -> State: ...

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]: ...


class LinearMap(nn.Module):
    """One linear map of each frame."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_dim, output_dim)

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
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


class ConvMap(nn.Module):
    """Linear map, residual convolution layers, LayerNorm, linear map.

    No frame depends on a later one, so padding at the end changes nothing.
    """

    def __init__(self, input_dim: int, output_dim: int, options: ConvOptions, *, dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(input_dim, dim)
        self.blocks = [ConvLayer(dim, options.kernel_size) for _ in range(options.num_layers)]
        self.layers = nn.ModuleList(self.blocks)
        self.norm = nn.LayerNorm(dim)
        self.out_proj = nn.Linear(dim, output_dim)

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
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
    input_dim: int,
    output_dim: int,
    options: ConvOptions | LinearOptions | FocalCompressorOptions | FocalDecompressorOptions,
    *,
    features_dim: int,
) -> CausalMap:
    """Build the map that the options name; convolutions are as wide as the features unless told otherwise."""
    if isinstance(options, LinearOptions):
        return LinearMap(input_dim, output_dim)
    if isinstance(options, ConvOptions):
        return ConvMap(input_dim, output_dim, options, dim=options.dim or features_dim)
    from wavslm_focalcodec_stream.maps import build_compressor, build_decompressor

    if isinstance(options, FocalCompressorOptions):
        return build_compressor(input_dim, output_dim, options)
    return build_decompressor(input_dim, output_dim, options)
