"""The `config.json` of a checkpoint folder: whose format it is, and which parts it names.

Free of torch and of weights, so that recipes can be checked against checkpoints in an instant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from wavslm_core.errors import CheckpointError, WavslmError, summary
from wavslm_core.machine.json_files import read_object
from wavslm_core.parts.blocks import config_from_dict
from wavslm_core.parts.checkpoints import WORDS, Kind, one
from wavslm_core.parts.configs import Config, DiscriminatorConfig, FormatConfig, PartConfig, Role
from wavslm_core.parts.registry import MEND, Registry
from wavslm_core.parts.roles import CODEC_ROLES, LANGUAGE_ROLES

CONFIG_FILE = "config.json"
BESIDE_FILE = "wavslm.json"
"""What we know of a model and another project's format has no place for, beside its `config.json`."""
AnswerT = TypeVar("AnswerT")
OUR_FORMATS: dict[str, Kind] = {
    "wavslm-codec": "codec",
    "wavslm-speech-lm": "speech_lm",
    "wavslm-encoder": "encoder",
}
DISCRIMINATORS_FORMAT = "wavslm-discriminators"
DISCRIMINATORS = "discriminators"
"""Where a run keeps what its codec was trained against."""
VERSION = 1
KIND_ROLES: dict[Kind, tuple[Role, ...]] = {
    "codec": CODEC_ROLES,
    "speech_lm": LANGUAGE_ROLES,
    "encoder": CODEC_ROLES[:1],
}
"""Roles that a folder of each kind names."""


def read_document(folder: Path, *, name: str = CONFIG_FILE) -> dict[str, Any]:
    """Return the folder's `config.json`, or a document of another name. Raises: CheckpointError."""
    try:
        return read_object(folder / name, remedy="Fetch or save it again", error=CheckpointError)
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no {name}; is it a checkpoint folder?") from None


def is_hub_id(reference: str) -> bool:
    """Tell whether a reference may be a hub id, owner/name, when there is no such folder."""
    return reference.count("/") == 1 and not reference.startswith((".", "/", "~"))


def inside_run(folder: Path, kind: Kind) -> Path:
    """Return the `codec`, `speech_lm` or `encoder` folder inside a run's folder; any other folder itself.

    Raises: CheckpointError for a run that has others of these only.
    """
    held = held_models(folder)
    if not held:
        return folder
    if kind not in held:
        raise CheckpointError(
            f"{folder} holds {one(held[0])}, but no {WORDS[kind]} yet. Let the run train it, or name "
            "another folder"
        )
    return folder / kind


def held_models(folder: Path) -> list[Kind]:
    """Return which kinds of models are inside a run's folder; none where it is a model itself."""
    if (folder / CONFIG_FILE).exists():
        return []
    return [each for each in KIND_ROLES if (folder / each).is_dir()]


def first_format(
    registry: Registry, question: Callable[[FormatConfig], AnswerT | None]
) -> tuple[FormatConfig, AnswerT] | str:
    """Return the first registered format that has an answer to a question, and the answer.

    When none has, return remarks in parentheses, with a space before each, on the formats that could not be
    asked: one that raises is no reason to do without the others.
    """
    remarks = ""
    for config_class in registry.config_classes("format"):
        try:
            config = cast(FormatConfig, config_class())
            answer = question(config)
        except Exception as error:
            entry = registry.entry("format", config_class.registered_name())
            remarks += f" ({entry.described} fails: {summary(error)}; {MEND})"
            continue
        if answer is not None:
            return config, answer
    return remarks


def recognise(
    document: dict[str, Any], *, kind: Kind, source: str, registry: Registry
) -> FormatConfig | None:
    """Return the format that a document is in, None for our own.

    Raises: CheckpointError when no format knows it, or when it does not hold a `kind`.
    """
    ours = OUR_FORMATS.get(str(document.get("format")))
    held, found = ours, None
    if held is None:
        answered: tuple[FormatConfig, Kind] | str
        answered = first_format(registry, lambda config: _kind(config.holds(document)))
        if isinstance(answered, str):
            known = ", ".join([*OUR_FORMATS, *registry.names("format")])
            raise CheckpointError(
                f"{source} is in no known checkpoint format (known: {known}). Install the plugin that reads "
                f"it.{registry.not_installed('format')}{answered}{registry.failures()}"
            )
        found, held = answered
    if held != kind:
        raise CheckpointError(f"{source} holds {one(held)}, but {one(kind)} is needed here")
    if ours is not None:
        _check_version(document, source=source)
    return found


def _check_version(document: Mapping[str, Any], *, source: str) -> None:
    if document.get("version") != VERSION:
        raise CheckpointError(
            f"{source} is version {document.get('version')} of its format, this release reads version "
            f"{VERSION}. Update wavslm-core"
        )


def _kind(held: Any) -> Kind | None:
    if held is not None and held not in get_args(Kind):
        raise ValueError(f"holds() gave {held!r}, not one of {', '.join(get_args(Kind))} or None")
    return cast("Kind | None", held)


def format_part_configs(
    found: FormatConfig, document: dict[str, Any], *, source: str, registry: Registry
) -> dict[Role, PartConfig]:
    """Return role → config for a document that `found` recognised.

    Raises: CheckpointError, naming the format's distribution when it is the format that fails.
    """
    try:
        return found.part_configs(document)
    except WavslmError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{source} cannot be read: {registry.described(found)} fails: {summary(error)}. Check that the "
            "folder is whole, or report it to the authors of that plugin; --traceback shows where"
        ) from error


def our_part_configs(
    document: Mapping[str, Any], *, kind: Kind, source: str, registry: Registry
) -> dict[Role, PartConfig]:
    """Return role → config for the parts that a document in our own format names.

    Raises: CheckpointError for a damaged document; RecipeError for parts or options that are unknown.
    """
    parts = document.get("parts")
    parts = parts if isinstance(parts, dict) else {}
    missing = [role for role in KIND_ROLES[kind] if role not in parts]
    if missing:
        raise CheckpointError(f"{source} names no {', no '.join(missing)}. Save it again")
    return {
        role: cast(
            PartConfig, config_from_dict(role, parts[role], where=f"{source}: {role}", registry=registry)
        )
        for role in KIND_ROLES[kind]
    }


def discriminators_in(folder: Path) -> Path:
    """Return the folder of discriminators inside a run's folder; any other folder itself."""
    inside = folder / DISCRIMINATORS
    return inside if inside.is_dir() else folder


def discriminator_configs(
    folder: Path, *, registry: Registry, wanted: Sequence[DiscriminatorConfig] = ()
) -> tuple[DiscriminatorConfig, ...]:
    """Return the configs of the discriminators that a folder holds; `wanted`: what they have to be.

    Raises: CheckpointError for others and for a folder of something else; RecipeError for unknown options.
    """
    document = read_document(folder)
    blocks = document.get("discriminators")
    if document.get("format") != DISCRIMINATORS_FORMAT or not isinstance(blocks, list) or not blocks:
        given = str(document.get("format"))[:100]
        raise CheckpointError(
            f"{folder} holds no discriminators: the format of its {CONFIG_FILE} is {given!r}, not "
            f"{DISCRIMINATORS_FORMAT!r}. Name the folder `{DISCRIMINATORS}` of a run that trained with some"
        )
    _check_version(document, source=str(folder))
    configs = [
        config_from_dict(
            "discriminator", block, where=f"{folder}: discriminators.{number}", registry=registry
        )
        for number, block in enumerate(blocks)
    ]
    if wanted and configs != list(wanted):
        raise CheckpointError(
            f"the discriminators in {folder} are {_options(configs)}, but {_options(wanted)} are asked for. "
            "Leave `discriminators` out to take them as they are, give the same options, or take new ones"
        )
    return tuple(cast(DiscriminatorConfig, config) for config in configs)


def discriminator_problems(
    checkpoint: str, wanted: Sequence[DiscriminatorConfig], registry: Registry
) -> Iterator[str]:
    """Yield why training cannot start from the discriminators in a folder."""
    folder = Path(checkpoint).expanduser()
    try:
        if not folder.is_dir():
            raise CheckpointError(
                f"there is no folder '{checkpoint}'. Name one that a run left, or a stage before this one"
            )
        discriminator_configs(discriminators_in(folder), registry=registry, wanted=wanted)
    except WavslmError as error:
        yield from str(error).splitlines()


def _options(configs: Sequence[Config]) -> str:
    """Return what configs are, with the options that are not the default."""
    given = [config.model_dump(mode="json", exclude_defaults=True) for config in configs]
    texts = [", ".join(f"{key}: {value}" for key, value in options.items()) for options in given]
    return " and ".join(
        f"{config.registered_name()} {{{text}}}" for config, text in zip(configs, texts, strict=True)
    )
