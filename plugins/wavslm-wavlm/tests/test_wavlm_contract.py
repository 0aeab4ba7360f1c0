"""The stages of this plugin are held to the contract of stages."""

from __future__ import annotations

from wavslm_core.testing import contract_tests
from wavslm_wavlm.config import WavLMConfig
from wavslm_wavlm.pretraining.config import PretrainEncoderConfig, ProbeEncoderConfig, TargetsConfig

SMALL = WavLMConfig(
    hidden_dims=(8, 8),
    kernel_sizes=(20, 32),
    strides=(10, 32),
    num_layers=1,
    dim=16,
    ffn_dim=16,
    num_heads=2,
    num_buckets=16,
    max_distance=24,
    conv_pos=8,
    conv_pos_groups=2,
)

TestPretrainEncoder = contract_tests(
    PretrainEncoderConfig(
        encoder=SMALL,
        targets=TargetsConfig(clusters=4),
        steps=2,
        batch_size=2,
        crop_seconds=0.5,
        projection_dim=8,
    )
)

TestProbeEncoder = contract_tests(ProbeEncoderConfig(sounds=4, frames=20), parts={"encoder": SMALL})
