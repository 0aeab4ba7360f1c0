"""Corpus `folder`: any tree of WAV, FLAC, OGG and MP3 files, at any rate.

Sub-folders called train, valid (or dev) and test are the splits. Without them a stable hash of each file's
name, or of its speaker's when file names tell the speaker, keeps a fraction for validation, so that adding
files never moves another one across.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from wavslm_core.configs import CorpusConfig
from wavslm_core.data.corpora import Corpus, Rejected, Utterance
from wavslm_core.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from wavslm_core.data.manifest import AudioFile

SPLITS = ("train", "valid", "test")
_USUAL_NAMES = {"train": ("train",), "valid": ("valid", "dev"), "test": ("test",)}
_HASH_BUCKETS = 1 << 32


class FolderConfig(CorpusConfig):
    """A tree of audio files."""

    corpus: Literal["folder"] = "folder"
    path: str
    """Folder that holds the files; `~` is the home folder, relative paths start at the working directory."""
    train: str | None = None
    """Sub-folder of the training split; default: `train`, and without one every file outside other splits."""
    valid: str | None = None
    """Sub-folder of the validation split; default: `valid` or `dev`, else a part of the training files."""
    test: str | None = None
    """Sub-folder of the test split; default: `test`."""
    valid_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Part of the files, or of the speakers, kept for validation where there is no sub-folder for it; one at
    least, unless it is 0."""
    speaker_separator: str | None = Field(default=None, min_length=1)
    """The speaker is what comes before this text in the file's name (`/`: in its path within the split)."""


class Folder(Corpus):
    """A tree of audio files; see `FolderConfig`."""

    config: FolderConfig

    @property
    def root(self) -> Path:
        return Path(self.config.path).expanduser()

    @cached_property
    def _files(self) -> list[AudioFile]:
        # Imported here: reading audio brings numpy along, which listing and checking do without.
        from wavslm_core.data.manifest import scan

        files = scan(self.root, cache_dir=self.cache_dir)
        if not files:
            raise DataError(f"{self.root} holds no WAV, FLAC, OGG or MP3 file; check `data.path`")
        return files

    @cached_property
    def _subfolders(self) -> dict[str, str]:
        """Split → sub-folder, for the splits that have one."""
        found: dict[str, str] = {}
        for split in SPLITS:
            named: str | None = getattr(self.config, split)
            if named is not None and not (self.root / named).is_dir():
                raise DataError(f"{self.root} has no sub-folder '{named}'; correct or remove `data.{split}`")
            usual = (name for name in _USUAL_NAMES[split] if (self.root / name).is_dir())
            name = named if named is not None else next(usual, None)
            if name is not None:
                found[split] = name.strip("/")
        return found

    def _files_of(self, split: str) -> list[AudioFile]:
        if split not in SPLITS:
            raise DataError(f"a folder corpus has no split '{split}'; its splits are {', '.join(SPLITS)}")
        if split in self._subfolders:
            files = self._below(self._subfolders[split])
        elif split == "test":
            raise DataError(f"{self.root} has no split 'test'; make a sub-folder `test` or set `data.test`")
        else:
            files = self._undivided()
        if "valid" in self._subfolders or split == "test":
            return files
        held_out = self._held_out(files)
        return [file for file in files if (self._key(file) in held_out) == (split == "valid")]

    def _below(self, subfolder: str) -> list[AudioFile]:
        return [file for file in self._files if file.path.startswith(f"{subfolder}/")]

    def _undivided(self) -> list[AudioFile]:
        """Return the files that train and valid share when they do not both have a sub-folder."""
        if "train" in self._subfolders:
            return self._below(self._subfolders["train"])
        others = tuple(f"{name}/" for name in self._subfolders.values())
        return [file for file in self._files if not (others and file.path.startswith(others))]

    def _held_out(self, files: Sequence[AudioFile]) -> set[str]:
        """Return the names or speakers kept for validation: a stable fraction, one at the least."""
        places = {key: _place(key) for key in map(self._key, files)}
        limit = self.config.valid_fraction * _HASH_BUCKETS
        held_out = {key for key, place in places.items() if place < limit}
        if not held_out and limit and len(places) > 1:
            held_out = {min(places, key=places.__getitem__)}
        return held_out

    def _key(self, file: AudioFile) -> str:
        return self._speaker(file) or file.path

    def _speaker(self, file: AudioFile) -> str | None:
        separator = self.config.speaker_separator
        if separator is None:
            return None
        if separator == "/":
            inside = file.path
            for name in self._subfolders.values():
                inside = inside.removeprefix(f"{name}/")
            return inside.partition("/")[0] if "/" in inside else None
        return Path(file.path).stem.partition(separator)[0]

    def utterances(self, split: str) -> Sequence[Utterance]:
        return [
            Utterance(file.path, file.samples, file.sample_rate_hz, self._speaker(file))
            for file in self._files_of(split)
            if not file.reason
        ]

    def rejected(self, split: str) -> Sequence[Rejected]:
        return [Rejected(file.path, file.reason) for file in self._files_of(split) if file.reason]

    def load(self, utterance: Utterance, *, sample_rate_hz: int) -> Tensor:
        from wavslm_core.data.audio import read_audio

        return read_audio(self.root / utterance.id, sample_rate_hz=sample_rate_hz)

    def load_crop(self, utterance: Utterance, *, start: int, samples: int, sample_rate_hz: int) -> Tensor:
        from wavslm_core.data.audio import read_crop

        return read_crop(
            self.root / utterance.id,
            start=start,
            samples=samples,
            sample_rate_hz=sample_rate_hz,
            own_rate_hz=utterance.sample_rate_hz,
        )

    def fingerprint(self, split: str) -> dict[str, Any]:
        files = self._files_of(split)
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.path}\0{file.size_bytes}\0{file.modified_ns}\n".encode())
        return {"corpus": "folder", "split": split, "files": len(files), "content": digest.hexdigest()[:16]}


def _place(key: str) -> int:
    """Return where a name falls among the hash buckets, the same on every machine."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
