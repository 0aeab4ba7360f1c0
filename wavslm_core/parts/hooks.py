"""The table of contents of every extension point. One hook per role, all of the same shape.

A plugin is a module (or object) named by an entry point in the group `wavslm` that implements any of
these hooks:

    from wavslm_core.plugin import hookimpl

    @hookimpl
    def register_quantizers(register):
        register(MyQuantizerConfig, "my_package.quantizer:MyQuantizer")

The config class must import without torch; the string is imported when the part is built. The class is
built as `MyQuantizer(config)` and implements the interface of its role. All names are in
`wavslm_core.plugin`.
"""

from __future__ import annotations

from collections.abc import Callable

import pluggy

hookspec = pluggy.HookspecMarker("wavslm")

Register = Callable[[type, str], None]


@hookspec
def register_encoders(register: Register) -> None:
    """Waveform to features: `EncoderConfig`, `interfaces.Encoder`."""


@hookspec
def register_quantizers(register: Register) -> None:
    """Features to one stream of tokens and back: `QuantizerConfig`, `interfaces.Quantizer`."""


@hookspec
def register_decoders(register: Register) -> None:
    """Features to waveform: `DecoderConfig`, `interfaces.Decoder`."""


@hookspec
def register_backbones(register: Register) -> None:
    """Features or tokens to hidden states: `BackboneConfig`, `interfaces.Backbone`."""


@hookspec
def register_heads(register: Register) -> None:
    """Hidden states to log-probabilities and proposals: `HeadConfig`, `interfaces.Head`."""


@hookspec
def register_samplers(register: Register) -> None:
    """Logits to token ids: `SamplerConfig`, `interfaces.Sampler`."""


@hookspec
def register_stages(register: Register) -> None:
    """What a recipe can do: `StageConfig`, `Stage`."""


@hookspec
def register_metrics(register: Register) -> None:
    """Numbers that compare audio with a reference: `MetricConfig`, `Metric`."""


@hookspec
def register_corpora(register: Register) -> None:
    """Where speech comes from: `CorpusConfig`, `Corpus`."""


@hookspec
def register_formats(register: Register) -> None:
    """Checkpoint folders of other projects: `FormatConfig`, `interfaces.CheckpointFormat`."""
