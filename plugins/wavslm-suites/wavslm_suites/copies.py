"""Copies of suites on disk: what was found of one, whatever its layout, and how tables with it are read."""

import csv
import io
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from wavslm_core.plugin import (
    AUDIO_SUFFIXES,
    AudioSource,
    DataError,
    Finding,
    Pair,
    PairList,
    Suite,
    SuiteConfig,
    printable,
    read_regular,
)

ConfigT = TypeVar("ConfigT", bound=SuiteConfig)
MOST_BYTES = 256 << 20
"""Of a table; that of sBLIMP has 6 MB."""


@dataclass
class SuiteCopy:
    """What was found at a path."""

    sources: dict[str, AudioSource] = field(default_factory=dict)
    """Name of a recording → where it is."""
    opened: Callable[[str], AudioSource] | None = None
    """Gives the recording of a name, where they are not files."""
    pairs: list[Pair] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    published_pairs: int | None = None
    remark: str = ""


class CopiedSuite(Suite[ConfigT], Generic[ConfigT]):
    """A suite of which there is a copy at `config.path`."""

    def __init__(self, config: ConfigT, *, cache_dir: Path = Path(".cache")) -> None:
        super().__init__(config, cache_dir=cache_dir)
        self.copy = SuiteCopy()

    @property
    def root(self) -> Path:
        return Path(self.config.path).expanduser()  # type: ignore[attr-defined]

    @abstractmethod
    def look(self) -> SuiteCopy:
        """Return what is there. Raises: DataError."""

    def read(self) -> PairList:
        if not self.root.exists():
            raise DataError(f"{self.root} does not exist; `wavslm suites` says where the data is to be had")
        self.copy = self.look()
        copy = self.copy
        return PairList(copy.pairs, copy.findings, copy.published_pairs, copy.remark)

    def source(self, name: str) -> AudioSource:
        opened = self.copy.opened
        return self.copy.sources[name] if opened is None else opened(name)


def audio_by_stem(folder: Path, findings: list[Finding]) -> dict[str, Path]:
    """Return stem → file of the audio files that lie in a folder; of several with one stem, none.

    Raises: DataError when it cannot be read.
    """
    found: dict[str, list[Path]] = {}
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}; check the path") from error
    for path in files:
        if path.suffix.lower() in AUDIO_SUFFIXES:
            found.setdefault(path.stem, []).append(path)
    for stem, several in found.items():
        if len(several) > 1:
            names = ", ".join(printable(path.name) for path in several)
            findings.append(Finding("duplicate", f"{folder}: {names} have one name"))
        elif printable(stem) != stem:
            findings.append(Finding("wrongly named", f"{printable(several[0])} is not UTF-8"))
    return {stem: files[0] for stem, files in found.items() if len(files) == 1 and printable(stem) == stem}


def read_csv(
    path: Path, columns: Sequence[str] = (), *, needed: Sequence[str] = ()
) -> list[tuple[int, dict[str, str]]]:
    """Return (line, cells) of every row of a table with a header.

    `columns`: what the header must be, in this order. `needed`: what it must have. Raises: DataError.
    """
    try:
        text = read_regular(path, most_bytes=MOST_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise DataError(f"{path} cannot be read: {reason}; copy it again") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if columns and header != list(columns):
            raise DataError(
                f"{path} has the columns {', '.join(header) or 'of an empty file'}; it must have "
                f"{', '.join(columns)} in this order, by which the official scorer reads them"
            )
        lacking = [name for name in needed if name not in header]
        if lacking:
            raise DataError(f"{path} has no column {', '.join(lacking)}; its header is {','.join(header)}")
        rows = []
        for cells in reader:
            if len(cells) != len(header):
                raise DataError(
                    f"{path}, line {reader.line_num}, has {len(cells)} cells, and the header {len(header)}; "
                    "copy it again"
                )
            rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise DataError(f"{path} is no CSV: {error} in line {reader.line_num}; copy it again") from error
    if not rows:
        raise DataError(f"{path} has no rows; copy it again")
    return rows


def is_correct(path: Path, line: int, cells: Mapping[str, str]) -> bool:
    """Return what the column `correct` says. Raises: DataError for anything but 0 and 1."""
    if cells["correct"] not in ("0", "1"):
        raise DataError(f"{path}, line {line}: `correct` is '{cells['correct']}', 0 and 1 are allowed")
    return cells["correct"] == "1"
