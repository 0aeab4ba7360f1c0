"""Corpus `webdataset`: recordings in tars, each read at random from where it lies."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wavslm_core.plugin import AudioError, DataError, RecordedCorpus
from wavslm_corpora.config import WebDatasetConfig
from wavslm_corpora.tar_shelf import TarShelf, elsewhere, expanded

if TYPE_CHECKING:
    from wavslm_core.plugin import AudioBytes, Recording, Recordings

SPLITS = ("train", "valid", "test")
FETCHES = 3
Found = TypeVar("Found")


class Tars(RecordedCorpus):
    """See `WebDatasetConfig`."""

    config: WebDatasetConfig

    @cached_property
    def _shelf(self) -> TarShelf:
        keep_gb = self.config.keep_gb
        return TarShelf(self.cache_dir / "webdataset-tars", keep_bytes=keep_gb and keep_gb * 1e9)

    @cached_property
    def _tars(self) -> dict[str, dict[str, str]]:
        """Split → label → place of each tar. A label is the tar's file name."""
        found: dict[str, dict[str, str]] = {}
        seen: dict[str, str] = {}
        for split in SPLITS:
            found[split] = {}
            for place in expanded(getattr(self.config, split), split=split):
                label = place.rpartition("/")[2]
                if label in seen:
                    raise DataError(
                        f"data.{split}: {place} and {seen[label]} have the same name, which is what tells "
                        "their recordings apart: rename one, or name each tar once"
                    )
                seen[label] = found[split][label] = place
        return found

    @cached_property
    def _places(self) -> dict[str, str]:
        return {label: place for tars in self._tars.values() for label, place in tars.items()}

    def storage(self) -> str:
        # The last says what a stamp is made of.
        return json.dumps([self._tars, self.config.speaker_field, self.config.text_field, "place, crc32"])

    def present(self) -> Iterable[Recording]:
        for label, place in sorted(self._places.items(), key=lambda item: f"{item[0]}/"):
            try:
                yield from self._while_there(partial(self._indexed, label, place))
            except FileNotFoundError as error:
                raise DataError(_gone(place)) from error

    def _indexed(self, label: str, place: str) -> list[Recording]:
        from wavslm_corpora.tar_index import indexed

        key = hashlib.sha256(place.encode()).hexdigest()[:12]
        stamp = "fetched"
        if not elsewhere(place):
            status = Path(place).stat()
            stamp = f"{status.st_size} {status.st_mtime_ns}"
        return indexed(
            lambda: self._shelf.local(place),
            label=label,
            cache_file=self.cache_dir / "webdataset-index" / f"{key}.jsonl",
            stamp=stamp,
            speaker_field=self.config.speaker_field,
            text_field=self.config.text_field,
        )

    def source_of(self, recording: Recording) -> AudioBytes:
        return self._read_member(recording.name, stamp=recording.stamp, size=recording.size_bytes)

    def source(self, name: str) -> AudioBytes:
        manifest = self.manifest
        index = manifest.find(name)
        if index is None:
            raise AudioError(f"{name} is not in the manifest of its tars any more; open the corpus again")
        return self._read_member(name, stamp=int(manifest.stamps[index]), size=int(manifest.sizes[index]))

    def _read_member(self, name: str, *, stamp: int, size: int) -> AudioBytes:
        from wavslm_corpora.tar_index import read_member

        place = self._places[name.partition("/")[0]]
        try:
            return self._while_there(
                lambda: read_member(self._shelf.local(place), name, stamp=stamp, size=size)
            )
        except FileNotFoundError as error:
            raise AudioError(_gone(place)) from error

    def _while_there(self, read: Callable[[], Found]) -> Found:
        """Return what `read` returns: a copy can make room for another between its fetching and its opening.

        Raises: FileNotFoundError when it is gone each time.
        """
        for _ in range(FETCHES - 1):
            with contextlib.suppress(FileNotFoundError):
                return read()
        return read()

    def recordings_of(self, split: str) -> Recordings:
        import numpy as np

        from wavslm_core.plugin import READABLE_FORMATS

        if split not in SPLITS:
            raise DataError(f"a webdataset corpus has no split '{split}'; its splits are {', '.join(SPLITS)}")
        divided = split in ("train", "valid") and not self.config.valid
        labels = self._tars["train" if divided else split]
        if not labels:
            raise DataError(f"the webdataset corpus has no split '{split}'; name its tars in `data.{split}`")
        ranges = [self.manifest.range_below(f"{label}/") for label in labels]
        recordings = np.sort(np.concatenate([np.arange(part.start, part.stop) for part in ranges]))
        if not len(recordings):
            raise DataError(f"the tars of data.{split} hold no {READABLE_FORMATS} member; check them")
        if not divided:
            return recordings
        return self.divided(recordings, fraction=self.config.valid_fraction, split=split)

    def fingerprint(self, split: str) -> dict[str, Any]:
        # Places on this machine are no part of what the audio is.
        return super().fingerprint(split) | {"corpus": "webdataset"}


def _gone(place: str) -> str:
    return f"{place} is gone; check the path, and raise `data.keep_gb` if it is set"
