"""What this distribution registers."""

from __future__ import annotations

from wavslm_core.plugin import Register, hookimpl
from wavslm_wavlm.config import WavLMConfig, WavLMUpperConfig
from wavslm_wavlm.pretraining.config import PretrainEncoderConfig, ProbeEncoderConfig


@hookimpl
def register_encoders(register: Register) -> None:
    register(WavLMConfig, "wavslm_wavlm.encoder:WavLM")


@hookimpl
def register_backbones(register: Register) -> None:
    register(WavLMUpperConfig, "wavslm_wavlm.backbone:WavLMUpper")


@hookimpl
def register_stages(register: Register) -> None:
    register(PretrainEncoderConfig, "wavslm_wavlm.pretraining.pretrain_encoder:PretrainEncoder")
    register(ProbeEncoderConfig, "wavslm_wavlm.pretraining.probe_encoder:ProbeEncoder")
