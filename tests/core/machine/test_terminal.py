"""What reaches a terminal of text that comes from others."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table

from wavslm_core.cli.corpus_tables import print_statistics
from wavslm_core.cli.guard import guarded
from wavslm_core.data.corpora import Rejected
from wavslm_core.data.statistics import QUANTILES, SplitStatistics
from wavslm_core.errors import WavslmError
from wavslm_core.machine.terminal import byte_text, echo, echo_row, escaped, new_console, prepare_output

ATTACK = "a\x1b]0;title\x07\x1b[2J\r\x9b31m\u202efdp.wav"
SHOWN = r"a\x1b]0;title\x07\x1b[2J\r\x9b31m\u202efdp.wav"

Output = Callable[[str], tuple[io.BytesIO, io.BytesIO]]


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    """Replaces standard output and standard error by streams of an encoding, and makes them ready."""

    def replace(encoding: str) -> tuple[io.BytesIO, io.BytesIO]:
        buffers = io.BytesIO(), io.BytesIO()
        for name, buffer in zip(("stdout", "stderr"), buffers, strict=True):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(buffer, encoding=encoding, write_through=True))
        prepare_output()
        return buffers

    return replace


def test_control_characters_are_shown_and_other_letters_stay() -> None:
    assert escaped(ATTACK) == SHOWN
    plain = "naïve → 日本語 🎤\n\ttab"
    assert escaped(plain) == plain


def test_everything_that_the_command_line_prints_is_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    echo(ATTACK)
    echo_row(f"{ATTACK}\tx\ny", "z")
    table = Table(ATTACK)
    table.add_row(ATTACK)
    for item in (ATTACK, table):
        new_console().print(item)

    def fail(arguments: list[str]) -> None:
        raise WavslmError(f"{ATTACK} is wrong")

    monkeypatch.setattr(sys, "argv", ["wavslm"])
    assert guarded(fail) == 2
    logging.getLogger("wavslm_core.test").warning("%s", ATTACK)
    logging.lastResort.handle(logging.makeLogRecord({"msg": ATTACK, "levelno": 30}))  # type: ignore[union-attr]
    shown = capsys.readouterr()
    assert shown.out.count(SHOWN) == 5
    assert rf"{SHOWN}\tx\ny{chr(9)}z" in shown.out
    assert f"error: {SHOWN} is wrong" in shown.err
    assert f"\n{SHOWN}\n" in shown.err
    assert not set(shown.out + shown.err) & set("\x1b\x07\r\x9b\u202e")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_whatever_the_output_has_no_letters_for_is_spelt(output: Output, encoding: str) -> None:
    buffers = output(encoding)
    text = "2 × 3 → tokens … é Ж \udcff"
    echo(text)
    echo(text, err=True)
    new_console(stderr=True).print(text)
    spelt = {
        "ascii": rb"2 x 3 -> tokens ... \xe9 \u0416 \udcff",
        "latin-1": b"2 \xd7 3 -> tokens ... \xe9 \\u0416 \\udcff",
        "cp1252": b"2 \xd7 3 -> tokens \x85 \xe9 \\u0416 \\udcff",
        "utf-8": "2 × 3 → tokens … é Ж ".encode() + rb"\udcff",
    }[encoding]
    assert buffers[0].getvalue() == spelt + b"\n"
    assert buffers[1].getvalue() == 2 * (spelt + b"\n")


def test_bars_are_drawn_with_what_the_output_can_show(output: Output) -> None:
    item = SplitStatistics(
        utterances=9,
        hours=1.0,
        quantiles_s=dict.fromkeys(QUANTILES, 1.0),
        hours_by_rate_hz={16000: 1.0},
        hours_by_channels={1: 1.0},
        hours_by_speaker={},
        edges_s=np.arange(3.0),
        counts=np.array([8, 3]),
        rejected=[Rejected("ü.wav", "is empty")],
    )
    buffer, _ = output("latin-1")
    print_statistics({"train": item}, listed=10)
    lines = buffer.getvalue().decode("latin-1").splitlines()
    assert f"  0 to 1     {'#' * 40} 8" in lines
    assert f"  1 to 2     {'#' * 15:<40} 3" in lines
    assert "  ü.wav: is empty" in lines


def test_nothing_prints_but_through_the_two_sinks() -> None:
    root = Path(__file__).parents[3]
    printing = re.compile(r"typer\.echo|(?<![\w.])print\(|(?<!Escaping)Console\(|sys\.std(out|err)\.write")
    sources = [*root.glob("wavslm_core/**/*.py"), *root.glob("plugins/*/wavslm_*/**/*.py")]
    assert len(sources) > 200
    found = {
        path.relative_to(root).as_posix() for path in sources if printing.search(path.read_text("utf-8"))
    }
    assert not found


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (2.5e9, "2.5 GB"), (3e15, "3 PB"), (2.3e18, "2,300 PB")]
)
def test_amounts_of_memory_in_words(count: float, text: str) -> None:
    assert byte_text(count) == text
