"""Pieces of HTML: everything that comes from a run is escaped here, everything external is inlined here."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from wavslm_core.plotting import Draw, png_bytes, rendered, svg_text

INK = "#808080"
"""Readable on white and on black, for pictures that cannot follow the reader's colour scheme."""
_CURRENT_COLOUR = "#010203"
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """Return the whole document; empty sections are left out."""
    style = (files(__package__) / "style.css").read_text(encoding="utf-8")
    body = "\n".join(section for section in sections if section)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="quiet">{escape(subtitle)}</p>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def section(title: str, *content: str) -> str:
    """Return a section with a heading, or nothing when all of its content is empty."""
    inner = "\n".join(piece for piece in content if piece)
    return f"<section>\n<h2>{escape(title)}</h2>\n{inner}\n</section>" if inner else ""


def by_stage(pieces: Mapping[str, str]) -> str:
    """Join what several stages of a kind have to show, each under its name unless it is the only one."""
    shown = {stage: piece for stage, piece in pieces.items() if piece}
    if len(pieces) == 1:
        return "".join(shown.values())
    return "\n".join(f"<h3>{escape(stage)}</h3>\n{piece}" for stage, piece in shown.items())


def paragraph(text: str, *, quiet: bool = False) -> str:
    return f'<p class="quiet">{escape(text)}</p>' if quiet else f"<p>{escape(text)}</p>"


def warning(text: str) -> str:
    return f'<p class="warning" role="alert">{escape(text)}</p>'


def tile(label: str, value: str, note: str = "") -> str:
    """Return one headline number."""
    tail = f'<div class="note">{escape(note)}</div>' if note else ""
    return (
        f'<div class="tile"><div class="label">{escape(label)}</div>'
        f'<div class="value">{escape(value)}</div>{tail}</div>'
    )


def group(kind: str, pieces: Sequence[str]) -> str:
    """Wrap pieces in a `<div class=kind>`, or return nothing when there are none."""
    inner = "\n".join(piece for piece in pieces if piece)
    return f'<div class="{kind}">\n{inner}\n</div>' if inner else ""


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str = "",
    strong: Sequence[int] = (),
    strong_cells: Collection[tuple[int, int]] = (),
) -> str:
    """Return a table whose first column names the rows; `strong` rows and (row, column) cells stand out."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    lines = []
    for place, row in enumerate(rows):
        cells = "".join(
            f"<td><strong>{escape(cell)}</strong></td>"
            if (place, column) in strong_cells
            else f"<td>{escape(cell)}</td>"
            for column, cell in enumerate(row[1:], start=1)
        )
        mark = ' class="strong"' if place in strong else ""
        lines.append(f'<tr{mark}><th scope="row">{escape(row[0])}</th>{cells}</tr>')
    # Outside of the table, so that it wraps on a phone while the table scrolls.
    title = f'<p class="caption">{escape(caption)}</p>\n' if caption else ""
    label = f' aria-label="{escape(caption)}"' if caption else ""
    body = "\n".join(lines)
    return (
        f'{title}<div class="scroll"><table{label}>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def details(summary: str, content: str) -> str:
    """Return something that opens on demand."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>" if content else ""


def code(text: str) -> str:
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def drawing(draw: Draw, *, description: str) -> str:
    """Return a figure drawn with `ink=drawing_ink()` as inline SVG in the colours of the page.

    Where it cannot be drawn, say so in its place.
    """
    svg = rendered(draw, svg_text, what=description)
    if svg is None:
        return _not_drawn(description)
    svg = svg.replace(_CURRENT_COLOUR, "currentColor")
    return f'<figure role="img" aria-label="{escape(description)}">{svg}</figure>'


def _not_drawn(description: str) -> str:
    return paragraph(f"Not drawn, see the log: {description}", quiet=True)


def drawing_ink() -> str:
    """Return the colour that `drawing` replaces with the page's own."""
    return _CURRENT_COLOUR


def picture(draw: Draw, *, description: str) -> str:
    """Return a figure drawn with `ink=INK` as an inlined PNG with a transparent ground; else say so."""
    png = rendered(draw, lambda figure: png_bytes(figure, dpi=100, transparent=True), what=description)
    if png is None:
        return _not_drawn(description)
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(description)}">'


def player(wav: Path, *, label: str) -> str:
    """Return an audio player with the file inside."""
    data = base64.b64encode(wav.read_bytes()).decode()
    source = f"data:audio/wav;base64,{data}"
    return f'<audio controls preload="metadata" aria-label="{escape(label)}" src="{source}"></audio>'


def number(value: Any, digits: int = 3) -> str:
    """Return a number for people, a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    return f"{value:.{digits}f}"
