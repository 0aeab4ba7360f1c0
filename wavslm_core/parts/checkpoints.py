"""Trained models that distributions bring along, so that they have names: `codec: {checkpoint: tiny}`.

A plugin registers each under its name, beside the parts that it may register too:

    from wavslm_core.plugin import hookimpl

    @hookimpl
    def register_checkpoints(register):
        folder = Path(__file__).parent / "tiny" / "codec"
        register("tiny", kind="codec", folder=folder, about="4096 codes, 80 ms chunks", license="Apache-2.0")

The folder is one that `Codec.save`, `SpeechLM.save` or a stage left, or is in another registered format.
Models of several kinds may share a name: a codec, and the language model over its tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from wavslm_core.errors import PluginError

HOOK = "register_checkpoints"
Kind = Literal["codec", "speech_lm", "encoder", "discriminators"]
WORDS: dict[Kind, str] = {
    "codec": "codec",
    "speech_lm": "language model",
    "encoder": "encoder",
    "discriminators": "discriminators",
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What a name looks like; hub ids have a slash."""


def one(kind: Kind) -> str:
    """Return a kind in words, with its article."""
    article = {"encoder": "an ", "discriminators": ""}.get(kind, "a ")
    return f"{article}{WORDS[kind]}"


class RegisterCheckpoint(Protocol):
    """What the hook is given."""

    def __call__(self, name: str, *, kind: Kind, folder: Path, about: str, license: str) -> None:
        """Register a folder of the distribution; `about` says in a line what is in it."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with a name, and who brought it."""

    name: str
    kind: Kind
    folder: Path
    about: str
    """What it is, in a line."""
    license: str
    distribution: str
    version: str
    plugin: str
    """Name of the entry point that registered it."""

    @property
    def origin(self) -> str:
        """Whose it is, for messages."""
        return f"{self.distribution} {self.version}"

    @property
    def called(self) -> str:
        """What it is, for messages."""
        return f"the {self.kind} '{self.name}'"

    @property
    def target(self) -> str:
        """What its name stands for."""
        return str(self.folder)

    def check(self) -> None:
        """Raises: PluginError saying what is wrong with what was registered."""
        given = f"{self.distribution} called register({self.name!r}, kind={self.kind!r}, …) in {HOOK}"
        if not NAME.fullmatch(self.name):
            raise PluginError(f"{given}: a name is made of letters, digits, dots, dashes and underscores")
        if self.kind not in get_args(Kind):
            raise PluginError(f"{given}: the kinds are {', '.join(get_args(Kind))}")
        if not (self.about.strip() and self.license.strip()):
            raise PluginError(f"{given}: `about` and `license` must say what it is and who may use it how")
        if not self.folder.is_dir():
            raise PluginError(
                f"{given}: there is no folder {self.folder}. Install {self.distribution} again from where it "
                "came"
            )
