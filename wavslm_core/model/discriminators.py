"""What a codec was trained against: several discriminators as one, with a folder of their own.

A run keeps them beside its codec, so that training can go on against those that know it, there or elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self, cast

from torch import Tensor, nn

from wavslm_core.model.documents import (
    DISCRIMINATORS_FORMAT,
    VERSION,
    discriminator_configs,
    discriminators_in,
)
from wavslm_core.model.references import find_folder
from wavslm_core.model.weight_files import WEIGHTS_FILE, read_folder
from wavslm_core.model.weights import load_part, write_document, write_folder, write_weights
from wavslm_core.parts.configs import DiscriminatorConfig
from wavslm_core.parts.interfaces import Discriminator, Judgement
from wavslm_core.parts.plugins import load_registry


class Discriminators(nn.Module):
    """Judges waveforms by all of its members."""

    def __init__(self, members: Sequence[Discriminator[DiscriminatorConfig]]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @classmethod
    def from_configs(cls, configs: Sequence[DiscriminatorConfig]) -> Self:
        """Return discriminators with random weights."""
        registry = load_registry()
        return cls([registry.build(config) for config in configs])

    @property
    def configs(self) -> tuple[DiscriminatorConfig, ...]:
        return tuple(cast("Discriminator[DiscriminatorConfig]", member).config for member in self.members)

    def forward(self, waveform_BS: Tensor) -> list[Judgement]:
        """Return what every sub-discriminator of every member says of waveforms (B,S)."""
        return [judgement for member in self.members for judgement in member(waveform_BS)]

    def save(self, folder: str | Path) -> None:
        """Write a folder that `load` reads. Raises: CheckpointError; what was there before then stays."""
        blocks = [config.model_dump(mode="json") for config in self.configs]

        def fill(path: Path) -> None:
            write_document(
                path, {"format": DISCRIMINATORS_FORMAT, "version": VERSION, "discriminators": blocks}
            )
            write_weights(path, self.members.state_dict())

        write_folder(Path(folder), fill)

    @classmethod
    def load(cls, folder: str | Path, *, wanted: Sequence[DiscriminatorConfig] = ()) -> Self:
        """Read what `save` wrote, or a run's; `wanted`: what they have to be.

        Raises: CheckpointError for others; RecipeError for unknown options.
        """
        path = discriminators_in(find_folder(folder, kind="discriminators"))
        configs = discriminator_configs(path, registry=load_registry(), wanted=wanted)
        weights = {f"members.{key}": value for key, value in read_folder(path, WEIGHTS_FILE).items()}
        return load_part(lambda: cls.from_configs(configs), weights, source=str(path))
