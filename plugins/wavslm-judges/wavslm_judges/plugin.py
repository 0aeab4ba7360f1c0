"""Registers the metrics: ratings, likeness of speakers, words and what they say, levels."""

from __future__ import annotations

from wavslm_core.plugin import Register, hookimpl
from wavslm_judges.config import (
    AutoBleuConfig,
    DnsmosConfig,
    LoudnessConfig,
    PerplexityConfig,
    ResemblyzerConfig,
    SilenceConfig,
    TypeTokenRatioConfig,
    UtmosConfig,
    VocabularyConfig,
    WavlmSvConfig,
    WordErrorConfig,
)


@hookimpl
def register_metrics(register: Register) -> None:
    register(DnsmosConfig, "wavslm_judges.dnsmos:Dnsmos")
    register(UtmosConfig, "wavslm_judges.utmos:Utmos")
    register(WavlmSvConfig, "wavslm_judges.speakers:WavlmSv")
    register(ResemblyzerConfig, "wavslm_judges.speakers:Resemblyzer")
    register(WordErrorConfig, "wavslm_judges.word_error:WordError")
    register(VocabularyConfig, "wavslm_judges.vocabulary:Vocabulary")
    register(PerplexityConfig, "wavslm_judges.transcripts:Perplexity")
    register(AutoBleuConfig, "wavslm_judges.transcripts:AutoBleu")
    register(TypeTokenRatioConfig, "wavslm_judges.transcripts:TypeTokenRatio")
    register(SilenceConfig, "wavslm_judges.levels:Silence")
    register(LoudnessConfig, "wavslm_judges.levels:Loudness")
