"""Options of the corpora."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from wavslm_core.plugin import CorpusConfig, CutConfig
from wavslm_corpora.archives import LIBRI_LIGHT, LIBRISPEECH, LIBRITTS, MINI_LIBRISPEECH, Release

LibriSpeechSubset = Literal[
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
]


class LibriConfig(CorpusConfig):
    """What they share."""

    release: ClassVar[Release]

    path: str
    """Folder that holds the subsets' folders (or the corpus's own folder with them); where downloads go."""
    download: bool = False
    """Download the subsets that are missing there, when their split is first opened."""
    url: str = Field(default="", pattern=r"^(https?://.+)?$")
    """Folder of the archives, for another mirror than the corpus's own."""
    checksums: Mapping[str, str] = {}
    """Subset → `sha256:…` or `md5:…` of its archive, over those that are known."""
    transcripts: bool = False
    """Read what is said, for metrics that compare it."""
    cut: CutConfig | None = None
    """Cut long recordings into utterances: `{by: fixed, seconds: 15}` or `{by: voice_activity}`."""
    rescan: bool = True
    """Look for new and changed files whenever the corpus is opened; false trusts the first scan."""

    def subsets(self, split: str) -> tuple[str, ...]:
        """Return the subsets of a split; none when it has no official ones."""
        return tuple(getattr(self, split, ()) or ())

    def expected_seconds(self, split: str) -> float | None:
        hours = [self.release.hours.get(subset) for subset in self.subsets(split)]
        known = [value for value in hours if value is not None]
        return 3600 * sum(known) if known and len(known) == len(hours) else None

    @model_validator(mode="after")
    def _consistent(self) -> LibriConfig:
        seen: dict[str, str] = {}
        for split in ("train", "valid", "test"):
            for subset in self.subsets(split):
                if subset in seen:
                    where = (
                        f"twice in {split}" if seen[subset] == split else f"in {seen[subset]} and in {split}"
                    )
                    raise ValueError(f"'{subset}' is {where}: leave it out of one")
                seen[subset] = split
        for subset, checksum in self.checksums.items():
            kind, _, digest = checksum.partition(":")
            if len(digest) != {"sha256": 64, "md5": 32}.get(kind):
                raise ValueError(
                    f"checksums.{subset} is '{checksum}': allowed are sha256: and 64 hex digits, md5: and 32"
                )
        return self


class LibriSpeechConfig(LibriConfig):
    """LibriSpeech: 960 hours of read English by 2,338 speakers, 16 kHz, with transcripts."""

    release: ClassVar[Release] = LIBRISPEECH

    corpus: Literal["librispeech"] = "librispeech"
    train: tuple[LibriSpeechSubset, ...] = ("train-clean-100", "train-clean-360", "train-other-500")
    """Subsets of the training split."""
    valid: tuple[LibriSpeechSubset, ...] = ("dev-clean",)
    """Subsets of the validation split."""
    test: tuple[LibriSpeechSubset, ...] = ("test-clean",)
    """Subsets of the test split."""


class MiniLibriSpeechConfig(LibriConfig):
    """Mini LibriSpeech: about five hours of LibriSpeech to train on and two for validation."""

    release: ClassVar[Release] = MINI_LIBRISPEECH

    corpus: Literal["mini_librispeech"] = "mini_librispeech"
    train: tuple[Literal["train-clean-5", "dev-clean-2"], ...] = ("train-clean-5",)
    """Subsets of the training split."""
    valid: tuple[Literal["train-clean-5", "dev-clean-2"], ...] = ("dev-clean-2",)
    """Subsets of the validation split."""


class LibriTtsConfig(LibriConfig):
    """LibriTTS: 585 hours of read English by 2,456 speakers, 24 kHz, with transcripts."""

    release: ClassVar[Release] = LIBRITTS

    corpus: Literal["libritts"] = "libritts"
    train: tuple[LibriSpeechSubset, ...] = ("train-clean-100", "train-clean-360", "train-other-500")
    """Subsets of the training split."""
    valid: tuple[LibriSpeechSubset, ...] = ("dev-clean",)
    """Subsets of the validation split."""
    test: tuple[LibriSpeechSubset, ...] = ("test-clean",)
    """Subsets of the test split."""


class LibriLightConfig(LibriConfig):
    """Libri-light: up to 60,000 hours of read English, 16 kHz, in long recordings without transcripts.

    Its own validation is LibriSpeech's: `data: {train: {corpus: libri_light, …}, valid: {corpus: librispeech,
    …}}`. Asked for a validation split itself, it keeps some speakers.
    """

    release: ClassVar[Release] = LIBRI_LIGHT

    corpus: Literal["libri_light"] = "libri_light"
    train: tuple[Literal["small", "medium", "large"], ...] = ("small",)
    """Subsets: small (577 hours), medium (5,193) and large (51,934); all three are the 60,000 hours."""
    valid_fraction: float = Field(default=0.01, ge=0, lt=1)
    """Part of the speakers kept for validation; set it to 0 when the recipe validates on LibriSpeech."""
    cut: CutConfig | None = CutConfig(by="voice_activity")
    """How the recordings, of a quarter of an hour on average, are cut into utterances."""


class HubConfig(CorpusConfig):
    """A dataset of the Hugging Face hub, or a folder in its format, through the library `datasets`."""

    corpus: Literal["hub"] = "hub"
    dataset: str
    """Id on the hub, such as `user/speech`, or the path of a folder in its format."""
    subset: str | None = None
    """Which of the dataset's configurations."""
    revision: str | None = None
    """Branch, tag or commit on the hub; name a commit to have the same data for ever."""
    audio_column: str = "audio"
    """Column of the recordings."""
    speaker_column: str | None = None
    """Column of who speaks."""
    text_column: str | None = None
    """Column of what is said."""
    train: str = "train"
    """The dataset's split to train on; `train[:10%]` and `train.100+train.360` work too."""
    valid: str | None = None
    """The dataset's split for validation; without it a part of the training recordings is kept for it."""
    test: str | None = None
    """The dataset's split for tests."""
    valid_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Part of the speakers, or where they are not known of the recordings, kept for validation where `valid`
    is not set."""
    cut: CutConfig | None = None
    """Cut long recordings into utterances: `{by: fixed, seconds: 15}` or `{by: voice_activity}`."""


Patterns = tuple[str, ...]


class WebDatasetConfig(CorpusConfig):
    """Tars of recordings: files on this machine or a shared file system, http(s) and object stores.

    A recording is a member such as `000123.flac` or `000123.speech.flac`; `000123.json` and `000123.txt` in
    the same tar may tell speaker and text.
    """

    corpus: Literal["webdataset"] = "webdataset"
    train: Patterns = Field(min_length=1)
    """Tars of the training split: paths or URLs, with braces (`speech-{000000..000127}.tar`) or, for files,
    `*` and `?`."""
    valid: Patterns = ()
    """Tars of the validation split; without them a part of the training recordings is kept for it."""
    test: Patterns = ()
    """Tars of the test split."""
    valid_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Part of the speakers, or where they are not known of the recordings, kept for validation where `valid`
    is not set."""
    speaker_field: str = "speaker"
    """What a recording's `.json` calls its speaker."""
    text_field: str = "text"
    """What a recording's `.json` calls what is said; a `.txt` goes before it."""
    keep_gb: float | None = Field(default=None, gt=0)
    """Room for tars that were fetched from elsewhere: beyond it the one that was used longest ago is deleted
    and, if needed, fetched again. None: all are kept."""
    cut: CutConfig | None = None
    """Cut long recordings into utterances: `{by: fixed, seconds: 15}` or `{by: voice_activity}`."""
    rescan: bool = True
    """Look for new tars, and for changed ones on this machine, whenever the corpus is opened; false trusts
    the first scan. Tars elsewhere are listed once: after a change give them another name."""

    @field_validator("train", "valid", "test", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value
