"""Corpus `hub`: recordings in the rows of a dataset, which stay encoded until one is read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavslm_core.plugin import AudioError, DataError, RecordedCorpus, did_you_mean, summary
from wavslm_corpora.config import HubConfig
from wavslm_corpora.extras import optional

if TYPE_CHECKING:
    from wavslm_core.plugin import AudioSource, Recording, Recordings

SPLITS = ("test", "train", "valid")
"""In the order of the recordings' names."""


class Hub(RecordedCorpus):
    """See `HubConfig`."""

    config: HubConfig

    def __init__(self, config: HubConfig, *, cache_dir: Path) -> None:
        super().__init__(config, cache_dir=cache_dir)
        # The dataset's own fingerprint, which is part of the manifest's key, says whether it changed.
        self.rescan = False

    @cached_property
    def _splits(self) -> dict[str, Any]:
        """Split → dataset, with recordings as bytes or paths."""
        datasets = optional("datasets", extra="hub", corpus="hub")
        config = self.config
        folder = Path(config.dataset).expanduser()
        found: dict[str, Any] = {}
        for split in SPLITS:
            name = getattr(config, split)
            if name is None:
                continue
            try:
                loaded = datasets.load_dataset(
                    str(folder) if folder.is_dir() else config.dataset,
                    config.subset,
                    split=name,
                    revision=config.revision,
                    cache_dir=str(self.cache_dir / "hub"),
                )
            except Exception as error:
                raise DataError(
                    f"data.{split}: split '{name}' of dataset '{config.dataset}' cannot be loaded: "
                    f"{summary(error)}. Check its name and split and the network, or name a local folder"
                ) from error
            self._check_columns(loaded.column_names)
            found[split] = loaded.cast_column(config.audio_column, datasets.Audio(decode=False))
        return found

    @cached_property
    def _notes(self) -> dict[str, Any]:
        """Split → the columns beside the recordings, where any are named."""
        named = [self.config.speaker_column, self.config.text_column]
        columns = [name for name in named if name is not None]
        return {split: data.select_columns(columns) for split, data in self._splits.items() if columns}

    def _check_columns(self, columns: list[str]) -> None:
        for field in ("audio_column", "speaker_column", "text_column"):
            wanted = getattr(self.config, field)
            if wanted is not None and wanted not in columns:
                raise DataError(
                    f"data.{field} is '{wanted}', but dataset '{self.config.dataset}' has the columns "
                    f"{', '.join(columns)}.{did_you_mean(wanted, columns)}"
                )

    def storage(self) -> str:
        config = self.config
        columns = [config.audio_column, config.speaker_column, config.text_column]
        fingerprints = {split: dataset._fingerprint for split, dataset in self._splits.items()}
        return json.dumps([config.dataset, config.subset, columns, fingerprints])

    def present(self) -> Iterable[Recording]:
        from wavslm_core.plugin import Recording

        for split in SPLITS:
            if split in self._splits:
                for row in range(len(self._splits[split])):
                    yield Recording(f"{split}/{row:09d}", 0, 0)

    def source(self, name: str) -> AudioSource:
        from wavslm_core.plugin import AudioBytes

        split, _, row = name.partition("/")
        cell = self._splits[split][int(row)][self.config.audio_column]
        if not isinstance(cell, dict) or (cell.get("bytes") is None and not cell.get("path")):
            raise AudioError(f"{name} holds no recording; leave the row out")
        return AudioBytes(name, cell["bytes"]) if cell.get("bytes") is not None else Path(cell["path"])

    def _read(self, recording: Recording) -> Recording:
        split, _, row = recording.name.partition("/")
        config = self.config
        cells = self._notes[split][int(row)] if split in self._notes else {}
        speaker, text = cells.get(config.speaker_column), cells.get(config.text_column)
        return super()._read(
            replace(
                recording,
                speaker=None if speaker is None else str(speaker),
                text=None if text is None else str(text),
            )
        )

    def recordings_of(self, split: str) -> Recordings:
        divided = split in ("train", "valid") and self.config.valid is None
        name = "train" if divided else split
        if name not in self._splits:
            raise DataError(
                f"the hub corpus has no split '{split}'; its splits are {', '.join(sorted(self._splits))}. "
                f"Name the dataset's split in `data.{split}`"
            )
        recordings = self.manifest.range_below(f"{name}/")
        if not divided:
            return recordings
        return self.divided(recordings, fraction=self.config.valid_fraction, split=split)

    def fingerprint(self, split: str) -> dict[str, Any]:
        known = "train" if split == "valid" and self.config.valid is None else split
        return super().fingerprint(split) | {"dataset": self._splits[known]._fingerprint}
