"""Pictures of sound and of training: spectrograms, features, curves, code frequencies.

Figures are built without pyplot, so nothing global changes and threads do not meet. matplotlib is imported
inside: `import wavslm_core.plotting` stays light. `ink` is the colour of axes and text. Names come from
recipes, plugins and files, so each passes `plain` on its way into a figure.

What wants a picture hands over how to draw it (`Draw`) and goes on without when that fails: see `rendered`.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from wavslm_core.errors import summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

logger = logging.getLogger(__name__)

Draw = Callable[[], "Figure"]
Rendered = TypeVar("Rendered")
Curve = tuple[Sequence[float], Sequence[float]]
COLOURS = ("#2f7ed8", "#e07b39", "#3a9d5d", "#b04a8f", "#8a7a2f", "#5a6acf")
"""Told apart on white and on black, and by people who confuse red and green."""
_DYNAMIC_RANGE_DB = 80.0
_SMALLEST_POWER = 1e-12


def plain(text: str) -> str:
    """Return text that matplotlib shows as it stands: two dollars would make it read a formula."""
    return text.replace("$", r"\$")


def rendered(draw: Draw, render: Callable[[Figure], Rendered], *, what: str) -> Rendered | None:
    """Return what `render` makes of a figure, or None after a warning that names `what` was not drawn.

    A picture is never worth the work that it is of.
    """
    try:
        return render(draw())
    except Exception as error:
        logger.warning("not drawn: %s: %s", what, summary(error))
        return None


def spectrogram_figure(
    waveforms: Mapping[str, tuple[Tensor, int]],
    *,
    boundary_s: float | Mapping[str, float] | None = None,
    width_in: float = 8.0,
    ink: str = "black",
) -> Figure:
    """Draw spectrograms one below the other on one time scale: title → (waveform (S,), sample rate in Hz).

    Levels are in dB below the loudest point of each. `boundary_s` marks a time, such as the end of the
    prompt, in all of them or in those that are named.
    """
    figure, axes = _rows_and_bar(len(waveforms), width_in=width_in)
    longest_s = max((waveform.shape[-1] / rate for waveform, rate in waveforms.values()), default=0.0)
    image: Any = None
    for axis, (title, (waveform_S, rate_hz)) in zip(axes, waveforms.items(), strict=True):
        mark_s = boundary_s.get(title) if isinstance(boundary_s, Mapping) else boundary_s
        image = _draw_spectrogram(axis, waveform_S, rate_hz, mark_s=mark_s, ink=ink)
        axis.set_title(plain(title), fontsize=10, loc="left", color=ink)
        axis.set_xlim(0.0, longest_s)
    if image is not None:
        axes[-1].set_xlabel("time (s)", color=ink)
        bar = figure.colorbar(image, cax=figure.axes[-1])
        bar.set_label("dB", color=ink)
        _tint(bar.ax, ink)
    return figure


def spectrogram_card(
    waveform_S: Tensor,
    sample_rate_hz: int,
    *,
    boundary_s: float | None = None,
    width_in: float = 4.8,
    ink: str = "black",
) -> Figure:
    """Draw one small spectrogram with axes and nothing else: much faster than `spectrogram_figure`."""
    from matplotlib.figure import Figure

    height_in = 0.42 * width_in
    figure = Figure(figsize=(width_in, height_in))
    left, bottom = 0.42 / width_in, 0.44 / height_in
    axis = figure.add_axes((left, bottom, 0.985 - left, 0.97 - bottom))
    _draw_spectrogram(axis, waveform_S, sample_rate_hz, mark_s=boundary_s, ink=ink)
    axis.set_xlabel("time (s)", color=ink, fontsize=8, labelpad=1)
    return figure


def curve_figure(
    curves: Mapping[str, Curve],
    *,
    title: str = "",
    x_label: str = "step",
    y_label: str = "",
    marks: Mapping[str, float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    width_in: float = 6.0,
    ink: str = "black",
) -> Figure:
    """Draw curves, label → (x, y), and horizontal lines to compare with, label → y.

    A noisy curve of many points is drawn faintly, its running mean over it. NaNs are gaps.
    """
    from matplotlib.figure import Figure

    height_in = 0.55 * width_in
    figure = Figure(figsize=(width_in, height_in))
    axis = figure.subplots()
    for place, (name, (x, y)) in enumerate(curves.items()):
        label = plain(name)
        colour = COLOURS[place % len(COLOURS)]
        x_N, y_N = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if x_N.size > 60:
            axis.plot(x_N, y_N, color=colour, alpha=0.25, linewidth=0.8)
            axis.plot(x_N, _running_mean(y_N), color=colour, linewidth=1.8, label=label)
        else:
            marker = "o" if x_N.size <= 30 else None
            axis.plot(x_N, y_N, color=colour, linewidth=1.8, marker=marker, markersize=3.5, label=label)
    for place, (name, y_mark) in enumerate((marks or {}).items()):
        label = plain(name)
        colour = COLOURS[(len(curves) + place) % len(COLOURS)]
        axis.axhline(y_mark, color=colour, linestyle=("--", "-.", ":")[place % 3], linewidth=1.2, label=label)
    if log_x:
        axis.set_xscale("log")
    if log_y:
        axis.set_yscale("log")
    axis.set_title(plain(title), fontsize=11, loc="left", color=ink)
    axis.set_xlabel(plain(x_label), color=ink)
    axis.set_ylabel(plain(y_label), color=ink)
    axis.grid(True, color=ink, alpha=0.15, linewidth=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if len(curves) + len(marks or {}) > 1:
        axis.legend(frameon=False, fontsize=9, labelcolor=ink)
    _tint(axis, ink)
    # A layout engine takes longer than all the rest; only the ticks' width depends on what is drawn.
    formatter = axis.yaxis.get_major_formatter()
    widest = 8 if log_y else max(map(len, formatter.format_ticks(axis.get_yticks().tolist())), default=0)
    above_in = 0.1 + (0.22 if title else 0.0) + (0.16 if formatter.get_offset() else 0.0)
    figure.subplots_adjust(
        left=(0.42 + 0.075 * widest) / width_in,
        right=1 - 0.1 / width_in,
        bottom=0.48 / height_in,
        top=1 - above_in / height_in,
    )
    return figure


def codebook_figure(
    rank_curve: Sequence[tuple[int, float]], *, vocab_size: int, width_in: float = 6.0, ink: str = "black"
) -> Figure:
    """Draw code frequencies, most frequent first, beside those of a codebook in perfectly even use."""
    used = [(rank, share) for rank, share in rank_curve if share > 0]
    return curve_figure(
        {"codes, sorted": ([rank for rank, _ in used], [share for _, share in used])},
        marks={"even use": 1.0 / vocab_size},
        x_label=f"rank among {vocab_size} codes",
        y_label="share of tokens",
        log_x=True,
        log_y=True,
        width_in=width_in,
        ink=ink,
    )


def histogram_figure(
    histograms: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    width_in: float = 6.0,
    ink: str = "black",
) -> Figure:
    """Draw histograms one below the other on one scale: title → (edges (N+1,), heights (N,))."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, 0.6 + 1.8 * len(histograms)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(histograms), 1, sharex=True)) if histograms else np.array([])
    for place, (axis, (title, (edges, heights))) in enumerate(zip(axes, histograms.items(), strict=True)):
        widths_N = np.diff(edges)
        colour = COLOURS[place % len(COLOURS)]
        axis.bar(np.asarray(edges)[:-1], heights, width=widths_N, align="edge", color=colour, linewidth=0)
        axis.set_title(plain(title), fontsize=10, loc="left", color=ink)
        axis.set_ylabel(plain(y_label), color=ink)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        _tint(axis, ink)
    if len(axes):
        axes[-1].set_xlabel(plain(x_label), color=ink)
    return figure


@dataclass(frozen=True)
class Interval:
    """A number to draw, with its interval where there is one."""

    name: str
    """What has the same name has the same colour."""
    value: float
    low: float | None = None
    high: float | None = None


def interval_figure(
    rows: Mapping[str, Sequence[Interval]],
    *,
    x_label: str,
    mark: float | None = None,
    width_in: float = 7.0,
    ink: str = "black",
) -> Figure:
    """Draw numbers row by row, title → what is compared there, and a vertical line to compare them with.

    What has no interval is hollow: it is known from elsewhere, or of too little.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(one.name for several in rows.values() for one in several))
    figure = Figure(figsize=(width_in, 1.2 + (0.24 + 0.11 * len(names)) * len(rows)), layout="constrained")
    axis = figure.subplots()
    for place, (name, colour) in enumerate(zip(names, cycle(COLOURS), strict=False)):
        label: str | None = plain(name)
        for row, several in enumerate(rows.values()):
            for one in several:
                if one.name != name:
                    continue
                y = row + 0.7 * (place + 0.5) / len(names) - 0.35
                face = "none"
                if one.low is not None and one.high is not None:
                    axis.plot([one.low, one.high], [y, y], color=colour, linewidth=1.4)
                    face = colour
                axis.plot(
                    [one.value], [y], "o", color=colour, markerfacecolor=face, markersize=4.5, label=label
                )
                label = None
    if mark is not None:
        axis.axvline(mark, color=ink, linestyle="--", linewidth=1.0, alpha=0.5)
    axis.set_yticks(range(len(rows)), [plain(title) for title in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel(plain(x_label), color=ink)
    axis.grid(True, axis="x", color=ink, alpha=0.15, linewidth=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if len(names) > 1:
        axis.legend(
            frameon=False, fontsize=8, labelcolor=ink, loc="upper center", bbox_to_anchor=(0.4, -0.1), ncols=2
        )
    _tint(axis, ink)
    return figure


def feature_figure(features: Mapping[str, Tensor], *, width_in: float = 8.0, ink: str = "black") -> Figure:
    """Draw features one below the other: title → (T,D). Colours are on one scale, that of the first."""
    figure, axes = _rows_and_bar(len(features), width_in=width_in)
    image: Any = None
    limit = 0.0
    for axis, (title, features_TD) in zip(axes, features.items(), strict=True):
        values_DT = features_TD.detach().float().cpu().numpy().T
        # Features have a few dimensions that are much larger than all others.
        limit = limit or float(np.quantile(np.abs(values_DT), 0.98)) or 1.0
        image = axis.imshow(
            values_DT, aspect="auto", vmin=-limit, vmax=limit, cmap="RdBu", interpolation="nearest"
        )
        axis.set_title(plain(title), fontsize=10, loc="left", color=ink)
        axis.set_ylabel("dimension", color=ink, fontsize=8, labelpad=1)
        _tint(axis, ink)
    if image is not None:
        axes[-1].set_xlabel("frame", color=ink)
        _tint(figure.colorbar(image, cax=figure.axes[-1]).ax, ink)
    return figure


def png_bytes(figure: Figure, *, dpi: int = 110, transparent: bool = False) -> bytes:
    """Return the figure as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # `savefig` would draw twice, first for nothing.
    buffer = io.BytesIO()
    figure.set_dpi(dpi)
    if transparent:
        _without_ground(figure)
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def svg_text(figure: Figure) -> str:
    """Return the figure as an `<svg>` element with real text and no ground, for inlining in HTML."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    _without_ground(figure)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "wavslm"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _without_ground(figure: Figure) -> None:
    figure.patch.set_alpha(0)
    for axis in figure.axes:
        axis.patch.set_alpha(0)


def _rows_and_bar(count: int, *, width_in: float) -> tuple[Figure, list[Any]]:
    """Return a figure and its axes, one below the other on one scale; the figure's last are for a colour bar.

    Margins are given: a layout engine takes twice as long as all that is drawn.
    """
    from matplotlib.figure import Figure

    height_in = 0.6 + 1.9 * count
    figure = Figure(figsize=(width_in, height_in))
    if not count:
        return figure, []
    left_in, right_in, below_in, above_in, between_in = 0.5, 0.8, 0.48, 0.26, 0.33
    row_in = (height_in - below_in - above_in - (count - 1) * between_in) / count
    axes = figure.subplots(
        count,
        1,
        sharex=True,
        squeeze=False,
        gridspec_kw={
            "left": left_in / width_in,
            "right": 1 - right_in / width_in,
            "bottom": below_in / height_in,
            "top": 1 - above_in / height_in,
            "hspace": between_in / row_in,
        },
    )[:, 0].tolist()
    tall = 1 - (below_in + above_in) / height_in
    figure.add_axes((1 - 0.7 / width_in, below_in / height_in, 0.12 / width_in, tall))
    return figure, axes


def _draw_spectrogram(axis: Any, waveform_S: Tensor, rate_hz: int, *, mark_s: float | None, ink: str) -> Any:
    """Draw into `axis`; return the image, for a colour bar."""
    seconds = waveform_S.shape[-1] / rate_hz
    image = axis.imshow(
        _levels_db(waveform_S, rate_hz),
        origin="lower",
        aspect="auto",
        extent=(0.0, seconds, 0.0, rate_hz / 2000),
        vmin=-_DYNAMIC_RANGE_DB,
        vmax=0.0,
        cmap="magma",
        interpolation="bilinear",
    )
    axis.set_ylabel("kHz", color=ink, fontsize=8, labelpad=1)
    if mark_s is not None and mark_s < seconds:
        axis.axvline(mark_s, color="white", linestyle="--", linewidth=1.2)
    _tint(axis, ink)
    return image


def _levels_db(waveform_S: Tensor, rate_hz: int) -> np.ndarray:
    """Return (bins, frames) in dB below the loudest point, floored at the dynamic range."""
    import torch

    window_samples = max(32, round(0.025 * rate_hz))
    samples_S = waveform_S.detach().float().cpu().reshape(-1)
    samples_S = torch.nn.functional.pad(samples_S, (window_samples, window_samples))
    spectrum_KF = torch.stft(
        samples_S,
        2 * window_samples,
        hop_length=max(1, round(0.005 * rate_hz)),
        win_length=window_samples,
        window=torch.hann_window(window_samples),
        center=False,
        return_complex=True,
    )
    power_KF = spectrum_KF.abs().square()
    loudest = power_KF.max().clamp(min=_SMALLEST_POWER)
    floor = 10 ** (-_DYNAMIC_RANGE_DB / 10)
    levels: np.ndarray = (10 * (power_KF / loudest).clamp(min=floor).log10()).numpy()
    return levels


def _running_mean(y_N: np.ndarray) -> np.ndarray:
    """Return centred means over a thirtieth of the curve, gaps left out."""
    width = max(3, y_N.size // 30) | 1
    kernel = np.ones(width)
    known_N = ~np.isnan(y_N)
    sums_N = np.convolve(np.where(known_N, y_N, 0.0), kernel, mode="same")
    counts_N = np.convolve(known_N.astype(float), kernel, mode="same")
    return np.divide(sums_N, counts_N, out=np.full(y_N.shape, np.nan), where=counts_N > 0)


def _tint(axis: Any, ink: str) -> None:
    axis.tick_params(colors=ink, labelsize=8)
    for spine in axis.spines.values():
        spine.set_edgecolor(ink)
