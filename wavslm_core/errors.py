"""Errors that a user can cause. Each message says what was given, what is allowed, and what to do.

The command line prints the message of a `WavslmError` as one line and leaves with exit code 2;
any other exception is a bug and asks for `--traceback`.
"""

import difflib
from collections.abc import Iterable

EXIT_BUG, EXIT_MENDABLE, EXIT_INTERRUPTED = 1, 2, 130


class WavslmError(Exception):
    """Base of every error whose message is meant for the person who typed the command."""


class RecipeError(WavslmError):
    """A recipe does not parse, does not validate, or its parts do not fit each other."""


class PluginError(WavslmError):
    """A plugin is missing, broken, or registers something that it may not."""


class CheckpointError(WavslmError):
    """A checkpoint is missing, truncated, or does not have the expected keys and shapes."""


class ArgumentError(WavslmError, ValueError):
    """What was given to a method of a codec or language model cannot be used."""


class NoCodecError(CheckpointError):
    """A language model names no codec, or one that cannot be loaded."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; load one and give it as codec=Codec.load(…)")
        self.what = what
        """Without a hint: the command line has another one."""


class AudioError(WavslmError):
    """A file or waveform cannot be used as audio."""


class DataError(WavslmError):
    """A corpus, a token store or a batch cannot be used."""


class StreamingError(WavslmError):
    """A part was asked to stream in a way that its facts rule out."""


def summary(error: BaseException) -> str:
    """Return an exception's type and message on one line, without a full stop."""
    message = " ".join(str(error).split()).removesuffix(".") or "no message"
    return f"{type(error).__name__}: {message}"


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name closest to `given`, or None when nothing is close."""
    matches = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return matches[0] if matches else None


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"`, or an empty string when nothing is close."""
    match = nearest(given, allowed)
    return f" Did you mean '{match}'?" if match else ""


class LostProcessError(WavslmError):
    """Another process that shares the run failed, was killed, or fell silent."""


class JobCrashed(Exception):
    """The job of a launcher ended in a way that nobody foresaw. `details` holds its traceback or log."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details
