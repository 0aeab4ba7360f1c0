"""wavslm: train, evaluate, run and change single-stream speech language models.

All of `__all__` is imported when first used, so that `import wavslm_core` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavslm_core.model.codec import Codec
    from wavslm_core.model.speech_lm import SpeechLM
    from wavslm_core.recipe.loading import load_recipe
    from wavslm_core.recipe.model import Recipe

__all__ = ["Codec", "Recipe", "SpeechLM", "load_recipe"]

_HOMES = {
    "Codec": "wavslm_core.model.codec",
    "Recipe": "wavslm_core.recipe.model",
    "SpeechLM": "wavslm_core.model.speech_lm",
    "load_recipe": "wavslm_core.recipe.loading",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'wavslm_core' has no attribute '{name}'")
