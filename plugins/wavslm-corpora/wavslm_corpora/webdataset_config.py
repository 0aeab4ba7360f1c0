"""Config of the corpus `webdataset`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from wavslm_core.plugin import CorpusConfig, CutConfig

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
