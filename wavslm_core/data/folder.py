"""Corpus `folder`: any tree of audio files (WAV, FLAC, OGG, Opus, MP3, AIFF and others), at any rate.

Sub-folders called train, valid and test, or other usual names of these, are the splits. Without them a stable
hash of each file's name, or of its speaker's when file names tell the speaker, keeps a fraction for
validation, so that adding files never moves another one across.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from wavslm_core.data.corpora import CutConfig
from wavslm_core.data.recorded import RecordedCorpus
from wavslm_core.errors import DataError
from wavslm_core.parts.configs import CorpusConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from wavslm_core.data.manifest import Manifest, Recording
    from wavslm_core.data.recorded import Recordings

SPLITS = ("train", "valid", "test")
_USUAL_NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing"),
}
"""In any case; of several that hold audio the first here."""


class FolderConfig(CorpusConfig):
    """A tree of audio files."""

    corpus: Literal["folder"] = "folder"
    path: str
    """Folder that holds the files; `~` is the home folder, relative paths start at the working directory."""
    train: str | None = None
    """Sub-folder of the training split; default: `train` or `training`, in any case, and without one every
    file outside other splits."""
    valid: str | None = None
    """Sub-folder of the validation split; default: the first that holds audio of `valid`, `validation`,
    `val`, `dev`, `development`, `eval` and `evaluation`, in any case, else a part of the training files."""
    test: str | None = None
    """Sub-folder of the test split; default: `test` or `testing`, in any case."""
    valid_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Part of the files, or of the speakers, kept for validation where there is no sub-folder for it; one at
    least, unless it is 0."""
    speaker_separator: str | None = Field(default=None, min_length=1)
    """The speaker is what comes before this text in the file's name (`/`: in its path within the split)."""
    cut: CutConfig | None = None
    """Cut long recordings into utterances: `{by: fixed, seconds: 15}` or `{by: voice_activity}`."""
    rescan: bool = True
    """Look for new and changed files whenever the corpus is opened. False trusts the manifest of the first
    scan, which spares trees of millions of files the walk."""


class Folder(RecordedCorpus):
    """A tree of audio files; see `FolderConfig`."""

    config: FolderConfig

    @property
    def root(self) -> Path:
        return Path(self.config.path).expanduser()

    def storage(self) -> str:
        return str(self.root.resolve())

    def present(self) -> Iterable[Recording]:
        from wavslm_core.data.audio_tree import walk

        return walk(self.root)

    def source(self, name: str) -> Path:
        return self.root / name

    @cached_property
    def manifest(self) -> Manifest:
        from wavslm_core.data.audio_files import READABLE_FORMATS

        manifest = super().manifest
        if not len(manifest):
            raise DataError(f"{self.root} holds no {READABLE_FORMATS} file; check `data.path`")
        return manifest

    @cached_property
    def _subfolders(self) -> dict[str, str]:
        """Split → sub-folder, for the splits that have one."""
        found: dict[str, str] = {}
        for split in SPLITS:
            named: str | None = getattr(self.config, split)
            if named is not None and not (self.root / named).is_dir():
                raise DataError(f"{self.root} has no sub-folder '{named}'; correct or remove `data.{split}`")
            name = named if named is not None else self._usual_subfolder(split)
            if name is not None:
                found[split] = name.strip("/")
        return found

    def _usual_subfolder(self, split: str) -> str | None:
        """Return the sub-folder that its name says is a split: one that holds audio, if any does."""
        named = self._usual_subfolders[split]
        full = (name for name in named if len(self.manifest.range_below(f"{name}/")))
        return next(full, next(iter(named), None))

    @cached_property
    def _usual_subfolders(self) -> dict[str, list[str]]:
        """Split → sub-folders with one of its usual names, in their order."""
        there = self.root.iterdir() if self.root.is_dir() else ()
        folders = sorted(path.name for path in there if path.is_dir())
        return {
            split: [name for usual in names for name in folders if name.lower() == usual]
            for split, names in _USUAL_NAMES.items()
        }

    def _outside(self, folders: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Return of each recording whether it is in none of these sub-folders."""
        import numpy as np

        outside = np.ones(len(self.manifest), np.bool_)
        for name in folders:
            inside = self.manifest.range_below(f"{name}/")
            outside[inside.start : inside.stop] = False
        return outside

    def outside_splits(self) -> dict[str, int]:
        import numpy as np

        outside = self._outside(self._subfolders.values())
        if "train" not in self._subfolders:
            outside[self._undivided()] = False
        places, names, done = np.flatnonzero(outside), self.manifest.names, 0
        found: Counter[str] = Counter()
        while done < len(places):
            top, is_folder, _ = names[int(places[done])].partition("/")
            before, done = done, done + 1
            if is_folder:
                done = int(np.searchsorted(places, self.manifest.range_below(f"{top}/").stop))
            found[str(self.root / top if is_folder else self.root)] += done - before
        return dict(found)

    def recordings_of(self, split: str) -> Recordings:
        if split not in SPLITS:
            raise DataError(f"a folder corpus has no split '{split}'; its splits are {', '.join(SPLITS)}")
        # A folder that is not there is what to tell first.
        manifest = self.manifest
        if split in self._subfolders:
            recordings: Recordings = manifest.range_below(f"{self._subfolders[split]}/")
        elif split == "test":
            raise DataError(f"{self.root} has no split 'test'; make a sub-folder `test` or set `data.test`")
        else:
            recordings = self._undivided()
        if "valid" in self._subfolders or split == "test":
            return recordings
        return self.divided(recordings, fraction=self.config.valid_fraction, split=split)

    def _undivided(self) -> Recordings:
        """Return the files that train and valid share when they do not both have a sub-folder."""
        import numpy as np

        if "train" in self._subfolders:
            return self.manifest.range_below(f"{self._subfolders['train']}/")
        # What by its name is another split's may not be trained on, even if another one is taken for it.
        others = [name for names in self._usual_subfolders.values() for name in names]
        return np.flatnonzero(self._outside([*self._subfolders.values(), *others]))

    def speaker(self, recording: int, name: str) -> str | None:
        separator = self.config.speaker_separator
        if separator is None:
            return None
        if separator == "/":
            inside = name
            for subfolder in self._subfolders.values():
                inside = inside.removeprefix(f"{subfolder}/")
            return inside.partition("/")[0] if "/" in inside else None
        return Path(name).stem.partition(separator)[0]
