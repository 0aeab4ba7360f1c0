"""Every suite, in every layout, is held to the contract of its role."""

from pathlib import Path

import pytest

from wavslm_core.testing import contract_tests
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


@pytest.fixture(autouse=True)
def _here(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copies)


TestSalmon = contract_tests(SalmonConfig(path="salmon"))
TestSalmonOfTheHub = contract_tests(SalmonConfig(path="hub_salmon"))
TestSwuggy = contract_tests(SwuggyConfig(path="zerospeech"))
TestSwuggyOfSlamkit = contract_tests(SwuggyConfig(path="slamkit"))
TestSblimp = contract_tests(SblimpConfig(path="zerospeech", label="syntax"))
TestSblimpOfSlamkit = contract_tests(SblimpConfig(path="slamkit"))
TestSblimpOfTheHub = contract_tests(SblimpConfig(path="hub"))
TestSpokenStoryCloze = contract_tests(SpokenStoryClozeConfig(path="stories"))
TestTopicStoryCloze = contract_tests(TopicStoryClozeConfig(path="hub"))
TestProsAudit = contract_tests(ProsAuditConfig(path="prosaudit"))
TestPairs = contract_tests(PairsConfig(path="own/pairs.jsonl", groups=("kind",)))
TestSpeakerConsistency = contract_tests(
    SpeakerConsistencyConfig(path="spoken/speech", speakers="spoken/sexes.tsv", pairs=4)
)
TestSpeakerConsistencyOfACorpus = contract_tests(
    SpeakerConsistencyConfig.model_validate(
        {"corpus": {"corpus": "folder", "path": "spoken/speech", "speaker_separator": "-"}, "split": "train"}
        | {"pairs": 2, "second": "same_utterance"}
    )
)
