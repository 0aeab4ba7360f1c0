"""The stages of a saved recipe, read without plugins: hundreds of runs are listed in a moment."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from wavslm_core.errors import WavslmError
from wavslm_core.machine.regular_files import read_text
from wavslm_core.recipe.model import stage_names
from wavslm_core.recipe.yaml import DEEPEST
from wavslm_core.run.folder import RECIPE_FILE

_YAML = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""The parser in C, which is thirty times faster."""
_STAGES = re.compile(r"^stages:\n((?:- .*\n(?:(?:  .*)?\n)*)+)(?=[A-Za-z_]|\Z)", re.MULTILINE)
"""As `recipe.yaml.dump_yaml` writes them; another text is parsed as a whole."""
_STAGE = re.compile(r"^- .*\n(?:(?:  .*)?\n)*", re.MULTILINE)
MOST_KEPT = 4096
"""Different stages; the runs of a sweep have most of theirs in common."""


def saved_stages(run_dir: Path) -> dict[str, Mapping[str, Any]]:
    """Return name → block of the saved recipe's stages, which are in it as resolved; values are text.

    Raises: OSError; WavslmError or YAMLError for what is no recipe.
    """
    path = run_dir / RECIPE_FILE
    try:
        blocks = _blocks(read_text(path))
    except FileNotFoundError:
        # A trial whose values are not chosen yet.
        return {}
    if blocks in (None, "", "null", "~"):
        blocks = []
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise WavslmError(f"{path} is damaged: its stages are no list of blocks. Run the recipe again.")
    names = stage_names(str(block.get("run")) for block in blocks)
    return dict(zip(names, blocks, strict=True))


def _blocks(text: str) -> Any:
    """Return what stands under `stages` in a recipe's text."""
    found = _STAGES.search(text)
    if found is not None:
        return [block for piece in _STAGE.findall(found[1]) for block in _list(piece)]
    document = _plain(text)
    return document.get("stages") if isinstance(document, dict) else document


@lru_cache(MOST_KEPT)
def _list(text: str) -> Any:
    return _plain(text)


def _plain(text: str) -> Any:
    """Return what a YAML text holds, every value as text and what is said twice left out the second time.

    Put together event by event: a loader recurses, and a file that nests deep enough would end the process.
    Raises: WavslmError for such a file.
    """
    found: list[Any] = []
    inside: list[tuple[Any, list[str]]] = [(found, [])]
    """Blocks that are open, outermost first, each with the key that waits for its value."""
    for event in yaml.parse(text, Loader=_YAML):
        if isinstance(event, yaml.CollectionEndEvent):
            inside.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        value: Any = event.value if isinstance(event, yaml.ScalarEvent) else ""
        if isinstance(event, yaml.CollectionStartEvent):
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
        block, key = inside[-1]
        if isinstance(block, list):
            block.append(value)
        elif key:
            block[key.pop()] = value
        else:
            key.append(value if isinstance(value, str) else "")
        if isinstance(event, yaml.CollectionStartEvent):
            inside.append((value, []))
            if len(inside) > DEEPEST:
                raise WavslmError(f"blocks are nested more than {DEEPEST} deep, which no recipe needs.")
    return found[0] if found else None
