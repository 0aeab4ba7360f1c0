"""Sweeps as a user runs and watches them: several at once, stopped when behind, chosen by optuna, retried."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROLES, Command, Start, until
from wavslm_core.parts.registry import Registry
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.trial_state import read_trials

Opened = Callable[..., SweepFolder]
States = Callable[[], list[str]]
pytestmark = pytest.mark.slow

HEAD = "name: one\nstages: [{run: descend}]\n" + "".join(f"{role}: {{name: fake}}\n" for role in ROLES)


def write(folder: Path, text: str) -> None:
    (folder / "r.yaml").write_text(text)


@pytest.fixture
def opened(tmp_path: Path, example_registry: Registry) -> Opened:
    """Open the one sweep that there is."""

    def call(folder: Path = tmp_path) -> SweepFolder:
        (found,) = (folder / "runs").glob("one-sweep-*")
        return SweepFolder.open(found, registry=example_registry)

    return call


@pytest.fixture
def states(opened: Opened) -> States:
    """Return how its trials do."""
    return lambda: [trial.state for trial in read_trials(opened()).runs]


def study_of(sweep: SweepFolder) -> Any:
    optuna = pytest.importorskip("optuna")
    file = optuna.storages.journal.JournalFileBackend(str(sweep.path / "optuna.journal"))
    return optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(file))


def test_several_at_once(tmp_path: Path, command: Command, opened: Opened, states: States) -> None:
    write(
        tmp_path,
        HEAD + "launch: {process: child}\nsweep: {grid: {stages.descend.floor: [3, 1, 2]}, max_parallel: 2, "
        "metric: valid.loss}\n",
    )
    done = command("run", "r.yaml")
    started = [line for line in done.stdout.splitlines() if "started, log" in line]
    assert len(started) == 3
    # The third has to wait until one of the first two has ended.
    assert done.stdout.index(": ended") < done.stdout.index("trial 3: started")
    assert states() == ["finished"] * 3
    assert "| **1** | **1** | **2.218** | **finished** |" in done.stdout
    log = opened().path / "logs" / "2.txt"
    assert "stage descend: finished" in log.read_text()
    command("run", "r.yaml")
    assert "stage descend: running" not in log.read_text().partition("finished before")[2]


@pytest.mark.parametrize("how", ["Ctrl-C", "sweep stop", "hang up"])
def test_a_stop_reaches_every_child(
    how: str, tmp_path: Path, start: Start, command: Command, states: States
) -> None:
    write(
        tmp_path,
        "name: one\nstages: [{run: count, pause_s: 0.05, steps: 2000}]\nlaunch: {process: child}\n"
        "sweep: {seeds: [0, 1, 2], max_parallel: 2}\n",
    )
    process = start("run", "r.yaml")
    until("two trials", lambda: len([*tmp_path.glob("runs/one-*/count.txt")]) == 2, process)
    watched = command("main", "sweep", "status", "r.yaml")
    assert "2 running, 1 new" in watched.stdout
    if how == "sweep stop":
        stopped = command("main", "sweep", "stop", "r.yaml")
        assert "asked to save and to end: trial 1, 2" in stopped.stdout
    else:
        process.send_signal(signal.SIGINT if how == "Ctrl-C" else signal.SIGHUP)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted; to continue: wavslm-run r.yaml" in errors
    assert output.count(": interrupted") == 2
    assert states() == ["interrupted", "interrupted", "new"]
    if how != "Ctrl-C":
        # They go on alike.
        return
    for counted in tmp_path.glob("runs/one-*/count.txt"):
        (counted.parent / "hurry").touch()
    (waiting,) = (p.parent for p in tmp_path.glob("runs/one-*seed-2-*/recipe.yaml"))
    (waiting / "hurry").touch()
    command("run", "r.yaml")
    for counted in tmp_path.glob("runs/one-*/count.txt"):
        assert counted.read_text().split() == [str(step) for step in range(2000)]


def test_trials_that_are_behind_stop_and_can_be_resumed(
    tmp_path: Path, command: Command, opened: Opened, states: States
) -> None:
    write(
        tmp_path,
        HEAD + "sweep:\n  grid: {stages.descend.floor: [1, 2, 3, 4, 5]}\n  metric: valid.loss\n"
        "  prune: {after_steps: 10, min_trials: 3}\n",
    )
    done = command("run", "r.yaml")
    assert "trial 3: stopped during descend, being behind others" in done.stdout
    assert states() == ["finished", "finished", "pruned", "pruned", "pruned"]
    sweep = opened()
    third = sweep.run_dir(sweep.entries()[2])
    assert third is not None
    note = json.loads((third / "pruned.json").read_text())
    assert (note["stage"], note["step"]) == ("descend", 10)
    assert "5.575 so far" in done.stdout
    # The same command leaves them alone; asked for by its number, one goes on to its end.
    again = command("run", "r.yaml")
    assert again.stdout.count("stopped before, being behind") == 3
    assert "stage descend: running" not in again.stdout
    command("main", "sweep", "retry", str(sweep.path), "4")
    assert states() == ["finished", "finished", "pruned", "finished", "pruned"]
    assert command("run", "r.yaml").stdout.count("stopped before, being behind") == 2
    shown = command("main", "sweep", "status", str(sweep.path))
    assert "descend, step 10" in shown.stdout
    assert "3 finished, 2 pruned" in shown.stdout
    assert "best so far: trial 1 (floor 1), 2.218" in shown.stdout
    # A trial that is run by itself is compared with no other; without the rule, none is.
    command("run", str(third / "recipe.yaml"))
    assert states() == ["finished"] * 4 + ["pruned"]
    command("run", "r.yaml", "sweep.prune=null")
    assert states() == ["finished"] * 5


def test_failed_trials_are_shown_and_run_again_alone(
    tmp_path: Path, command: Command, opened: Opened, states: States
) -> None:
    write(
        tmp_path,
        HEAD + "sweep:\n  metric: valid.loss\n  trials:\n    - {label: slow, stages.descend.rate: 0.01}\n"
        "    - {label: bad, stages: [{run: descend}, {run: break}]}\n"
        "    - {label: bug, stages: [{run: descend, floor: 2}, {run: break, how: bug}]}\n"
        "    - {label: quick}\n",
    )
    command("main", "sweep", "status", "r.yaml", code=2)
    command("run", "r.yaml", code=1)
    shown = command("main", "sweep", "status", "r.yaml")
    assert "the shelf is empty. Put something on it." in shown.stdout
    assert "RuntimeError: a wheel came off" in shown.stdout
    assert "2 finished, 2 failed" in shown.stdout
    results = command("main", "sweep", "results", "r.yaml")
    rows = [line for line in results.stdout.splitlines() if line.startswith("|")]
    assert [row.split("|")[2].strip(" *") for row in rows[2:6]] == ["quick", "slow", "bad", "bug"]
    assert "failed: the shelf is empty" in rows[4]
    sweep = opened()
    refused = command("main", "sweep", "retry", str(sweep.path), "1", code=2)
    assert "trial 1 is finished: only one that has stopped can be run again" in refused.stderr
    assert "has no trial 9" in command("main", "sweep", "retry", str(sweep.path), "9", code=2).stderr
    # What it lacked is there now: as if a shelf had been filled.
    bad = sweep.run_dir(sweep.entries()[1])
    assert bad is not None
    document = json.loads((bad / "stages.json").read_text())
    document["break"] = {"status": "finished", "started": "", "seconds": 0.0}
    (bad / "stages.json").write_text(json.dumps(document))
    assert states() == ["finished", "finished", "failed", "finished"]
    retried = command("main", "sweep", "retry", str(sweep.path), code=1)
    assert "1 of 4 trials failed" in retried.stderr
    assert "trial 3 of 4: bug" in retried.stdout
    assert "trial 2" not in retried.stdout


def test_a_trial_that_was_killed_says_so(
    tmp_path: Path, command: Command, opened: Opened, states: States
) -> None:
    write(
        tmp_path,
        "name: one\nstages: [{run: break, how: killed}]\nlaunch: {process: child}\n"
        "sweep: {seeds: [0, 1], max_parallel: 2}\n",
    )
    done = command("run", "r.yaml", code=2)
    assert "ended during break without a word: killed, or out of memory?" in done.stderr
    assert states() == ["failed", "failed"]


def test_a_folder_that_is_no_sweep(tmp_path: Path, command: Command) -> None:
    assert (
        "is no sweep: it has no sweep.yaml"
        in command("main", "sweep", "status", str(tmp_path), code=2).stderr
    )


def optuna_recipe(trials: int, **more: str) -> str:
    extra = "".join(f"  {key}: {value}\n" for key, value in more.items())
    return HEAD + (
        "sweep:\n  sampler: optuna\n  metric: valid.loss\n  grid: {head.chunk_tokens: [4, 8]}\n"
        f"  random: {{stages.descend.floor: {{uniform: [1, 9]}}, trials: {trials}}}\n{extra}"
    )


def test_optuna_chooses_and_goes_on_where_it_stopped(
    tmp_path: Path, command: Command, opened: Opened, states: States
) -> None:
    pytest.importorskip("optuna")
    write(tmp_path, optuna_recipe(12))
    dry = command("run", "r.yaml", "--dry-run")
    assert "12 trials, each chosen by the results of those before" in dry.stdout
    assert not (tmp_path / "runs").exists()
    assert "ok, 12 trials, chosen while they run" in command("main", "recipe", "check", "r.yaml").stdout
    command("run", "r.yaml", "sweep.random.trials=3")
    done = command("run", "r.yaml")
    assert done.stdout.count("finished before") == 3
    sweep = opened()
    study = study_of(sweep)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 12
    values = [result["value"] for result in json.loads((sweep.path / "results.json").read_text())["results"]]
    assert sorted(trial.value for trial in study.trials) == pytest.approx(sorted(values))
    assert study.best_value == pytest.approx(min(values))
    # The last choices are better than the first, random ones.
    floors = [entry.settings["stages.descend.floor"] for entry in sweep.entries()]
    assert len(set(floors)) == 12
    assert min(floors[10:]) < sum(floors[:10]) / 10
    again = tmp_path / "again"
    again.mkdir()
    write(again, optuna_recipe(3))
    command("run", str(again / "r.yaml"), "--runs-dir", str(again / "runs"))
    chosen = opened(again)
    assert [entry.settings["stages.descend.floor"] for entry in chosen.entries()] == floors[:3]


def test_optuna_prunes(tmp_path: Path, command: Command, opened: Opened, states: States) -> None:
    pytest.importorskip("optuna")
    write(tmp_path, optuna_recipe(14, prune="{after_steps: 5, min_trials: 3}"))
    command("run", "r.yaml")
    sweep = opened()
    kinds = [trial.state for trial in read_trials(sweep).runs]
    assert set(kinds) == {"finished", "pruned"}
    study = study_of(sweep)
    names = {"finished": "COMPLETE", "pruned": "PRUNED"}
    for entry, kind in zip(sweep.entries(), kinds, strict=True):
        assert entry.study_number is not None
        trial = study.trials[entry.study_number]
        assert trial.state.name == names[kind]
        assert trial.user_attrs["trial"] == entry.number
        assert min(trial.intermediate_values) == 5


def test_processes_share_a_study(tmp_path: Path, command: Command, opened: Opened, states: States) -> None:
    pytest.importorskip("optuna")
    write(tmp_path, optuna_recipe(4, max_parallel="2") + "launch: {process: child}\n")
    command("run", "r.yaml")
    sweep = opened()
    assert sorted(entry.study_number or 0 for entry in sweep.entries()) == [0, 1, 2, 3]
    assert len({entry.run for entry in sweep.entries()}) == 4
    assert [trial.state.name for trial in study_of(sweep).trials] == ["COMPLETE"] * 4


def test_without_optuna_the_message_says_how_to_get_it(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    write(tmp_path, optuna_recipe(2))
    done = command("run", "r.yaml", code=2)
    assert "pip install 'wavslm-core[optuna]'" in done.stderr
