"""The `cut:` block of a corpus: how long recordings become utterances."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from wavslm_core.parts.configs import Options


class CutConfig(Options):
    """How recordings are cut into utterances, which are then read without the rest of their file."""

    by: Literal["fixed", "voice_activity"]
    """`fixed`: a cut every `seconds`. `voice_activity`: in pauses, which are left out; every file is decoded
    once for it."""
    seconds: float = Field(default=15.0, gt=0)
    """The longest utterance."""
    shortest_seconds: float = Field(default=1.0, ge=0)
    """What is shorter is left out: the rest at a recording's end, or a stretch of voice."""
    pause_seconds: float = Field(default=0.3, gt=0)
    """`voice_activity`: a pause of this length or more is a place to cut; shorter ones are speech."""
    margin_seconds: float = Field(default=0.1, ge=0)
    """`voice_activity`: how much of the pauses around it an utterance keeps."""

    @model_validator(mode="after")
    def _fits(self) -> CutConfig:
        if self.shortest_seconds > self.seconds:
            raise ValueError(
                f"shortest_seconds is {self.shortest_seconds:g}, more than seconds, which is "
                f"{self.seconds:g}: nothing would be kept"
            )
        if self.by == "voice_activity" and 2 * self.margin_seconds >= self.seconds:
            raise ValueError(
                f"margin_seconds is {self.margin_seconds:g}: two margins must be shorter than seconds, "
                f"which is {self.seconds:g}"
            )
        return self
