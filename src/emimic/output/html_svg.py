"""The panels of an HTML page: a waveform and one line per target, as SVG."""

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.inference.results import Result, VoiceSegment
from emimic.output import drawing
from emimic.output.drawing import Envelope, Line
from emimic.task import VAD

_MAX_POINTS: Final = 4000  # of a magnified line
_MAX_VALUES: Final = (
    20_000  # of a line to read out: 7 minutes of V/A/D at 50 Hz, 66 of intensities every 0.2 s
)


@dataclass(frozen=True, slots=True)
class Panel:
    """A line of the page with its values.

    look: its CSS class. times, values (value,): the values to read out, up to `reach` seconds away; each is the mean of
    `each` predictions, and `mean` the mean of all. far, near: the lines that are drawn before and after magnifying.
    low, high: the limits of its axis. interval: the lower and the upper edge of the values' prediction intervals, None
    without any.
    """

    name: str
    look: str
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    reach: float
    each: int
    far: Line
    near: Line
    mean: float
    low: float
    high: float
    interval: tuple[Line, Line] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the panel for the script: seconds to the millisecond, values to four decimals, null in a gap."""
        return {
            "name": self.name,
            "reach": round(self.reach, 3),
            "low": self.low,
            "high": self.high,
            "lowest": _reduce(np.nanmin, self.near.low),
            "highest": _reduce(np.nanmax, self.near.high),
            "times": [round(float(t), 3) for t in self.times],
            "values": [round(float(v), 4) if math.isfinite(v) else None for v in self.values],
        }

    def draw(self, seconds: float) -> str:
        """Return interval, grid and line; the script shows the coarse line until the page is magnified."""
        grid = _draw_path("grid", "".join(f"M0 {self._place(y):.1f}h1000" for y in (0, 0.5, 1)))
        below = self._draw_interval(seconds) + grid
        if self.far.each == 1:
            return below + self._draw_line(self.far, seconds)
        far, near = (self._draw_line(line, seconds) for line in (self.far, self.near))
        return below + f'<g class="far">{far}</g><g class="near">{near}</g>'

    def _place(self, values: Any) -> Any:
        """Return the heights of values."""
        return 98 - 96 / (self.high - self.low) * (values - self.low)

    def _draw_interval(self, seconds: float) -> str:
        """Return the prediction intervals as a band."""
        if self.interval is None:
            return ""
        low, high = (self._place(edge.mean) for edge in self.interval)
        x = 1000 * self.interval[0].times / seconds
        band = "".join(_outline(x[run], low[run], high[run]) for run in _find_runs(low))
        return _draw_path(f"interval band {self.look}", band)

    def _draw_line(self, line: Line, seconds: float) -> str:
        """Return line and range; the line is broken at a gap, and a single value is a dot."""
        x = 1000 * line.times / seconds
        mean, low, high = (self._place(y) for y in (line.mean, line.low, line.high))
        bands, parts = [], []
        for run in _find_runs(mean):
            is_single = run.stop - run.start == 1
            parts.append("M" + "L".join(_list_points(x[run], mean[run])) + ("h.01" if is_single else ""))
            bands.append(_outline(x[run], low[run], high[run]))
        band = _draw_path(f"band {self.look}", "".join(bands)) if line.each > 1 else ""
        return band + _draw_path(self.look, "".join(parts))


def make_panels(result: Result) -> list[Panel]:
    """Return the panels of a result: one per target with a timeline, and one each for V/A/D."""
    timeline, prediction = result.timeline, result.prediction
    panels = []
    if timeline is not None:
        for i, name in enumerate(timeline.targets):
            look = f"c{i % len(drawing.COLORS)}"
            panel = _make_panel(name, look, timeline.times, timeline.intensities, i, timeline.hop)
            panels.append(_add_interval(panel, timeline.times, timeline.intensities[:, i], result))
        times, vad = timeline.vad_times, timeline.vad
    else:
        times, vad = prediction.times, prediction.vad
    if times is not None and vad is not None:
        step = float(times[1] - times[0]) if len(times) > 1 else 0.02
        for i, name in enumerate(VAD):
            panels.append(
                _add_interval(_make_panel(name, "vad", times, vad, i, step), times, vad[:, i], result)
            )
    return panels


def _add_interval(
    panel: Panel, times: NDArray[np.float64], values: NDArray[np.floating[Any]], result: Result
) -> Panel:
    """Return a panel with the prediction intervals of its values (value,), where a timeline's model has some."""
    if result.timeline is None or result.intervals is None or panel.name not in result.intervals.widths:
        return panel
    pairs = result.intervals.compute([panel.name], values[:, None])[:, 0]
    low, high = (drawing.fit_width(times, edge) for edge in pairs.T)
    return replace(panel, interval=(low, high))


def _make_panel(
    name: str,
    look: str,
    times: NDArray[np.float64],
    group: NDArray[np.floating[Any]],
    column: int,
    step: float,
) -> Panel:
    """Return the panel of one column of a group (value, line), whose panels have the same limits."""
    values = group[:, column]
    read = drawing.thin(times, values, _MAX_VALUES)
    finite = values[np.isfinite(values)]
    low, high = drawing.find_range(group)
    far, near = drawing.fit_width(times, values), drawing.thin(times, values, _MAX_POINTS)
    mean = float(finite.mean()) if len(finite) else math.nan
    return Panel(name, look, read.times, read.mean, step * read.each, read.each, far, near, mean, low, high)


def wrap_svg(content: str) -> str:
    """Return a panel's SVG, stretched to the page's width; inside it is 1000 wide and 100 high."""
    return f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">{content}</svg>'


def draw_silence(segment: VoiceSegment, seconds: float) -> str:
    """Return the box of a silent segment."""
    x, width = 1000 * segment.start / seconds, 1000 * (segment.end - segment.start) / seconds
    return f'<rect class="silence" x="{x:.6g}" width="{width:.6g}" height="100"/>'


def draw_waveform(wave: Envelope, seconds: float) -> str:
    """Return the waveform, scaled to its peak."""
    peak = find_peak(wave)
    x = 1000 * (np.arange(len(wave.lows)) + 0.5) * wave.width / seconds
    return _draw_path("wave", _outline(x, 50 - 48 * wave.lows / peak, 50 - 48 * wave.highs / peak))


def find_peak(wave: Envelope) -> float:
    """Return the highest absolute sample; 1 for digital silence."""
    return float(max(wave.highs.max(), -wave.lows.min())) or 1.0


def _reduce(function: Any, values: NDArray[np.float64]) -> float | None:
    """Return the minimum or maximum of values, to four decimals; None if all are NaN."""
    return round(float(function(values)), 4) if np.isfinite(values).any() else None


def _find_runs(values: NDArray[np.float64]) -> list[slice]:
    """Return the runs of values without NaN."""
    finite = np.concatenate([[False], np.isfinite(values), [False]])
    edges = np.flatnonzero(np.diff(finite.astype(int)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _list_points(x: NDArray[Any], y: NDArray[Any]) -> list[str]:
    """Return points as SVG writes them."""
    return [f"{a:.6g} {b:.1f}" for a, b in zip(x, y, strict=True)]


def _outline(x: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> str:
    """Return the outline of a band."""
    return "M" + "L".join([*_list_points(x, high), *reversed(_list_points(x, low))]) + "z"


def _draw_path(look: str, d: str) -> str:
    """Return a path element."""
    return f'<path class="{look}" d="{d}"/>'
