"""One picture of a recording: waveform, voice, intensities, VAD. Every curve has a panel and a label of its own, so
nothing depends on color, no labels meet, and a break in a line means silence (dashes would look like it)."""

import io
import math
import textwrap
import threading
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from emimic.figures import make_drawable
from emimic.inference.results import Result, Timeline
from emimic.install import install
from emimic.output.drawing import (
    COLORS,
    Envelope,
    about,
    clock,
    coarser,
    envelope,
    overview,
    short,
    silences,
    span,
)
from emimic.task import VAD, AudioError, EmimicError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Envelope", "envelope", "figure", "save", "timeline"]

_VAD_COLOUR: Final = "#222222"
_SILENCE: Final = "#e4e4e4"
_STEPS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_STRETCHES: Final = 2000  # of a waveform
# matplotlib's settings are global: one picture at a time is written under ours.
_LOCK: Final = threading.Lock()

# The sheet, in inches: names stand left of the panels, figures right of them.
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 10.0, 1.55, 0.95, 0.75, 0.55
_ROW, _BETWEEN, _APART = 0.5, 0.13, 0.3


def timeline(
    result: Result, samples: NDArray[np.float32] | Envelope, *, form: Literal["png", "svg"] = "png"
) -> bytes:
    """The picture of one result as PNG or SVG; the same input gives the same bytes.

    samples: the recording, (sample,) at 16 kHz, or its envelope. With result.timeline curves over the whole recording,
    else the clip's intensities as bars beside the waveform and VAD of what was heard. Raises EmimicError without
    matplotlib, AudioError without samples.
    """
    return save(figure(result, samples), form)


def save(figure: "Figure", form: Literal["png", "svg"]) -> bytes:
    """A figure as bytes that depend on nothing but the figure: text stays text in SVG, no dates.

    Raises EmimicError for another form.
    """
    if form not in ("png", "svg"):
        raise EmimicError(f"a picture's form is {form!r}; give png or svg.")
    import matplotlib as mpl

    file = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None} if form == "png" else {"Date": None, "Creator": "emimic"}
    make_drawable(figure)
    with _LOCK, mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "emimic"}):
        figure.savefig(file, format=form, dpi=120, metadata=metadata)
    return file.getvalue()


def figure(result: Result, samples: NDArray[np.float32] | Envelope) -> "Figure":
    """The picture of `timeline` as a matplotlib figure."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EmimicError(f"pictures need matplotlib ({error}). Install it: {install('plots')}") from error
    if not len(samples.highs if isinstance(samples, Envelope) else samples):
        raise AudioError(f"{result.path}: the waveform has no samples to draw; give at least one.")
    sheet = Figure()
    if result.timeline is not None:
        _over_time(sheet, result.timeline, samples)
    else:
        _clip(sheet, result, samples)
    height = sheet.get_figheight()
    title = sheet.text(0.2 / _WIDTH, 1 - 0.18 / height, short(result.title), va="top", weight="bold", size=11)
    title.set_parse_math(False)
    sheet.text(0.2 / _WIDTH, 1 - 0.44 / height, about(result), va="top", size=8, color="0.3")
    return sheet


def _over_time(sheet: "Figure", t: Timeline, samples: NDArray[np.float32] | Envelope) -> None:
    """Waveform, a panel a target, a panel each of VAD, above one another."""
    groups = [1, len(t.targets)] + ([] if t.vad is None else [len(VAD)])
    panels = _panels(sheet, groups, _LEFT, _WIDTH - _RIGHT)
    _waveform(panels[0], coarser(samples, _STRETCHES), t.seconds)
    colors = [COLORS[i % len(COLORS)] for i in range(len(t.targets))]
    _curves(panels[1:], t.targets, colors, t.times, t.intensities)
    _unit(sheet, panels[1 : 1 + len(t.targets)], "intensity (0 to 1)")
    if t.vad is not None and t.vad_times is not None:
        _curves(panels[-3:], VAD, [_VAD_COLOUR] * 3, t.vad_times, t.vad)
        _unit(sheet, panels[-3:], "rating (0 to 1)")
    silent = [(s.start, s.end - s.start) for s in silences(t)]
    for panel in panels:
        whole = panel.get_xaxis_transform()  # from the panel's floor to its ceiling
        panel.broken_barh(silent, (0, 1), transform=whole, color=_SILENCE, linewidth=0, zorder=0)
    _time_axis(panels, t.seconds)


def _clip(sheet: "Figure", result: Result, samples: NDArray[np.float32] | Envelope) -> None:
    """Intensities as bars on the left; waveform and VAD of what was heard on the right."""
    one, end = result.prediction, result.covered
    groups = [1] if one.vad is None else [1, len(VAD)]
    bars_height = 0.28 * len(result.targets)
    panels = _panels(sheet, groups, 5.35, _WIDTH - _RIGHT, at_least=bars_height)
    height = sheet.get_figheight()
    bars = sheet.add_axes(
        (_LEFT / _WIDTH, _BOTTOM / height, 2.1 / _WIDTH, (height - _TOP - _BOTTOM) / height)
    )
    values = np.nan_to_num(one.intensities)
    rows = np.arange(len(values))
    bars.barh(rows, values, height=0.62, color=[COLORS[i % len(COLORS)] for i in rows])
    for row, value in zip(rows, one.intensities, strict=True):
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
    bars.set_yticks(rows, [_label(name) for name in result.targets], size=9, parse_math=False)
    bars.tick_params(axis="y", length=0)
    bars.tick_params(axis="x", labelsize=8)
    bars.axvline(0, color="0.3", linewidth=0.8)
    bars.spines[["top", "right", "left"]].set_visible(False)
    _waveform(panels[0], coarser(samples, _STRETCHES, until=end), end)
    if one.vad is not None:
        _curves(panels[1:], VAD, [_VAD_COLOUR] * 3, one.times, one.vad)
        _unit(sheet, panels[1:], "rating (0 to 1)", left=1.1)
    _time_axis(panels, end)


def _panels(
    sheet: "Figure", groups: list[int], left: float, right: float, *, at_least: float = 0.0
) -> list["Axes"]:
    """Panels above one another from `left` to `right` inches, groups set apart; sets the sheet's height."""
    rows = sum(groups)
    between = _BETWEEN * (rows - len(groups)) + _APART * (len(groups) - 1)
    row = max(_ROW, (at_least - between) / rows)
    height = _TOP + rows * row + between + _BOTTOM
    sheet.set_size_inches(_WIDTH, height)
    panels: list[Axes] = []
    top = height - _TOP
    for group in groups:
        for _ in range(group):
            box = (left / _WIDTH, (top - row) / height, (right - left) / _WIDTH, row / height)
            panels.append(sheet.add_axes(box, sharex=panels[0] if panels else None))
            top -= row + _BETWEEN
        top -= _APART - _BETWEEN
    return panels


def _waveform(panel: "Axes", wave: Envelope, end: float) -> None:
    """Filled from lowest to highest; scaled to its peak, which is told."""
    peak = float(max(wave.highs.max(), -wave.lows.min()))
    times = (np.arange(len(wave.lows)) + 0.5) * wave.stretch
    # Single samples are a line, stretches a filled band with a line around it, so that neither vanishes.
    panel.fill_between(times, wave.lows, wave.highs, color="0.25", linewidth=0.6)
    panel.set(ylim=(-peak * 1.05, peak * 1.05) if peak else (-1, 1), yticks=[], xlim=(0, max(end, 1e-3)))
    panel.spines[["top", "right", "left"]].set_visible(False)
    told = f"peak {round(20 * math.log10(peak))} dBFS".replace("-", "−") if peak else "digital silence"
    _beside(panel, "waveform\n(up to its peak)", told.replace(" ", "\n", 1))


def _curves(
    panels: list["Axes"],
    names: tuple[str, ...],
    colors: list[str],
    times: NDArray[np.float64],
    values: NDArray[np.floating[Any]],
) -> None:
    """times (step,), values (step, name): a curve in each of the first panels, all over one range."""
    low, high = span(values)
    margin = 0.06 * (high - low)
    for i, name in enumerate(names):
        panels[i].set_ylim(low - margin, high + margin)
        _curve(panels[i], name, times, values[:, i], colors[i])


def _curve(
    panel: "Axes", name: str, times: NDArray[np.float64], values: NDArray[np.floating[Any]], color: str
) -> None:
    """One curve with its name, mean and highest value; lone values between gaps are dots."""
    curve = overview(times, values)
    there = np.isfinite(curve.mean)
    lone = there & ~np.append(False, there[:-1]) & ~np.append(there[1:], False)
    if curve.each > 1:
        panel.fill_between(curve.times, curve.low, curve.high, color=color, alpha=0.25, linewidth=0)
    thick, dot = (1.4, 3.5) if curve.each == 1 else (0.9, 1.5)
    panel.plot(curve.times, curve.mean, color=color, linewidth=thick)
    dots: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": dot, "clip_on": False}
    panel.plot(curve.times[lone], curve.mean[lone], color=color, **dots)
    known = values[np.isfinite(values)]
    panel.set_yticks([0, 0.5, 1], ["0", "", "1"], size=7)
    panel.tick_params(axis="y", length=2, pad=2)
    panel.grid(axis="y", color="0.8", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    told = f"mean {known.mean():.2f}\nmax {known.max():.2f}" if len(known) else "no voice"
    _beside(panel, _label(name), told)


def _unit(sheet: "Figure", panels: list["Axes"], unit: str, *, left: float = 1.4) -> None:
    """What the vertical axes of these panels measure, once, turned by 90 degrees, `left` inches left of them."""
    boxes = [panel.get_position() for panel in panels]
    x, y = boxes[0].x0 - left / _WIDTH, (boxes[0].y1 + boxes[-1].y0) / 2
    sheet.text(x, y, unit, rotation=90, ha="center", va="center", size=8, color="0.3")


def _beside(panel: "Axes", left: str, right: str) -> None:
    for text, x, offset, ha, size in ((left, 0, -18, "right", 9), (right, 1, 8, "left", 8)):
        panel.annotate(
            text, (x, 0.5), (offset, 0), xycoords="axes fraction", textcoords="offset points",
            ha=ha, va="center", size=size, parse_math=False,
        )  # fmt: skip


def _label(name: str) -> str:
    """A target's name on at most two lines of 15 characters."""
    return "\n".join(textwrap.wrap(name, 15, max_lines=2, placeholder="…"))


def _time_axis(panels: list["Axes"], end: float) -> None:
    """Times under the last panel only, as seconds or as a clock, far enough apart."""
    room = panels[0].get_position().width * _WIDTH
    step = next((s for s in _STEPS if end / s <= 1.4 * room), 3600 * math.ceil(end / 3600 / 1.4 / room))
    ticks = np.arange(0, end + step * 1e-6, step)
    for panel in panels[:-1]:
        panel.tick_params(axis="x", labelbottom=False, length=0)
        panel.spines["bottom"].set_color("0.75")
    panels[-1].set_xticks(ticks, [clock(float(t), end) for t in ticks], size=8)
    unit = "seconds" if end < 90 else "minutes:seconds" if end < 3600 else "hours:minutes:seconds"
    panels[-1].set_xlabel(unit, size=8.5)
