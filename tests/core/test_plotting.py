"""Pictures: what is drawn is where it should be, and nothing global changes."""

from __future__ import annotations

import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.image import imread

from wavslm_core.plotting import (
    Interval,
    codebook_figure,
    curve_figure,
    feature_figure,
    histogram_figure,
    interval_figure,
    png_bytes,
    rendered,
    spectrogram_card,
    spectrogram_figure,
    svg_text,
)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(imread(io.BytesIO(png), format="png"))


def test_a_tone_is_bright_at_its_frequency() -> None:
    rate_hz = 16000
    tone_S = torch.sin(2 * torch.pi * 2000 * torch.arange(rate_hz) / rate_hz)
    figure = spectrogram_figure({"tone": (tone_S, rate_hz)}, boundary_s=0.5)
    image = figure.axes[0].images[0]
    levels = np.asarray(image.get_array())
    middle = levels[:, levels.shape[1] // 2]
    left, right, low_khz, high_khz = image.get_extent()
    assert (left, right, low_khz, high_khz) == (0.0, 1.0, 0.0, 8.0)
    assert middle.argmax() / (len(middle) - 1) * high_khz == pytest.approx(2.0, abs=0.05)
    assert middle.max() == pytest.approx(0.0, abs=0.5)
    assert middle.min() == pytest.approx(-80.0)
    assert [np.asarray(line.get_xdata())[0] for line in figure.axes[0].lines] == [0.5]


def test_boundaries_only_where_they_are_named() -> None:
    waveform_S = torch.randn(8000)
    figure = spectrogram_figure({"a": (waveform_S, 16000), "b": (waveform_S, 16000)}, boundary_s={"b": 0.25})
    assert [len(axis.lines) for axis in figure.axes[:2]] == [0, 1]


def test_numbers_without_an_interval_are_hollow() -> None:
    rows = {
        "first": [Interval("a", 60.0, 55.0, 64.0), Interval("b", 52.0)],
        "second $x$": [Interval("a", 40.0, 30.0, 50.0)],
    }
    axis = interval_figure(rows, x_label="accuracy (%)", mark=50.0).axes[0]
    points = [line for line in axis.lines if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_markerfacecolor() != "none") for line in points] == [  # type: ignore[index]
        (60.0, True), (40.0, True), (52.0, False),
    ]  # fmt: skip
    spans = [list(line.get_xdata()) for line in axis.lines if line.get_marker() != "o"]
    assert spans == [[55.0, 64.0], [30.0, 50.0], [50.0, 50.0]]
    legend = axis.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_features_are_on_the_scale_of_the_first() -> None:
    first_TD = torch.linspace(-1, 1, 300).reshape(30, 10)
    figure = feature_figure({"teacher": first_TD, "student": 5 * first_TD, "nothing": 0 * first_TD})
    images = [axis.images[0] for axis in figure.axes[:3]]
    np.testing.assert_allclose(np.asarray(images[1].get_array()), 5 * first_TD.numpy().T, rtol=1e-6)
    limits = {image.get_clim() for image in images}
    assert len(limits) == 1
    assert limits.pop() == pytest.approx((-0.98, 0.98), abs=0.01)


def test_a_card_shows_the_same_picture() -> None:
    waveform_S = torch.randn(8000)
    card = spectrogram_card(waveform_S, 16000, boundary_s=0.2)
    figure = spectrogram_figure({"x": (waveform_S, 16000)}, boundary_s=0.2)
    for found in (card, figure):
        assert tuple(found.axes[0].images[0].get_extent()) == (0.0, 0.5, 0.0, 8.0)
        assert len(found.axes[0].lines) == 1
    levels = [np.asarray(found.axes[0].images[0].get_array()) for found in (card, figure)]
    np.testing.assert_array_equal(levels[0], levels[1])


@pytest.mark.parametrize("waveform_S", [torch.zeros(16000), torch.zeros(1), torch.randn(40)])
def test_silent_and_very_short_sound(waveform_S: torch.Tensor) -> None:
    image = pixels(png_bytes(spectrogram_figure({"x": (waveform_S, 16000)})))
    assert image.shape[2] == 4


def test_curves_with_gaps_and_marks() -> None:
    x = list(range(200))
    y = [float("nan") if step % 7 == 0 else 1 / (step + 1) for step in x]
    figure = curve_figure({"train": (x, y), "valid": ([0, 199], [1.0, 0.5])}, marks={"unigram": 0.7})
    legend = figure.axes[0].get_legend()
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["train", "valid", "unigram"]
    smooth = np.asarray(figure.axes[0].lines[1].get_ydata())
    assert np.isfinite(smooth).all()
    assert smooth[100] == pytest.approx(np.nanmean(y[97:104]), rel=0.05)


def test_codebook_curve_leaves_out_unused_codes() -> None:
    figure = codebook_figure([(1, 0.5), (2, 0.5), (64, 0.0)], vocab_size=64)
    assert np.asarray(figure.axes[0].lines[0].get_xdata()).tolist() == [1, 2]
    assert np.asarray(figure.axes[0].lines[1].get_ydata())[0] == 1 / 64


@pytest.mark.parametrize("name", ["cost in $ or $", "$x_{$", "one $", r"\$ and $", "$$", "a$b^c$d"])
def test_names_with_dollars_are_shown_as_they_are(name: str) -> None:
    curves = {name: ([0, 1], [1.0, 2.0]), "other": ([0, 1], [2.0, 1.0])}
    curve = svg_text(curve_figure(curves, title=name, x_label=name, y_label=name, marks={name + "!": 1.5}))
    assert curve.count(f">{name}</text>") == 4
    assert f">{name}!</text>" in curve
    histogram = svg_text(histogram_figure({name: ([0, 1], [2])}, x_label=name, y_label=name))
    assert histogram.count(f">{name}</text>") == 3
    assert f">{name}</text>" in svg_text(spectrogram_figure({name: (torch.rand(400), 16000)}))


def test_orders_of_magnitude_are_still_set_as_formulas() -> None:
    figure = curve_figure({"a": ([1, 10, 100], [1, 2, 3])}, log_x=True)
    # Base and exponent are set apart.
    assert "<tspan" in svg_text(figure)


def test_what_cannot_be_drawn_is_named(caplog: pytest.LogCaptureFixture) -> None:
    assert rendered(lambda: curve_figure({"a": ([0], [1.0])}), svg_text, what="a curve") is not None
    assert caplog.text == ""
    mismatched = {"a": ([0, 1], [1.0])}
    assert rendered(lambda: curve_figure(mismatched), svg_text, what="loss over steps") is None
    (record,) = caplog.records
    assert record.message.startswith("not drawn: loss over steps: ValueError: ")


def test_svg_is_text_that_stands_alone() -> None:
    before = mpl.rcParams["svg.fonttype"]
    text = svg_text(curve_figure({"a": ([0, 1], [1, 2])}, title="A curve"))
    assert text.startswith("<svg")
    assert text.rstrip().endswith("</svg>")
    assert ">A curve</text>" in text
    assert mpl.rcParams["svg.fonttype"] == before


@pytest.mark.slow
def test_pictures_are_reproducible_and_pyplot_stays_out() -> None:
    script = (
        "import sys, torch\n"
        "from wavslm_core.plotting import png_bytes, spectrogram_figure\n"
        "assert 'matplotlib' not in sys.modules\n"
        "draw = lambda: png_bytes(spectrogram_figure({'x': (torch.arange(4000) % 40 / 40, 16000)}))\n"
        "assert draw() == draw()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
