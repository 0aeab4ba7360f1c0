"""Compressor (features to latents), decompressor (codes to features) and its refiner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import LinearGelu, State, StateReader, check_whole_chunks, join_states, zero_padding
from wavslm_focalcodec_stream.config import CompressorOptions, DecompressorOptions
from wavslm_focalcodec_stream.focal import FocalBlock
from wavslm_focalcodec_stream.scaling import DownScale, UpScale


class CompressorLayer(nn.Module):
    """DownScale, then a focal block."""

    def __init__(
        self, in_dim: int, dim: int, factor: int, options: CompressorOptions, *, causal: bool
    ) -> None:
        super().__init__()
        self.downscale = DownScale(in_dim, dim, factor)
        self.focal_block = FocalBlock(dim, options, causal=causal, window_size=options.window_size)


class Compressor(nn.Module):
    """(B,T,D) to latents (B, ⌈T / factors⌉, code bits), not normalised."""

    def __init__(self, input_dim: int, output_dim: int, options: CompressorOptions, *, causal: bool) -> None:
        super().__init__()
        in_dims = (input_dim, *options.hidden_dims[:-1])
        self.blocks = [
            CompressorLayer(in_dim, dim, factor, options, causal=causal)
            for in_dim, dim, factor in zip(
                in_dims, options.hidden_dims, options.downscale_factors, strict=True
            )
        ]
        self.layers = nn.ModuleList(self.blocks)
        self.out_proj = nn.Linear(options.hidden_dims[-1], output_dim)

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        # An FFT spreads what is in one frame over all: rubbish in the padding must not come so far.
        x_BTD = zero_padding(x_BTD, lengths)
        for layer in self.blocks:
            x_BTD = layer.downscale(x_BTD, lengths=lengths)
            if lengths is not None:
                lengths = (lengths + layer.downscale.factor - 1) // layer.downscale.factor
            x_BTD = layer.focal_block(x_BTD, lengths=lengths)
        return self.out_proj(x_BTD)

    def init_state(self, batch_size: int) -> State:
        return join_states(*(layer.focal_block.modulation.init_state(batch_size) for layer in self.blocks))

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        """Map whole tokens' worth of frames (B, n·factors, D) to (B, n, code bits)."""
        reader = StateReader(state)
        states: list[State] = []
        for layer in self.blocks:
            x_BTD = layer.downscale(x_BTD)
            x_BTD, block_state = layer.focal_block.step(x_BTD, reader.take(layer.focal_block.state_tensors))
            states.append(block_state)
        return self.out_proj(x_BTD), join_states(*states)


class Refiner(nn.Module):
    """Frames of one chunk see each other: two linears over all of them side by side, added to the input."""

    def __init__(self, dim: int, chunk_frames: int) -> None:
        super().__init__()
        self.chunk_frames = chunk_frames
        self.in_proj = LinearGelu(chunk_frames * dim, chunk_frames * dim)
        self.out_proj = nn.Linear(chunk_frames * dim, chunk_frames * dim)
        self.bypassed = False

    def rest(self) -> None:
        """Become the identity, at no cost and without weights that train; saved and loaded, it stays one."""
        nn.init.zeros_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)
        self.requires_grad_(False)
        self.bypassed = True

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Map (B,T,D) to (B,T,D); chunks are counted from the start, the last completed with zeros."""
        if self.bypassed:
            return x_BTD
        frames = x_BTD.shape[1]
        padded_BTD = F.pad(zero_padding(x_BTD, lengths), (0, 0, 0, -frames % self.chunk_frames))
        chunks_BNE = padded_BTD.unflatten(1, (-1, self.chunk_frames)).flatten(2)
        refined_BNE = self.out_proj(self.in_proj(chunks_BNE))
        return x_BTD + refined_BNE.unflatten(2, (self.chunk_frames, -1)).flatten(1, 2)[:, :frames]


def refiners(model: nn.Module) -> list[Refiner]:
    """Return the refiners in a model, such as a quantizer, that do not rest."""
    return [module for module in model.modules() if isinstance(module, Refiner) and not module.bypassed]


@contextmanager
def unrefined(model: nn.Module) -> Iterator[None]:
    """Let a model give what its refiners would be given."""
    paused = refiners(model)
    for refiner in paused:
        refiner.bypassed = True
    try:
        yield
    finally:
        for refiner in paused:
            refiner.bypassed = False


class DecompressorLayer(nn.Module):
    """A focal block, then UpScale."""

    def __init__(
        self,
        dim: int,
        out_dim: int,
        factor: int,
        options: DecompressorOptions,
        *,
        causal: bool,
        window_size: int,
    ) -> None:
        super().__init__()
        self.focal_block = FocalBlock(dim, options, causal=causal, window_size=window_size)
        self.upscale = UpScale(dim, out_dim, factor)


class Decompressor(nn.Module):
    """Codes (B,T,code bits) to features (B, T·factors, D)."""

    def __init__(
        self, input_dim: int, output_dim: int, options: DecompressorOptions, *, causal: bool
    ) -> None:
        super().__init__()
        dims = options.hidden_dims
        windows = [options.window_size] * (len(dims) - 1) + [options.last_window_size]
        self.in_proj = nn.Linear(input_dim, dims[0])
        self.blocks = [
            DecompressorLayer(dim, out_dim, factor, options, causal=causal, window_size=window)
            for dim, out_dim, factor, window in zip(
                dims, (*dims[1:], output_dim), options.upscale_factors, windows, strict=True
            )
        ]
        self.layers = nn.ModuleList(self.blocks)
        has_refiner = causal and options.lookahead_size > 0
        self.refiner = Refiner(output_dim, options.lookahead_size + 1) if has_refiner else None

    def forward(self, codes_BTK: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        x_BTD = self.in_proj(codes_BTK)
        for layer in self.blocks:
            x_BTD = layer.upscale(layer.focal_block(x_BTD, lengths=lengths))
            if lengths is not None:
                lengths = lengths * layer.upscale.factor
        return x_BTD if self.refiner is None else self.refiner(x_BTD, lengths=lengths)

    def init_state(self, batch_size: int) -> State:
        return join_states(*(layer.focal_block.modulation.init_state(batch_size) for layer in self.blocks))

    def step(self, codes_BTK: Tensor, state: State) -> tuple[Tensor, State]:
        """Map whole chunks of codes to features. Raises: StreamingError on a part of a chunk."""
        reader = StateReader(state)
        states: list[State] = []
        x_BTD = self.in_proj(codes_BTK)
        for layer in self.blocks:
            x_BTD, block_state = layer.focal_block.step(x_BTD, reader.take(layer.focal_block.state_tensors))
            x_BTD = layer.upscale(x_BTD)
            states.append(block_state)
        if self.refiner is not None:
            check_whole_chunks(x_BTD, self.refiner.chunk_frames, "frames")
            x_BTD = self.refiner(x_BTD)
        return x_BTD, join_states(*states)
