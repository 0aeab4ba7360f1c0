"""What other distributions may use: focal compressors and decompressors to put around codes of their own.

Causal ones, which stream. Importing this imports no torch, so that configs can hold the options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wavslm_focalcodec_stream.config import CompressorOptions, DecompressorOptions

if TYPE_CHECKING:
    from wavslm_focalcodec_stream.compressor import Compressor, Decompressor


def build_compressor(input_dim: int, output_dim: int, options: CompressorOptions) -> Compressor:
    """Build a map from features (B,T,D) to latents (B, ⌈T / factors⌉, K).

    `forward(x, lengths=…)`, `init_state(batch_size)`, `step(x, state)`, in steps of `options.factor` frames.
    """
    from wavslm_focalcodec_stream.compressor import Compressor

    return Compressor(input_dim, output_dim, options, causal=True)


def build_decompressor(input_dim: int, output_dim: int, options: DecompressorOptions) -> Decompressor:
    """Build a map from codes (B,T,K) to features (B, T·factors, D).

    `forward(x, lengths=…)`, `init_state(batch_size)`, `step(x, state)`, in steps that make whole multiples of
    `options.chunk_frames` frames.
    """
    from wavslm_focalcodec_stream.compressor import Decompressor

    return Decompressor(input_dim, output_dim, options, causal=True)


__all__ = ["CompressorOptions", "DecompressorOptions", "build_compressor", "build_decompressor"]
