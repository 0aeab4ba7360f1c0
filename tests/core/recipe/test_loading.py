"""YAML files, `extends`, and what a document says when it is wrong."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import ValidationError

from wavslm_core.errors import PluginError, RecipeError
from wavslm_core.parts import plugins
from wavslm_core.parts.blocks import Block, config_from_dict, config_problems
from wavslm_core.parts.configs import SamplerConfig, StageConfig
from wavslm_core.parts.registry import Registry
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import load_recipe, read_extended, recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.recipe.yaml import dump_yaml, parse_yaml

PARTS = "\n".join(
    f"{role}: {{name: fake}}" for role in ("encoder", "quantizer", "decoder", "backbone", "head")
)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problems(registry: Registry, path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        check(load_recipe(path, overrides, registry=registry))
    return str(caught.value).splitlines()


def test_a_recipe_loads_and_survives_a_round_trip(tmp_path: Path, example_registry: Registry) -> None:
    text = f"name: one\n{PARTS}\nsampler: {{name: warm}}\ndata: {{corpus: tone}}\nstages: [{{run: count}}]\n"
    recipe = load_recipe(write(tmp_path, "r.yaml", text), registry=example_registry)
    checked = check(recipe)
    document = checked.to_dict()
    assert document["head"] == {"name": "fake", "input_dim": 16, "vocab_size": 32, "chunk_tokens": 4}
    text = dump_yaml(document)
    again = resolve(recipe_from_dict(parse_yaml(text, source="again"), registry=example_registry))
    assert again.to_dict() == document
    assert again.digest() == checked.digest()
    assert yaml.safe_load(dump_yaml(document)) == document, (
        "any YAML parser must read a saved recipe the same way"
    )


def test_the_digest_depends_on_what_is_computed_and_not_on_where(
    tmp_path: Path, example_registry: Registry
) -> None:
    path = write(tmp_path, "r.yaml", f"name: one\n{PARTS}\n")

    def digest(*overrides: str) -> str:
        return resolve(load_recipe(path, overrides, registry=example_registry)).digest()

    assert len(digest()) == 12
    assert digest("launch.on=debug") == digest("head.chunk_tokens=4") == digest()
    assert digest("head.chunk_tokens=8") != digest()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on: local", {"on": "local"}),
        ("a: no", {"a": "no"}),
        ("a: 1e-4", {"a": 1e-4}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: 010", {"a": "010"}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("a: [true, 3, -2, .5, null, ~, '3', ]", {"a": [True, 3, -2, 0.5, None, None, "3"]}),
        ("a:", {"a": None}),
        ("b: &x {c: 1}\nd: {<<: *x, e: 2}", {"b": {"c": 1}, "d": {"c": 1, "e": 2}}),
    ],
)
def test_plain_values_mean_what_they_look_like(text: str, value: object) -> None:
    assert parse_yaml(text, source="t") == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\nname: b\n", "line 2, column 1: the key 'name' appears twice, first in line 1"),
        ("head: {name: a, name: b}\n", "the key 'name' appears twice"),
        ("name: [1\n", "line 2"),
        ("3: a\n", "the key 3 must be text"),
        ("- a\n", "holds a list"),
        ("", "holds nothing"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
    ],
)
def test_bad_yaml_is_named_with_its_place(
    tmp_path: Path, example_registry: Registry, text: str, said: str
) -> None:
    (line,) = problems(example_registry, write(tmp_path, "r.yaml", text))
    assert said in line
    assert "r.yaml" in line


def test_a_missing_file_names_the_nearest(tmp_path: Path, example_registry: Registry) -> None:
    write(tmp_path, "small.yaml", "name: a\n")
    (line,) = problems(example_registry, tmp_path / "smal.yaml")
    assert "there is no recipe" in line
    assert f"Did you mean '{tmp_path / 'small.yaml'}'?" in line


def test_extends_merges_blocks_and_replaces_lists(tmp_path: Path) -> None:
    base = "name: base\nhead: {name: fake, chunk_tokens: 8}\nstages: [{run: count}, {run: learn}]\nseed: 1\n"
    write(tmp_path, "base.yaml", base)
    write(tmp_path, "sub/middle.yaml", "extends: ../base.yaml\nhead: {input_dim: 16}\n")
    path = write(tmp_path, "top.yaml", "extends: sub/middle.yaml\nname: top\nstages: [{run: break}]\n")
    assert read_extended(path) == {
        "name": "top",
        "seed": 1,
        "head": {"name": "fake", "chunk_tokens": 8, "input_dim": 16},
        "stages": [{"run": "break"}],
    }


@pytest.mark.parametrize(
    ("below", "above", "result"),
    [
        ("sampler: {name: warm, temperature: 2}", "sampler: {name: fake}", {"sampler": {"name": "fake"}}),
        (
            "data: {corpus: tone, minutes: 2}",
            "data: {minutes: 3}",
            {"data": {"corpus": "tone", "minutes": 3}},
        ),
        (
            "data: {corpus: tone, minutes: 2}",
            "data: {train: {corpus: tone}}",
            {"data": {"train": {"corpus": "tone"}}},
        ),
        ("data: {train: {corpus: tone}}", "data: {corpus: tone}", {"data": {"corpus": "tone"}}),
        ("launch: {on: local, process: child}", "launch: {on: debug}", {"launch": {"on": "debug"}}),
        ("encoder: {name: fake}", "encoder: null", {"encoder": None}),
    ],
)
def test_a_block_of_another_kind_starts_afresh(
    tmp_path: Path, below: str, above: str, result: dict[str, object]
) -> None:
    write(tmp_path, "base.yaml", below)
    assert read_extended(write(tmp_path, "top.yaml", f"extends: base.yaml\n{above}\n")) == result


def test_extends_in_a_circle_and_into_nothing(tmp_path: Path, example_registry: Registry) -> None:
    write(tmp_path, "a.yaml", "extends: b.yaml\n")
    path = write(tmp_path, "b.yaml", "extends: a.yaml\n")
    assert "in a circle" in problems(example_registry, path)[0]
    missing = write(tmp_path, "c.yaml", "extends: d.yaml\n")
    assert problems(example_registry, missing)[0].startswith(f"{missing}: `extends`: there is no recipe")
    wrong = write(tmp_path, "e.yaml", "extends: [a.yaml]\n")
    assert "must be the path of one recipe" in problems(example_registry, wrong)[0]


def test_every_problem_is_listed_with_its_place_and_the_nearest_key(
    tmp_path: Path, example_registry: Registry
) -> None:
    path = write(
        tmp_path,
        "r.yaml",
        """
name: one
sed: 3
codec: {chekpoint: x}
encoder: {name: fake, hop_sample: 3}
quantizer: {name: nested, squeeze: {facto: 3}}
decoder: fake
backbone: {dim: 3}
head: {name: nextchunk}
sampler: {name: warm, temperature: hot}
data: {trian: {corpus: tone}, valid: {corpus: tone, minuts: 3}, test: {corpus: ton}}
stages: [{run: count, step: 3}, {run: cuont}, {steps: 1}, 7]
launch: {on: loca}
""",
    )
    lines = {line.removeprefix(f"{path}: ") for line in problems(example_registry, path)}
    expected = [
        "sed: no such key. Did you mean 'seed'?",
        "codec.checkpoint: is missing",
        "codec.chekpoint: no such key. Did you mean 'checkpoint'?",
        "encoder.fake.hop_sample: no such key. Did you mean 'hop_samples'?",
        "quantizer.nested.squeeze.facto: no such key. Did you mean 'factor'?",
        "decoder: given 'fake', but a block such as {name: fake} is needed.",
        "backbone: `name` is missing: it says which one this is. Allowed: chunked, fake.",
        "head: no head is called 'nextchunk'. Did you mean 'next_chunk'? Installed: fake. "
        "'next_chunk' comes with wavslm-next-chunk, in a clone of wavslm: "
        "pip install ./plugins/wavslm-next-chunk",
        "sampler.warm.temperature: given 'hot'; it should be a valid number",
        "data.trian: no such key. Did you mean 'train'?",
        "data.valid.tone.minuts: no such key. Did you mean 'minutes'?",
        "data.test: no corpus is called 'ton'. Did you mean 'tone'? Installed: shelf, tone.",
        "stages.0.count.step: no such key. Did you mean 'steps'?",
        "stages.1: no stage is called 'cuont'. Did you mean 'count'? "
        "Installed: break, count, descend, learn, train_patiently.",
        "stages.2: `run` is missing",
        "stages.3: given 7, but a block such as {run: break} is needed.",
        "launch: no launcher is called 'loca'. Did you mean 'local'?",
    ]
    for said in expected:
        assert any(line.startswith(said) for line in lines), f"{said!r} not among {lines}"
    assert len(lines) == len(expected)


@pytest.mark.parametrize("data", ["3", "[]", "tone"])
def test_data_of_another_type_says_what_is_needed(
    tmp_path: Path, example_registry: Registry, data: str
) -> None:
    (line,) = problems(example_registry, write(tmp_path, "r.yaml", f"name: a\ndata: {data}\n"))
    assert ": data: given" in line
    assert "{corpus: " in line


def test_an_environment_without_parts_says_what_to_install(tmp_path: Path) -> None:
    path = write(tmp_path, "r.yaml", "name: a\nencoder: {name: wavlm}\nquantizer: {bits: 3}\n")
    lines = problems(Registry(), path)
    assert lines[0].endswith(
        "encoder: no encoder is called 'wavlm'. No encoder is installed. "
        "'wavlm' comes with wavslm-wavlm, in a clone of wavslm: pip install ./plugins/wavslm-wavlm"
    )
    assert "quantizer: `name` is missing" in lines[1]
    check(load_recipe(write(tmp_path, "empty.yaml", "name: a\n"), registry=Registry()))


def test_one_block_by_itself(example_registry: Registry) -> None:
    config = config_from_dict(
        "sampler", {"name": "warm", "temperature": 2}, where="s", registry=example_registry
    )
    assert config.model_dump() == {"name": "warm", "temperature": 2.0}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"name": "wram"}, "s: no sampler is called 'wram'. Did you mean 'warm'?"),
        ({"temperature": 1}, "s: `name` is missing: it says which one this is. Allowed: fake, warm"),
        ({"name": "warm", "temp": 1}, "s.warm.temp: no such key. Did you mean 'temperature'?"),
    ]
    for document, said in wrong:
        with pytest.raises(RecipeError) as caught:
            config_from_dict("sampler", document, where="s", registry=example_registry)
        assert said in str(caught.value)


class DuelConfig(StageConfig):
    """Options that hold blocks of a role."""

    run: Literal["duel"] = "duel"
    sampler: Annotated[SamplerConfig, Block("sampler")] | None = None
    others: tuple[Annotated[SamplerConfig, Block("sampler")], ...] = ()


def test_a_block_is_of_a_role_that_there_is() -> None:
    with pytest.raises(PluginError, match=r"'normalizer'.* no such role. The roles are: encoder, quantizer"):
        Block("normalizer")


def test_an_option_holds_a_block_of_a_role(
    example_loaded: plugins.Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "load", lambda: example_loaded)
    given = {"sampler": [{"name": "fake"}, {"name": "warm"}], "others": [{"name": "warm", "temperature": 2}]}
    with pytest.raises(ValidationError, match="no sampler is called 'chain'"):
        DuelConfig.model_validate(given)
    config = DuelConfig.model_validate(given | {"sampler": {"name": "fake"}})
    assert config.sampler.registered_name() == "fake"
    for mode in ("python", "json"):
        dumped = config.model_dump(mode=mode)
        assert dumped["others"] == ({"name": "warm", "temperature": 2.0},) or dumped["others"] == [
            {"name": "warm", "temperature": 2.0}
        ]
        assert DuelConfig.model_validate(dumped) == config
    with pytest.raises(ValidationError) as caught:
        DuelConfig.model_validate({"others": [{"name": "warm", "temp": 2, "temperature": "hot"}]})
    (problem,) = config_problems(caught.value, DuelConfig, where="stages.0.duel")
    assert problem.where == "stages.0.duel.others.0"
    assert "warm.temperature: given 'hot'; it should be a valid number" in problem.text
    assert "warm.temp: no such key. Did you mean 'temperature'?" in problem.text
    assert DuelConfig.model_json_schema()["properties"]["others"]["items"]["required"] == ["name"]
