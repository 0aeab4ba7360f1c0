"""What must hold between parts, and between parts and stages. Compares facts; loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from wavslm_core.errors import WavslmError, summary
from wavslm_core.parts.configs import Role, StageConfig
from wavslm_core.parts.facts import (
    BackboneFacts,
    DecoderFacts,
    EncoderFacts,
    HeadFacts,
    QuantizerFacts,
    SamplerFacts,
    sampler_problem,
)
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.recipe.model import Recipe, ResolvedRecipe
from wavslm_core.recipe.resolving import Links, link, resolved


def check(recipe: Recipe, *, runs_dir: Path | None = None) -> ResolvedRecipe:
    """Compare the parts' facts and the stages' needs; return the recipe resolved.

    `runs_dir`: what this recipe's run already holds there need not be left by a stage.
    Raises: RecipeError listing every problem.
    """
    links = link(recipe)
    problems = [*links.unfilled, *links.conflicts]
    for compare in (_widths, _rates, _language_model):
        problems += compare(links)
    problems += _stages(recipe, links)
    recipe.raise_problems(dict.fromkeys(problems))
    found = resolved(recipe, links)
    problems += _order(found, None if runs_dir is None else runs_dir / found.run_name)
    for index, stage in enumerate(found.stages):
        where = f"stages.{index}.{stage.registered_name()}"
        problems += [f"{where}{problem}" for problem in _stage_problems(stage, found)]
    recipe.raise_problems(dict.fromkeys(problems))
    return found


def _order(recipe: Recipe, run_dir: Path | None) -> Iterator[str]:
    """What a stage reads was left by an earlier one, or is in the run's folder already."""
    left = {"codec"} if recipe.codec is not None else set()
    named: list[str] = []
    for index, (name, stage) in enumerate(recipe.named_stages()):
        absent: dict[str, list[str]] = {}
        asked = "reads"
        try:
            reads = dict(stage.reads())
            asked = "leaves"
            leaves = stage.leaves()
            leaves = None if leaves is None else tuple(leaves)
        except Exception as error:
            yield f"stages.{index}.{stage.registered_name()}{_fails(stage, recipe, asked, error)}"
            return
        for path, remedy in reads.items():
            if path not in left and not (run_dir is not None and (run_dir / path).exists()):
                absent.setdefault(remedy, []).append(path)
        for remedy, paths in absent.items():
            where = f"stages.{index}.{stage.registered_name()}"
            remedy += _others(paths, named)
            yield f"{where} reads {' and '.join(paths)}, which no earlier stage leaves: {remedy}."
            # Told once: later stages that read it too have the same remedy.
            left.update(paths)
        if leaves is None:
            return
        named += [f"{name}/{path}" for path in leaves]
        left.update(leaves, named)


def absent_modules(stage: StageConfig, name: str) -> list[str]:
    """Return which modules a stage needs that are not installed in this environment, a line each."""
    return [
        f"stage {name} needs {module}, which is not installed. Install it with: {install}; or leave out what "
        "asks for it"
        for module, install in stage.needs_modules().items()
        if not _is_installed(module)
    ]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        # Of a package that is absent itself, or stands in for one.
        return False


def _others(paths: Iterable[str], named: Iterable[str]) -> str:
    """Return what there is instead of what was asked for by a stage's name, `<stage>/<path>`."""
    wanted = {path.partition("/")[2] for path in paths}
    others = [path for path in named if path.partition("/")[2] in wanted]
    return f" ({' or '.join(others)})" if others else ""


def _stage_problems(stage: StageConfig, recipe: ResolvedRecipe) -> list[str]:
    """What a stage itself says of a recipe whose parts fit; each goes right after the stage's name."""
    asked = "needs_streaming"
    try:
        found = list(_not_streaming(stage.needs_streaming(recipe), recipe))
        asked = "problems"
        return [*found, *(f".{problem}" for problem in stage.problems(recipe))]
    except WavslmError:
        raise
    except Exception as error:
        return [_fails(stage, recipe, asked, error)]


def _fails(stage: StageConfig, recipe: Recipe, asked: str, error: Exception) -> str:
    """Return what to say of a method of a stage's config that raised, to go right after its name."""
    return (
        f".{asked}() of {recipe.registry.described(stage)} fails: {summary(error)}. Report it to the authors "
        "of that plugin, or leave the stage out"
    )


def _not_streaming(roles: Iterable[Role], recipe: ResolvedRecipe) -> Iterator[str]:
    for role in roles:
        facts = recipe.facts.get(role)
        if facts is not None and not getattr(facts, "streams", True):
            name = recipe.part_configs[role].registered_name()
            yield (
                f" runs chunk by chunk, but the {role} '{name}' does not stream as configured. "
                "Use a causal configuration of it."
            )


def _widths(links: Links) -> Iterator[str]:
    """Neighbours agree on the width of what passes between them, and on the vocabulary."""
    pairs: list[tuple[Role, str, Role, str]] = [
        ("quantizer", "input_dim", "encoder", "output_dim"),
        ("decoder", "input_dim", "quantizer", "output_dim"),
        ("head", "input_dim", "backbone", "output_dim"),
        ("head", "vocab_size", "quantizer", "vocab_size"),
    ]
    backbone = links.facts.get("backbone")
    if isinstance(backbone, BackboneFacts) and backbone.input == "features":
        pairs.append(("backbone", "input_dim", "quantizer", "output_dim"))
    for role, fact, source, source_fact in pairs:
        if role not in links.facts or source not in links.facts:
            continue
        if (role, f"{source}.{source_fact}") in links.checked:
            continue
        given = getattr(links.facts[role], fact)
        expected = getattr(links.facts[source], source_fact)
        if given != expected:
            yield (
                f"the {role} has {fact} {given}, but the {source} has {source_fact} {expected}. "
                f"Change one of the two blocks so that they agree."
            )


def _rates(links: Links) -> Iterator[str]:
    """A frame lasts as long for the decoder as for the encoder."""
    encoder = cast("EncoderFacts | None", links.facts.get("encoder"))
    decoder = cast("DecoderFacts | None", links.facts.get("decoder"))
    if encoder is None or decoder is None:
        return
    if encoder.sample_rate_hz * decoder.hop_samples != decoder.sample_rate_hz * encoder.hop_samples:
        hop = decoder.sample_rate_hz * encoder.hop_samples / encoder.sample_rate_hz
        yield (
            f"the encoder gives {encoder.sample_rate_hz / encoder.hop_samples:g} frames a second "
            f"({encoder.sample_rate_hz} Hz / {encoder.hop_samples} samples), but the decoder takes "
            f"{decoder.sample_rate_hz / decoder.hop_samples:g} ({decoder.sample_rate_hz} Hz / "
            f"{decoder.hop_samples} samples). At {decoder.sample_rate_hz} Hz its hop has to be {hop:g}."
        )


def _language_model(links: Links) -> Iterator[str]:
    """Chunks fit into each other, and nothing that the language model reads knows the future."""
    quantizer = cast("QuantizerFacts | None", links.facts.get("quantizer"))
    backbone = cast("BackboneFacts | None", links.facts.get("backbone"))
    head = cast("HeadFacts | None", links.facts.get("head"))
    if backbone is None:
        return
    if not backbone.causal:
        yield "the backbone is not causal, so it would see the tokens that it must predict. Make it causal."
    reads_features = backbone.input == "features" and quantizer is not None
    if reads_features and quantizer is not None and not quantizer.causal:
        yield (
            "the backbone reads the quantizer's features, but the quantizer is not causal: its features at "
            "a token depend on later tokens. Use a causal quantizer, or a backbone with `input: embedding`."
        )
    if reads_features and quantizer is not None and quantizer.tokens_per_frame != quantizer.frames_per_token:
        yield (
            f"the backbone reads one feature vector per token, but the quantizer gives "
            f"{quantizer.frames_per_token} for {quantizer.tokens_per_frame} "
            f"token{'s' * (quantizer.tokens_per_frame > 1)}. Use a backbone with `input: embedding`."
        )
    if head is None:
        return
    sampler = cast("SamplerFacts | None", links.facts.get("sampler"))
    if sampler is not None and (problem := sampler_problem(head, sampler)):
        yield f"the sampler does not suit the head: {problem}."
    if head.chunk_tokens % backbone.chunk_tokens:
        yield _chunks(head.chunk_tokens, "backbone", backbone.chunk_tokens)
    if reads_features and quantizer is not None and head.chunk_tokens % quantizer.chunk_tokens:
        yield _chunks(head.chunk_tokens, "quantizer", quantizer.chunk_tokens)


def _chunks(head_tokens: int, role: Role, tokens: int) -> str:
    return (
        f"head.chunk_tokens is {head_tokens}, but the {role} works in chunks of {tokens} tokens, inside "
        f"which it sees everything. Give the head a multiple of {tokens}."
    )


def _stages(recipe: Recipe, links: Links) -> Iterator[str]:
    """Every stage has the parts and the data that it needs."""
    present = set(links.parts) | ({*CODEC_ROLES} if recipe.codec is not None else set())
    for index, stage in enumerate(recipe.stages):
        where = f"stages.{index}.{stage.registered_name()}"
        absent = [role for role in stage.needs if role not in present]
        if absent:
            blocks = " and ".join(f"`{role}: {{name: …}}`" for role in absent)
            hint = f"Add {blocks}"
            if set(absent) <= {*CODEC_ROLES} and not set(stage.trains) & {*CODEC_ROLES}:
                hint += " or name a trained codec with `codec: {checkpoint: …}`"
            yield f"{where} needs {' and '.join(absent)}, which the recipe lacks. {hint}."
        try:
            splits = tuple(dict.fromkeys(stage.needed_splits()))
        except Exception as error:
            yield f"{where}{_fails(stage, recipe, 'needed_splits', error)}"
            continue
        for split in splits:
            if recipe.data is None:
                yield f"{where} needs speech, but the recipe has no `data:` block. Add `data: {{corpus: …}}`."
                break
            if not recipe.data.has(split):
                yield f"{where} needs the split '{split}'. Add `{split}: {{corpus: …}}` to the `data:` block."
