"""What sbatch is given, and what its refusals come to; tests/slurm hands real jobs to a real one."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import fake_programs
from wavslm_core.errors import WavslmError
from wavslm_core.launch.job import RunJob, port_of
from wavslm_core.launch.launchers import launcher_for
from wavslm_core.launch.slurm import script_text, submit
from wavslm_core.parts import plugins
from wavslm_core.parts.plugins import Loaded
from wavslm_core.recipe.launch_block import SlurmLaunch
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.folder import prepare_run_folder
from wavslm_core.run.records import JOBS_FILE, read_jobs

LAUNCH = SlurmLaunch(partition="gpu", cpus_per_task=4)


programs = partial(fake_programs, srun="exit 0")


def refused(folder: Path, *, count: int = 1) -> str:
    jobs = [RunJob(str(folder / "recipe.yaml"))] * count
    with pytest.raises(WavslmError) as caught:
        submit(jobs, LAUNCH, folder, name="one", at_once=2)
    return str(caught.value)


@pytest.mark.parametrize(("extra", "sent"), [({}, []), ({"wckey": False}, []), ({"wckey": "mine"}, ["mine"])])
def test_a_wckey_is_sent_when_it_is_asked_for(tmp_path: Path, extra: dict[str, Any], sent: list[str]) -> None:
    assert (
        re.findall("--wckey(?:=(.*))?", script_text(SlurmLaunch(extra=extra), tmp_path, name="one")) == sent
    )


def test_sbatch_that_refuses_without_a_word_is_told_with_what_it_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path, monkeypatch, sbatch="exit 7")
    said = refused(tmp_path)
    assert said.startswith("sbatch refuses the job: it gives no reason, only exit code 7. It was asked for ")
    assert all(word in said for word in ("cpus-per-task=4", "partition=gpu", "time=1440", "sinfo"))
    assert "output" not in said


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("Batch job submission failed: Invalid job array specification", "MaxArraySize"),
        (
            "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size "
            "and/or time limits)",
            "every task of an array counts",
        ),
        ("QOSMaxSubmitJobPerUserLimit", "every task of an array counts"),
        ("AssocMaxSubmitJobLimit", "every task of an array counts"),
        ("invalid partition specified: gpu", "launch.partition names one"),
        ("Invalid account or account/partition combination specified", "sacctmgr show assoc"),
        ("Batch job submission failed: Requested node configuration is not available", "Ask for less"),
        ("Invalid wckey specification", "launch.extra={wckey: NAME}"),
    ],
)
def test_what_sbatch_says_comes_with_what_to_do(
    words: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path, monkeypatch, sbatch=f"echo 'sbatch: error: {words.replace(chr(39), '')}' >&2; exit 1")
    said = refused(tmp_path)
    assert f"sbatch refuses the job: {words.replace(chr(39), '')}. It was asked for" in said
    assert hint in said


def test_an_array_that_is_refused_for_no_known_reason_hints_at_the_limits_of_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path, monkeypatch, sbatch="echo 'sorry' ; exit 1")
    said = refused(tmp_path, count=3)
    assert "sbatch refuses the array of 3 jobs: sorry. It was asked for array=0-2%2, " in said
    assert "MaxArraySize" in said
    assert "maxsubmitjobsperuser" in said


def test_each_job_is_recorded_before_the_next_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example_loaded: Loaded
) -> None:
    monkeypatch.setattr(plugins, "load", lambda: example_loaded)
    stages = [{"run": "count"}, {"run": "count", "launch": {"memory_gb": 0.5}}]
    document = {"name": "one", "stages": stages, "launch": {"on": "slurm"}}
    run_dir = prepare_run_folder(resolve(recipe_from_dict(document)), tmp_path)
    seen = tmp_path / "seen"
    count = f"(grep -o job_id {run_dir / JOBS_FILE} 2>/dev/null || true) | wc -l >>{seen}"
    programs(tmp_path, monkeypatch, sbatch=f"{count}; echo Submitted batch job $(wc -l <{seen})")
    outcome = launcher_for(SlurmLaunch()).launch(run_dir, lambda line: None)
    assert outcome.status == "submitted"
    assert seen.read_text().split() == ["0", "1"]
    assert [(job.job_id, job.depends_on) for job in read_jobs(run_dir)] == [("1", ()), ("2", ("1",))]


def test_a_cluster_without_sbatch_here_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "sbatch cannot be run: No such file or directory" in refused(tmp_path)


def test_jobs_of_two_runs_do_not_meet_and_ports_are_nobody_s() -> None:
    one, other = Path("/runs/one"), Path("/runs/other")
    ports = {port_of(run, str(job)) for run in (one, other) for job in range(1, 101)}
    assert len(ports) >= 195
    assert min(ports) >= 1024
    assert max(ports) < 32768
    assert port_of(one, "7") == port_of(one, "7") != port_of(other, "7")
