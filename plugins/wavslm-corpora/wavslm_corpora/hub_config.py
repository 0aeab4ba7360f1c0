"""Config of the corpus `hub`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wavslm_core.plugin import CorpusConfig, CutConfig


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
