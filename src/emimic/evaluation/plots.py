"""Plots of predictions against labels, and of a corpus's labels and durations.

Everything is gray: density is darkness and lines differ in their dashes, for print and for color-blind readers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic import metrics
from emimic.reliability import Reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS: Final = 3
_DOTS: Final = 500
"""The maximum number of clips for a scatter plot; the challenge's validation split has 4,588."""
_BINS: Final = 33
"""Bins of a two-dimensional histogram along each axis."""
_BINNED: Final = "mean of a bin, 95 % interval"


def draw_scatter(predictions: ArrayLike, labels: ArrayLike, targets: Sequence[str]) -> "Figure":
    """Draw predictions against labels, a panel for each target, darker where there are more clips.

    On the dashed line they are equal; the solid one is the least-squares line. The title gives Pearson's correlation.

    Args:
        predictions: (clip, target), at least one clip.
        labels: (clip, target), intensities in [0, 1]; NaN where unknown, which isn't drawn.
        targets: the target's names.

    Raises:
        ScoreError: if the shapes differ, a prediction isn't finite, or a label is infinite.
    """
    rho = np.atleast_1d(metrics.compute_pearson(predictions, labels))
    x, y = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    x_range, y_range = _get_range(x, include=(0.0, 1.0)), _get_range(y, include=(0.0, 1.0))
    figure, panels = _make_panels(targets, x_label="label", y_label="prediction")
    _draw_clips(panels, x, y, x_range, y_range)
    for i, (panel, target) in enumerate(zip(panels, targets, strict=True)):
        panel.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="equal")
        labeled = ~np.isnan(x[:, i])
        if not metrics.find_constant(x[:, i]):
            slope, offset = np.polyfit(x[labeled, i], y[labeled, i], 1)
            ends = np.array([x[labeled, i].min(), x[labeled, i].max()])
            panel.plot(ends, offset + slope * ends, color="black", linewidth=2, label="least squares")
        panel.set_title(f"{target}\nPearson's ρ {_format_value(rho[i])}")
    _add_legend(figure, panels)
    return figure


def draw_residuals(predictions: ArrayLike, labels: ArrayLike, targets: Sequence[str]) -> "Figure":
    """Draw prediction minus label against prediction, a panel for each target, darker where there are more clips.

    The line with dots is the mean residual in up to ten bins of the prediction with equally many clips. Where it isn't
    zero, such predictions are too high or too low on average. The title gives the root mean squared error.

    Args:
        predictions: (clip, target), at least one clip.
        labels: (clip, target), intensities in [0, 1]; NaN where unknown, which isn't drawn.
        targets: the target's names.

    Raises:
        ScoreError: if the shapes differ, a prediction isn't finite, or a label is infinite.
    """
    rmse = np.sqrt(np.atleast_1d(metrics.compute_mse(predictions, labels)))
    x = np.asarray(predictions, dtype=np.float64)
    y = x - np.asarray(labels, dtype=np.float64)
    x_range, y_range = _get_range(x), _get_range(y, include=(-0.5, 0.5))
    figure, panels = _make_panels(targets, x_label="prediction", y_label="prediction − label")
    _draw_clips(panels, x, y, x_range, y_range)
    for i, (panel, target) in enumerate(zip(panels, targets, strict=True)):
        panel.axhline(0, color="black", linestyle="--", linewidth=1, label="no error")
        # With fewer clips in a bin its mean is noise; bins of a constant would split at random.
        rows = np.flatnonzero(~np.isnan(y[:, i]))
        bins = 1 if metrics.find_constant(x[rows, i]) else min(max(len(rows) // 20, 1), 10)
        parts = np.array_split(rows[np.argsort(x[rows, i], kind="stable")], bins) if len(rows) else []
        panel.plot(
            [x[part, i].mean() for part in parts],
            [y[part, i].mean() for part in parts],
            color="black",
            marker="o",
            markersize=4,
            markerfacecolor="white",
            linewidth=1.5,
            label="mean of equally many clips",
        )
        panel.set_title(f"{target}\nroot mean squared error {_format_value(rmse[i]).removeprefix('= ')}")
    _add_legend(figure, panels)
    return figure


def draw_reliability(calibrations: Mapping[str, Reliability]) -> "Figure":
    """Draw mean label against mean prediction in bins of the prediction, with 95 % intervals, a panel for each target.

    On the dashed line predictions are calibrated; below it they are too high. The gray area is the difference. The
    title gives the expected calibration error.

    Args:
        calibrations: by target, as from `reliability.compute_reliability`.
    """
    from matplotlib.ticker import MaxNLocator

    figure, panels = _make_panels(list(calibrations), x_label="mean prediction", y_label="mean label")
    for panel, (target, bins) in zip(panels, calibrations.items(), strict=True):
        ends = np.concatenate([bins.predicted, bins.observed, bins.low, bins.high])
        low, high = _get_range(ends, include=(0.0, 0.1))
        panel.plot([low, high], [low, high], color="black", linestyle="--", linewidth=1, label="calibrated")
        panel.fill_between(bins.predicted, bins.predicted, bins.observed, color="0.85", linewidth=0)
        below, above = (np.nan_to_num(np.abs(bins.observed - end)) for end in (bins.low, bins.high))
        panel.errorbar(
            bins.predicted, bins.observed, yerr=np.stack([below, above]), color="black", ecolor="0.35", elinewidth=1.2,
            capsize=2.5, marker="o", markersize=5, markerfacecolor="white", linewidth=1.5,
        )  # fmt: skip
        panel.plot([], [], color="black", marker="o", markerfacecolor="white", label=_BINNED)
        panel.set_xlim(low, high)
        panel.set_ylim(low, high)
        panel.set_aspect("equal")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(MaxNLocator(5))
        panel.set_title(f"{target}\ncalibration error {_format_value(bins.error).removeprefix('= ')}")
    _add_legend(figure, panels)
    return figure


def draw_boxes(labels: Mapping[str, NDArray[Any]], targets: Sequence[str]) -> "Figure":
    """Draw box plots of labels, a panel for each split (the paper's Figure 1).

    The box spans the quartiles, whiskers reach the last label within 1.5 times its height, the line is the median and
    the diamond the mean. Labels outside are dots, darker where there are many.

    Args:
        labels: split -> (clip, target), NaN where missing.
        targets: the target's names.
    """
    figure, panels = _make_stack(len(labels), height=2.6)
    for panel, (split, values) in zip(panels, labels.items(), strict=True):
        columns = [column[np.isfinite(column)] for column in values.T]
        panel.boxplot(
            columns,
            tick_labels=targets,
            widths=0.55,
            patch_artist=True,
            showmeans=True,
            boxprops={"facecolor": "0.8", "edgecolor": "black"},
            medianprops={"color": "black", "linewidth": 2},
            meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 5},
            flierprops={
                "marker": "o", "markersize": 4, "markerfacecolor": "black", "markeredgewidth": 0, "alpha": 0.1,
            },
        )  # fmt: skip
        panel.set_ylabel("label")
        panel.set_title(f"{split} ({len(values):,} clips)")
    return figure


def draw_durations(seconds: NDArray[Any], fps: NDArray[Any]) -> "Figure":
    """Draw log-log histograms of durations (clip,) in seconds and of frame rates (video,), if any (Figure 2)."""
    kinds = [("duration in seconds", "clips", seconds), ("frames a second", "videos", fps)]
    kinds = [kind for kind in kinds if len(kind[2])]
    figure, panels = _make_stack(len(kinds), height=2.6)
    for panel, (label, unit, values) in zip(panels, kinds, strict=True):
        low, high = float(values.min()), float(values.max())
        low, high = (low, high) if high > 1.1 * low else (low / 1.5, high * 1.5)
        edges = np.geomspace(0.98 * low, 1.02 * high, 61)
        panel.hist(values, bins=edges, color="0.55", edgecolor="black", linewidth=0.4)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_ylim(bottom=0.7)  # a count of 1 is visible
        panel.set_xlabel(label)
        panel.set_ylabel(unit)
        _format_ticks(panel)
    return figure


def draw_cuts(cuts: NDArray[Any], uncut: NDArray[Any], lost: NDArray[Any], chosen: float) -> "Figure":
    """Draw the cost of cuts.

    Args:
        cuts: (cut,) in seconds, rising.
        uncut: (cut,), the fraction of clips that are kept whole.
        lost: (cut,), the fraction of audio that is lost.
        chosen: the cut with a vertical line, in seconds.
    """
    figure, (panel,) = _make_stack(1, height=3.6)
    panel.step(cuts, 100 * uncut, where="post", color="black", linewidth=2, label="clips kept whole")
    panel.plot(cuts, 100 * lost, color="black", linewidth=1.5, linestyle="--", label="audio lost")
    panel.axvline(chosen, color="0.5", linewidth=1.5, label=f"cut at {chosen:g} s")
    panel.set_xscale("log")
    panel.set_xlabel("cut in seconds")
    panel.set_ylabel("% of clips, of audio")
    _format_ticks(panel)
    _add_legend(figure, [panel])
    return figure


def _make_panels(targets: Sequence[str], *, x_label: str, y_label: str) -> "tuple[Figure, list[Any]]":
    """Return a figure with an axes for each target, three to a row."""
    # pyplot would pick a window system and keep every figure alive in a global list.
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, max(len(targets), 1))
    rows = max(math.ceil(len(targets) / columns), 1)
    figure = Figure(figsize=(3.6 * columns + 0.6, 3.4 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = list(grid.flat)
    for spare in panels[len(targets) :]:
        spare.remove()
    panels = panels[: len(targets)]
    for panel in panels:
        panel.set_xlabel(x_label)
        panel.set_ylabel(y_label)
    return figure, panels


def _make_stack(count: int, *, height: float) -> "tuple[Figure, list[Any]]":
    """Return a figure with `count` axes, one below the other, each `height` inches high."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height * count + 0.4), layout="constrained")
    return figure, list(figure.subplots(count, 1, squeeze=False).flat)


def _format_ticks(panel: Any) -> None:
    """Write 30, not 3 x 10^1, on logarithmic axes."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (panel.xaxis, panel.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1,) if high > 3000 * low else (1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())


def _draw_clips(
    panels: Sequence[Any],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> None:
    """Draw one dot per clip, or with many clips a two-dimensional histogram."""
    for panel in panels:
        panel.set_xlim(x_range)
        panel.set_ylim(y_range)
    if len(x) <= _DOTS:
        for i, panel in enumerate(panels):
            panel.plot(x[:, i], y[:, i], "o", color="black", alpha=0.35, markersize=5, markeredgewidth=0)
        return
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter, NullFormatter

    edges = (np.linspace(*x_range, _BINS + 1), np.linspace(*y_range, _BINS + 1))
    finite = np.isfinite(x) & np.isfinite(y)
    counts = [
        np.histogram2d(x[finite[:, i], i], y[finite[:, i], i], bins=edges)[0] for i in range(len(panels))
    ]
    maximum = max(2.0, *(float(count.max()) for count in counts))
    # Half the labels are zero, so counts span decades; below 1, so that one clip still shows on white.
    norm = LogNorm(vmin=0.3, vmax=maximum)
    for panel, count in zip(panels, counts, strict=True):
        mesh = panel.pcolormesh(*edges, np.ma.masked_equal(count.T, 0), cmap="Greys", norm=norm)
    bar = panels[0].figure.colorbar(mesh, ax=list(panels), shrink=0.6, aspect=30, label="clips in a bin")
    bar.ax.set_ylim(1, maximum)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())


def _get_range(values: NDArray[np.float64], include: tuple[float, ...] = ()) -> tuple[float, float]:
    """Return the limits of an axis with all finite values and those to include, and a small margin."""
    finite = [*values[np.isfinite(values)].tolist(), *include]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    margin = 0.03 * (high - low) or 0.05
    return low - margin, high + margin


def _add_legend(figure: "Figure", panels: Sequence[Any]) -> None:
    """Add one legend for all panels, below them."""
    lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}
    lines = {label: line for label, line in lines.items() if not label.startswith("_")}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(lines), frameon=False)


def _format_value(value: float) -> str:
    return "undefined" if math.isnan(value) else f"= {value:.3f}"
