"""A copy of every suite in every layout, made once."""

import sys
from pathlib import Path

import pytest

# Tests are imported without their folder on the path; this module is theirs alone.
sys.path.insert(0, str(Path(__file__).parent))

from made_suites import pair_table, parquet, prosaudit, salmon, slamkit, speech, stories, zerospeech

from wavslm_suites.config import SALMON_TASKS


@pytest.fixture(scope="session")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    zerospeech(folder / "zerospeech")
    salmon(folder / "salmon")
    slamkit(folder / "slamkit")
    stories(folder / "stories")
    prosaudit(folder / "prosaudit")
    pair_table(folder / "own")
    speech(folder / "spoken")
    for task in SALMON_TASKS:
        columns = {"positive_audio": [1, 2], "negative_audio": [4, 8], "prompt_audio": [3, 3]}
        parquet(folder / "hub_salmon" / task / "train-00000.parquet", columns)
    parquet(folder / "hub" / "train-00000.parquet", {"positive": [1, 2], "negative": [4, 5]})
    return folder
