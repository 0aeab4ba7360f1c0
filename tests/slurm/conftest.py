"""One real SLURM for a process of pytest, ended with it.

Each worker of pytest-xdist has its own: starting one takes three seconds, and no test then waits for a node
that another worker drained, or is preempted by its jobs.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.packages import CannotRunSlurm

FOLDERS = Path(tempfile.gettempdir())
PREFIX = "wavslm-slurm-tests-"
"""Followed by the process that started it, and when that process began."""


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[Cluster]:
    """A running cluster of three nodes with two CPUs each."""
    _remove_left_behind()
    cluster = Cluster(FOLDERS / f"{PREFIX}{os.getpid()}-{_began(os.getpid())}")
    try:
        try:
            cluster.start()
        except CannotRunSlurm as error:
            pytest.skip(str(error))
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def slurm(slurm_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, without jobs or drained nodes of other modules."""
    yield slurm_cluster
    slurm_cluster.clear()


@pytest.fixture(autouse=True)
def _find_cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands and submitit in this process find the cluster, while a test that uses it runs."""
    if "slurm" in request.fixturenames:
        for name, value in request.getfixturevalue("slurm").exports.items():
            monkeypatch.setenv(name, value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "slurm" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slurm)


def _began(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _remove_left_behind() -> None:
    """End the clusters of tests that were killed."""
    for folder in FOLDERS.glob(f"{PREFIX}*-*"):
        pid, began = folder.name.removeprefix(PREFIX).split("-")
        if _began(int(pid)) != began:
            Cluster(folder).stop()
