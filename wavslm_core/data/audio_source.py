"""Where audio comes from: a file, or bytes in memory."""

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from wavslm_core.errors import AudioError

READABLE_SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".mpga", ".aiff", ".aif", ".aifc"}
    | {".w64", ".rf64", ".bwf", ".caf", ".au", ".snd", ".sph", ".nist"}
)
READABLE_FORMATS = "WAV, FLAC, OGG, Opus, MP3, AIFF, W64, AU, CAF or NIST"
"""What is read, in words."""
OTHER_SUFFIXES = frozenset(
    {".m4a", ".m4b", ".aac", ".ac3", ".alac", ".amr", ".ape", ".dts", ".mka", ".mpc", ".ra", ".spx", ".tta"}
    | {".weba", ".webm", ".wma", ".wv", ".3gp"}
)
"""Audio too, but not for libsndfile: such files are named among those that are left out."""
AUDIO_SUFFIXES = READABLE_SUFFIXES | OTHER_SUFFIXES
_LIBSNDFILE_SYSTEM_ERROR = 2
"""Its code for what the operating system refused."""


class _Memory(BytesIO):
    """Bytes as a file; of some damaged ones libsndfile seeks to before the start, which is no bug of ours."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return super().seek(0)


@dataclass(frozen=True)
class AudioBytes:
    """A whole audio file in memory, such as a member of a tar; `name` is for messages."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def open(self, _mode: str = "rb") -> BytesIO:
        return _Memory(self.data)


AudioSource = Path | AudioBytes


def check_present(path: AudioSource) -> None:
    """Raise AudioError for what is no file, or an empty one."""
    if isinstance(path, AudioBytes):
        if not path.data:
            raise AudioError(f"{path} is empty (0 bytes); copy it again or leave it out")
        return
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise AudioError(f"{path} does not exist; check the path") from error
    except OSError as error:
        raise not_audio(path, error) from error
    if not path.is_file():
        raise AudioError(f"{path} is not a file; name one audio file ({READABLE_FORMATS})")
    if status.st_size == 0:
        raise AudioError(f"{path} is empty (0 bytes); copy it again or leave it out")


def not_audio(path: AudioSource, error: Exception) -> AudioError:
    """Return what to raise where a file cannot be opened or decoded."""
    reason = " ".join(str(getattr(error, "error_string", error)).split()).rstrip(".") or type(error).__name__
    suffix = path.suffix.lower()
    instead = f"what can be is a whole {READABLE_FORMATS} file"
    if suffix in OTHER_SUFFIXES:
        instead = f"{suffix} is none of the formats that can be: convert it to FLAC, or leave it out"
    return AudioError(f"{path} cannot be read as audio ({reason}); {instead}")


def cut_off(path: AudioSource, detail: str) -> AudioError:
    return AudioError(f"{path} is cut off: {detail}; copy it again or leave it out")


def systems_fault(error: AudioError) -> bool:
    """Return whether the system failed to give the file's bytes, which says nothing about the audio."""
    cause = error.__cause__
    return (
        isinstance(cause, OSError | MemoryError) or getattr(cause, "code", None) == _LIBSNDFILE_SYSTEM_ERROR
    )


def system_path(path: Path) -> str | bytes:
    """Return a path for libsndfile; as bytes where names need not be UTF-8, which str could not carry."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def printable(path: Path | str) -> str:
    """Return a path as text that any UTF-8 file can hold: what is not UTF-8 in its name is escaped.

    So are null characters, which a tar can hold and no reader of ours takes.
    """
    return str(path).encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
