"""The cluster of the tests leaves nothing behind; that it is a real one, jobs show."""

import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

from tests.slurm.cluster import Cluster
from tests.support import run_program

REPO = Path(__file__).resolve().parents[2]


def test_left_behind_cluster_is_recognised_and_ended(tmp_path: Path) -> None:
    """A session that was killed leaves daemons; the next ends them."""
    session = tmp_path / "test_hangs.py"
    session.write_text(
        "import os, signal\n"
        "from tests.slurm.conftest import *\n"
        "def test_dies(slurm):\n"
        "    print('FOLDER', slurm.folder, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = ["-m", "pytest", "-s", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", session]
    run = partial(
        run_program, sys.executable, *command, env={**os.environ, "PYTHONPATH": str(REPO)}, cwd=tmp_path
    )
    done = run(code=-signal.SIGKILL)
    found = re.search(r"FOLDER (\S+)", done.stdout)
    assert found, done.stdout + done.stderr
    left = Cluster(Path(found[1]))
    assert left.running()

    session.write_text(
        "from pathlib import Path\n"
        "from tests.slurm.conftest import *\n"
        f"def test_is_gone(slurm):\n    assert not Path({found[1]!r}).exists()\n"
    )
    run()
    assert not left.running()
