"""YAML that stands for more than it looks like is refused before anything is made of it."""

import os
import time
from pathlib import Path

import pytest

from wavslm_core.errors import RecipeError
from wavslm_core.recipe.loading import MOST_EXTENDED, read_extended
from wavslm_core.recipe.overrides import parse_override
from wavslm_core.recipe.yaml import parse_yaml, read_yaml

BOMBS = {
    "a billion laughs": "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
    "merged keys that double": "a0: &a0 {x: 1}\n"
    + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40)),
    "a list in itself": "a: &a [*a]\n",
    "a block in itself": "a: &a {b: {c: *a}}\n",
    "100,000 brackets": "[" * 100_000,
    "100,000 braces": "{a: " * 100_000,
    "100,000 dashes": "- " * 100_000,
    "1,000 steps to the right": "".join(f"{' ' * i}a:\n" for i in range(1000)),
    "20 MB": f"a: {'x' * 20_000_000}",
    "200,000 values": f"a: [{'1,' * 200_000}]",
    "one long text again and again": f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]",
    "a number of 400,000 bits": f"a: 0x{'f' * 100_000}",
    "a number of 100,000 digits": f"a: {'9' * 100_000}",
    "a null character": 'a: ["x\\0y"]',
    "a set": "a: !!set {x, y}",
    "bytes": "a: !!binary aGVsbG8=",
    "a tag of 100,000 letters": f"a: !{'x' * 100_000} 1",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_in_a_moment_by_a_short_message(bomb: str) -> None:
    # Of the processor: others may use the machine.
    began = time.process_time()
    with pytest.raises(RecipeError, match=r"^bomb\.yaml: ") as told:
        parse_yaml(BOMBS[bomb], source="bomb.yaml")
    assert time.process_time() - began < 1
    assert len(str(told.value)) < 1000


def test_aliases_that_stand_for_little_are_fine() -> None:
    text = "small: &s {dim: 8}\nencoder: *s\ndecoder: {<<: *s, depth: 2}\n"
    assert parse_yaml(text, source="t") == {
        "small": {"dim": 8},
        "encoder": {"dim": 8},
        "decoder": {"dim": 8, "depth": 2},
    }


def test_what_is_merged_may_itself_be_merged_and_overridden() -> None:
    text = (
        "base: &base {x: 0, y: 2}\na:\n  inner: &A\n    <<: *base\n    x: 1\n"
        "b:\n  <<: *A\n  z: 3\nc: [{<<: *A}, {<<: [*A, *base], y: 5}]\n"
    )
    assert parse_yaml(text, source="t") == {
        "base": {"x": 0, "y": 2},
        "a": {"inner": {"x": 1, "y": 2}},
        "b": {"x": 1, "y": 2, "z": 3},
        "c": [{"x": 1, "y": 2}, {"x": 1, "y": 5}],
    }
    for twice in ("x: 7", "y: 1\n    y: 2", "<<: {z: 1, z: 2}"):
        with pytest.raises(RecipeError, match=r"the key '[xyz]' appears twice"):
            parse_yaml(text.replace("    x: 1\n", f"    x: 1\n    {twice}\n"), source="t")


def test_an_override_of_20_mb_is_refused_without_repeating_it() -> None:
    with pytest.raises(RecipeError, match="letters; allowed are") as told:
        parse_override(f"name={'x' * 20_000_000}")
    assert len(str(told.value)) < 1000


def test_a_pipe_and_an_endless_file_are_no_recipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    for name in ("pipe.yaml", "zero.yaml"):
        with pytest.raises(RecipeError, match="it is no regular file"):
            read_yaml(tmp_path / name)


def test_1500_recipes_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\nseed: {number}\n")
    (tmp_path / "1500.yaml").write_text("name: end\n")
    with pytest.raises(RecipeError, match=f"more than {MOST_EXTENDED} recipes extend each other"):
        read_extended(tmp_path / "0.yaml")
    assert read_extended(tmp_path / "1490.yaml") == {"name": "end", "seed": 1490}
