"""Registers everything that this distribution has."""

from wavslm_core.parts.plugins import hookimpl
from wavslm_core.parts.roles import Register
from wavslm_core.testing import fake_configs
from wavslm_example import configs, stages

FAKES = "wavslm_core.testing.fakes"


@hookimpl
def register_encoders(register: Register) -> None:
    register(fake_configs.FakeEncoderConfig, f"{FAKES}:FakeEncoder")


@hookimpl
def register_quantizers(register: Register) -> None:
    register(fake_configs.FakeQuantizerConfig, f"{FAKES}:FakeQuantizer")
    register(configs.NestedQuantizerConfig, "wavslm_example.nowhere:Quantizer")


@hookimpl
def register_decoders(register: Register) -> None:
    register(fake_configs.FakeDecoderConfig, f"{FAKES}:FakeDecoder")


@hookimpl
def register_backbones(register: Register) -> None:
    register(fake_configs.FakeBackboneConfig, f"{FAKES}:FakeBackbone")
    register(configs.ChunkedBackboneConfig, "wavslm_example.nowhere:Backbone")


@hookimpl
def register_heads(register: Register) -> None:
    register(fake_configs.FakeHeadConfig, f"{FAKES}:FakeHead")


@hookimpl
def register_samplers(register: Register) -> None:
    register(fake_configs.FakeSamplerConfig, f"{FAKES}:FakeSampler")
    register(configs.WarmSamplerConfig, f"{FAKES}:FakeSampler")


@hookimpl
def register_corpora(register: Register) -> None:
    register(configs.ToneConfig, "wavslm_example.nowhere:Tone")
    register(configs.ShelfConfig, "wavslm_example.nowhere:Shelf")


@hookimpl
def register_stages(register: Register) -> None:
    register(stages.CountConfig, "wavslm_example.stages:Count")
    register(stages.BreakConfig, "wavslm_example.stages:Break")
    register(stages.DescendConfig, "wavslm_example.stages:Descend")
    register(stages.PatientConfig, "wavslm_example.stages:Patient")
    register(configs.LearnConfig, "wavslm_example.stages:Learn")


@hookimpl
def register_formats(register: Register) -> None:
    register(configs.TinyFormatConfig, "wavslm_example.nowhere:Format")
