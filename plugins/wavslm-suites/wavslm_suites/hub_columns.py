"""Copies of datasets of the Hugging Face hub: Parquet files whose rows hold a positive and a negative."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from wavslm_core.plugin import (
    AudioBytes,
    DataError,
    Pair,
    PluginError,
    audio_info,
    did_you_mean,
    printable,
    summary,
)
from wavslm_suites.copies import SuiteCopy


class HubColumns:
    """The Parquet files below a folder; each is in memory from when a row of it is asked for.

    A recording is called `<file>/<row>/<column>`. Raises: DataError; PluginError without pyarrow.
    """

    def __init__(self, root: Path, files: list[Path]) -> None:
        self.root = root
        self.files = files
        self._tables: dict[str, Any] = {}

    @classmethod
    def find(cls, root: Path) -> HubColumns | None:
        """Return what is below a folder, if there is any."""
        files = sorted(path for path in root.rglob("*.parquet") if ".cache" not in path.parts)
        return cls(root, files) if files else None

    def has(self, column: str) -> bool:
        return all(column in self._table(file).column_names for file in self._names())

    def rows(self, *columns: str) -> Iterator[str]:
        """Yield the name of every row, `<file>/<row>`, of files that have the columns."""
        for file in self._names():
            names = self._table(file).column_names
            for column in columns:
                if column not in names:
                    raise DataError(
                        f"{self.root / file}.parquet has the columns {', '.join(names)}; `{column}` is "
                        f"needed.{did_you_mean(column, names)}"
                    )
            for row in range(self._table(file).num_rows):
                yield f"{file}/{row}"

    def pairs(self, positive: str = "positive", negative: str = "negative") -> SuiteCopy:
        """Return a copy in which every row is a pair."""
        pairs = [
            Pair(row, f"{row}/{positive}", f"{row}/{negative}", item=row)
            for row in self.rows(positive, negative)
        ]
        return SuiteCopy(opened=self.recording, pairs=pairs)

    def recording(self, name: str) -> AudioBytes:
        """Return the recording in a cell; an empty one where there is none."""
        file, row, column = name.rsplit("/", 2)
        cell = self._table(file)[column][int(row)].as_py()
        data = cell.get("bytes") if isinstance(cell, dict) else None
        return AudioBytes(name, data or b"")

    def _names(self) -> list[str]:
        return [printable(path.relative_to(self.root).with_suffix("")) for path in self.files]

    def _table(self, file: str) -> Any:
        if file not in self._tables:
            try:
                parquet = import_module("pyarrow.parquet")
            except ImportError as error:
                raise PluginError(
                    f"{self.root} holds Parquet files, which need the package pyarrow ({error}): "
                    "pip install 'wavslm-suites[hub]'"
                ) from error
            path = self.root / f"{file}.parquet"
            try:
                self._tables[file] = parquet.read_table(path)
            except Exception as error:
                raise DataError(f"{path} cannot be read: {summary(error)}; copy it again") from error
        return self._tables[file]


def seconds_of(recording: AudioBytes) -> float:
    """Return how long a recording lasts. Raises: AudioError."""
    info = audio_info(recording)
    return info.samples / info.sample_rate_hz
