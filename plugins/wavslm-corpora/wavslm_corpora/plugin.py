"""Entry point: registers the corpora."""

from wavslm_core.plugin import Register, hookimpl
from wavslm_corpora.config import (
    HubConfig,
    LibriLightConfig,
    LibriSpeechConfig,
    LibriTtsConfig,
    MiniLibriSpeechConfig,
    WebDatasetConfig,
)


@hookimpl
def register_corpora(register: Register) -> None:
    register(LibriSpeechConfig, "wavslm_corpora.libri:Libri")
    register(MiniLibriSpeechConfig, "wavslm_corpora.libri:Libri")
    register(LibriTtsConfig, "wavslm_corpora.libri:Libri")
    register(LibriLightConfig, "wavslm_corpora.libri:Libri")
    register(HubConfig, "wavslm_corpora.hub:Hub")
    register(WebDatasetConfig, "wavslm_corpora.tars:Tars")
