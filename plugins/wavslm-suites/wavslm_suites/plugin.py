"""Entry point: registers the suites."""

from wavslm_core.plugin import Register, hookimpl
from wavslm_suites.config import (
    PairsConfig,
    ProsAuditConfig,
    SalmonConfig,
    SblimpConfig,
    SpeakerConsistencyConfig,
    SpokenStoryClozeConfig,
    SwuggyConfig,
    TopicStoryClozeConfig,
)


@hookimpl
def register_suites(register: Register) -> None:
    register(SalmonConfig, "wavslm_suites.salmon:Salmon")
    register(SwuggyConfig, "wavslm_suites.zerospeech:Swuggy")
    register(SblimpConfig, "wavslm_suites.zerospeech:Sblimp")
    register(SpokenStoryClozeConfig, "wavslm_suites.story_cloze:SpokenStoryCloze")
    register(TopicStoryClozeConfig, "wavslm_suites.story_cloze:TopicStoryCloze")
    register(ProsAuditConfig, "wavslm_suites.prosaudit:ProsAudit")
    register(PairsConfig, "wavslm_suites.pair_table:PairTable")
    register(SpeakerConsistencyConfig, "wavslm_suites.speaker_consistency:SpeakerConsistency")
