"""What clients and server say to each other over `/v1/speech`; the README tells it in words.

Text messages are JSON. Binary ones are a byte that says what follows, 1 for audio, and then 16-bit
little-endian mono samples.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, RootModel

from wavslm_core.plugin import WavslmError, parse_json

VERSION = 1
"""Goes up when a client of the version before would no longer be understood."""
AUDIO = 1
"""The kind of a binary message that holds audio."""
MOST_SEED = 2**62
Floats = npt.NDArray[np.float32]
Reason = Literal["end", "error", "busy", "idle", "limit", "shutdown"]
"""Why a session ended: the client said so, see the error before, no room, no word for long, its time was
up, or the server stopped.
"""


class ClientError(WavslmError):
    """What a client did wrong, or cannot have."""

    def __init__(self, code: str, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.facts = facts
        """What goes with it, as numbers."""

    def document(self) -> dict[str, Any]:
        return {"type": "error", "code": self.code, "message": str(self), **self.facts}


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Start(_Message):
    """The first message: who wants to speak how."""

    type: Literal["start"]
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    sample_rate: int | None = Field(default=None, gt=0)
    sampler: dict[str, Any] | list[dict[str, Any]] | None = None


class Speak(_Message):
    """Say what comes next."""

    type: Literal["speak"]
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Stop(_Message):
    """Say no more."""

    type: Literal["stop"]


class Reset(_Message):
    """Forget all that was heard and said."""

    type: Literal["reset"]


class End(_Message):
    """Leave."""

    type: Literal["end"]


_Samplers = RootModel[dict[str, Any] | list[dict[str, Any]]]
_Shape = TypeVar("_Shape", bound=BaseModel)


class _AnyMessage(RootModel[Annotated[Start | Speak | Stop | Reset | End, Field(discriminator="type")]]):
    pass


def read_message(text: str) -> Start | Speak | Stop | Reset | End:
    """Return what a text message says. Raises: ClientError."""
    form = "a JSON object with a type of start, speak, stop, reset or end"
    return _read("that text message", text, _AnyMessage, form=form).root


def read_sampler(text: str) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the options of samplers that a JSON text holds. Raises: ClientError."""
    return _read("sampler", text, _Samplers, form='JSON such as {"name": "greedy"}').root


def _read(what: str, text: str, shape: type[_Shape], *, form: str) -> _Shape:
    try:
        return parse_json(text, shape)
    except ValueError as error:
        raise ClientError("bad_message", f"{what} cannot be read: {error}. It is {form}") from None


def read_audio_message(message: bytes) -> Floats:
    """Return the samples (S,) in [-1, 1) of a binary message. Raises: ClientError."""
    if not message or message[0] != AUDIO:
        kind = f"of the kind {message[0]}" if message else "empty"
        raise ClientError(
            "bad_message", f"that binary message is {kind}; one of audio begins with the byte {AUDIO}"
        )
    if len(message) % 2 == 0:
        raise ClientError(
            "bad_audio",
            f"that message holds {len(message) - 1} bytes of audio, which are no whole 16-bit samples",
        )
    return np.frombuffer(message, "<i2", offset=1).astype(np.float32) / np.float32(32768)


def audio_message(samples: Floats) -> bytes:
    """Return the binary message of samples (S,)."""
    return bytes([AUDIO]) + pcm(samples)


def pcm(samples: Floats) -> bytes:
    """Return samples (S,) as 16-bit little-endian numbers, clipped to full scale."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


@dataclass(frozen=True)
class Spoken:
    """Samples (S,) that are said next."""

    samples: Floats


@dataclass(frozen=True)
class Spoke:
    """A speaking is over, after so many samples."""

    samples: int


@dataclass(frozen=True)
class Failed:
    """Something cannot be done."""

    error: ClientError


@dataclass(frozen=True)
class Ended:
    """A session is over; nothing comes after."""

    reason: Reason


Event = Spoken | Spoke | Failed | Ended
"""What happens in a session."""


def event_message(event: Event) -> str | bytes:
    """Return the message that tells a client of an event."""
    match event:
        case Spoken(samples):
            return audio_message(samples)
        case Spoke(count):
            return json.dumps({"type": "spoke", "samples": count})
        case Failed(error):
            return json.dumps(error.document())
        case Ended(reason):
            return json.dumps({"type": "ended", "reason": reason})
