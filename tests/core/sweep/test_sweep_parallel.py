"""Sweeps as a user runs and watches them: several at once, stopped when behind, chosen by optuna, retried."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import until
from wavslm_core.parts.registry import Registry
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.trial_state import read_trials

pytestmark = pytest.mark.slow

ROLES = ("encoder", "quantizer", "decoder", "backbone", "head", "sampler")
HEAD = "name: one\nstages: [{run: descend}]\n" + "".join(f"{role}: {{name: fake}}\n" for role in ROLES)


def write(folder: Path, text: str) -> None:
    (folder / "r.yaml").write_text(text)


def opened(folder: Path, registry: Registry) -> SweepFolder:
    (found,) = (folder / "runs").glob("one-sweep-*")
    return SweepFolder.open(found, registry=registry)


def states(folder: Path, registry: Registry) -> list[str]:
    sweep = opened(folder, registry)
    return [trial.state for trial in read_trials(sweep).runs]


def document(folder: Path) -> dict[str, Any]:
    (found,) = (folder / "runs").glob("one-sweep-*")
    return dict(json.loads((found / "results.json").read_text()))


def test_several_at_once(tmp_path: Path, command: Callable[..., Any], example_registry: Registry) -> None:
    write(
        tmp_path,
        HEAD + "launch: {process: child}\nsweep: {grid: {stages.descend.floor: [3, 1, 2]}, max_parallel: 2, "
        "metric: valid.loss}\n",
    )
    done = command("run", "r.yaml")
    assert done.returncode == 0, done.stderr
    started = [line for line in done.stdout.splitlines() if "started, log" in line]
    assert len(started) == 3
    # The third has to wait until one of the first two has ended.
    assert done.stdout.index(": ended") < done.stdout.index("trial 3: started")
    assert states(tmp_path, example_registry) == ["finished"] * 3
    assert "| **1** | **1** | **2.218** | **finished** |" in done.stdout
    log = opened(tmp_path, example_registry).path / "logs" / "2.txt"
    assert "stage descend: finished" in log.read_text()
    again = command("run", "r.yaml")
    assert again.returncode == 0
    assert "stage descend: running" not in log.read_text().partition("finished before")[2]


@pytest.mark.parametrize("how", ["Ctrl-C", "sweep stop", "hang up"])
def test_a_stop_reaches_every_child(
    how: str,
    tmp_path: Path,
    start: Callable[..., Any],
    command: Callable[..., Any],
    example_registry: Registry,
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
        assert stopped.returncode == 0, stopped.stderr
        assert "asked to save and to end: trial 1, 2" in stopped.stdout
    else:
        process.send_signal(signal.SIGINT if how == "Ctrl-C" else signal.SIGHUP)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted; to continue: wavslm-run r.yaml" in errors
    assert output.count(": interrupted") == 2
    assert states(tmp_path, example_registry) == ["interrupted", "interrupted", "new"]
    if how != "Ctrl-C":
        # They go on alike.
        return
    for counted in tmp_path.glob("runs/one-*/count.txt"):
        (counted.parent / "hurry").touch()
    (waiting,) = (p.parent for p in tmp_path.glob("runs/one-*seed-2-*/recipe.yaml"))
    (waiting / "hurry").touch()
    done = command("run", "r.yaml")
    assert done.returncode == 0, done.stderr
    for counted in tmp_path.glob("runs/one-*/count.txt"):
        assert counted.read_text().split() == [str(step) for step in range(2000)]


def test_trials_that_are_behind_stop_and_can_be_resumed(
    tmp_path: Path, command: Callable[..., Any], example_registry: Registry
) -> None:
    write(
        tmp_path,
        HEAD + "sweep:\n  grid: {stages.descend.floor: [1, 2, 3, 4, 5]}\n  metric: valid.loss\n"
        "  prune: {after_steps: 10, min_trials: 3}\n",
    )
    done = command("run", "r.yaml")
    assert done.returncode == 0, done.stderr
    assert "trial 3: stopped during descend, being behind others" in done.stdout
    assert states(tmp_path, example_registry) == ["finished", "finished", "pruned", "pruned", "pruned"]
    sweep = opened(tmp_path, example_registry)
    third = sweep.run_dir(sweep.entries()[2])
    assert third is not None
    note = json.loads((third / "pruned.json").read_text())
    assert (note["stage"], note["step"]) == ("descend", 10)
    assert "5.575 so far" in done.stdout
    # The same command leaves them alone; asked for by its number, one goes on to its end.
    again = command("run", "r.yaml")
    assert again.stdout.count("stopped before, being behind") == 3
    assert "stage descend: running" not in again.stdout
    retried = command("main", "sweep", "retry", str(sweep.path), "4")
    assert retried.returncode == 0, retried.stderr
    assert states(tmp_path, example_registry) == ["finished", "finished", "pruned", "finished", "pruned"]
    assert command("run", "r.yaml").stdout.count("stopped before, being behind") == 2
    shown = command("main", "sweep", "status", str(sweep.path))
    assert "descend, step 10" in shown.stdout
    assert "3 finished, 2 pruned" in shown.stdout
    assert "best so far: trial 1 (floor 1), 2.218" in shown.stdout
    # A trial that is run by itself is compared with no other; without the rule, none is.
    alone = command("run", str(third / "recipe.yaml"))
    assert alone.returncode == 0, alone.stderr
    assert states(tmp_path, example_registry) == ["finished"] * 4 + ["pruned"]
    unruled = command("run", "r.yaml", "sweep.prune=null")
    assert unruled.returncode == 0, unruled.stderr
    assert states(tmp_path, example_registry) == ["finished"] * 5


def test_failed_trials_are_shown_and_run_again_alone(
    tmp_path: Path, command: Callable[..., Any], example_registry: Registry
) -> None:
    write(
        tmp_path,
        HEAD + "sweep:\n  metric: valid.loss\n  trials:\n    - {label: slow, stages.descend.rate: 0.01}\n"
        "    - {label: bad, stages: [{run: descend}, {run: break}]}\n"
        "    - {label: bug, stages: [{run: descend, floor: 2}, {run: break, how: bug}]}\n"
        "    - {label: quick}\n",
    )
    assert command("main", "sweep", "status", "r.yaml").returncode == 2
    done = command("run", "r.yaml")
    assert done.returncode == 1
    shown = command("main", "sweep", "status", "r.yaml")
    assert "the shelf is empty. Put something on it." in shown.stdout
    assert "RuntimeError: a wheel came off" in shown.stdout
    assert "2 finished, 2 failed" in shown.stdout
    results = command("main", "sweep", "results", "r.yaml")
    rows = [line for line in results.stdout.splitlines() if line.startswith("|")]
    assert [row.split("|")[2].strip(" *") for row in rows[2:6]] == ["quick", "slow", "bad", "bug"]
    assert "failed: the shelf is empty" in rows[4]
    sweep = opened(tmp_path, example_registry)
    refused = command("main", "sweep", "retry", str(sweep.path), "1")
    assert refused.returncode == 2
    assert "trial 1 is finished: only one that has stopped can be run again" in refused.stderr
    assert "has no trial 9" in command("main", "sweep", "retry", str(sweep.path), "9").stderr
    # What it lacked is there now: as if a shelf had been filled.
    bad = sweep.run_dir(sweep.entries()[1])
    assert bad is not None
    document = json.loads((bad / "stages.json").read_text())
    document["break"] = {"status": "finished", "started": "", "seconds": 0.0}
    (bad / "stages.json").write_text(json.dumps(document))
    assert states(tmp_path, example_registry) == ["finished", "finished", "failed", "finished"]
    retried = command("main", "sweep", "retry", str(sweep.path))
    assert retried.returncode == 1
    assert "1 of 4 trials failed" in retried.stderr
    assert "trial 3 of 4: bug" in retried.stdout
    assert "trial 2" not in retried.stdout


def test_a_trial_that_was_killed_says_so(
    tmp_path: Path, command: Callable[..., Any], example_registry: Registry
) -> None:
    write(
        tmp_path,
        "name: one\nstages: [{run: break, how: killed}]\nlaunch: {process: child}\n"
        "sweep: {seeds: [0, 1], max_parallel: 2}\n",
    )
    done = command("run", "r.yaml")
    assert done.returncode == 2
    assert "ended during break without a word: killed, or out of memory?" in done.stderr
    assert states(tmp_path, example_registry) == ["failed", "failed"]


def test_a_folder_that_is_no_sweep(tmp_path: Path, command: Callable[..., Any]) -> None:
    assert "is no sweep: it has no sweep.yaml" in command("main", "sweep", "status", str(tmp_path)).stderr


def optuna_recipe(trials: int, **more: str) -> str:
    extra = "".join(f"  {key}: {value}\n" for key, value in more.items())
    return HEAD + (
        "sweep:\n  sampler: optuna\n  metric: valid.loss\n  grid: {head.chunk_tokens: [4, 8]}\n"
        f"  random: {{stages.descend.floor: {{uniform: [1, 9]}}, trials: {trials}}}\n{extra}"
    )


def test_optuna_chooses_and_goes_on_where_it_stopped(
    tmp_path: Path, command: Callable[..., Any], example_registry: Registry
) -> None:
    optuna = pytest.importorskip("optuna")
    write(tmp_path, optuna_recipe(12))
    dry = command("run", "r.yaml", "--dry-run")
    assert "12 trials, each chosen by the results of those before" in dry.stdout
    assert not (tmp_path / "runs").exists()
    assert "ok, 12 trials, chosen while they run" in command("main", "recipe", "check", "r.yaml").stdout
    first = command("run", "r.yaml", "sweep.random.trials=3")
    assert first.returncode == 0, first.stderr
    done = command("run", "r.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished before") == 3
    sweep = opened(tmp_path, example_registry)
    file = optuna.storages.journal.JournalFileBackend(str(sweep.path / "optuna.journal"))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(file))
    trials = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert len(trials) == 12
    by_run = {result["variant"]: result["value"] for result in document(tmp_path)["results"]}
    assert sorted(trial.value for trial in trials) == pytest.approx(sorted(by_run.values()))
    assert study.best_value == pytest.approx(min(by_run.values()))
    # The last choices are better than the first, random ones.
    floors = [entry.settings["stages.descend.floor"] for entry in sweep.entries()]
    assert len(set(floors)) == 12
    assert min(floors[10:]) < sum(floors[:10]) / 10
    again = tmp_path / "again"
    again.mkdir()
    write(again, optuna_recipe(3))
    command("run", str(again / "r.yaml"), "--runs-dir", str(again / "runs"))
    chosen = opened(again, example_registry)
    assert [entry.settings["stages.descend.floor"] for entry in chosen.entries()] == floors[:3]


def test_optuna_prunes(tmp_path: Path, command: Callable[..., Any], example_registry: Registry) -> None:
    optuna = pytest.importorskip("optuna")
    write(tmp_path, optuna_recipe(14, prune="{after_steps: 5, min_trials: 3}"))
    done = command("run", "r.yaml")
    assert done.returncode == 0, done.stderr
    sweep = opened(tmp_path, example_registry)
    kinds = [trial.state for trial in read_trials(sweep).runs]
    assert set(kinds) == {"finished", "pruned"}
    file = optuna.storages.journal.JournalFileBackend(str(sweep.path / "optuna.journal"))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(file))
    names = {"finished": "COMPLETE", "pruned": "PRUNED"}
    for entry, kind in zip(sweep.entries(), kinds, strict=True):
        assert entry.study_number is not None
        trial = study.trials[entry.study_number]
        assert trial.state.name == names[kind]
        assert trial.user_attrs["trial"] == entry.number
        assert min(trial.intermediate_values) == 5


def test_processes_share_a_study(
    tmp_path: Path, command: Callable[..., Any], example_registry: Registry
) -> None:
    optuna = pytest.importorskip("optuna")
    write(tmp_path, optuna_recipe(4, max_parallel="2") + "launch: {process: child}\n")
    done = command("run", "r.yaml")
    assert done.returncode == 0, done.stderr
    sweep = opened(tmp_path, example_registry)
    assert sorted(entry.study_number or 0 for entry in sweep.entries()) == [0, 1, 2, 3]
    assert len({entry.run for entry in sweep.entries()}) == 4
    file = optuna.storages.journal.JournalFileBackend(str(sweep.path / "optuna.journal"))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(file))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4


def test_without_optuna_the_message_says_how_to_get_it(
    tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    write(tmp_path, optuna_recipe(2))
    done = command("run", "r.yaml")
    assert done.returncode == 2
    assert "pip install 'wavslm-core[optuna]'" in done.stderr
