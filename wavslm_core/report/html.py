"""Pages from templates: what comes from a run is escaped, what is external is inlined."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from wavslm_core.plotting import Draw, png_bytes, rendered, svg_text

INK = "#808080"
"""Readable on white and on black, for pictures that cannot follow the reader's colour scheme."""
DRAWING_INK = "#010203"
"""The colour that `drawing` replaces with the page's own."""


def render(template: str, **values: Any) -> str:
    """Return the page that a template of the package, such as `report/run.html`, makes of values."""
    environment = Environment(
        loader=PackageLoader("wavslm_core", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": duration_text,
        "interval": lambda value: "" if value is None else f"± {number(value)}",
        "number": number,
        "percent": lambda value: "not a number" if value is None else f"{value:.2%}",
    }
    return environment.get_template(template).render(values)


def drawing(draw: Draw, *, description: str) -> Markup:
    """Return a figure drawn with `ink=DRAWING_INK` as inline SVG in the colours of the page.

    Where it cannot be drawn, say so in its place.
    """
    svg = rendered(draw, svg_text, what=description)
    if svg is None:
        return _not_drawn(description)
    coloured = Markup(svg.replace(DRAWING_INK, "currentColor"))
    return Markup('<figure role="img" aria-label="{}">{}</figure>').format(description, coloured)


def picture(draw: Draw, *, description: str) -> Markup:
    """Return a figure drawn with `ink=INK` as an inlined PNG with a transparent ground; else say so."""
    png = rendered(draw, lambda figure: png_bytes(figure, dpi=100, transparent=True), what=description)
    if png is None:
        return _not_drawn(description)
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(_base64(png), description)


def player(wav: Path, *, label: str) -> Markup:
    """Return an audio player with the file inside."""
    source = f"data:audio/wav;base64,{_base64(wav.read_bytes())}"
    return Markup('<audio controls preload="metadata" aria-label="{}" src="{}"></audio>').format(
        label, source
    )


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for people, a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,}".replace(",", "\u202f") if isinstance(value, int) else f"{value:.{digits}f}"


def duration_text(seconds: float) -> str:
    """Return "1 h 02 min", "3 min 05 s" or "4.2 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _not_drawn(description: str) -> Markup:
    return Markup('<p class="quiet">Not drawn, see the log: {}</p>').format(description)
