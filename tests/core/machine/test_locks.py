import logging
import subprocess
import sys
from pathlib import Path

import pytest

from wavslm_core.errors import DataError
from wavslm_core.machine import locks as exclusive
from wavslm_core.machine.locks import one_at_a_time

HOLDER = (
    "import sys\nfrom pathlib import Path\nfrom wavslm_core.machine.locks import one_at_a_time\n"
    "with one_at_a_time(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n    sys.stdin.readline()\n    Path(sys.argv[2]).write_text('done')\n"
)


@pytest.mark.parametrize("killed", [False, True])
def test_others_wait_and_are_told(
    tmp_path: Path, killed: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until the holder is done, or was killed."""
    monkeypatch.setattr(exclusive, "PATIENCE_SECONDS", 0.1)
    lock, result = tmp_path / "deep" / ".thing.lock", tmp_path / "result"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock), str(result)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"

    class LetGo(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert not result.exists()
            if killed:
                holder.kill()
            else:
                holder.stdin.write("go\n")  # type: ignore[union-attr]
                holder.stdin.flush()  # type: ignore[union-attr]

    handler = LetGo()
    exclusive.LOGGER.addHandler(handler)
    try:
        with one_at_a_time(lock):
            assert result.exists() is not killed
    finally:
        exclusive.LOGGER.removeHandler(handler)
        holder.kill()
        holder.wait()
    assert "waiting for another process that is making thing" in caplog.text


def test_without_locks_the_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unsupported)
    ran = []
    with one_at_a_time(tmp_path / "x.lock"):
        ran.append(1)
    assert ran == [1]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot write"), one_at_a_time(tmp_path / "file" / "x.lock"):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "x.lock").symlink_to(tmp_path / "made")
    with pytest.raises(DataError, match=r"x\.lock is a link"), one_at_a_time(tmp_path / "x.lock"):
        pass
    assert not (tmp_path / "made").exists()
