"""Reading and writing YAML: the safe loader, with the plain scalars of YAML 1.2 and no duplicate keys.

YAML 1.1, which PyYAML follows, reads the key in `on: local` as the boolean True, `no` as False, `1e-4` as
text and `1:30` as ninety.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from wavslm_core.errors import RecipeError, did_you_mean

_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_RESOLVERS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    ("tag:yaml.org,2002:int", _INT, "-+0123456789"),
    ("tag:yaml.org,2002:float", _FLOAT, "-+.0123456789"),
    ("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), "~nN\0"),
    ("tag:yaml.org,2002:merge", re.compile(r"^<<$"), "<"),
)


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key '{key.value}' appears twice, first in line {seen[key.value]}",
                    key.start_mark,
                )
            seen[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern, firsts in _RESOLVERS if (first or "\0") in firsts]
    for first in ["", *sorted({first for _, _, firsts in _RESOLVERS for first in firsts if first != "\0"})]
}


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file. Raises: RecipeError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [str(path.with_name(file.name)) for file in sorted(path.parent.glob("*.y*ml"))]
        raise RecipeError(
            f"there is no recipe '{path}'.{did_you_mean(str(path), siblings)} "
            + (f"In that folder: {', '.join(siblings)}." if siblings else "Give the path of a YAML file.")
        ) from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path} is not UTF-8 text ({error.reason}). Give the path of a YAML file."
        ) from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}. Give the path of a YAML file.") from None
    document = parse_yaml(text, source=str(path))
    if not isinstance(document, dict):
        raise RecipeError(
            f"{path} holds {_kind(document)}, but a recipe is a block of lines such as `name: my_run`."
        )
    return document


def parse_yaml(text: str, *, source: str) -> Any:
    """Return what a YAML text stands for: mappings with text keys, lists and plain values.

    Raises: RecipeError with line and column.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise RecipeError(f"{source}:{place}: {error.problem or error.context}.") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RecipeError(f"{source}: not valid YAML: {' '.join(str(error).split())}.") from None
    _require_text_keys(value, source)
    return value


def dump_yaml(document: dict[str, Any]) -> str:
    """Return YAML that any parser reads the same way."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def _require_text_keys(value: Any, source: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise RecipeError(
                    f"{source}: the key {key!r} must be text. Put it in quotes if it is a name."
                )
            _require_text_keys(inner, source)
    elif isinstance(value, list):
        for inner in value:
            _require_text_keys(inner, source)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {'list' if isinstance(value, list) else 'single value'}"
