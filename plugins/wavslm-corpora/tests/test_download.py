import hashlib
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from made_corpora import Host

from wavslm_core.errors import DataError
from wavslm_corpora.download import download

DATA = np.random.default_rng(0).bytes(3_000_000)
SHA256 = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
MD5 = f"md5:{hashlib.md5(DATA).hexdigest()}"


def fetch(host: Host, file: Path, *, checksum: str | None = SHA256) -> None:
    download(f"{host.url}/a.tar", file, checksum=checksum, instead="Do this instead")


@pytest.fixture
def file(host: Host, tmp_path: Path) -> Path:
    (host.folder / "a.tar").write_bytes(DATA)
    return tmp_path / "there" / "a.tar"


@pytest.mark.parametrize("checksum", [SHA256, MD5, None])
def test_it_arrives_once(host: Host, file: Path, checksum: str | None) -> None:
    fetch(host, file, checksum=checksum)
    assert file.read_bytes() == DATA
    assert [path.name for path in file.parent.iterdir()] == ["a.tar"]
    fetch(host, file)
    assert host.asked == [("/a.tar", None)]


def test_what_arrived_is_kept_and_the_rest_fetched(host: Host, file: Path) -> None:
    host.break_after, host.answers = 100_000, 2
    with pytest.raises(
        DataError, match=r"[1-9]\d* bytes have arrived and are kept: run again.*Do this instead"
    ):
        fetch(host, file)
    assert not file.exists()
    (partial,) = file.parent.iterdir()
    arrived = partial.stat().st_size
    assert partial.read_bytes() == DATA[:arrived]
    # The library itself goes on where a connection broke, before it gives up.
    assert 100_000 < arrived <= 200_000
    host.break_after = host.answers = None
    host.asked.clear()
    fetch(host, file)
    assert host.asked == [("/a.tar", f"bytes={arrived}-")]
    assert file.read_bytes() == DATA


def test_a_server_without_ranges_starts_over(host: Host, file: Path) -> None:
    file.parent.mkdir()
    file.with_name("a.tar.partial").write_bytes(DATA[:1000])
    host.ranges = False
    fetch(host, file)
    assert file.read_bytes() == DATA


def test_stopped_between_the_last_byte_and_the_check(host: Host, file: Path) -> None:
    file.parent.mkdir()
    file.with_name("a.tar.partial").write_bytes(DATA)
    fetch(host, file)
    assert file.read_bytes() == DATA
    assert host.asked == [("/a.tar", f"bytes={len(DATA)}-")]


@pytest.mark.parametrize("checksum", [SHA256, None])
def test_a_longer_rest_of_another_content_is_not_the_file(
    host: Host, file: Path, checksum: str | None
) -> None:
    file.parent.mkdir()
    file.with_name("a.tar.partial").write_bytes(b"x" * (len(DATA) + 10))
    fetch(host, file, checksum=checksum)
    assert file.read_bytes() == DATA
    assert host.asked == [("/a.tar", f"bytes={len(DATA) + 10}-"), ("/a.tar", None)]


@pytest.mark.parametrize("checksum", [SHA256, MD5])
def test_another_content_is_refused_and_deleted(host: Host, file: Path, checksum: str) -> None:
    (host.folder / "a.tar").write_bytes(DATA[:-1] + b"x")
    with pytest.raises(DataError, match=r"is not the file that is expected.*run again.*data.checksums"):
        fetch(host, file, checksum=checksum)
    assert list(file.parent.iterdir()) == []


@pytest.mark.parametrize("status", [404, 403, 500])
def test_what_the_server_refuses(host: Host, file: Path, status: int) -> None:
    host.status = status
    with pytest.raises(DataError, match=f"the server answers {status}. Do this instead"):
        fetch(host, file)
    assert not file.exists()


def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.tar"
    with pytest.raises(DataError, match=r"cannot be downloaded: .*Connect.*Do this instead"):
        download(url, tmp_path / "a.tar", checksum=None, instead="Do this instead")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(host: Host, file: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot write"):
        fetch(host, file)


def test_a_place_that_is_a_file(host: Host, file: Path) -> None:
    file.parent.write_text("x")
    with pytest.raises(DataError, match="cannot write"):
        fetch(host, file)


def test_nothing_is_downloaded_through_a_link(host: Host, file: Path, tmp_path: Path) -> None:
    file.parent.mkdir()
    file.with_name("a.tar.partial").symlink_to(tmp_path / "made")
    with pytest.raises(DataError, match=r"a\.tar\.partial is a link"):
        fetch(host, file)
    assert not (tmp_path / "made").exists()
