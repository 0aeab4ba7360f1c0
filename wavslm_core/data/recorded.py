"""What all corpora of recordings with a manifest share; each says which recordings are which split."""

from __future__ import annotations

import contextlib
import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from wavslm_core.data.corpora import Corpus, CutConfig, Rejected, Utterance
from wavslm_core.errors import AudioError, DataError, WavslmError, summary
from wavslm_core.parts.configs import CorpusConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from wavslm_core.data.audio_files import AudioInfo, AudioSource
    from wavslm_core.data.manifest import Manifest, Recording


_HASH_BUCKETS = 1 << 32

Recordings: TypeAlias = "range | npt.NDArray[np.int64]"


class RecordedCorpus(Corpus):
    """Recordings in some storage, remembered in a manifest. Subclasses know the storage and the splits."""

    cut: CutConfig | None = None
    """How recordings are cut into utterances."""
    rescan: bool = True
    """Look for what is new or changed when the corpus is opened."""

    def __init__(self, config: CorpusConfig, *, cache_dir: Path) -> None:
        super().__init__(config, cache_dir=cache_dir)
        self.cut = getattr(config, "cut", None)
        self.rescan = getattr(config, "rescan", True)

    @abstractmethod
    def storage(self) -> str:
        """Return what names the storage on this machine, such as a resolved path."""

    @abstractmethod
    def present(self) -> Iterable[Recording]:
        """Yield the recordings that are there, in order of names, with `same` filled in.

        Raises: DataError.
        """

    @abstractmethod
    def source(self, name: str) -> AudioSource:
        """Return a recording's audio file. Raises: AudioError."""

    def source_of(self, recording: Recording) -> AudioSource:
        """Return the audio file of a recording that is being scanned. Raises: AudioError."""
        return self.source(recording.name)

    @abstractmethod
    def recordings_of(self, split: str) -> Recordings:
        """Return the recordings of a split, rising, those that are left out included. Raises: DataError."""

    def speaker(self, recording: int, name: str) -> str | None:
        """Return who speaks in a recording, if that is known."""
        speakers = self.manifest.speakers
        return (speakers[recording] or None) if speakers is not None else None

    def text(self, recording: int, name: str) -> str | None:
        """Return what is said in a recording, if that is known. With cuts it would not be true."""
        texts = self.manifest.texts
        return (texts[recording] or None) if texts is not None and self.cut is None else None

    @cached_property
    def manifest(self) -> Manifest:
        # Imported here: reading audio brings numpy along, which listing and checking do without.
        from wavslm_core.data.scan import update_manifest

        key = json.dumps({"storage": self.storage(), "cut": self.cut and self.cut.model_dump()})
        digest = hashlib.sha256(key.encode()).hexdigest()[:12]
        return update_manifest(
            self.cache_dir / f"{self.config.registered_name()}-{digest}",
            key=key,
            present=self.present,
            read=self._read,
            label=self.config.registered_name(),
            rescan=self.rescan,
        )

    def _read(self, recording: Recording) -> Recording:
        """Read a recording's header, try its samples and find its utterances.

        What the system could not read, which may pass, is left out until the next scan.
        """
        from dataclasses import replace

        from wavslm_core.data.audio_files import proven_info, systems_fault
        from wavslm_core.data.cutting import pieces_of
        from wavslm_core.data.manifest import UNSETTLED

        if recording.reason:
            return recording
        try:
            source = self.source_of(recording)
            info = proven_info(source)
            pieces = pieces_of(source, info, self.cut) if self.cut is not None else None
        except AudioError as error:
            stamp = UNSETTLED if systems_fault(error) else recording.stamp
            return replace(recording, stamp=stamp, reason=str(error))
        except WavslmError:
            raise
        except Exception as error:
            # What nobody thought of in one file must not end the scan of all.
            reason = f"{recording.name} cannot be read: {summary(error)}; leave it out, or convert it"
            stamp = UNSETTLED if isinstance(error, OSError | MemoryError) else recording.stamp
            return replace(recording, stamp=stamp, reason=reason)
        return replace(
            recording,
            samples=info.samples,
            sample_rate_hz=info.sample_rate_hz,
            channels=info.channels,
            channel=info.channel,
            plain=info.plain,
            mended=info.mended,
            pieces=pieces,
        )

    def utterances(self, split: str) -> Sequence[Utterance]:
        from wavslm_core.data.utterance_table import UtteranceTable

        # What is in a split may be fetched first, which changes the manifest.
        recordings = self.recordings_of(split)
        return UtteranceTable(
            self.manifest,
            self._utterances_of(recordings),
            cut=self.cut is not None,
            speaker=self.speaker,
            text=self.text,
        )

    def _utterances_of(self, recordings: Recordings) -> Recordings:
        if isinstance(recordings, range):
            return self.manifest.utterances_of(recordings)
        import numpy as np

        chosen = np.zeros(len(self.manifest), np.bool_)
        chosen[recordings] = True
        rows = np.flatnonzero(chosen[self.manifest.recording])
        # Half the memory, as long as 32 bits suffice.
        return rows.astype(np.uint32) if len(chosen) < 1 << 32 and len(rows) < 1 << 32 else rows

    def rejected(self, split: str) -> Sequence[Rejected]:
        import numpy as np

        recordings = self.recordings_of(split)
        manifest = self.manifest
        if isinstance(recordings, range):
            low, high = np.searchsorted(manifest.rejected, (recordings.start, recordings.stop))
            places: Iterable[int] = range(int(low), int(high))
        else:
            places = np.flatnonzero(np.isin(manifest.rejected, recordings)).tolist()
        return [
            Rejected(manifest.names[int(manifest.rejected[place])], manifest.reasons[place])
            for place in places
        ]

    def divided(self, recordings: Recordings, *, fraction: float, split: str) -> Recordings:
        """Return the recordings of "train" or "valid" when a stable hash divides them, speakers undivided.

        Adding recordings never moves another one across; at least one is kept for validation, unless
        `fraction` is 0. Computed once a manifest and remembered beside it.
        """
        import numpy as np

        places = self._hash_places(recordings)
        limit = fraction * _HASH_BUCKETS
        kept = places < limit
        if len(places) and limit and not kept.any() and len(np.unique(places)) > 1:
            kept = places == places.min()
        return np.asarray(recordings)[kept if split == "valid" else ~kept]

    def _hash_places(self, recordings: Recordings) -> npt.NDArray[np.uint32]:
        """Return where the key of each recording falls among the hash buckets, the same on every machine."""
        import numpy as np

        from wavslm_core.machine.files import replacing
        from wavslm_core.machine.npy_files import map_column

        manifest = self.manifest
        within = f"{len(recordings)} from {recordings[0]} to {recordings[-1]}" if len(recordings) else "none"
        rules = self.config.model_dump_json(exclude={"valid_fraction", "rescan"})
        about = f"{manifest.digest} {within} {rules}"
        file = manifest.folder / f"places-{hashlib.sha256(about.encode()).hexdigest()[:12]}.npy"
        try:
            known: npt.NDArray[np.uint32] = map_column(file, "<u4")
            if len(known) == len(recordings):
                return known
        except (OSError, ValueError):
            pass
        names = manifest.names
        keys = (self.speaker(index, names[index]) or names[index] for index in map(int, recordings))
        places = np.fromiter(map(_place, keys), np.uint32, len(recordings))
        # Somebody else's cache may not be writable: then it is computed every time.
        with contextlib.suppress(DataError), replacing(file) as beside:
            np.save(beside, places)
        return places

    def _part(self, utterance: Utterance) -> tuple[str, tuple[int, int] | None]:
        """Return an utterance's recording and which samples of it are meant."""
        if self.cut is None:
            return utterance.id, None
        name, _, start = utterance.id.rpartition("@")
        return name, (int(start), utterance.samples)

    def _known(self, name: str) -> AudioInfo | None:
        """Return what the scan found out about a recording."""
        index = self.manifest.find(name)
        return None if index is None else self.manifest.audio(index)

    def load(self, utterance: Utterance, *, sample_rate_hz: int) -> Tensor:
        from wavslm_core.data.audio import read_audio

        name, part = self._part(utterance)
        return read_audio(self.source(name), sample_rate_hz=sample_rate_hz, part=part, info=self._known(name))

    def load_crop(self, utterance: Utterance, *, start: int, samples: int, sample_rate_hz: int) -> Tensor:
        from wavslm_core.data.audio import read_crop

        name, part = self._part(utterance)
        return read_crop(
            self.source(name),
            start=start,
            samples=samples,
            sample_rate_hz=sample_rate_hz,
            own_rate_hz=utterance.sample_rate_hz,
            part=part,
            info=self._known(name),
        )

    def fingerprint(self, split: str) -> dict[str, Any]:
        import numpy as np

        from wavslm_core.data.audio_files import MENDER_VERSION, READER_VERSION
        from wavslm_core.data.utterance_table import names_digest

        recordings = np.asarray(self.recordings_of(split))
        manifest = self.manifest
        digest = hashlib.sha256(names_digest(manifest, recordings).encode())
        for column in (manifest.sizes, manifest.stamps):
            digest.update(np.ascontiguousarray(column[recordings]).tobytes())
        only = manifest.only[recordings]
        if (only >= 0).any():
            digest.update(np.ascontiguousarray(only).tobytes())
        # What is read from the same bytes of these may be something else in another version.
        others = recordings[manifest.plain[recordings] == 0]
        if len(others):
            digest.update(f"reader {READER_VERSION}".encode())
            if manifest.mended[others].any():
                digest.update(f"mender {MENDER_VERSION}".encode())
            digest.update(np.ascontiguousarray(manifest.samples[others]).tobytes())
        document = {"corpus": self.config.registered_name(), "split": split, "files": len(recordings)}
        if self.cut is not None:
            document["cut"] = self.cut.model_dump()
        return document | {"content": digest.hexdigest()[:16]}


def _place(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
