"""Corpus `webdataset`: recordings in tars, each read at random from where it lies."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavslm_core.data.recorded import RecordedCorpus
from wavslm_core.errors import AudioError, DataError
from wavslm_corpora.tar_shelf import TarShelf, expanded
from wavslm_corpora.webdataset_config import WebDatasetConfig

if TYPE_CHECKING:
    from wavslm_core.data.audio_files import AudioBytes
    from wavslm_core.data.manifest import Recording
    from wavslm_core.data.recorded import Recordings

SPLITS = ("train", "valid", "test")
FETCHES = 3


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
        return json.dumps([self._tars, self.config.speaker_field, self.config.text_field])

    def present(self) -> Iterable[Recording]:
        from wavslm_corpora.tar_index import indexed

        for label, place in sorted(self._places.items(), key=lambda item: f"{item[0]}/"):
            tar = self._shelf.local(place)
            status = tar.stat()
            key = hashlib.sha256(place.encode()).hexdigest()[:12]
            local = tar == Path(place)
            # A copy's own times say nothing about what it was copied from.
            stamp = f"{status.st_size} {status.st_mtime_ns if local else ''}"
            yield from indexed(
                tar,
                label=label,
                cache_file=self.cache_dir / "webdataset-index" / f"{key}.jsonl",
                stamp=stamp,
                speaker_field=self.config.speaker_field,
                text_field=self.config.text_field,
            )

    def source_of(self, recording: Recording) -> AudioBytes:
        return self._read_member(recording.name, offset=recording.stamp, size=recording.size_bytes)

    def source(self, name: str) -> AudioBytes:
        manifest = self.manifest
        index = manifest.find(name)
        if index is None:
            raise AudioError(f"{name} is not in the manifest of its tars any more; open the corpus again")
        return self._read_member(name, offset=int(manifest.stamps[index]), size=int(manifest.sizes[index]))

    def _read_member(self, name: str, *, offset: int, size: int) -> AudioBytes:
        from wavslm_corpora.tar_index import read_member

        place = self._places[name.partition("/")[0]]
        for _ in range(FETCHES):
            # A copy can make room for another between here and its opening.
            with contextlib.suppress(FileNotFoundError):
                return read_member(self._shelf.local(place), name, offset=offset, size=size)
        raise AudioError(f"{place} is gone; check the path, and raise `data.keep_gb` if it is set")

    def recordings_of(self, split: str) -> Recordings:
        import numpy as np

        if split not in SPLITS:
            raise DataError(f"a webdataset corpus has no split '{split}'; its splits are {', '.join(SPLITS)}")
        divided = split in ("train", "valid") and not self.config.valid
        labels = self._tars["train" if divided else split]
        if not labels:
            raise DataError(f"the webdataset corpus has no split '{split}'; name its tars in `data.{split}`")
        ranges = [self.manifest.range_below(f"{label}/") for label in labels]
        recordings = np.sort(np.concatenate([np.arange(part.start, part.stop) for part in ranges]))
        if not len(recordings):
            raise DataError(f"the tars of data.{split} hold no WAV, FLAC, OGG or MP3 member; check them")
        if not divided:
            return recordings
        return self.divided(recordings, fraction=self.config.valid_fraction, split=split)

    def fingerprint(self, split: str) -> dict[str, Any]:
        # Places on this machine are no part of what the audio is.
        return super().fingerprint(split) | {"corpus": "webdataset"}
