"""Registers this distribution's parts; imports no torch."""

from __future__ import annotations

from wavslm_core.plugin import Register, hookimpl
from wavslm_focalcodec_stream.codec_stages import (
    FinetuneDecoderConfig,
    TrainCodecJointConfig,
    TrainDecoderConfig,
    TrainQuantizerConfig,
)
from wavslm_focalcodec_stream.config import FocalCodecStreamConfig
from wavslm_focalcodec_stream.decoder_config import IstftConfig, VocosConfig, WaveNeXtConfig
from wavslm_focalcodec_stream.distillation_config import DistillEncoderConfig, DistillPositionalConfig
from wavslm_focalcodec_stream.format_config import FocalCodecFormatConfig

PACKAGE = "wavslm_focalcodec_stream"


@hookimpl
def register_quantizers(register: Register) -> None:
    register(FocalCodecStreamConfig, f"{PACKAGE}.quantizer:FocalCodecStream")


@hookimpl
def register_decoders(register: Register) -> None:
    register(WaveNeXtConfig, f"{PACKAGE}.decoders:WaveNeXt")
    register(VocosConfig, f"{PACKAGE}.decoders:Vocos")
    register(IstftConfig, f"{PACKAGE}.decoders:Istft")


@hookimpl
def register_stages(register: Register) -> None:
    register(DistillPositionalConfig, f"{PACKAGE}.distillation:DistillPositional")
    register(DistillEncoderConfig, f"{PACKAGE}.distillation:DistillEncoder")
    register(TrainQuantizerConfig, f"{PACKAGE}.codec_stages:TrainQuantizer")
    register(TrainCodecJointConfig, f"{PACKAGE}.codec_stages:TrainCodecJoint")
    register(TrainDecoderConfig, f"{PACKAGE}.codec_stages:TrainDecoder")
    register(FinetuneDecoderConfig, f"{PACKAGE}.codec_stages:FinetuneDecoder")


@hookimpl
def register_formats(register: Register) -> None:
    register(FocalCodecFormatConfig, f"{PACKAGE}.official_format:FocalCodecFormat")
