"""A run as its stages, training and evaluation see it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavslm_core.errors import WavslmError
from wavslm_core.machine.processes import ALONE, WHOLE, Processes, Share
from wavslm_core.machine.progress import Reporter

if TYPE_CHECKING:
    import torch

    from wavslm_core.data.corpora import Split
    from wavslm_core.model.codec import Codec
    from wavslm_core.model.speech_lm import SpeechLM
    from wavslm_core.parts.configs import CorpusConfig, MetricConfig
    from wavslm_core.parts.metric import Metric
    from wavslm_core.recipe.model import ResolvedRecipe


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

    recipe: ResolvedRecipe
    """Resolved: every linked field is filled in."""
    run_dir: Path
    choose_device: Callable[[], torch.device] = _cpu
    """Asked once, when a stage first needs its `device`."""
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
    progress: Reporter = field(default_factory=Reporter)
    """What the stage says of how far it is."""
    _splits: dict[str, Split] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.progress.stage = self.progress.stage or self.stage_name
        self.progress.silent |= self.rank > 0

    @functools.cached_property
    def device(self) -> torch.device:
        """Where tensors belong. Stages without any begin, and finished ones are skipped, without torch."""
        return self.choose_device()

    @property
    def rank(self) -> int:
        return self.processes.rank

    @property
    def world_size(self) -> int:
        return self.processes.world_size

    def place(self, path: str) -> Path:
        """Return where this stage leaves a path such as "codec" or "tokens/train"; see `recipe.places`."""
        from wavslm_core.recipe import places

        return self.run_dir / places.place(self.recipe, path, stage=self.stage_name)

    @property
    def codec_dir(self) -> Path:
        """Where this stage leaves a codec: a folder that `Codec.load` reads."""
        return self.place("codec")

    @property
    def speech_lm_dir(self) -> Path:
        """Where this stage leaves a language model: a folder that `SpeechLM.load` reads."""
        return self.place("speech_lm")

    def earlier(self, path: str) -> Path | None:
        """Return what an earlier stage left under a path, to start from; None: there is no such thing.

        Of several that leave it, the last one's; that of a certain one under "<stage>/<path>".
        """
        from wavslm_core.recipe import places

        return self._existing(places.earlier_place(self.recipe, path, stage=self.stage_name))

    def start(self, path: str) -> Path:
        """Return what `earlier` does. Raises: WavslmError when there is nothing."""
        found = self.earlier(path)
        if found is None:
            raise WavslmError(
                f"stage '{self.stage_name}' starts from {path}, but no earlier stage left that in "
                f"{self.run_dir}. Run the stage that leaves it first"
            )
        return found

    def found(self, path: str) -> Path | None:
        """Return what this stage reads under a path: that of the last stage before it that leaves it."""
        from wavslm_core.recipe import places

        return self._existing(places.found_place(self.recipe, path, stage=self.stage_name))

    def _existing(self, place: str | None) -> Path | None:
        return self.run_dir / place if place is not None and (self.run_dir / place).exists() else None

    @property
    def cache_dir(self) -> Path:
        """Shared between runs: corpus manifests and synthesised audio."""
        return self.run_dir.parent / ".cache"

    def split(self, name: str, corpus: CorpusConfig | None = None) -> Split:
        """Open a split ("train", "valid", …), once for the stage: of the recipe's data, or of a corpus.

        Rank 0 first: it may have to make it.
        """
        from wavslm_core.data.corpora import open_split, outside_in_words
        from wavslm_core.parts.configs import DataConfig

        data = self.recipe.data
        if corpus is not None:
            data = DataConfig(((name, corpus),), None if data is None else data.augment)
        key = f"{name} of {corpus}"
        if key in self._splits:
            return self._splits[key]
        if data is None:
            raise WavslmError(
                f"stage '{self.stage_name}' needs speech, but the recipe has no `data:` block. "
                "Add one, for instance `data: {corpus: folder, path: …}`"
            )
        with self.processes.rank_0_first(f"split {name}"):
            split = open_split(data, name, cache_dir=self.cache_dir, registry=self.recipe.registry)
        if self.processes.rank == 0 and (outside := outside_in_words(split.corpus)):
            _warn_once(outside)
        self._splits[key] = split
        return split

    def metrics(self, configs: Iterable[MetricConfig]) -> dict[str, Metric[Any]]:
        """Build metrics and let them learn from the recipe's data what they ask for: name → metric.

        All are built before any learns, so that a missing package shows before a corpus is made.
        """
        registry = self.recipe.registry
        metrics: dict[str, Metric[Any]] = {
            config.registered_name(): registry.build(config) for config in configs
        }
        for metric in metrics.values():
            names = metric.config.needed_splits()
            if names:
                metric.prepare(
                    {name: [u.text for u in self.split(name).utterances if u.text] for name in names}
                )
        return metrics

    def codec(self) -> Codec:
        """Load the codec that an earlier stage left, else the recipe's checkpoint."""
        from wavslm_core.model.codec import Codec

        folder = self.found("codec")
        if folder is not None:
            return Codec.load(folder, device=self.device)
        if self.recipe.codec is not None:
            return Codec.load(self.recipe.codec.checkpoint, device=self.device)
        raise WavslmError(
            f"stage '{self.stage_name}' needs a codec, but {self.run_dir} holds none and the recipe has no "
            "`codec.checkpoint`. Put `- {run: train_codec}` before this stage or name a checkpoint."
        )

    def speech_lm(self, codec: Codec | None = None) -> SpeechLM:
        """Load the language model that an earlier stage left, with `codec`, by default the run's."""
        from wavslm_core.model.speech_lm import SpeechLM

        folder = self.found("speech_lm")
        if folder is None:
            raise WavslmError(
                f"stage '{self.stage_name}' needs a language model, but {self.run_dir} holds none. "
                "Put `- {run: train_lm}` before this stage."
            )
        return SpeechLM.load(folder, codec=codec or self.codec(), device=self.device)
