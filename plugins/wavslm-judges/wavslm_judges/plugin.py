"""Registers the metrics `dnsmos` and `word_error`."""

from __future__ import annotations

from wavslm_core.plugin import Register, hookimpl
from wavslm_judges.config import DnsmosConfig, WordErrorConfig


@hookimpl
def register_metrics(register: Register) -> None:
    register(DnsmosConfig, "wavslm_judges.dnsmos:Dnsmos")
    register(WordErrorConfig, "wavslm_judges.word_error:WordError")
