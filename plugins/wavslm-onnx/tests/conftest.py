"""A small model of the reference parts with 64 codes."""

from collections.abc import Callable

import pytest

from wavslm_core.model.speech_lm import SpeechLM


@pytest.fixture(scope="module")
def model(build_model: Callable[..., SpeechLM]) -> SpeechLM:
    return build_model(codebook_size=64)
