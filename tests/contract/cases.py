"""Small configs of the parts in this repository that the contract is run over.

A plugin may keep its cases here, or with its own tests in a file `test_*contract*.py`: `test_registry` sees
both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wavslm_core.parts.configs import Role


@dataclass(frozen=True)
class Case:
    """One config of a registered part, and what its contract is told."""

    role: Role
    options: Mapping[str, Any]
    """The block of a recipe, with linked fields."""
    contract: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `contract_tests`."""


WAVLM = {
    "name": "wavlm",
    "hidden_dims": (8,) * 7,
    "dim": 16,
    "ffn_dim": 24,
    "num_heads": 2,
    "num_layers": 2,
    "num_buckets": 16,
    "max_distance": 24,
    "conv_pos": 8,
    "conv_pos_groups": 2,
    "window_size": 16,
}
WAVLM_UPPER = {
    "name": "wavlm_upper",
    "dim": 16,
    "ffn_dim": 24,
    "num_heads": 2,
    "num_layers": 2,
    "num_buckets": 16,
    "max_distance": 24,
    "window_size": 16,
    "lookahead_size": 3,
    "input_dim": 12,
    "vocab_size": 32,
}
ODD = {"lookahead_size": 4, "window_size": 13}
ONE = {"num_layers": 1}
"""For cases that are about what surrounds the layers."""
WIDE = {"conv_pos_groups": 1}
"""Groups of so many channels that their convolution is packed."""
FOCAL_BLOCKS = {"hidden_dims": (16, 16), "focal_window": 3, "focal_factor": 2, "window_size": 8}
FOCAL = {
    "name": "focalcodec_stream",
    "input_dim": 12,
    "codebook_size": 64,
    "compressor": FOCAL_BLOCKS | {"downscale_factors": (1, 1)},
    "decompressor": FOCAL_BLOCKS | {"upscale_factors": (1, 1), "last_window_size": 8},
}
HALVING = {
    "compressor": FOCAL_BLOCKS | {"downscale_factors": (2, 1)},
    "decompressor": FOCAL_BLOCKS | {"upscale_factors": (1, 2), "last_window_size": 8},
}
QUARTER = {
    "compressor": FOCAL_BLOCKS | {"downscale_factors": (1, 4), "focal_window": 6},
    "decompressor": FOCAL_BLOCKS | {"upscale_factors": (4, 1), "focal_window": 6},
}
FOCAL_LONG = FOCAL_BLOCKS | {"window_size": 70, "use_layerscale": True}
LONG = {
    "compressor": FOCAL_LONG | {"downscale_factors": (1, 1)},
    "decompressor": FOCAL_LONG | {"upscale_factors": (1, 1), "last_window_size": 70},
}
"""Windows that are convolved by FFT."""
DECODER = {"input_dim": 12, "hop_samples": 40, "dim": 16, "ffn_dim": 24, "num_layers": 2}
STFT = {"name": "multi_resolution_stft", "window_samples": (512, 64), "channels": 4}

CASES: dict[str, Case] = {
    "WavlmCausal": Case("encoder", WAVLM | {"causal": True}),
    "WavlmStride": Case("encoder", WAVLM | ONE | {"causal": True, "front_end_padding": "stride"}),
    "WavlmOdd": Case("encoder", WAVLM | {"causal": True, "layer_norm_first": False, "dropout": 0.3} | ODD),
    "WavlmNorm": Case("encoder", WAVLM | ONE | {"causal": True, "final_norm": True, "conv_pos": 9} | WIDE),
    "WavlmInner": Case(
        "encoder",
        WAVLM | {"causal": True, "final_norm": True, "output_layer": 1},
        {"no_gradient": {"encoder.layers.1.*": "above the output layer", "encoder.norm.*": "of the last"}},
    ),
    "WavlmFull": Case("encoder", WAVLM),
    "WavlmBase": Case("encoder", WAVLM | {"layer_norm_first": False, "front_end_norm": "group"}),
    "WavlmLarge": Case("encoder", WAVLM | ONE | {"normalize_waveform": True, "conv_bias": True} | WIDE),
    "WavlmUpper": Case("backbone", WAVLM_UPPER),
    "WavlmUpperTokens": Case("backbone", WAVLM_UPPER | ONE | {"input": "embedding"}),
    "WavlmUpperOdd": Case("backbone", WAVLM_UPPER | {"input_dim": 16, "dropout": 0.3} | ODD),
    "Focal": Case("quantizer", FOCAL),
    "FocalHalving": Case("quantizer", FOCAL | HALVING),
    "FocalFull": Case("quantizer", FOCAL | {"causal": False}),
    "FocalLong": Case("quantizer", FOCAL | LONG),
    "FocalQuarterFull": Case("quantizer", FOCAL | QUARTER | {"causal": False}),
    "Istft": Case("decoder", {"name": "istft", "n_fft": 160} | DECODER),
    "IstftHalf": Case("decoder", {"name": "istft", "n_fft": 80} | DECODER | ONE),
    "VocosCausal": Case("decoder", {"name": "vocos", "causal": True, "n_fft": 80} | DECODER),
    "VocosFull": Case("decoder", {"name": "vocos", "causal": False, "n_fft": 130} | DECODER | ONE),
    "Wavenext": Case("decoder", {"name": "wavenext"} | DECODER),
    "WavenextFull": Case("decoder", {"name": "wavenext", "causal": False} | DECODER | ONE),
    "NextChunk": Case("head", {"name": "next_chunk", "input_dim": 12, "vocab_size": 8, "chunk_tokens": 4}),
    "Greedy": Case("sampler", {"name": "greedy"}),
    "TopP": Case("sampler", {"name": "top_p", "p": 0.7, "temperature": 0.8}),
    "TopPZero": Case("sampler", {"name": "top_p", "p": 0}),
    "TopK": Case("sampler", {"name": "top_k", "k": 5}),
    "MinP": Case("sampler", {"name": "min_p", "p": 0.2}),
    "Typical": Case("sampler", {"name": "typical", "p": 0.8}),
    "Temperature": Case("sampler", {"name": "temperature", "start": 1.5, "end": 0.5, "over_tokens": 100}),
    "RepetitionAware": Case("sampler", {"name": "repetition_aware", "p": 0.6, "window_tokens": 7}),
    "RepetitionPenalty": Case("sampler", {"name": "repetition_penalty", "window_tokens": 7}),
    "BestOf": Case("sampler", {"name": "best_of", "candidates": 3}),
    "MultiPeriod": Case("discriminator", {"name": "multi_period", "periods": (2, 3), "channels": 32}),
    "MultiScale": Case("discriminator", {"name": "multi_scale", "scales": 2, "channels": 32}),
    "ComplexStft": Case("discriminator", STFT),
    "MagnitudeStft": Case("discriminator", STFT | {"spectrum": "magnitude", "dilations": (1,)}),
    "Chain": Case(
        "sampler",
        {
            "name": "chain",
            "steps": [
                {"name": "repetition_penalty", "window_tokens": 4},
                {"name": "repetition_aware", "window_tokens": 9},
                {"name": "top_k", "k": 6},
            ],
        },
    ),
}
"""Name of the class of tests → case."""
