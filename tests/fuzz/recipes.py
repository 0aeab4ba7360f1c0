"""Recipes and overrides that are wrong in any way: one clear error, soon, or they are fine."""

import json
from pathlib import Path
from random import Random

import yaml

from tests.fuzz.commands import call
from tests.fuzz.values import changed, nasty, places

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
MOST_S = 20.0
"""Of the processor; a sweep of many trials checks each."""
PATIENCE_S = 300.0
LETTERS = "{}[]:,-&*!|>'\"%@#`\\\n\t ~0aé\0\u2028"


def attack(random: Random, folder: Path) -> tuple[str, str]:
    """Try one recipe; return what is wrong with what happened, and how to see it again."""
    source = random.choice(RECIPES)
    text = source.read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    path = folder / "recipe.yaml"
    how = random.randrange(4)
    if how == 0:
        path.write_bytes(_scribbled(text, random).encode("utf-8", "surrogateescape"))
    elif how == 1:
        path.write_text(text, encoding="utf-8")
    else:
        path.write_text(yaml.safe_dump(changed(document, random), sort_keys=False), encoding="utf-8")
    overrides = [_override(document, random) for _ in range(random.choice((0, 0, 1, 1, 2, 3)) + (how == 1))]
    verb = random.choice(
        (("wavslm-run", "--dry-run"), ("wavslm", "recipe", "check"), ("wavslm", "recipe", "show"))
    )
    ending = call(*verb, str(path), *overrides, patience_s=PATIENCE_S)
    return ending.problem(most_s=MOST_S), " ".join([*verb, source.name, *map(repr, overrides)])


def _scribbled(text: str, random: Random) -> str:
    for _ in range(random.randrange(1, 6)):
        start = random.randrange(len(text))
        end = min(len(text), start + random.choice((0, 0, 1, 5, 40)))
        piece = "".join(random.choice(LETTERS) for _ in range(random.randrange(4)))
        if random.random() < 0.1:
            piece = text[end:][: random.randrange(200)] * random.randrange(1, 4)
        text = text[:start] + piece + text[end:]
        if not text:
            return text
    return text


def _override(document: object, random: Random) -> str:
    path = ".".join(map(str, random.choice(places(document)))) or "name"
    if random.random() < 0.2:
        path = "".join(random.choice((*path, *".=-")) for _ in range(random.randrange(1, 12)))
    value = nasty(random)
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{path}{random.choice(('=', '=', '=', '=', '', '==', '.='))}{text}".replace("\0", "")
