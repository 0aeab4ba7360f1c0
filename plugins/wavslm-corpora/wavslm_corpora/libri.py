"""LibriSpeech, Mini LibriSpeech, LibriTTS and Libri-light: `<subset>/<speaker>/…`, official splits."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from wavslm_core.plugin import DataError, RecordedCorpus, one_at_a_time
from wavslm_corpora.config import LibriConfig

if TYPE_CHECKING:
    from wavslm_core.plugin import Recording, Recordings


class Libri(RecordedCorpus):
    """See the configs in `libri_configs`."""

    config: LibriConfig

    @property
    def root(self) -> Path:
        """The folder that the subsets are in."""
        path = Path(self.config.path).expanduser()
        inner = path / self.config.release.folder
        known = self.config.release.hours
        here = any((path / subset).is_dir() for subset in known)
        return inner if inner.is_dir() or (self.config.download and not here) else path

    def storage(self) -> str:
        return str(self.root.resolve())

    def _present_subsets(self) -> list[str]:
        """Return those of all splits that are there, in order of the paths below them."""
        wanted = {subset for split in ("train", "valid", "test") for subset in self.config.subsets(split)}
        return sorted((name for name in wanted if (self.root / name).is_dir()), key=lambda name: f"{name}/")

    def present(self) -> Iterable[Recording]:
        from wavslm_core.plugin import walk

        for subset in self._present_subsets():
            yield from walk(self.root / subset, inside=f"{subset}/")

    def source(self, name: str) -> Path:
        return self.root / name

    def recordings_of(self, split: str) -> Recordings:
        import numpy as np

        subsets = self.config.subsets(split)
        divided = getattr(self.config, "valid_fraction", None)
        if divided is not None and split in ("train", "valid"):
            subsets = self.config.subsets("train")
        if not subsets:
            given = [name for name in ("train", "valid", "test") if self.config.subsets(name)]
            raise DataError(
                f"corpus '{self.config.registered_name()}' has no split '{split}' here, only "
                f"{', '.join(given)}; name its subsets in `data.{split}`"
            )
        for subset in subsets:
            self._require(subset)
        ranges = [self.manifest.range_below(f"{subset}/") for subset in subsets]
        recordings: Recordings = ranges[0]
        if len(ranges) > 1:
            recordings = np.sort(np.concatenate([np.arange(part.start, part.stop) for part in ranges]))
        return recordings if divided is None else self.divided(recordings, fraction=divided, split=split)

    def _require(self, subset: str) -> None:
        """Make sure that a subset is there and in the manifest. Raises: DataError."""
        folder = self.root / subset
        if not folder.is_dir():
            if not self.config.download:
                raise DataError(
                    f"{self.config.release.title} subset '{subset}' is not in {self.root}; correct "
                    "`data.path`, set `data.download: true`, or leave the subset out of the recipe"
                )
            self._download(subset)
            self.__dict__.pop("manifest", None)
        if not len(self.manifest.range_below(f"{subset}/")):
            # It came after the scan that is trusted.
            self.rescan = True
            self.__dict__.pop("manifest", None)
            if not len(self.manifest.range_below(f"{subset}/")):
                raise DataError(f"{folder} holds no audio file; delete it to download it again")

    def _download(self, subset: str) -> None:
        from wavslm_corpora.download import download
        from wavslm_corpora.unpack import unpack

        release, config = self.config.release, self.config
        url = f"{(config.url or release.url).rstrip('/')}/{subset}{release.suffix}"
        archive = self.root / f"{subset}{release.suffix}"
        with one_at_a_time(self.root / f".{subset}.lock"):
            # Another process may have done it while this one waited.
            if (self.root / subset).is_dir():
                return
            checksum = config.checksums.get(subset, release.checksums.get(subset))
            instead = (
                f"Download it on a machine that reaches the host and put it to {archive}, set `data.url` to "
                "a mirror, or set `data.path` to where the corpus is already"
            )
            download(url, archive, checksum=checksum, instead=instead)
            unpack(archive, subset, root=self.root)
            archive.unlink()

    def speaker(self, recording: int, name: str) -> str | None:
        parts = name.split("/")
        return parts[1] if len(parts) > 2 else None

    def text(self, recording: int, name: str) -> str | None:
        if not self.config.transcripts or self.cut is not None:
            return None
        path = self.root / name
        single = path.with_suffix(".normalized.txt")
        chapter = path.with_name(f"{path.stem.rpartition('-')[0]}.trans.txt")
        return _chapter(chapter).get(path.stem) or _single(single)


@lru_cache(maxsize=256)
def _chapter(path: Path) -> dict[str, str]:
    """Return utterance → text of a chapter, as LibriSpeech keeps it; empty when there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {name: text for name, _, text in (line.partition(" ") for line in lines)}


def _single(path: Path) -> str | None:
    """Return the text of an utterance, as LibriTTS keeps it."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
