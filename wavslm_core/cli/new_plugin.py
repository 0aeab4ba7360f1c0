"""`wavslm new-plugin`: a distribution with one small thing that works, to change into one's own."""

from __future__ import annotations

import keyword
import re
import shlex
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from wavslm_core.errors import WavslmError
from wavslm_core.machine.terminal import echo
from wavslm_core.parts.roles import ROLES, stem

RECIPE = "recipes/wavslm_scratch.yaml"
LONGEST_NAME = 28
"""So that lines with the names of package and class in them stay within what the formatter allows."""


class PluginRole(StrEnum):
    """What there are templates for."""

    ENCODER = "encoder"
    QUANTIZER = "quantizer"
    DECODER = "decoder"
    BACKBONE = "backbone"
    HEAD = "head"
    SAMPLER = "sampler"
    STAGE = "stage"
    METRIC = "metric"
    DISCRIMINATOR = "discriminator"
    CORPUS = "corpus"
    SUITE = "suite"


@dataclass(frozen=True)
class Sketch:
    """What is particular to a role."""

    about: str
    """What the part does, for the README."""
    block: str
    """How it is named in a recipe."""
    override: str
    """How it is named on the command line."""
    example: str = ""
    """Options for the test: those without a default outside of a recipe, or small ones."""


PART = ("{role}: {{name: {name}}}", "{role}={{name: {name}}}")
"""How one of a model's six parts is named."""


SKETCHES: dict[PluginRole, Sketch] = {
    PluginRole.ENCODER: Sketch("a projection of each hop of waveform and causal convolutions", *PART),
    PluginRole.QUANTIZER: Sketch(
        "finite scalar quantisation with a causal decompressor", *PART, "input_dim=16"
    ),
    PluginRole.DECODER: Sketch(
        "causal convolutions and a linear map to samples",
        *PART,
        "input_dim=16, sample_rate_hz=16000, hop_samples=320",
    ),
    PluginRole.BACKBONE: Sketch("gated recurrent layers", *PART, "input_dim=16"),
    PluginRole.HEAD: Sketch(
        "two linear maps that predict the next chunk", *PART, "input_dim=16, vocab_size=32"
    ),
    PluginRole.SAMPLER: Sketch("sampling without the unlikely tokens", *PART),
    PluginRole.STAGE: Sketch(
        "how loud the recordings of a split are",
        block="stages: [{{run: {name}}}]",
        override="stages=[{{run: {name}}}]",
    ),
    PluginRole.METRIC: Sketch(
        "a signal-to-noise ratio",
        block="stages: [{{run: evaluate, metrics: [{name}]}}]",
        override="stages.evaluate.metrics=[{name}]",
    ),
    PluginRole.DISCRIMINATOR: Sketch(
        "strided convolutions over the waveform",
        example="channels=8, num_layers=2",
        block="stages: [{{run: train_codec, steps: 9, adversarial: {{discriminators: [{{name: {name}}}]}}}}]",
        override="stages.train_codec.adversarial={{discriminators: [{{name: {name}}}]}}",
    ),
    PluginRole.CORPUS: Sketch(
        "chords that are made on the spot",
        example="minutes=0.1, seconds=1.0",
        block="data: {{corpus: {name}}}",
        override="data={{corpus: {name}}}",
    ),
    PluginRole.SUITE: Sketch(
        "tones that stay or jump",
        example="items=4, seconds=0.3",
        block="stages: [{{run: score_suites, suites: [{{name: {name}}}]}}]",
        override="stages=[{{run: train_codec, steps: 9}}, {{run: tokenize}}, {{run: train_lm, steps: 9}}, "
        "{{run: score_suites, suites: [{{name: {name}}}]}}]",
    ),
}


def new_plugin(
    name: Annotated[str, typer.Argument(help="Name in recipes, such as my_quantizer.")],
    role: Annotated[PluginRole, typer.Option(help="What it does.")],
    into: Annotated[Path, typer.Option(help="Folder to write wavslm-NAME into.")] = Path(),
) -> None:
    """Write a plugin with one small thing of a role that works: wavslm-NAME, with tests."""
    from wavslm_core.machine.files import replacing_folder

    check_name(name, role)
    distribution = f"wavslm-{name.replace('_', '-')}"
    folder = into / distribution
    if folder.exists():
        raise WavslmError(f"{folder} exists already; choose another name, remove it, or give --into")
    with replacing_folder(folder) as beside:
        for relative, text in rendered(name, role, distribution).items():
            path = beside / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    sketch = SKETCHES[role]
    override = sketch.override.format(role=role.value, name=name)
    echo(f"{folder}: the {role} '{name}', which works as it is. Change {name_of(name)}/{role}.py; next:")
    for command in [
        f"pip install -e {shlex.quote(f'{_path_for_pip(folder)}[test]')}",
        f"pytest {shlex.quote(str(folder))}",
        f"wavslm recipe check {RECIPE} {shlex.quote(override)}",
    ]:
        echo(f"  {command}")
    echo(f"In a recipe: `{sketch.block.format(role=role.value, name=name)}`")


def _path_for_pip(folder: Path) -> str:
    """Return a path that pip does not take for the name of a package."""
    return str(folder) if folder.is_absolute() else f"./{folder}"


def name_of(name: str) -> str:
    """Return the name of the import package."""
    return f"wavslm_{name}"


def check_name(name: str, role: PluginRole) -> None:
    """Raises: WavslmError for a name that cannot be one, or is taken."""
    if not re.fullmatch(r"[a-z](_?[a-z0-9])*", name) or keyword.iskeyword(name):
        better = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").removeprefix("wavslm_")
        usable = re.fullmatch(r"[a-z](_?[a-z0-9])*", better) and not keyword.iskeyword(better)
        hint = f" Try '{better}'" if usable else " Try 'my_part'"
        raise WavslmError(
            f"'{name}' cannot be the name of a part: small letters, digits and single underscores, a letter "
            f"first, no word of Python's.{hint}"
        )
    if len(name) > LONGEST_NAME:
        raise WavslmError(f"'{name}' has {len(name)} letters; {LONGEST_NAME} are the most, so shorten it")
    from wavslm_core.parts.plugins import load

    loaded = load()
    for entry in loaded.registry:
        if (entry.role, entry.name) == (role.value, name):
            raise WavslmError(f"{entry.described} is installed already; choose another name")
    for plugin in loaded.plugins:
        if plugin.name == name:
            raise WavslmError(
                f"the plugin name '{name}' is taken by {plugin.distribution}; choose another name"
            )
    if find_spec(name_of(name)) is not None:
        raise WavslmError(f"a package {name_of(name)} is installed already; choose another name")


def rendered(name: str, role: PluginRole, distribution: str) -> dict[str, str]:
    """Return relative path → text of every file of the distribution."""
    package = name_of(name)
    own, interface = stem(name), stem(role.value)
    sketch = SKETCHES[role]
    values = {
        "name": name,
        "role": role.value,
        "distribution": distribution,
        "package": package,
        "config": f"{own}Config",
        "part": own if own.endswith(interface) else f"{own}{interface}",
        "interface": ROLES[role.value].interface.replace(":", "."),
        "hook": ROLES[role.value].hook,
        "about": sketch.about,
        "example": sketch.example,
        "block": sketch.block.format(role=role.value, name=name),
    }
    templates = files("wavslm_core.cli") / "templates"
    sources: dict[str, Traversable] = {
        "pyproject.toml": templates / "common" / "pyproject.toml.txt",
        "README.md": templates / "common" / "README.md.txt",
        f"{package}/__init__.py": templates / "common" / "__init__.py.txt",
        f"{package}/config.py": templates / role.value / "config.py.txt",
        f"{package}/{role.value}.py": templates / role.value / f"{role.value}.py.txt",
        f"tests/test_{name}.py": templates / "common" / "test.py.txt",
    }
    texts = {path: source.read_text(encoding="utf-8") for path, source in sources.items()}
    return {path: Template(text).substitute(values) for path, text in texts.items()} | {
        f"{package}/py.typed": ""
    }
