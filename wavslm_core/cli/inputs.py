"""What the verbs have in common: files and devices named on the command line, and models by name."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import typer

from wavslm_core.errors import CheckpointError, DataError, NoCodecError, RecipeError, WavslmError
from wavslm_core.machine.devices import choose_device
from wavslm_core.machine.terminal import echo

if TYPE_CHECKING:
    import torch

    from wavslm_core.model.speech_lm import SpeechLM

DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", help="auto (the first CUDA GPU, else the CPU), cpu, cuda, cuda:1, … or mps (untried)."
    ),
]
"""The option `--device` of the verbs that compute."""


@dataclass(frozen=True)
class Found:
    """A file to work on."""

    file: Path
    relative: Path
    """Its path below the folder that was named, or its name."""
    named: bool
    """Named itself, so it has to be usable; what a folder holds besides is skipped."""
    problem: str = ""
    """Why it cannot be opened, to follow its name."""


def find_files(paths: Sequence[Path], suffixes: Collection[str]) -> list[Found]:
    """Return the files that were named, and those with one of the suffixes in folders that were named.

    Folders are read as those of corpora are: through links, but not what is hidden.
    Raises: WavslmError for a path that does not exist, a folder without such files, and the folder of a run:
    where a pattern means several runs, the first is the model and the others would be its inputs.
    """
    from wavslm_core.data.audio_files import AUDIO_SUFFIXES, READABLE_FORMATS
    from wavslm_core.data.audio_tree import files_below
    from wavslm_core.run.folder import RECIPE_FILE

    found: list[Found] = []
    for path in paths:
        if path.is_dir():
            try:
                is_run = (path / RECIPE_FILE).is_file()
                inside = [] if is_run else list(files_below(path, suffixes))
            except OSError as error:
                raise WavslmError(
                    f"folder {path} cannot be read: {error.strerror}; check its permissions"
                ) from error
            if is_run:
                raise WavslmError(
                    f"{path} is the folder of a run, that is, another model: name one model, and then files "
                    f"or folders of files. What the run itself has spoken is in {path / 'samples'}"
                )
            if not inside:
                wanted = READABLE_FORMATS if suffixes is AUDIO_SUFFIXES else ", ".join(sorted(suffixes))
                raise WavslmError(f"folder {path} holds no {wanted} file; name another folder, or files")
            found.extend(Found(file.path, Path(file.name), False, file.problem) for file in inside)
        elif path.exists():
            found.append(Found(path, Path(path.name), named=True))
        else:
            raise WavslmError(f"{path} does not exist; give files or folders")
    return found


def output_files(found: Sequence[Found], out: Path, *, old: Collection[str], new: str) -> list[Path]:
    """Return where each file's result goes: the same tree below `out`, suffix `new` in the place of `old`.

    Raises: WavslmError when two files would have their results in one place.
    """
    sources: dict[Path, Path] = {}
    outputs = []
    for item in found:
        known = item.relative.suffix.lower() in old
        bare = item.relative.stem if known else item.relative.name
        output = out / item.relative.with_name(f"{bare}{new}")
        # What cannot be opened has no result.
        source = item.file if item.problem else sources.setdefault(output, item.file)
        if source != item.file and not _same(source, item.file):
            raise WavslmError(
                f"{source} and {item.file} would both be written to {output}. Rename one of them, or name "
                "them in two commands with different --out folders"
            )
        outputs.append(output)
    return outputs


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        # A link to nothing.
        return False


Content = TypeVar("Content")


class Files(Generic[Content]):
    """Reads files one after the other; those of folders that cannot be used are skipped and listed."""

    def __init__(self, found: Sequence[Found], read: Callable[[Path], Content]) -> None:
        self.found = found
        self.skipped = 0
        self._read = read

    def __iter__(self) -> Iterator[tuple[int, Content]]:
        """See `each`."""
        return self.each(lambda files: None)

    def each(self, advance: Callable[[float], None]) -> Iterator[tuple[int, Content]]:
        """Yield each usable file's place in `found` and what it holds; `advance` by one after every file.

        Raises: what `read` raises for a file that was named itself; WavslmError when none can be used.
        """
        for place, item in enumerate(self.found):
            try:
                if item.problem:
                    raise WavslmError(f"{item.file} {item.problem}")
                content = self._read(item.file)
            except WavslmError as error:
                self.skip(place, error)
            else:
                yield place, content
            advance(1)
        if self.skipped == len(self.found):
            raise WavslmError(f"none of the {self.skipped} files can be used; see above why")

    def skip(self, place: int, error: WavslmError) -> None:
        """Leave a file of a folder out, saying why. Raises: the error for a file that was named itself."""
        if self.found[place].named:
            raise error
        echo(f"skipped: {error}", err=True)
        self.skipped += 1

    @contextmanager
    def writing(self, place: int) -> Iterator[None]:
        """Leave a file of a folder out when the name of what the block writes of it is too long."""
        try:
            yield
        except DataError as error:
            if getattr(error.__cause__, "errno", None) != errno.ENAMETOOLONG:
                raise
            self.skip(place, error)

    @property
    def skipped_in_words(self) -> str:
        return f", {self.skipped} skipped" if self.skipped else ""


class Recordings(Files["torch.Tensor"]):
    """Reads the waveform (S,) of audio files."""

    def __init__(self, found: Sequence[Found], *, sample_rate_hz: int) -> None:
        from wavslm_core.data.audio import read_audio

        self.sample_rate_hz = sample_rate_hz
        super().__init__(found, partial(read_audio, sample_rate_hz=sample_rate_hz))


def counted(number: int, what: str) -> str:
    """Return "1 recording", "2 recordings"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def usable_device(name: str, *, cpu_only: str | None = None) -> torch.device:
    """Return the device that `--device NAME` means here; see `choose_device`. Raises: WavslmError."""
    return choose_device(name, option="--device", cpu_only=cpu_only)


def load_speech_lm(model: str, codec: str | None, *, device: torch.device) -> SpeechLM:
    """Load a language model by folder, run folder, name or hub id, with the codec it names or another one."""
    from wavslm_core.model.codec import Codec
    from wavslm_core.model.speech_lm import SpeechLM

    given = None if codec is None else Codec.load(codec, device=device)
    try:
        return SpeechLM.load(model, codec=given, device=device)
    except NoCodecError as error:
        raise CheckpointError(f"{error.what}; give another one with --codec") from error


def sampler_options(name: str | None, options: Sequence[str]) -> dict[str, Any] | None:
    """Return `{"name": …, option: value}` for `--sampler NAME --set option=value …`, None when not given.

    Raises: WavslmError for options without a sampler, and for what is not `option=value`.
    """
    from wavslm_core.recipe.yaml import parse_yaml

    if name is None:
        if options:
            raise WavslmError(f"--set {options[0]} needs --sampler NAME to say whose option it is")
        return None
    chosen: dict[str, Any] = {"name": name}
    for option in options:
        key, separator, value = option.partition("=")
        try:
            chosen[key] = parse_yaml(value, source=f"--set {key}")
        except RecipeError:
            separator = ""
        if not separator or not key:
            raise WavslmError(f"--set {option} must read option=value, for instance --set temperature=0.8")
    return chosen
