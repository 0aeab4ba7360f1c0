"""A run's folder says which code was submitted, and can hold it."""

import json
import subprocess
from pathlib import Path

import pytest

from wavslm_core.parts.plugins import Loaded
from wavslm_core.run import environment
from wavslm_core.run.environment import changed_since, package_folders, save_code


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only package that there is, committed."""
    folder = tmp_path / "checkout" / "wavslm_core"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "part.py").write_text("answer = 1\n")
    git(folder.parent, "init")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "-m", "first")
    monkeypatch.setattr(environment, "package_folders", lambda: {"wavslm_core": folder})
    return folder


def test_the_framework_and_its_plugins_are_the_code(
    example_loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavslm_core.parts.plugins.load", lambda: example_loaded)
    folders = package_folders()
    assert list(folders) == ["wavslm_core", "wavslm_example"]
    assert (folders["wavslm_example"] / "stages.py").exists()


def test_what_is_not_committed_is_kept_beside_the_commit(package: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    save_code(run)
    document = json.loads((run / "code.json").read_text())
    assert len(document["git_commit"]) == 40
    assert not (run / "code.diff").exists()
    (package / "inner" / "part.py").write_text("answer = 2\n")
    assert changed_since(run)
    save_code(run)
    assert json.loads((run / "code.json").read_text())["git_commit"] == document["git_commit"] + "+changes"
    assert "-answer = 1\n+answer = 2\n" in (run / "code.diff").read_text()
    assert not changed_since(run)
    assert not (run / "code").exists()


def test_a_copy_does_not_change_any_more(package: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    save_code(run, copy=True)
    (package / "inner" / "part.py").write_text("answer = 2\n")
    assert (run / "code" / "wavslm_core" / "inner" / "part.py").read_text() == "answer = 1\n"


def test_new_files_and_plugins_of_other_checkouts_are_kept(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "elsewhere" / "wavslm_plugin"
    plugin.mkdir(parents=True)
    (plugin / "part.py").write_text("colour = 1\n")
    git(plugin.parent, "init")
    git(plugin.parent, "add", ".")
    git(plugin.parent, "commit", "-m", "first")
    outside = tmp_path / "no_checkout"
    outside.mkdir()
    folders = {"wavslm_core": package, "wavslm_plugin": plugin, "outside": outside}
    monkeypatch.setattr(environment, "package_folders", lambda: folders)
    (package / "inner" / "new one.py").write_text("answer = 3\n")
    (package / "inner" / "ignored.pyc").write_text("x")
    (package.parent / ".gitignore").write_text("*.pyc\n")
    (package.parent / "corpus.wav").write_text("large")
    (plugin / "part.py").write_text("colour = 2\n")
    run = tmp_path / "run"
    save_code(run)
    kept = (run / "code.diff").read_text()
    assert "-colour = 1\n+colour = 2\n" in kept
    assert "+answer = 3\n" in kept
    assert "ignored.pyc" not in kept
    assert "corpus.wav" not in kept
    # And it can be put back.
    (package / "inner" / "new one.py").unlink()
    first = kept.index(f"# {package.parent}")
    second = kept.index(f"# {plugin.parent}")
    (tmp_path / "one.diff").write_text(kept[first:second] if first < second else kept[first:])
    git(package.parent, "apply", str(tmp_path / "one.diff"))
    assert (package / "inner" / "new one.py").read_text() == "answer = 3\n"
