"""The cluster of the tests is a real one: several nodes, requeueing preemption, accounting."""

import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

from tests.slurm.cluster import Cluster
from tests.support import run_program, until

REPO = Path(__file__).resolve().parents[2]


def test_job_spans_nodes(slurm: Cluster, tmp_path: Path) -> None:
    job = slurm.submit("srun bash -c 'echo $SLURMD_NODENAME $SLURM_PROCID'", "--nodes=2", folder=tmp_path)
    slurm.wait(job, "COMPLETED")
    words = (tmp_path / f"{job}.log").read_text().split()
    nodes, ranks = words[0::2], words[1::2]
    assert len(set(nodes)) == 2
    assert set(nodes) <= set(slurm.nodes)
    assert sorted(ranks) == ["0", "1"]


def test_gpus_are_handed_out(slurm: Cluster, tmp_path: Path) -> None:
    job = slurm.submit("echo $SLURM_GPUS_ON_NODE", "--gpus-per-node=2", folder=tmp_path)
    slurm.wait(job, "COMPLETED")
    assert (tmp_path / f"{job}.log").read_text() == "2\n"


def test_higher_partition_preempts_with_users_signal_and_requeues(slurm: Cluster, tmp_path: Path) -> None:
    script = (
        "trap 'echo signalled; exit 0' USR2; echo started $SLURM_RESTART_COUNT\n"
        "while true; do sleep 0.2; done"
    )
    node = ("--nodelist=node1", "--cpus-per-task=2")
    low = slurm.submit(
        script, *node, "--signal=B:USR2@60", "--open-mode=append", "--requeue", folder=tmp_path
    )
    log = tmp_path / f"{low}.log"
    until("the first job", lambda: log.exists() and "started" in log.read_text(), seen=slurm.status)
    high = slurm.submit("sleep 1", *node, "--partition=high", folder=tmp_path)
    slurm.wait(high, "COMPLETED")
    assert "signalled" in log.read_text()


def test_accounting_remembers_states(slurm: Cluster, tmp_path: Path) -> None:
    good = slurm.submit("true", folder=tmp_path)
    bad = slurm.submit("exit 3", folder=tmp_path)
    slurm.wait(good, "COMPLETED")
    slurm.wait(bad, "FAILED")
    wanted = {f"{good}|COMPLETED|0:0", f"{bad}|FAILED|3:0"}

    def found() -> set[str]:
        listed = slurm.run("sacct", "-X", "-n", "-P", "-o", "JobID,State,ExitCode", "-j", f"{good},{bad}")
        return {*listed.splitlines()}

    until("both in the accounting", lambda: found() == wanted, seen=found, every_s=0.2)


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
