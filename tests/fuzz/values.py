"""Values that nobody expects, and documents in which one is put somewhere."""

import copy
from random import Random
from typing import Any

NASTY: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    2**31,
    10**9,
    10**18,
    -(10**18),
    10**40,
    0.5,
    -0.5,
    1e-300,
    1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
    "",
    "x",
    "0",
    "1e9",
    "nan",
    "../../etc/passwd",
    "/dev/zero",
    "/",
    "~",
    "a/b",
    "a\0b",
    "ä\u202e🎧",
    "x" * 5000,
    "%s{}{0}",
    "-rf",
    [],
    {},
    [[]],
    [{}],
    [1, "a", None, {"b": [2]}],
    {"": 1},
    {"name": "x"},
    {"a": {"b": {"c": {"d": 1}}}},
)


def nasty(random: Random) -> Any:
    """Return one of the values."""
    return copy.deepcopy(random.choice(NASTY))


def places(document: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of everything in a document, itself included."""
    found = [path]
    pairs: Any = ()
    if isinstance(document, dict):
        pairs = document.items()
    elif isinstance(document, list):
        pairs = enumerate(document[:50])
    for key, inner in pairs:
        found += places(inner, (*path, key))
    return found


def changed(document: Any, random: Random) -> Any:
    """Return a document in which one to three things are something else, gone, or where another belongs."""
    result = copy.deepcopy(document)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        *parents, last = random.choice(places(result)) or (None,)
        if last is None:
            return nasty(random)
        block = result
        for key in parents:
            block = block[key]
        how = random.randrange(5)
        if how == 0:
            del block[last]
        elif how == 1 and isinstance(block, dict):
            block[random.choice((f"{last}x", str(last)[:-1], "name", "run", ""))] = block.pop(last)
        elif how == 2:
            # Where another part of the document belongs.
            other: Any = result
            for key in random.choice(places(result)):
                other = other[key]
            block[last] = copy.deepcopy(other)
        else:
            block[last] = nasty(random)
    return result
