"""Who is of which sex: a table of one's own, or LibriSpeech's SPEAKERS.TXT."""

import csv
from collections.abc import Sequence
from pathlib import Path

from wavslm_core.plugin import DataError, read_regular, summary

SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"}
UNKNOWN = frozenset({"", "-", "?", "u", "unknown", "other"})
SPEAKER_COLUMNS = "speaker", "speaker_id", "id"
SEX_COLUMNS = "sex", "gender"
DELIMITERS = "\t", "|", ","
COMMENT = ";"
"""Begins lines in LibriSpeech's table; the header is the last of them."""
MOST_BYTES = 1 << 26


def read_sexes(path: Path) -> dict[str, str]:
    """Return speaker → `F` or `M`, without those of whom it is not told.

    Raises: DataError naming the file and the line, and what is allowed.
    """
    example = "a table with a header and the columns speaker and sex is needed"
    try:
        lines = read_regular(path, most_bytes=MOST_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise DataError(f"`speakers`: {path} cannot be read: {reason}; {example}") from error
    except Exception as error:
        raise DataError(f"`speakers`: {path} cannot be read: {summary(error)}; {example}") from error
    header = next((place for place, line in enumerate(lines) if _columns(line) is not None), None)
    if header is None:
        first = lines[0][:60] if lines else ""
        raise DataError(f"`speakers`: {path} begins with '{first}', and no line names its columns; {example}")
    found = _columns(lines[header])
    assert found is not None
    delimiter, speaker_column, sex_column = found
    sexes: dict[str, str] = {}
    named: dict[str, int] = {}
    for number, line in enumerate(lines[header + 1 :], start=header + 2):
        if not line.strip() or line.startswith(COMMENT):
            continue
        where = f"`speakers`: {path}, line {number},"
        cells = _cells(line, delimiter)
        if len(cells) <= max(speaker_column, sex_column):
            raise DataError(f"{where} has {len(cells)} cells, fewer than its header; correct it")
        speaker, sex = cells[speaker_column], cells[sex_column].lower()
        if sex not in SEXES and sex not in UNKNOWN:
            raise DataError(
                f"{where} gives speaker '{speaker}' the sex '{cells[sex_column]}'; F, M, female, male, or "
                "nothing where it is not known, are allowed"
            )
        if speaker in named and SEXES.get(sex) != sexes.get(speaker):
            raise DataError(
                f"{where} gives speaker '{speaker}' another sex than line {named[speaker]}; correct one"
            )
        named.setdefault(speaker, number)
        if sex in SEXES:
            sexes[speaker] = SEXES[sex]
    return sexes


def _columns(line: str) -> tuple[str, int, int] | None:
    """Return what stands between cells, and the places of speaker and sex, if a line is such a header."""
    for delimiter in DELIMITERS:
        names = [name.lower() for name in _cells(line.lstrip(COMMENT), delimiter)]
        speaker, sex = (_first(names, columns) for columns in (SPEAKER_COLUMNS, SEX_COLUMNS))
        if speaker is not None and sex is not None:
            return delimiter, speaker, sex
    return None


def _first(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
