"""Configs: frozen pydantic models, one per registered thing; the docstring under a field is its help text.

A config lives without torch. Numbers that must agree with a neighbour (a head's vocabulary with the
quantizer's) are declared with `linked(...)`: left out, they are taken from the neighbour; given, they
are checked against it. So changing one part in a recipe never asks for edits in the others.
"""

from __future__ import annotations

import ast
import inspect
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from textwrap import dedent
from typing import Any, ClassVar, Literal, Protocol, get_args

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from wavslm_core.errors import DataError
from wavslm_core.parts.facts import (
    BackboneFacts,
    CodecFacts,
    DecoderFacts,
    EncoderFacts,
    HeadFacts,
    PartFacts,
    QuantizerFacts,
    SamplerFacts,
)

Role = str
"""Name of a row of `roles.ROLES`."""
EVERY_SPLIT = "every split"
SPLITS = ("train", "valid", "test")
"""Those that a `data:` block may have."""
AUGMENT = "augment"
"""Key of a `data:` block beside its corpora."""


def linked(source: str, *, open_value: Any = 0, must_agree: bool = True, **constraints: Any) -> Any:
    """Declare a value that defaults to another part's fact, such as `linked("quantizer.vocab_size")`.

    The default, such as 0 for numbers and `()` for tuples, stands for "taken from the other part", which
    `resolving.resolve` does. Of a part that comes later, such as the head for a backbone, it may be a fact
    that does not depend on what came before it. `must_agree`: another value than the fact is an error.
    """
    if open_value == 0:
        constraints.setdefault("gt", 0)
    extra: dict[str, Any] = {"linked": source} if must_agree else {"linked": source, "must_agree": False}
    return Field(default=open_value, json_schema_extra=extra, **constraints)


class Options(BaseModel):
    """A block of options: immutable, no unknown keys, field docstrings as descriptions.

    A command knows eighty of them and uses ten, so what validates one is made when it is first used
    (`defer_build`), and descriptions are read from the source when a schema is asked for: pydantic's
    `use_attribute_docstrings` would read them whenever a class is made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """Return field → description, empty where there is none."""
        found = {name: text for base in reversed(cls.__mro__) for name, text in _docstrings(base).items()}
        return {name: field.description or found.get(name, "") for name, field in cls.model_fields.items()}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> dict[str, Any]:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in cls.descriptions().items():
            if text and name in properties:
                properties[name].setdefault("description", text)
        return schema


@cache
def _docstrings(described: type) -> dict[str, str]:
    """Return field → the text under it in a class's own source; none where that is not to be had."""
    if not issubclass(described, Options):
        return {}
    try:
        (tree,) = ast.parse(dedent(inspect.getsource(described))).body
    except (OSError, TypeError, SyntaxError):
        return {}
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(tree.body if isinstance(tree, ast.ClassDef) else ())
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


class Config(Options):
    """Base of every config."""

    role: ClassVar[Role]
    tag: ClassVar[str] = "name"
    """The field whose literal value names the implementation."""

    @classmethod
    def registered_name(cls) -> str:
        """Return the name under which this config is registered."""
        field = cls.model_fields.get(cls.tag)
        values = get_args(field.annotation) if field is not None else ()
        if len(values) != 1 or not isinstance(values[0], str):
            raise TypeError(
                f"{cls.__module__}.{cls.__qualname__} needs a field "
                f'`{cls.tag}: Literal["…"] = "…"` with exactly one value'
            )
        if field is None or field.default != values[0]:
            raise TypeError(
                f"{cls.__module__}.{cls.__qualname__}: give the field `{cls.tag}` its one value "
                f'"{values[0]}" as default'
            )
        return values[0]

    @classmethod
    def links(cls) -> dict[str, str]:
        """Return field name → `role.fact` for every linked field."""
        extras = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        return {
            name: str(extra["linked"])
            for name, extra in extras.items()
            if isinstance(extra, dict) and "linked" in extra
        }

    @classmethod
    def must_agree(cls, field_name: str) -> bool:
        """Tell whether a linked field may have no other value than the fact that it is linked to."""
        extra = cls.model_fields[field_name].json_schema_extra
        return not isinstance(extra, dict) or bool(extra.get("must_agree", True))

    def needs_modules(self) -> Mapping[str, str]:
        """Return modules that its class imports and its distribution does not bring, and what installs each.

        Such as `{"pystoi": "pip install 'wavslm-core[metrics]'"}`. Stages are asked, and what is named in
        them, such as metrics: a run in which one is absent does not begin.
        """
        return {}

    def is_open(self, field_name: str) -> bool:
        """Tell whether a linked field is still to be taken from another part."""
        return bool(getattr(self, field_name) == type(self).model_fields[field_name].default)


def modules_of(configs: Iterable[Config]) -> dict[str, str]:
    """Return what several configs need, as `Config.needs_modules`."""
    return {module: install for config in configs for module, install in config.needs_modules().items()}


class PartConfig(Config):
    """Base of the configs of the six roles."""

    @abstractmethod
    def facts(self) -> PartFacts:
        """Return this part's facts; linked fields are filled in by then."""


class EncoderConfig(PartConfig):
    role: ClassVar[Role] = "encoder"

    @abstractmethod
    def facts(self) -> EncoderFacts: ...


class QuantizerConfig(PartConfig):
    role: ClassVar[Role] = "quantizer"

    @abstractmethod
    def facts(self) -> QuantizerFacts: ...


class DecoderConfig(PartConfig):
    role: ClassVar[Role] = "decoder"

    @abstractmethod
    def facts(self) -> DecoderFacts: ...


class BackboneConfig(PartConfig):
    role: ClassVar[Role] = "backbone"

    @abstractmethod
    def facts(self) -> BackboneFacts: ...


class HeadConfig(PartConfig):
    role: ClassVar[Role] = "head"

    @abstractmethod
    def facts(self) -> HeadFacts: ...


class SamplerConfig(PartConfig):
    role: ClassVar[Role] = "sampler"

    @abstractmethod
    def facts(self) -> SamplerFacts: ...


class RecipeView(Protocol):
    """What a stage may ask of the resolved recipe that it is in: `recipe.model.ResolvedRecipe`."""

    @property
    def source(self) -> str:
        """The file that it came from, for messages."""

    @property
    def registry(self) -> Any:
        """What its blocks are registered in."""

    @property
    def data(self) -> DataConfig | None:
        """Its `data:` block."""

    @property
    def codec(self) -> Any:
        """Its `codec:` block, None without one."""

    @property
    def part_configs(self) -> Mapping[Role, PartConfig]:
        """Role → config of every part, those of a codec checkpoint included."""

    @property
    def facts(self) -> Mapping[Role, Any]:
        """Role → what each part states of itself: `HeadFacts` of the head."""

    def codec_facts(self) -> CodecFacts:
        """Return the facts of the codec. Raises: RecipeError when the recipe has none."""

    def named_stages(self) -> list[tuple[str, StageConfig]]:
        """Return the stages with names that are unique in the recipe."""

    def launch_for(self, stage: StageConfig) -> Any:
        """Return where a stage runs: its own `launch:` block over the recipe's."""


class StageConfig(Config):
    """One thing that a recipe does: `- {run: train_lm, steps: 1000}`."""

    role: ClassVar[Role] = "stage"
    tag: ClassVar[str] = "run"
    needs: ClassVar[tuple[Role, ...]] = ()
    """Roles that the recipe must have; a codec checkpoint counts as encoder, quantizer and decoder."""
    trains: ClassVar[tuple[Role, ...]] = ()
    """Roles whose weights the stage changes; plans estimate memory from it."""
    divides: ClassVar[bool] = False
    """Its class does only a part of the work when `StageContext.share` is partial: a job array can share
    it."""

    absent_if_unset: ClassVar[tuple[str, ...]] = ("launch",)
    """Options that a resolved recipe, and so the name of its run, has only where they are given."""

    launch: Mapping[str, Any] | None = None
    """What this stage needs other than the recipe's `launch:` block says, such as `{gpus_per_node: 0}`."""

    def needs_streaming(self, recipe: RecipeView) -> Iterable[Role]:
        """Return roles that the stage runs chunk by chunk, where the recipe has them: they must stream."""
        return ()

    def needed_splits(self) -> tuple[str, ...]:
        """Return the splits that the recipe's `data:` block must have."""
        return ()

    def reads(self) -> Mapping[str, str]:
        """Return what the stage takes from the run's folder: path → what to do when no stage left it there.

        Such paths are "codec", "encoder", "tokens/train"; `StageContext.found` tells where they are.
        """
        return {}

    def leaves(self) -> Iterable[str] | None:
        """Return the paths that later stages may read; each is written to `StageContext.place(path)`.

        None: not stated, so it may be anything; then no stage before it is shared with other runs either.
        """
        return None

    def trains_beside(self) -> Iterable[Config]:
        """Return configs of what the stage trains beside parts of the model; plans count its memory."""
        return ()

    def problems(self, recipe: RecipeView) -> Iterable[str]:
        """Return what else is wrong with this stage in a recipe whose parts fit, a line each.

        What is found here is told before anything runs. Imports nothing heavy.
        """
        return ()


class MetricConfig(Config):
    """A number that compares audio with a reference, or judges it alone."""

    role: ClassVar[Role] = "metric"
    needs_reference: ClassVar[bool] = True
    """False: it judges speech by itself; its class is a `ReferenceFreeMetric`."""
    takes_prompt: ClassVar[bool] = False
    """True: its reference may be other speech, of any length, as the prompt is for a continuation."""
    fetches: ClassVar[bool] = False
    """True: unless an option names a folder, its weights come from the hub; so it judges only where asked."""

    def needed_splits(self) -> tuple[str, ...]:
        """Return the splits of the recipe's data whose transcripts `Metric.prepare` is given."""
        return ()


class DiscriminatorConfig(Config):
    """What tells speech from what a codec makes of it, while the codec trains against it."""

    role: ClassVar[Role] = "discriminator"


class CorpusConfig(Config):
    """Where speech comes from: `data: {corpus: folder, path: …}`."""

    role: ClassVar[Role] = "corpus"
    tag: ClassVar[str] = "corpus"

    def expected_seconds(self, split: str) -> float | None:
        """Return how much audio a split will hold, when that is known without looking; for plans."""
        return None


@dataclass(frozen=True)
class DataConfig:
    """The `data:` block: one corpus for every split, or one for each split."""

    corpora: tuple[tuple[str, CorpusConfig], ...]
    """Split → corpus; `EVERY_SPLIT` when one serves all."""
    augment: Options | None = None
    """How audio is changed before it is trained on: an `augment_config.AugmentConfig`."""

    def corpus_for(self, split: str) -> CorpusConfig:
        """Return the corpus of a split. Raises: DataError when the recipe has none."""
        corpora = dict(self.corpora)
        corpus = corpora.get(split) or corpora.get(EVERY_SPLIT)
        if corpus is None:
            raise DataError(
                f"the recipe's `data:` block has no split '{split}', only {', '.join(corpora)}. "
                f"Add `{split}: {{corpus: …}}` to it."
            )
        return corpus

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are given; with one corpus for all, those that every corpus has."""
        return tuple(split for split, _ in self.corpora if split != EVERY_SPLIT) or ("train", "valid")

    def has(self, split: str) -> bool:
        return any(name in (split, EVERY_SPLIT) for name, _ in self.corpora)

    def to_dict(self) -> dict[str, Any]:
        corpora = {split: corpus.model_dump(mode="json") for split, corpus in self.corpora}
        corpora = {**corpora.pop(EVERY_SPLIT, {}), **corpora}
        if self.augment is not None:
            corpora[AUGMENT] = self.augment.model_dump(mode="json", exclude_none=True)
        return corpora


@dataclass(frozen=True)
class Published:
    """A number that others published for a suite."""

    model: str
    number: str
    """Which of the suite's numbers: the name of an average, or `group=value`."""
    percent: float
    rule: str
    """How it was scored, as far as that is known: two rules can let two models swap places."""
    source: str


class SuiteConfig(Config):
    """Pairs of recordings, one of which a language model should find likelier: `{name: salmon, path: …}`.

    Nothing is ever downloaded: `homepage` says where the data is to be had.
    """

    role: ClassVar[Role] = "suite"
    homepage: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    size: ClassVar[str] = ""
    """How much there is, in words."""
    published: ClassVar[tuple[Published, ...]] = ()

    label: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """What tables and folders call it, such as where a suite is there twice; default: its name."""

    @property
    def shown_name(self) -> str:
        return self.label or self.registered_name()


class FormatConfig(Config):
    """A checkpoint format of another project: recognised by its `config.json`, without torch."""

    role: ClassVar[Role] = "format"
    tag: ClassVar[str] = "format"

    @abstractmethod
    def holds(self, document: dict[str, Any]) -> Literal["codec", "speech_lm"] | None:
        """Return what a folder with this `config.json` holds, or None when it is not this format."""

    @abstractmethod
    def part_configs(self, document: dict[str, Any]) -> dict[Role, PartConfig]:
        """Return role → config for the parts that a folder with this `config.json` holds."""

    @abstractmethod
    def document(self, parts: dict[Role, PartConfig]) -> dict[str, Any] | str | None:
        """Return the `config.json` for these parts; why not (None: without words) when it cannot hold them.

        A sampler has no weights and decides nothing: one that the format has no place for is kept beside it.
        """

    @abstractmethod
    def known_document(self, checkpoint: str) -> dict[str, Any] | None:
        """Return the `config.json` of a well-known hub id, so that plans need no download."""
