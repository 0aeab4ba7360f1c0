import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavslm_core.data.audio_files import proven_info, read_samples
from wavslm_core.data.chatter import without_chatter
from wavslm_core.machine.progress import Reporter
from wavslm_core.machine.terminal import new_console


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """An MP3 that libmpg123 complains about while it is decoded."""
    path = tmp_path / "damaged.mp3"
    soundfile.write(path, 0.2 * np.random.default_rng(0).standard_normal(32000), 16000)
    data = bytearray(path.read_bytes())
    begin = data.index(data[:2], 200)
    for at in range(begin + 40, len(data) - 200, 200):
        data[at : at + 12] = bytes(12) if data.find(data[:2], at, at + 12) < 0 else data[at : at + 12]
    path.write_bytes(data)
    return path


def test_reading_a_damaged_file_leaves_nothing_on_standard_error(
    damaged: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    soundfile.read(damaged)
    assert "libmpg123" in capfd.readouterr().err
    info = proven_info(damaged)
    read_samples(damaged)
    read_samples(damaged, start=1000, samples=8000, info=info)
    assert capfd.readouterr().err == ""


def test_what_others_write_meanwhile_arrives_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    with without_chatter():
        os.write(2, b"one\n")
        os.write(2, b"[src/libmpg123/layer3.c:f():1] error: no\n")
        with without_chatter():
            os.write(2, b"two\nNote: of ours\n\nWarning: Big change (MPEG version, layer, rate). Frank?\n")
        os.write(2, b"three without an end")
    os.write(2, b", four\n")
    assert capfd.readouterr().err == "one\ntwo\nNote: of ours\nthree without an end, four\n"


def test_many_threads_leave_standard_error_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    before = os.fstat(2)

    def work(number: int) -> None:
        for turn in range(50):
            with without_chatter():
                os.write(2, f"{number} {turn}\n".encode())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (os.fstat(2).st_dev, os.fstat(2).st_ino) == (before.st_dev, before.st_ino)
    lines = capfd.readouterr().err.splitlines()
    assert sorted(lines) == sorted(f"{number} {turn}" for number in range(8) for turn in range(50))


def test_a_bar_on_a_terminal_stays_one_while_an_mp3_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, line = os.openpty()
    before = os.dup(2)
    os.dup2(line, 2)
    try:
        with open(2, "w", closefd=False) as stream:
            monkeypatch.setattr(sys, "stderr", stream)
            with Reporter().steps("train", total=3) as progress, without_chatter():
                assert not stream.isatty()
                assert new_console(stderr=True).is_terminal is False
                progress.update(1, loss=0.5)
            stream.flush()
        written = os.read(terminal, 1 << 16).decode()
    finally:
        os.dup2(before, 2)
        for descriptor in (terminal, line, before):
            os.close(descriptor)
    # Drawn over itself, not line after line, as on what is no terminal.
    assert "train" in written
    assert "\x1b[2K" in written


def test_a_process_without_standard_error_reads_all_the_same(damaged: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; os.close(2)\n"
        "from wavslm_core.data.audio_files import proven_info\n"
        "print(proven_info(Path(sys.argv[1])).samples)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(damaged)], check=True, capture_output=True, text=True
    )
    assert done.stdout == "32000\n"
