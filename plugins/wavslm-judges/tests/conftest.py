"""Stories with transcripts, which judges are asked about."""

from __future__ import annotations

import pytest

from wavslm_core.data.corpora import Split, open_split
from wavslm_core.recipe.loading import recipe_from_dict


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Split:
    document = {"name": "stories", "data": {"corpus": "tiny_speech", "minutes": 2, "valid_minutes": 0.5}}
    data = recipe_from_dict(document).data
    assert data is not None
    return open_split(data, "train", cache_dir=tmp_path_factory.mktemp("cache"))
