"""The `data:` block of a recipe: one corpus for every split, or one for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wavslm_core.errors import DataError
from wavslm_core.parts.configs import CorpusConfig

EVERY_SPLIT = "every split"
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class DataConfig:
    """The `data:` block: one corpus for every split, or one for each split."""

    corpora: tuple[tuple[str, CorpusConfig], ...]
    """Split → corpus; `EVERY_SPLIT` when one serves all."""

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
        every: dict[str, Any] | None = corpora.get(EVERY_SPLIT)
        return every if every is not None else corpora
