"""Text for terminals and logs: control characters in it are shown, not obeyed, and letters that the output
does not have are spelt with others.

File names, values of recipes and messages of libraries are other people's text; nothing of it may move a
cursor, change a title or end in a traceback. Two sinks let text out, `echo` and `new_console`;
`prepare_output` readies the streams below them, and logging.
"""

from __future__ import annotations

import codecs
import logging
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

Say = Callable[[str], None]
"""Shows one line to the person who started the run."""

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and what turns the direction of writing."""
_SPELT = str.maketrans(
    {
        "→": "->", "←": "<-", "×": "x", "…": "...", "±": "+-", "−": "-", "–": "-", "—": "-", "·": ".",
        "•": "*", "µ": "u", "μ": "u", "≤": "<=", "≥": ">=", "‘": "'", "’": "'", "“": '"', "”": '"',
        "\u202f": " ", "\u00a0": " ",
        "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#", "▍": " ", "▎": " ", "▏": " ",
        "━": "-", "─": "-", "╸": "-", "╺": "-", "│": "|", "✓": "+", "✗": "x",
    }
)  # fmt: skip
_ERRORS = "spelt"


def escaped(text: str, *, also: str = "") -> str:
    """Return text with every control character but tab and line feed written out, such as `\\x1b`.

    `also`: further characters that are written out, such as tabs inside a column.
    """
    text = _OBEYED.sub(lambda found: _written_out(found[0]), text)
    return text.translate({ord(character): _written_out(character) for character in also})


def _written_out(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def echo(text: str = "", *, err: bool = False, end: str = "\n") -> None:
    """Print text that may hold other people's, on standard output or standard error, at once."""
    stream = sys.stderr if err else sys.stdout
    stream.write(f"{escaped(text)}{end}")
    stream.flush()


def echo_row(*fields: str) -> None:
    """Print a line of fields with tabs between them; none of them can add a column or a line."""
    echo("\t".join(escaped(field, also="\t\n") for field in fields))


def new_console(*, stderr: bool = False, **options: Any) -> Console:
    """Return a console that prints strings as `echo` does, without markup.

    Whether it is a terminal is asked once: while an MP3 is decoded, standard error is none (`data.chatter`).
    """
    from rich.console import Console

    class EscapingConsole(Console):
        @cached_property
        def is_terminal(self) -> bool:
            return super().is_terminal

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(escaped(text), **options)

    return EscapingConsole(stderr=stderr, markup=False, highlight=False, emoji=False, **options)


def prepare_output() -> None:
    """Let standard output and standard error take any text, and logging escape what it says."""
    codecs.register_error(_ERRORS, _spell)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_ERRORS)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_EscapingFormatter())


class _EscapingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record))


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for letters that an encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    spelt = error.object[error.start : error.end].translate(_SPELT)
    return spelt.encode("ascii", "backslashreplace").decode("ascii"), error.end


def spell_seconds(seconds: float) -> str:
    """Return "1:02:03" or "2:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def number_text(value: float) -> tuple[str, int]:
    """Return a number with a few significant digits, and how many stand behind the point."""
    if value == round(value) and abs(value) >= 1000:
        return f"{value:,.0f}", 0
    digits = max(0, min(4, 3 - math.floor(math.log10(max(abs(value), 1e-9)))))
    return f"{value:.{digits}f}", digits


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def byte_text(count: float) -> str:
    """Return an amount of memory or disk in words, such as `3.2 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if count < 1000 or unit == "PB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if count >= 1000 else f"{count:.3g} {unit}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back warnings and what is logged as such: of libraries that say what a user cannot change."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
