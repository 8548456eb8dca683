"""Plots of a recording: waveform, silences, intensities, V/A/D.

Every line has a labeled panel, so nothing depends on color and no labels overlap. A break in a line means silence, so
no line is dashed.
"""

import math
import textwrap
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from emimic.calibration import Intervals
from emimic.figures import render
from emimic.inference.results import Result, Timeline
from emimic.install import install
from emimic.output.drawing import (
    COLORS,
    Envelope,
    coarsen,
    compute_envelope,
    describe,
    find_range,
    find_silences,
    fit_width,
    format_time,
    shorten,
)
from emimic.task import VAD, AudioError, EmimicError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Envelope", "compute_envelope", "make_figure", "plot_result"]

_VAD_COLOR: Final = "#222222"
_SILENCE: Final = "#e4e4e4"
_TICK_STEPS: Final = (
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
)
_WAVEFORM_BINS: Final = 2000

# Layout in inches: margins for the names at the left of the panels, and for values at their right.
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 10.0, 1.55, 0.95, 0.75, 0.55
_ROW, _ROW_GAP, _GROUP_GAP = 0.5, 0.13, 0.3


def plot_result(
    result: Result, samples: NDArray[np.float32] | Envelope, *, form: Literal["png", "svg"] = "png"
) -> bytes:
    """Plot a result as PNG or SVG; the same input gives the same bytes.

    Args:
        result: with a timeline, it is plotted over the full recording; else the clip's intensities are bars beside its
            waveform and V/A/D.
        samples: the recording, (sample,) at 16 kHz, or its envelope.
        form: "png" or "svg".

    Raises:
        EmimicError: matplotlib is not installed, or an unknown form.
        AudioError: there are no samples.
    """
    return render(make_figure(result, samples), form)


def make_figure(result: Result, samples: NDArray[np.float32] | Envelope) -> "Figure":
    """Return the plot of `plot_result` as a matplotlib figure."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EmimicError(f"plots need matplotlib ({error}). Install it: {install('plots')}") from error
    if not len(samples.highs if isinstance(samples, Envelope) else samples):
        raise AudioError(f"{result.path}: the waveform has no samples to draw; give at least one.")
    figure = Figure()
    if result.timeline is not None:
        _draw_timeline(figure, result.timeline, samples)
    else:
        _draw_clip(figure, result, samples)
    height = figure.get_figheight()
    title = figure.text(
        0.2 / _WIDTH, 1 - 0.18 / height, shorten(result.title), va="top", weight="bold", size=11
    )
    title.set_parse_math(False)
    figure.text(0.2 / _WIDTH, 1 - 0.44 / height, describe(result), va="top", size=8, color="0.3")
    return figure


def _draw_timeline(figure: "Figure", t: Timeline, samples: NDArray[np.float32] | Envelope) -> None:
    """Draw the waveform, one panel per target, and one panel each for V/A/D, stacked."""
    groups = [1, len(t.targets)] + ([] if t.vad is None else [len(VAD)])
    panels = _add_panels(figure, groups, _LEFT, _WIDTH - _RIGHT)
    _draw_waveform(panels[0], coarsen(samples, _WAVEFORM_BINS), t.seconds)
    colors = [COLORS[i % len(COLORS)] for i in range(len(t.targets))]
    _draw_bands(panels[1:], t.targets, colors, t.times, t.intensities, t.intervals)
    _draw_lines(panels[1:], t.targets, colors, t.times, t.intensities)
    _draw_unit(figure, panels[1 : 1 + len(t.targets)], "intensity (0 to 1)")
    if t.vad is not None and t.vad_times is not None:
        _draw_bands(panels[-3:], VAD, [_VAD_COLOR] * 3, t.vad_times, t.vad, t.intervals)
        _draw_lines(panels[-3:], VAD, [_VAD_COLOR] * 3, t.vad_times, t.vad)
        _draw_unit(figure, panels[-3:], "rating (0 to 1)")
    silent = [(s.start, s.end - s.start) for s in find_silences(t)]
    for panel in panels:
        full_height = panel.get_xaxis_transform()
        panel.broken_barh(silent, (0, 1), transform=full_height, color=_SILENCE, linewidth=0, zorder=0)
    _draw_time_axis(panels, t.seconds)


def _draw_clip(figure: "Figure", result: Result, samples: NDArray[np.float32] | Envelope) -> None:
    """Draw the intensities as bars on the left; waveform and V/A/D of the predicted part on the right."""
    prediction, end = result.prediction, result.covered
    groups = [1] if prediction.vad is None else [1, len(VAD)]
    bars_height = 0.28 * len(result.targets)
    panels = _add_panels(figure, groups, 5.35, _WIDTH - _RIGHT, min_height=bars_height)
    height = figure.get_figheight()
    bars = figure.add_axes(
        (_LEFT / _WIDTH, _BOTTOM / height, 2.1 / _WIDTH, (height - _TOP - _BOTTOM) / height)
    )
    values = np.nan_to_num(prediction.intensities)
    rows = np.arange(len(values))
    bars.barh(rows, values, height=0.62, color=[COLORS[i % len(COLORS)] for i in rows])
    for row, value in zip(rows, prediction.intensities, strict=True):
        bars.annotate(
            f"{value:.2f}".replace("-", "−"),
            (max(float(values[row]), 0.0), row),
            (4, 0),
            textcoords="offset points",
            va="center",
            size=9,
        )
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    bars.set(xlim=(low, high), ylim=(len(values) - 0.4, -0.6))
    bars.set_xlabel(f"intensity (0 to 1), {result.headline.basis}", size=8.5)
    bars.set_yticks(rows, [_wrap_name(name) for name in result.targets], size=9, parse_math=False)
    bars.tick_params(axis="y", length=0)
    bars.tick_params(axis="x", labelsize=8)
    bars.axvline(0, color="0.3", linewidth=0.8)
    bars.spines[["top", "right", "left"]].set_visible(False)
    _draw_waveform(panels[0], coarsen(samples, _WAVEFORM_BINS, until=end), end)
    if prediction.vad is not None:
        _draw_lines(panels[1:], VAD, [_VAD_COLOR] * 3, prediction.times, prediction.vad)
        _draw_unit(figure, panels[1:], "rating (0 to 1)", left=1.1)
    _draw_time_axis(panels, end)


def _add_panels(
    figure: "Figure", groups: list[int], left: float, right: float, *, min_height: float = 0.0
) -> list["Axes"]:
    """Add stacked panels from `left` to `right` inches, with gaps between groups; set the figure's height."""
    rows = sum(groups)
    gaps = _ROW_GAP * (rows - len(groups)) + _GROUP_GAP * (len(groups) - 1)
    row = max(_ROW, (min_height - gaps) / rows)
    height = _TOP + rows * row + gaps + _BOTTOM
    figure.set_size_inches(_WIDTH, height)
    panels: list[Axes] = []
    top = height - _TOP
    for group in groups:
        for _ in range(group):
            box = (left / _WIDTH, (top - row) / height, (right - left) / _WIDTH, row / height)
            panels.append(figure.add_axes(box, sharex=panels[0] if panels else None))
            top -= row + _ROW_GAP
        top -= _GROUP_GAP - _ROW_GAP
    return panels


def _draw_waveform(panel: "Axes", wave: Envelope, end: float) -> None:
    """Draw the waveform, scaled to its peak, which is stated beside it."""
    peak = float(max(wave.highs.max(), -wave.lows.min()))
    times = (np.arange(len(wave.lows)) + 0.5) * wave.width
    # The outline keeps single samples and narrow bins visible.
    panel.fill_between(times, wave.lows, wave.highs, color="0.25", linewidth=0.6)
    panel.set(ylim=(-peak * 1.05, peak * 1.05) if peak else (-1, 1), yticks=[], xlim=(0, max(end, 1e-3)))
    panel.spines[["top", "right", "left"]].set_visible(False)
    level = f"peak {round(20 * math.log10(peak))} dBFS".replace("-", "−") if peak else "digital silence"
    _annotate(panel, "waveform\n(up to its peak)", level.replace(" ", "\n", 1))


def _draw_lines(
    panels: list["Axes"],
    names: tuple[str, ...],
    colors: list[str],
    times: NDArray[np.float64],
    values: NDArray[np.floating[Any]],
) -> None:
    """Draw values (step, name) over times (step,), one line in each of the first panels, all with the same range."""
    low, high = find_range(values)
    margin = 0.06 * (high - low)
    for i, name in enumerate(names):
        panels[i].set_ylim(low - margin, high + margin)
        _draw_line(panels[i], name, times, values[:, i], colors[i])


def _draw_bands(
    panels: list["Axes"],
    names: tuple[str, ...],
    colors: list[str],
    times: NDArray[np.float64],
    values: NDArray[np.floating[Any]],
    intervals: Intervals | None,
) -> None:
    """Draw the prediction intervals of values (step, name), where the model has some, as pale bands."""
    if intervals is None:
        return
    for panel, color, pairs in zip(
        panels, colors, np.moveaxis(intervals.compute(names, values), 1, 0), strict=False
    ):
        low, high = (fit_width(times, edge).mean for edge in pairs.T)
        panel.fill_between(
            fit_width(times, pairs[:, 0]).times, low, high, color=color, alpha=0.12, linewidth=0
        )


def _draw_line(
    panel: "Axes", name: str, times: NDArray[np.float64], values: NDArray[np.floating[Any]], color: str
) -> None:
    """Draw a line with its name, mean and maximum; single values between gaps are dots."""
    line = fit_width(times, values)
    finite = np.isfinite(line.mean)
    single = finite & ~np.append(False, finite[:-1]) & ~np.append(finite[1:], False)
    if line.each > 1:
        panel.fill_between(line.times, line.low, line.high, color=color, alpha=0.25, linewidth=0)
    thick, dot = (1.4, 3.5) if line.each == 1 else (0.9, 1.5)
    panel.plot(line.times, line.mean, color=color, linewidth=thick)
    dots: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": dot, "clip_on": False}
    panel.plot(line.times[single], line.mean[single], color=color, **dots)
    valid = values[np.isfinite(values)]
    panel.set_yticks([0, 0.5, 1], ["0", "", "1"], size=7)
    panel.tick_params(axis="y", length=2, pad=2)
    panel.grid(axis="y", color="0.8", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    summary = f"mean {valid.mean():.2f}\nmax {valid.max():.2f}" if len(valid) else "no voice"
    _annotate(panel, _wrap_name(name), summary)


def _draw_unit(figure: "Figure", panels: list["Axes"], unit: str, *, left: float = 1.4) -> None:
    """Draw the unit of the panels' vertical axes once, rotated by 90 degrees, `left` inches left of the panels."""
    boxes = [panel.get_position() for panel in panels]
    x, y = boxes[0].x0 - left / _WIDTH, (boxes[0].y1 + boxes[-1].y0) / 2
    figure.text(x, y, unit, rotation=90, ha="center", va="center", size=8, color="0.3")


def _annotate(panel: "Axes", left: str, right: str) -> None:
    """Draw texts at the left and right of a panel."""
    for text, x, offset, ha, size in ((left, 0, -18, "right", 9), (right, 1, 8, "left", 8)):
        panel.annotate(
            text, (x, 0.5), (offset, 0), xycoords="axes fraction", textcoords="offset points",
            ha=ha, va="center", size=size, parse_math=False,
        )  # fmt: skip


def _wrap_name(name: str) -> str:
    """Return a target's name in at most two lines of 15 characters."""
    return "\n".join(textwrap.wrap(name, 15, max_lines=2, placeholder="…"))


def _draw_time_axis(panels: list["Axes"], end: float) -> None:
    """Draw times under the last panel only, as seconds or h:min:s, without overlap."""
    width = panels[0].get_position().width * _WIDTH
    step = next(
        (s for s in _TICK_STEPS if end / s <= 1.4 * width), 3600 * math.ceil(end / 3600 / 1.4 / width)
    )
    ticks = np.arange(0, end + step * 1e-6, step)
    for panel in panels[:-1]:
        panel.tick_params(axis="x", labelbottom=False, length=0)
        panel.spines["bottom"].set_color("0.75")
    panels[-1].set_xticks(ticks, [format_time(float(t), end) for t in ticks], size=8)
    unit = "seconds" if end < 90 else "minutes:seconds" if end < 3600 else "hours:minutes:seconds"
    panels[-1].set_xlabel(unit, size=8.5)
