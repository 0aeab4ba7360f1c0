"""Reading and writing YAML: the safe loader, with the plain scalars of YAML 1.2 and no duplicate keys.

YAML 1.1, which PyYAML follows, reads the key in `on: local` as the boolean True, `no` as False, `1e-4` as
text and `1:30` as ninety.

ruamel.yaml follows 1.2 as well. It takes ten times as long (8 ms for a recipe of 3,000 letters), lets
duplicate keys of merged blocks and sets and bytes pass, and would leave all checks of size here.

A few lines of YAML can stand for more than any memory holds, so a text is looked through before anything is
made of it: how long, how deep, and how many values it stands for once aliases are replaced.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from wavslm_core.errors import RecipeError, did_you_mean
from wavslm_core.machine.regular_files import read_text

MOST_BYTES = 1 << 19
"""Of a text; the longest recipe that we ship has 3,000."""
DEEPEST = 100
"""Blocks and lists inside each other."""
MOST_VALUES = 50_000
"""A text counts as one value for every 64 letters."""
LARGEST_INT = 1 << 63

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


# The parser in C is thirty times faster.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._flattened: set[Any] = set()

    def flatten_mapping(self, node: Any) -> None:
        # Once: what is merged is put in beside what it is overridden by.
        if node not in self._flattened:
            self._flattened.add(node)
            self._refuse_duplicates(node)
            super().flatten_mapping(node)

    @staticmethod
    def _refuse_duplicates(node: Any) -> None:
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


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern, firsts in _RESOLVERS if (first or "\0") in firsts]
    for first in ["", *sorted({first for _, _, firsts in _RESOLVERS for first in firsts if first != "\0"})]
}


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file. Raises: RecipeError."""
    try:
        text = read_text(path, most_bytes=MOST_BYTES)
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

    Raises: RecipeError with line and column, and for what is too large.
    """
    if len(text) > MOST_BYTES:
        raise RecipeError(f"{source}: {len(text)} letters; allowed are {MOST_BYTES}. Put less into it.")
    try:
        _check_size(text, source)
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # The parser in C puts what is missing at the end onto a line after the last.
        line = 0 if mark is None else min(mark.line, text.count("\n")) + 1
        place = f" line {line}, column {mark.column + 1}" if mark is not None else ""
        raise RecipeError(f"{source}:{place}: {str(error.problem or error.context)[:300]}.") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RecipeError(f"{source}: not valid YAML: {' '.join(str(error).split())[:300]}.") from None
    _require_plain(value, source)
    return value


def _check_size(text: str, source: str) -> None:
    """Raises: RecipeError for what is too deep or stands for too much; YAMLError."""
    opened: list[tuple[str | None, int]] = []
    sizes: dict[str | None, int] = {}
    count = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = 0 if event.start_mark is None else event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in opened):
                raise RecipeError(
                    f"{source}: line {line}: *{event.anchor} stands inside what it stands for. "
                    "Write out what is meant."
                )
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            size = 1 + len(event.value) // 64
            sizes[event.anchor] = size
            count += size
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            sizes[anchor] = count - before
        if len(opened) > DEEPEST or count > MOST_VALUES:
            what = f"{DEEPEST} blocks deep" if len(opened) > DEEPEST else f"{MOST_VALUES} values large"
            raise RecipeError(f"{source}: line {line}: more than {what}, aliases replaced. No recipe is.")


def dump_yaml(document: dict[str, Any]) -> str:
    """Return YAML that any parser reads the same way."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def _require_plain(value: Any, source: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise RecipeError(
                    f"{source}: the key {key!r} must be text. Put it in quotes if it is a name."
                )
            _require_plain(inner, source)
    elif isinstance(value, list):
        for inner in value:
            _require_plain(inner, source)
    elif isinstance(value, str) and "\0" in value:
        raise RecipeError(f"{source}: a text holds the null character, which no name may have. Remove it.")
    elif isinstance(value, int) and abs(value) >= LARGEST_INT:
        raise RecipeError(f"{source}: a number of {value.bit_length()} bits is too large; it may have 63.")
    elif value is not None and not isinstance(value, str | bool | int | float):
        raise RecipeError(
            f"{source}: a value tagged as {type(value).__name__} has no place in a recipe. Remove its tag."
        )


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {'list' if isinstance(value, list) else 'single value'}"
