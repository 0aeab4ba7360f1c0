"""A run as its stages, training and evaluation see it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wavslm_core.errors import WavslmError
from wavslm_core.processes import ALONE, WHOLE, Processes, Share
from wavslm_core.pulse import SILENT, Pulse

if TYPE_CHECKING:
    import torch

    from wavslm_core.codec import Codec
    from wavslm_core.data.corpora import Split
    from wavslm_core.recipe import Recipe
    from wavslm_core.speech_lm import SpeechLM


logger = logging.getLogger(__name__)


@functools.cache
def _warn_once(line: str) -> None:
    logger.warning("%s", line)


def _cpu() -> torch.device:
    import torch

    return torch.device("cpu")


@dataclass
class StageContext:
    """A run, as a stage sees it."""

    recipe: Recipe
    """Resolved: every linked field is filled in."""
    run_dir: Path
    device: torch.device = field(default_factory=_cpu)
    stop_requested: Callable[[], bool] = lambda: False
    """True once the run was asked to stop: save at the next safe point and raise `Interrupted`."""
    pruned: Callable[[str, int, Mapping[str, float]], bool] = lambda stage, step, valid: False
    """Asked by rank 0 after each validation of a stage, with the step and the scalars: true once the run is
    behind others that it is compared with."""
    stage_name: str = ""
    processes: Processes = ALONE
    """Those that share the run; only rank 0 writes what all have in common."""
    share: Share = WHOLE
    """What this process does of work that divides into pieces."""
    pulse: Pulse = SILENT
    """Told how far a stage is."""

    @property
    def rank(self) -> int:
        return self.processes.rank

    @property
    def world_size(self) -> int:
        return self.processes.world_size

    @property
    def codec_dir(self) -> Path:
        """Where `train_codec` leaves the codec: a folder that `Codec.load` reads."""
        return self.run_dir / "codec"

    @property
    def speech_lm_dir(self) -> Path:
        """Where `train_lm` leaves the language model: a folder that `SpeechLM.load` reads."""
        return self.run_dir / "speech_lm"

    @property
    def tokens_dir(self) -> Path:
        """Where `tokenize` leaves one token store per split."""
        return self.run_dir / "tokens"

    @property
    def cache_dir(self) -> Path:
        """Shared between runs: corpus manifests and synthesised audio."""
        return self.run_dir.parent / ".cache"

    def split(self, name: str) -> Split:
        """Open a split ("train", "valid", …) of the recipe's data; rank 0 first: it may have to make it."""
        from wavslm_core.data.corpora import open_split, outside_in_words

        if self.recipe.data is None:
            raise WavslmError(
                f"stage '{self.stage_name}' needs speech, but the recipe has no `data:` block. "
                "Add one, for instance `data: {corpus: folder, path: …}`"
            )
        with self.processes.rank_0_first(f"split {name}"):
            split = open_split(self.recipe.data, name, cache_dir=self.cache_dir)
        outside = outside_in_words(split.corpus)
        if outside and self.processes.rank == 0:
            _warn_once(outside)
        return split

    def codec(self) -> Codec:
        """Load the codec that this run trained, else the recipe's checkpoint."""
        from wavslm_core.codec import Codec

        if self.codec_dir.exists():
            return Codec.load(self.codec_dir, device=self.device)
        if self.recipe.codec is not None:
            return Codec.load(self.recipe.codec.checkpoint, device=self.device)
        raise WavslmError(
            f"stage '{self.stage_name}' needs a codec, but {self.codec_dir} does not exist and the recipe "
            "has no `codec.checkpoint`. Put `- {run: train_codec}` before this stage or name a checkpoint."
        )

    def speech_lm(self) -> SpeechLM:
        """Load the language model that this run trained."""
        from wavslm_core.speech_lm import SpeechLM

        if not self.speech_lm_dir.exists():
            raise WavslmError(
                f"stage '{self.stage_name}' needs a language model, but {self.speech_lm_dir} does not exist. "
                "Put `- {run: train_lm}` before this stage."
            )
        return SpeechLM.load(self.speech_lm_dir, codec=self.codec(), device=self.device)
