"""Entry point: registers the corpus and its suites."""

from __future__ import annotations

from wavslm_core.plugin import Register, hookimpl
from wavslm_tiny_speech.config import (
    TinySalmonConfig,
    TinySblimpConfig,
    TinySpeechConfig,
    TinyStoryclozeConfig,
    TinySwuggyConfig,
)


@hookimpl
def register_corpora(register: Register) -> None:
    register(TinySpeechConfig, "wavslm_tiny_speech.corpus:TinySpeech")


@hookimpl
def register_suites(register: Register) -> None:
    register(TinySwuggyConfig, "wavslm_tiny_speech.swuggy:TinySwuggy")
    register(TinySblimpConfig, "wavslm_tiny_speech.sblimp:TinySblimp")
    register(TinySalmonConfig, "wavslm_tiny_speech.salmon:TinySalmon")
    register(TinyStoryclozeConfig, "wavslm_tiny_speech.storycloze:TinyStorycloze")
