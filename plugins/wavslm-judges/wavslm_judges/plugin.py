"""Registers the metrics `dnsmos`, `word_error` and `vocabulary`."""

from __future__ import annotations

from wavslm_core.plugin import Register, hookimpl
from wavslm_judges.config import DnsmosConfig, VocabularyConfig, WordErrorConfig


@hookimpl
def register_metrics(register: Register) -> None:
    register(DnsmosConfig, "wavslm_judges.dnsmos:Dnsmos")
    register(WordErrorConfig, "wavslm_judges.word_error:WordError")
    register(VocabularyConfig, "wavslm_judges.vocabulary:Vocabulary")
