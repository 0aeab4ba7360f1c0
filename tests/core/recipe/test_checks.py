"""Linked numbers, and what must hold between parts and between parts and stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from wavslm_core.errors import DataError, RecipeError
from wavslm_core.parts.configs import StageConfig
from wavslm_core.parts.registry import Registry
from wavslm_core.recipe.checks import absent_modules, check
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.resolving import resolve

FAKES: dict[str, Any] = {
    role: {"name": "fake"} for role in ("encoder", "quantizer", "decoder", "backbone", "head")
}


def recipe(registry: Registry, **blocks: Any) -> Recipe:
    given = {key: value for key, value in {**FAKES, **blocks}.items() if value is not None}
    return recipe_from_dict({"name": "one", **given}, registry=registry)


def problems(registry: Registry, **blocks: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        check(recipe(registry, **blocks))
    return [line.removeprefix("recipe: ") for line in str(caught.value).splitlines()]


def test_changing_one_part_asks_for_no_edit_in_the_others(example_registry: Registry) -> None:
    changed = recipe(
        example_registry, encoder={"name": "fake", "dim": 40}, quantizer={"name": "fake", "bits": 7}
    )
    checked = check(changed)
    document = checked.to_dict()
    assert document["quantizer"]["input_dim"] == document["decoder"]["input_dim"] == 40
    assert document["backbone"]["input_dim"] == 40
    assert document["head"]["vocab_size"] == document["backbone"]["vocab_size"] == 128
    assert checked.codec_facts().token_rate_hz == 50
    assert resolve(checked) == checked == resolve(changed)


def test_a_given_number_that_disagrees_is_told_once(example_registry: Registry) -> None:
    assert problems(example_registry, head={"name": "fake", "vocab_size": 2048, "input_dim": 3}) == [
        "head.input_dim is 3, but the backbone has output_dim 16. "
        "Leave head.input_dim out to take it from the backbone.",
        "head.vocab_size is 2048, but the quantizer has vocab_size 32. "
        "Leave head.vocab_size out to take it from the quantizer.",
    ]


def test_a_missing_source_says_three_ways_out(example_registry: Registry) -> None:
    lines = problems(
        example_registry, quantizer=None, decoder=None, backbone={"name": "fake", "input_dim": 8}
    )
    assert lines == [
        f"{field} is taken from quantizer.vocab_size, but the recipe has no quantizer. Add a `quantizer:` "
        f"block, name a trained codec with `codec: {{checkpoint: …}}`, or give {field}."
        for field in ("backbone.vocab_size", "head.vocab_size")
    ]
    backbone = {"name": "fake", "input_dim": 8, "vocab_size": 9}
    head = {"name": "fake", "vocab_size": 9}
    check(recipe(example_registry, encoder=None, quantizer=None, decoder=None, backbone=backbone, head=head))


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        (
            {"decoder": {"name": "fake", "hop_samples": 160}},
            "gives 50 frames a second (16000 Hz / 320 samples)",
        ),
        ({"quantizer": {"name": "nested"}}, "the quantizer is not causal"),
        (
            {"backbone": {"name": "chunked", "chunk_tokens": 4}, "head": {"name": "fake", "chunk_tokens": 6}},
            "head.chunk_tokens is 6, but the backbone works in chunks of 4 tokens",
        ),
        ({"backbone": {"name": "chunked", "causal": False}}, "the backbone is not causal"),
    ],
)
def test_parts_that_do_not_fit(example_registry: Registry, blocks: dict[str, Any], said: str) -> None:
    lines = problems(example_registry, **blocks)
    assert len(lines) == 1
    assert said in lines[0]


def test_a_backbone_with_a_table_of_its_own_may_follow_any_quantizer(example_registry: Registry) -> None:
    check(
        recipe(
            example_registry, quantizer={"name": "nested"}, backbone={"name": "fake", "input": "embedding"}
        )
    )


def test_stages_say_what_they_lack(example_registry: Registry) -> None:
    lines = problems(example_registry, backbone=None, head=None, stages=[{"run": "count"}, {"run": "learn"}])
    assert lines == [
        "stages.1.learn needs backbone and head, which the recipe lacks. "
        "Add `backbone: {name: …}` and `head: {name: …}`.",
        "stages.1.learn needs speech, but the recipe has no `data:` block. Add `data: {corpus: …}`.",
    ]
    lines = problems(
        example_registry,
        backbone={"name": "chunked"},
        stages=[{"run": "learn"}],
        data={"train": {"corpus": "tone"}},
    )
    assert lines == ["stages.0.learn needs the split 'valid'. Add `valid: {corpus: …}` to the `data:` block."]
    lines = problems(
        example_registry, backbone={"name": "chunked"}, stages=[{"run": "learn"}], data={"corpus": "tone"}
    )
    assert lines == [
        "stages.0.learn runs chunk by chunk, but the backbone 'chunked' does not stream as configured. "
        "Use a causal configuration of it."
    ]


def test_data_by_split_and_for_all(example_registry: Registry) -> None:
    one = recipe(example_registry, data={"corpus": "tone", "minutes": 3}).data
    assert one.corpus_for("test").model_dump() == {"corpus": "tone", "minutes": 3}
    two = recipe(example_registry, data={"train": {"corpus": "shelf", "path": "x"}}).data
    assert two.corpus_for("train").registered_name() == "shelf"
    with pytest.raises(DataError, match="no split 'valid', only train"):
        two.corpus_for("valid")


@pytest.mark.parametrize(
    "data", [{"corpus": "tone", "minutes": 3}, {"train": {"corpus": "tone", "minutes": 3}}]
)
def test_augmentation_is_a_block_beside_the_corpora(example_registry: Registry, data: dict[str, Any]) -> None:
    plain = resolve(recipe(example_registry, data=data))
    off = resolve(recipe(example_registry, data={**data, "augment": None}))
    assert off.digest() == plain.digest(), "runs from before go on"
    noisy = resolve(recipe(example_registry, data={**data, "augment": {"noise": {"snr_db": [3, 9]}}}))
    assert noisy.data is not None
    assert noisy.data.corpus_for("train") == plain.data.corpus_for("train")  # type: ignore[union-attr]
    saved = noisy.to_dict()["data"]
    assert saved["augment"] == {
        "target": "same",
        "noise": {"probability": 0.5, "snr_db": [3.0, 9.0], "colour": [0.0, 2.0]},
    }
    assert resolve(recipe(example_registry, data=saved)).digest() == noisy.digest() != plain.digest()


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        (
            {"nois": {}},
            "data.augment.nois: no such key. Did you mean 'noise'? Allowed: target, overlap, noise,",
        ),
        (
            {"noise": {"snr_db": [30, 5]}},
            "data.augment.noise.snr_db: given [30.0, 5.0]; the lower end of a range",
        ),
        ({"noise": {"snr_db": 5}}, "data.augment.noise.snr_db: given 5; it should be a list"),
        (
            {"noise": {"snr_db": [5, float("inf")]}},
            "data.augment.noise.snr_db.1: given inf; it should be a finite",
        ),
        (
            {"noise": {"probability": 1.5}},
            "data.augment.noise.probability: given 1.5; it should be less than",
        ),
        ({"overlap": {"share": [-0.5, 1]}}, "data.augment.overlap.share.0: given -0.5; it should be greater"),
        (
            {"chunk_drop": {"seconds": [0, 0.1]}},
            "data.augment.chunk_drop.seconds.0: given 0; it should be greater",
        ),
        ({"frequency_drop": {"bands": [0, 2]}}, "data.augment.frequency_drop.bands.0: given 0; it should be"),
        ({"target": "noisy"}, "data.augment.target: given 'noisy'; it should be 'same' or 'clean'"),
        ("noise", "data.augment: given 'noise'; "),
    ],
)
def test_wrong_augmentation_is_told_with_its_place(
    example_registry: Registry, augment: Any, said: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(example_registry, data={"corpus": "tone", "minutes": 3, "augment": augment})
    assert said in str(caught.value)


def codec_folder(folder: Path, document: dict[str, Any]) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(document))
    return str(folder)


def with_codec(registry: Registry, checkpoint: str, **blocks: Any) -> Recipe:
    codec = {"encoder": None, "quantizer": None, "decoder": None, "codec": {"checkpoint": checkpoint}}
    return recipe(registry, **{**codec, **blocks})


def test_a_codec_of_ours_gives_its_facts(tmp_path: Path, example_registry: Registry) -> None:
    parts = {
        role: config.model_dump() for role, config in resolve(recipe(example_registry)).part_configs.items()
    }
    codec = {role: parts[role] for role in ("encoder", "quantizer", "decoder")}
    codec["quantizer"]["bits"] = 6
    document = {"format": "wavslm-codec", "version": 1, "parts": codec}
    loaded = check(with_codec(example_registry, codec_folder(tmp_path / "codec", document)))
    assert loaded.codec_facts().quantizer.vocab_size == 64
    saved = loaded.to_dict()
    assert "encoder" not in saved
    assert saved["head"]["vocab_size"] == 64


def test_codecs_of_other_formats_and_well_known_ids(tmp_path: Path, example_registry: Registry) -> None:
    local = resolve(with_codec(example_registry, codec_folder(tmp_path / "codec", {"tiny": 12})))
    assert local.facts["backbone"].input_dim == 12
    known = check(with_codec(example_registry, "example/tiny"))
    assert known.codec_facts().encoder.output_dim == 24


def test_a_hub_id_in_the_local_cache(
    tmp_path: Path, example_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    cached = tmp_path / "models--example--cached"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc")
    (cached / "snapshots" / "abc").mkdir(parents=True)
    (cached / "snapshots" / "abc" / "config.json").write_text('{"tiny": 36}')
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    loaded = resolve(with_codec(example_registry, "example/cached"))
    assert loaded.codec_facts().encoder.output_dim == 36


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"tiny": 12, "speaks": True}, "holds a language model, but a codec is needed here"),
        (
            {"other": 1},
            "is in no known checkpoint format (known: wavslm-codec, wavslm-speech-lm, wavslm-encoder, tiny)",
        ),
        ({"format": "wavslm-codec", "version": 9, "parts": {}}, "is version 9 of its format"),
        ({"format": "wavslm-codec", "version": 1, "parts": {}}, "names no encoder, no quantizer, no decoder"),
        (
            {
                "format": "wavslm-codec",
                "version": 1,
                "parts": {"encoder": {"name": "wavlm"}, "quantizer": {}, "decoder": {}},
            },
            "'wavlm' comes with wavslm-wavlm, in a clone of wavslm: pip install ./plugins/wavslm-wavlm",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_used(
    tmp_path: Path, example_registry: Registry, document: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        check(with_codec(example_registry, codec_folder(tmp_path / "codec", document)))
    (line,) = str(caught.value).splitlines()
    assert line.startswith("recipe: codec.checkpoint: ")
    assert said in line


def test_a_checkpoint_that_is_nowhere_and_one_beside_blocks(example_registry: Registry) -> None:
    for checkpoint, said in [
        ("a/b", "download it first: hf download a/b"),
        ("./a/b", "Check the path, or give a folder"),
    ]:
        with pytest.raises(RecipeError) as caught:
            check(with_codec(example_registry, checkpoint))
        assert said in str(caught.value)
    with pytest.raises(RecipeError, match=r"codec\.checkpoint and the encoder block are both given"):
        check(with_codec(example_registry, "example/tiny", encoder={"name": "fake"}))


def test_modules_that_are_not_installed_are_told_be_it_in_packages_that_are_not_there_either() -> None:
    class Needy(StageConfig):
        run: Literal["needy"] = "needy"

        def needs_modules(self) -> dict[str, str]:
            return dict.fromkeys(("json", "hammer", "hammer.head", "json.hammer"), "pip install hammer")

    lines = absent_modules(Needy(), "needy_2")
    assert [line.split()[3].rstrip(",") for line in lines] == ["hammer", "hammer.head", "json.hammer"]
    assert lines[0].startswith("stage needy_2 needs hammer, which is not installed. Install it with: pip")
