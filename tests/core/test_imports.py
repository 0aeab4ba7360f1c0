"""Core imports no plugin, and what lists and checks imports no torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from wavslm_core import plugin

ROOT = Path(__file__).parents[2]
CORE, PLUGINS = ROOT / "wavslm_core", ROOT / "plugins"
PUBLIC = {"wavslm_focalcodec_stream": {"maps"}}
"""Modules of plugins that other plugins may import."""
LIGHT = [
    "wavslm_core",
    "wavslm_core.plugin",
    "wavslm_core.recipe",
    "wavslm_core.parts.plugins",
    "wavslm_core.builtin",
    "wavslm_core.launch.runner",
]


def imported(path: Path) -> set[str]:
    """Return every module that a file imports, anywhere in it but under TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_core_imports_no_plugin() -> None:
    packages = {path.name for path in PLUGINS.glob("*/wavslm_*") if path.is_dir()}
    assert len(packages) >= 4
    for path in CORE.rglob("*.py"):
        found = {name for name in imported(path) if name.split(".")[0] in packages}
        assert not found, f"{path} imports {found}"


def test_plugins_import_other_distributions_only_if_they_declare_them() -> None:
    found = set()
    for folder in sorted(path.parent for path in PLUGINS.glob("*/pyproject.toml")):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        extras = project.get("optional-dependencies", {}).values()
        declared = {re.split(r"[^\w.-]", text)[0] for text in chain(project["dependencies"], *extras)}
        own = folder.name.replace("-", "_")
        for path in (folder / own).rglob("*.py"):
            for name in imported(path):
                package, _, module = name.partition(".")
                if not package.startswith("wavslm_") or package in (own, "wavslm_core"):
                    continue
                assert package.replace("_", "-") in declared, f"{path} imports {name}, which is not declared"
                assert module in PUBLIC[package], f"{path} imports {name}, which is not public"
                found.add(name)
    # Nothing is called public that no one uses.
    assert found == {f"{package}.{module}" for package, modules in PUBLIC.items() for module in modules}


def test_plugins_import_their_one_face_of_the_core() -> None:
    sources = [*PLUGINS.glob("*/wavslm_*/**/*.py"), *ROOT.glob("tests/e2e/third_party/*/**/*.py")]
    wanted: set[str] = set()
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wavslm_core"):
                assert node.module in ("wavslm_core.plugin", "wavslm_core.testing"), f"{path}: {node.module}"
                if node.module == "wavslm_core.plugin":
                    wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith("wavslm_core") for alias in node.names), path
    assert len(wanted) > 50
    assert wanted <= {*plugin.__all__}


def test_the_face_has_what_it_says() -> None:
    assert len(plugin.__all__) > 100
    for name in plugin.__all__:
        assert getattr(plugin, name) is not None
    assert not hasattr(plugin, "nothing")


def test_nothing_but_tests_imports_what_is_for_tests() -> None:
    for path in CORE.rglob("*.py"):
        if not path.relative_to(CORE).as_posix().startswith("testing/"):
            assert not {name for name in imported(path) if name.startswith("wavslm_core.testing")}, path


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_no_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


READERS = {"machine/json_files.py", "recipe/yaml.py", "machine/npy_files.py", "model/weight_files.py"}
"""Where files of others are parsed, checked and bounded; everything else asks these."""
STAND_ALONE = {"plugins/wavslm-onnx/wavslm_onnx/runner.py"}
"""Run where there is no core."""
PARSES = re.compile(
    r"\b(?:json|_?pickle|cloudpickle|marshal|shelve|joblib|dill)\.(?:loads?|Unpickler)\b"
    r"|\byaml\.(?:\w+_)?load\w*|\b(?:np|numpy|torch)\.load\b|weights_only=False|allow_pickle=True"
)


def test_files_are_parsed_by_the_readers_alone() -> None:
    sources = [*CORE.rglob("*.py"), *PLUGINS.glob("*/wavslm_*/**/*.py")]
    found = {
        f"{path.relative_to(CORE.parent)}: {match[0]}"
        for path in sources
        if str(path.relative_to(CORE.parent)).removeprefix("wavslm_core/") not in READERS | STAND_ALONE
        and "testing" not in path.parts
        for match in PARSES.finditer(path.read_text(encoding="utf-8"))
    }
    assert not found
    held = {match[0] for name in READERS for match in PARSES.finditer((CORE / name).read_text())}
    assert held == {"torch.load", "yaml.load"}
