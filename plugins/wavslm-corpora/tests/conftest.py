import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests are imported without their folder on the path; this module is theirs alone.
sys.path.insert(0, str(Path(__file__).parent))

from made_corpora import Host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    folder = tmp_path / "host"
    folder.mkdir()
    server = Host(folder)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library waits between tries and keeps 10 MB at a time; the tests' files are smaller."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 14)

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
