"""espeak-ng through ctypes: text and a voice in, samples out, the same samples every time.

The library keeps state in static variables (the phase of the voice, random numbers, the previous voice),
and neither choosing a voice nor `espeak_Terminate` resets it: the same sentence sounds a little different
after another one. So the library is unloaded and loaded afresh for every utterance, which takes about 5 ms.
It is loaded from a private copy, so that another user of espeak-ng in the process can neither keep it in
memory nor be disturbed. It is not made for threads: a lock lets one utterance through at a time.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from wavslm_core.plugin import DataError
from wavslm_tiny_speech.voices import Voice

SAMPLE_RATE_HZ = 22050

# The names and values of speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_POSITION_CHARACTER = 1
_CHARS_UTF8 = 1
_PHONEMES = 0x100
"""Text may hold sounds in double brackets, `[[k|'aI|t]]`."""
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_OK = 0
_QUIET_ENOUGH_PERCENT = 45
"""At full volume several timbres clip inside the library; the corpus sets the level afterwards."""

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_LOCK = threading.Lock()


class Espeak:
    """A synthesiser, used as a context manager. Raises: DataError when the library is missing or fails."""

    def __enter__(self) -> Espeak:
        try:
            import espeakng_loader

            library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
        except (ImportError, OSError, RuntimeError) as error:
            raise DataError(
                f"tiny_speech needs espeak-ng, which does not load here ({error}); "
                "install it with: pip install espeakng-loader"
            ) from error
        self._folder = tempfile.TemporaryDirectory(prefix="tiny-speech-")
        self._library = Path(self._folder.name) / Path(library).name
        shutil.copyfile(library, self._library)
        self._data = str(data)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def version(self) -> str:
        """Return the library's version, such as "1.52.0"."""
        with _LOCK:
            library = self._load()
            try:
                library.espeak_Info.restype = ctypes.c_char_p
                return str(library.espeak_Info(None).decode())
            finally:
                self._unload(library)

    def speak(self, text: str, voice: Voice) -> npt.NDArray[np.int16]:
        """Return the samples (S,) of a text at `SAMPLE_RATE_HZ`: a pure function of its arguments."""
        pieces: list[bytes] = []

        def collect(samples: Any, count: int, events: Any) -> int:
            if samples and count > 0:
                pieces.append(ctypes.string_at(samples, 2 * count))
            return 0

        callback = _Callback(collect)
        with _LOCK:
            library = self._load()
            try:
                library.espeak_SetSynthCallback(callback)
                self._synthesise(library, text, voice)
            finally:
                self._unload(library)
        return np.frombuffer(b"".join(pieces), np.int16)

    def sounds(self, words: Sequence[str], voice: Voice) -> list[tuple[str, ...]]:
        """Return the sounds of words as a voice says each by itself, by espeak-ng's names.

        A vowel that is stressed has `'` in front, or `,` where another one is stressed more.
        """
        with _LOCK:
            library = self._load()
            try:
                self._check(library.espeak_SetVoiceByName(voice.espeak_name.encode()), "the voice")
                library.espeak_TextToPhonemes.restype = ctypes.c_char_p
                return [self._sounds_of(library, word) for word in words]
            finally:
                self._unload(library)

    @staticmethod
    def _sounds_of(library: ctypes.CDLL, word: str) -> tuple[str, ...]:
        text = ctypes.create_string_buffer(word.encode())
        place = ctypes.c_void_p(ctypes.addressof(text))
        named = library.espeak_TextToPhonemes(ctypes.byref(place), _CHARS_UTF8, ord("|") << 8)
        return tuple(named.decode().strip().replace(" ", "|").split("|"))

    def _synthesise(self, library: ctypes.CDLL, text: str, voice: Voice) -> None:
        self._check(library.espeak_SetVoiceByName(voice.espeak_name.encode()), f"voice '{voice.espeak_name}'")
        parameters = {
            _RATE: voice.words_per_minute,
            _VOLUME: _QUIET_ENOUGH_PERCENT,
            _PITCH: voice.pitch,
            _RANGE: voice.melody,
        }
        for parameter, value in parameters.items():
            self._check(library.espeak_SetParameter(parameter, value, 0), f"parameter {parameter}")
        encoded = text.encode("utf-8") + b"\0"
        flags = _CHARS_UTF8 | _PHONEMES
        status = library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded)), 0, _POSITION_CHARACTER, 0, flags, None, None
        )
        self._check(status, f"'{text}'")
        self._check(library.espeak_Synchronize(), f"'{text}'")

    def _load(self) -> ctypes.CDLL:
        library = ctypes.CDLL(str(self._library))
        rate_hz = library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, self._data.encode(), _INITIALIZE_DONT_EXIT
        )
        if rate_hz != SAMPLE_RATE_HZ:
            raise DataError(
                f"espeak-ng did not start with its data in {self._data} (status {rate_hz}); "
                "reinstall it with: pip install --force-reinstall espeakng-loader"
            )
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        library.espeak_ng_SetRandSeed(1)
        return library

    def _unload(self, library: ctypes.CDLL) -> None:
        library.espeak_Terminate()
        _close(library._handle)
        if _is_loaded(self._library):
            raise DataError(
                "espeak-ng cannot be unloaded on this system, so its speech would depend on what was said "
                "before; use another corpus here"
            )

    @staticmethod
    def _check(status: int, what: str) -> None:
        if status != _OK:
            raise DataError(
                f"espeak-ng refused {what} (status {status}); "
                "reinstall it with: pip install --force-reinstall espeakng-loader"
            )


def _close(handle: int) -> None:
    import _ctypes

    if sys.platform == "win32":
        _ctypes.FreeLibrary(handle)
    else:
        _ctypes.dlclose(handle)


def _is_loaded(library: Path) -> bool:
    """Return whether a library is still in memory, where the system can tell."""
    if sys.platform == "win32":
        return False
    try:
        resident = ctypes.CDLL(str(library), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return False
    _close(resident._handle)
    return True
