"""The roles, and the table of contents of every extension point: a row for each.

A new role is a change to wavslm itself, which CONTRIBUTING describes; plugins bring implementations.

A plugin is a module (or object) named by an entry point in the group `wavslm` that implements any of the
hooks, which are all of the same shape:

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
from dataclasses import dataclass

from wavslm_core.parts.configs import (
    BackboneConfig,
    Config,
    CorpusConfig,
    DecoderConfig,
    DiscriminatorConfig,
    EncoderConfig,
    FormatConfig,
    HeadConfig,
    MetricConfig,
    QuantizerConfig,
    Role,
    SamplerConfig,
    StageConfig,
    SuiteConfig,
)
from wavslm_core.parts.facts import (
    BackboneFacts,
    DecoderFacts,
    EncoderFacts,
    HeadFacts,
    PartFacts,
    QuantizerFacts,
    SamplerFacts,
)

Register = Callable[[type, str], None]
"""What a hook is given: takes a config class and the `package.module:Class` that is built from it."""


@dataclass(frozen=True)
class RoleSpec:
    """A kind of thing that plugins register."""

    config: type[Config]
    """What the configs of its implementations derive from."""
    interface: str
    """What the implementations derive from, `package.module:Class`; imported at build time like them."""
    hook: str
    """Name of the hook that registers it."""
    about: str
    """What it is, in a line."""
    facts: type[PartFacts] | None = None
    """What a config of one of the six parts of a model states of it."""

    @property
    def name(self) -> Role:
        return self.config.role

    @property
    def tag(self) -> str:
        """The key that names the implementation in a block."""
        return self.config.tag

    @property
    def contract(self) -> str:
        """The tests that hold an implementation to its contract, `package.module:Class`."""
        return f"wavslm_core.testing.contract.{self.name}:{stem(self.name)}Contract"


def stem(name: str) -> str:
    """Return how classes of what is called `name` begin: `SpeakerEncoder` of "speaker_encoder"."""
    return "".join(word.capitalize() for word in name.split("_"))


_INTERFACES = "wavslm_core.parts.interfaces:"

ROLES: dict[Role, RoleSpec] = {
    spec.name: spec
    for spec in (
        RoleSpec(
            EncoderConfig,
            f"{_INTERFACES}Encoder",
            "register_encoders",
            "Waveform to features",
            facts=EncoderFacts,
        ),
        RoleSpec(
            QuantizerConfig,
            f"{_INTERFACES}Quantizer",
            "register_quantizers",
            "Features to one stream of tokens and back",
            facts=QuantizerFacts,
        ),
        RoleSpec(
            DecoderConfig,
            f"{_INTERFACES}Decoder",
            "register_decoders",
            "Features to waveform",
            facts=DecoderFacts,
        ),
        RoleSpec(
            BackboneConfig,
            f"{_INTERFACES}Backbone",
            "register_backbones",
            "Features or tokens to hidden states",
            facts=BackboneFacts,
        ),
        RoleSpec(
            HeadConfig,
            f"{_INTERFACES}Head",
            "register_heads",
            "Hidden states to log-probabilities and proposals",
            facts=HeadFacts,
        ),
        RoleSpec(
            SamplerConfig,
            f"{_INTERFACES}Sampler",
            "register_samplers",
            "Logits to token ids",
            facts=SamplerFacts,
        ),
        RoleSpec(StageConfig, "wavslm_core.stages.base:Stage", "register_stages", "What a recipe can do"),
        RoleSpec(
            MetricConfig,
            "wavslm_core.parts.metric:Metric",
            "register_metrics",
            "Numbers that compare audio with a reference, or judge it alone",
        ),
        RoleSpec(
            DiscriminatorConfig,
            f"{_INTERFACES}Discriminator",
            "register_discriminators",
            "Waveform to scores of how real it sounds",
        ),
        RoleSpec(
            CorpusConfig,
            "wavslm_core.data.corpora:Corpus",
            "register_corpora",
            "Where speech comes from",
        ),
        RoleSpec(
            SuiteConfig,
            "wavslm_core.data.suites:Suite",
            "register_suites",
            "Pairs of recordings, one of which a language model should find likelier",
        ),
        RoleSpec(
            FormatConfig,
            f"{_INTERFACES}CheckpointFormat",
            "register_formats",
            "Checkpoint folders of other projects",
        ),
    )
}
PART_ROLES: tuple[Role, ...] = tuple(role for role, spec in ROLES.items() if spec.facts is not None)
"""The six roles of a model, in the order in which facts flow from one to the next."""
CODEC_ROLES: tuple[Role, ...] = PART_ROLES[:3]
LANGUAGE_ROLES: tuple[Role, ...] = PART_ROLES[3:]
