"""Entry point: registers the corpus."""

from __future__ import annotations

from wavslm_core.plugin import Register, hookimpl
from wavslm_tiny_speech.config import TinySpeechConfig


@hookimpl
def register_corpora(register: Register) -> None:
    register(TinySpeechConfig, "wavslm_tiny_speech.corpus:TinySpeech")
