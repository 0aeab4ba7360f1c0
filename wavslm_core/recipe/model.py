"""The recipe: a frozen pydantic model. `building.recipe_model` derives the class that validates one, because
what a block may hold is known only once plugins are loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from wavslm_core.parts.configs import (
    BackboneConfig,
    Config,
    DecoderConfig,
    EncoderConfig,
    HeadConfig,
    PartConfig,
    QuantizerConfig,
    Role,
    SamplerConfig,
    StageConfig,
)
from wavslm_core.parts.facts import CodecFacts
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import PART_ROLES
from wavslm_core.recipe.data_block import DataConfig
from wavslm_core.recipe.launch_block import LaunchConfig, LocalLaunch
from wavslm_core.recipe.sweep_config import SweepConfig


class CodecCheckpoint(Config):
    """A trained codec, instead of encoder, quantizer and decoder blocks."""

    checkpoint: str = Field(min_length=1)
    """Folder or hub id, in our format or in one that a plugin reads."""


class Recipe(BaseModel):
    """What a run is made of and what it does."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    registry: ClassVar[Registry]
    """What the unions were made from."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run's folder."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Every random number of a run follows from it."""
    codec: CodecCheckpoint | None = None
    """A trained codec, instead of encoder, quantizer and decoder blocks."""
    encoder: EncoderConfig | None = None
    """Waveform to features."""
    quantizer: QuantizerConfig | None = None
    """Features to one stream of tokens and back."""
    decoder: DecoderConfig | None = None
    """Features to waveform."""
    backbone: BackboneConfig | None = None
    """Features or tokens to hidden states."""
    head: HeadConfig | None = None
    """Hidden states to the probabilities of the next chunk."""
    sampler: SamplerConfig | None = None
    """Probabilities to tokens."""
    data: DataConfig | None = None
    """One corpus for every split, or `train:`, `valid:` and `test:` blocks."""
    stages: tuple[StageConfig, ...] = ()
    """What to do, in this order."""
    launch: LaunchConfig = LocalLaunch()
    """Where to run."""
    sweep: SweepConfig | None = None
    """Variations of everything above, to run and compare."""

    _document: dict[str, Any] = PrivateAttr(default_factory=dict)
    _source: str = PrivateAttr(default="recipe")

    @classmethod
    def load(
        cls, path: str | Path, overrides: Sequence[str] = (), *, registry: Registry | None = None
    ) -> Recipe:
        """Read a YAML recipe, follow `extends`, apply `a.b=value` overrides, validate.

        Raises: RecipeError listing every problem, one line each.
        """
        from wavslm_core.recipe.loading import load_recipe

        return load_recipe(Path(path), overrides, registry=registry)

    @classmethod
    def from_dict(
        cls, document: dict[str, Any], *, source: str = "recipe", registry: Registry | None = None
    ) -> Recipe:
        """Validate a document as YAML would give it. `source` names it in messages. Raises: RecipeError."""
        from wavslm_core.recipe.loading import recipe_from_dict

        return recipe_from_dict(document, source=source, registry=registry)

    @property
    def source(self) -> str:
        """The file that this recipe came from, for messages."""
        return self._source

    def unvalidated(self) -> dict[str, Any]:
        """Return the document that this recipe was read from, overrides applied and before any default."""
        return self._document

    def parts(self) -> dict[Role, PartConfig]:
        """Return role → config for the part blocks of this recipe, as given."""
        return {role: getattr(self, role) for role in PART_ROLES if getattr(self, role) is not None}

    def named_stages(self) -> list[tuple[str, StageConfig]]:
        """Return the stages with names that are unique in the recipe: `evaluate`, `evaluate_2`, …"""
        names = stage_names(config.registered_name() for config in self.stages)
        return list(zip(names, self.stages, strict=True))

    def resolve(self) -> Recipe:
        """Return this recipe with every linked field filled in. Raises: RecipeError."""
        from wavslm_core.recipe.links import resolve_recipe

        return resolve_recipe(self)

    def check(self, *, runs_dir: Path | None = None) -> None:
        """Compare the parts' facts and the stages' needs. Raises: RecipeError listing every problem.

        With a `sweep:` block, checks every trial of it instead.
        `runs_dir`: what this recipe's run already holds there need not be left by a stage.
        """
        from wavslm_core.recipe.checks import check_recipe
        from wavslm_core.recipe.sweep import expand_sweep

        if self.sweep is not None:
            expand_sweep(self, runs_dir=runs_dir)
            return
        check_recipe(self, runs_dir=runs_dir)

    def part_configs(self) -> dict[Role, PartConfig]:
        """Return role → resolved config of every part, those of a codec checkpoint included.

        Raises: RecipeError.
        """
        from wavslm_core.recipe.links import resolved_parts

        return resolved_parts(self)

    def codec_facts(self) -> CodecFacts:
        """Return the facts of the codec. Raises: RecipeError when the recipe has none."""
        from wavslm_core.recipe.links import codec_facts

        return codec_facts(self)

    def launch_for(self, stage: StageConfig) -> LaunchConfig:
        """Return where a stage runs: its own `launch:` block over the recipe's."""
        from wavslm_core.recipe.stage_launch import effective_launch

        return effective_launch(self.launch, stage)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values of the resolved recipe; `from_dict` reads them back. Raises: RecipeError."""
        resolved = self.resolve()
        document: dict[str, Any] = {"name": resolved.name, "seed": resolved.seed}
        if resolved.codec is not None:
            document["codec"] = _dumped(resolved.codec)
        for role, config in resolved.parts().items():
            document[role] = _dumped(config)
        if resolved.data is not None:
            document["data"] = resolved.data.to_dict()
        document["stages"] = [_dumped_stage(stage) for stage in resolved.stages]
        document["launch"] = _dumped(resolved.launch)
        if resolved.sweep is not None:
            document["sweep"] = resolved.sweep.model_dump(mode="json")
        return document

    def identity(self) -> dict[str, Any]:
        """Return what makes two runs the same: the resolved recipe without where it runs."""
        return without_launch(self.to_dict())

    @property
    def run_name(self) -> str:
        """Name of the run's folder: the recipe's, and what the run computes."""
        return f"{self.name}-{self.digest()}"

    def digest(self) -> str:
        """Return 12 hex digits that change whenever `identity()` changes."""
        text = json.dumps(self.identity(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def stage_names(runs: Iterable[str]) -> list[str]:
    """Return names for stages that are unique in a recipe, from what each runs."""
    count: Counter[str] = Counter()
    names = []
    for run in runs:
        count[run] += 1
        names.append(run if count[run] == 1 else f"{run}_{count[run]}")
    return names


def _dumped(config: Config) -> dict[str, Any]:
    """Return JSON values, with what the block is in front."""
    values = config.model_dump(mode="json")
    return {key: values[key] for key in sorted(values, key=lambda key: key != config.tag)}


def _dumped_stage(stage: StageConfig) -> dict[str, Any]:
    """Return JSON values; only a stage that asks for a launch of its own has one."""
    values = _dumped(stage)
    if values["launch"] is None:
        del values["launch"]
    return values


def without_launch(document: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's document without everything that says where it runs. Nothing is changed."""
    document = {key: value for key, value in document.items() if key != "launch"}
    if isinstance(document.get("stages"), list):
        document["stages"] = [
            {key: value for key, value in stage.items() if key != "launch"}
            if isinstance(stage, dict)
            else stage
            for stage in document["stages"]
        ]
    return document
