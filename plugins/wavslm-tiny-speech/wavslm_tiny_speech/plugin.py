"""Entry point: registers the corpus."""

from __future__ import annotations

from wavslm_core.parts.hooks import Register
from wavslm_core.parts.plugins import hookimpl
from wavslm_tiny_speech.config import TinySpeechConfig


@hookimpl
def register_corpora(register: Register) -> None:
    register(TinySpeechConfig, "wavslm_tiny_speech.corpus:TinySpeech")
