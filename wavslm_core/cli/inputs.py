"""What the verbs have in common: files named on the command line, and models by name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavslm_core.errors import WavslmError

if TYPE_CHECKING:
    from wavslm_core.speech_lm import SpeechLM


def find_files(paths: Sequence[Path], suffixes: Collection[str]) -> list[tuple[Path, Path]]:
    """Return (file, its path relative to what was named) for files, and for folders searched through.

    Raises: WavslmError for a path that does not exist and a folder without such files.
    """
    found: list[tuple[Path, Path]] = []
    for path in paths:
        if path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in suffixes]
            if not inside:
                raise WavslmError(f"folder {path} holds no {_listed(suffixes)} files")
            found.extend((file, file.relative_to(path)) for file in inside)
        elif path.exists():
            found.append((path, Path(path.name)))
        else:
            raise WavslmError(f"{path} does not exist; give files or folders")
    return found


def _listed(suffixes: Collection[str]) -> str:
    return ", ".join(sorted(suffixes))


def load_speech_lm(model: str, codec: str | None) -> SpeechLM:
    """Load a language model by folder, run folder or hub id, with the codec it names or another one."""
    from wavslm_core.codec import Codec
    from wavslm_core.speech_lm import SpeechLM

    return SpeechLM.load(model, codec=None if codec is None else Codec.load(codec))


def sampler_options(name: str | None, options: Sequence[str]) -> dict[str, Any] | None:
    """Return `{"name": …, option: value}` for `--sampler NAME --set option=value …`, None when not given.

    Raises: WavslmError for options without a sampler, or without `=`.
    """
    import yaml

    if name is None:
        if options:
            raise WavslmError(f"--set {options[0]} needs --sampler NAME to say whose option it is")
        return None
    chosen: dict[str, Any] = {"name": name}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator:
            raise WavslmError(f"--set {option} must read option=value, for instance --set temperature=0.8")
        chosen[key] = yaml.safe_load(value)
    return chosen
