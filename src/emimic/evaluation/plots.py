"""Pictures of how predictions relate to labels, and of what a corpus is made of. The only place that draws for `study`.

Everything is grey: density as darkness, lines told apart by their dashes, so print and color-blind
readers lose nothing.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic import metrics
from emimic.figures import make_drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS: Final = 3
_DOTS: Final = 500
"""Up to this many clips, dots are legible; the challenge's validation split has 4,588."""
_CELLS: Final = 33
"""Cells across a panel."""
_BINNED: Final = "mean of a bin, 95 % interval"


def scatter(predictions: ArrayLike, labels: ArrayLike, targets: Sequence[str]) -> "Figure":
    """Prediction against label, a panel for each target, darker where more clips lie.

    The dashed line is where they are equal, the solid one the least-squares line; the title gives
    Pearson's correlation.

    Args:
        predictions: (clip, target), at least one clip.
        labels: (clip, target), intensities in [0, 1]; NaN where unknown, which isn't drawn.
        targets: the target's names.

    Raises:
        ScoreError: if the shapes differ, a prediction isn't finite, or a label is infinite.
    """
    rho = np.atleast_1d(metrics.pearson(predictions, labels))
    x, y = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    x_range, y_range = _range(x, include=(0.0, 1.0)), _range(y, include=(0.0, 1.0))
    figure, panels = _panels(targets, x_label="label", y_label="prediction")
    _clips(panels, x, y, x_range, y_range)
    for i, (panel, target) in enumerate(zip(panels, targets, strict=True)):
        panel.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="equal")
        known = ~np.isnan(x[:, i])
        if not metrics.constant(x[:, i]):
            slope, offset = np.polyfit(x[known, i], y[known, i], 1)
            ends = np.array([x[known, i].min(), x[known, i].max()])
            panel.plot(ends, offset + slope * ends, color="black", linewidth=2, label="least squares")
        panel.set_title(f"{target}\nPearson's ρ {_spoken(rho[i])}")
    _legend(figure, panels)
    return figure


def residuals(predictions: ArrayLike, labels: ArrayLike, targets: Sequence[str]) -> "Figure":
    """Prediction minus label against prediction, a panel for each target, darker where more clips lie.

    The line with dots is the mean residual in up to ten equally filled bins of the prediction: away from
    zero, such predictions are too high or too low on average. The title gives the root of the mean
    squared error.

    Takes and raises what `scatter` does.
    """
    rmse = np.sqrt(np.atleast_1d(metrics.mse(predictions, labels)))
    x = np.asarray(predictions, dtype=np.float64)
    y = x - np.asarray(labels, dtype=np.float64)
    x_range, y_range = _range(x), _range(y, include=(-0.5, 0.5))
    figure, panels = _panels(targets, x_label="prediction", y_label="prediction − label")
    _clips(panels, x, y, x_range, y_range)
    for i, (panel, target) in enumerate(zip(panels, targets, strict=True)):
        panel.axhline(0, color="black", linestyle="--", linewidth=1, label="no error")
        # Fewer clips in a bin, and its mean is noise; bins of a constant would split at random.
        known = np.flatnonzero(~np.isnan(y[:, i]))
        bins = 1 if metrics.constant(x[known, i]) else min(max(len(known) // 20, 1), 10)
        parts = np.array_split(known[np.argsort(x[known, i], kind="stable")], bins) if len(known) else []
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
        panel.set_title(f"{target}\nroot mean squared error {_spoken(rmse[i]).removeprefix('= ')}")
    _legend(figure, panels)
    return figure


def reliability(calibrations: Mapping[str, metrics.Calibration]) -> "Figure":
    """Mean label against mean prediction in bins of the prediction, with 95 % intervals, a panel for each target.

    On the dashed line predictions mean what they say; points below it are of predictions that are too high. The grey
    area is the gap between the two. The title gives the expected calibration error.

    Args:
        calibrations: target -> as of `scores.calibration`.
    """
    from matplotlib.ticker import MaxNLocator

    figure, panels = _panels(list(calibrations), x_label="mean prediction", y_label="mean label")
    for panel, (target, one) in zip(panels, calibrations.items(), strict=True):
        ends = np.concatenate([one.predicted, one.observed, one.low, one.high])
        low, high = _range(ends, include=(0.0, 0.1))
        panel.plot([low, high], [low, high], color="black", linestyle="--", linewidth=1, label="calibrated")
        panel.fill_between(one.predicted, one.predicted, one.observed, color="0.85", linewidth=0)
        below, above = (np.nan_to_num(np.abs(one.observed - end)) for end in (one.low, one.high))
        panel.errorbar(
            one.predicted, one.observed, yerr=np.stack([below, above]), color="black", ecolor="0.35", elinewidth=1.2,
            capsize=2.5, marker="o", markersize=5, markerfacecolor="white", linewidth=1.5,
        )  # fmt: skip
        panel.plot([], [], color="black", marker="o", markerfacecolor="white", label=_BINNED)
        panel.set_xlim(low, high)
        panel.set_ylim(low, high)
        panel.set_aspect("equal")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(MaxNLocator(5))
        panel.set_title(f"{target}\ncalibration error {_spoken(one.error).removeprefix('= ')}")
    _legend(figure, panels)
    return figure


def boxes(labels: Mapping[str, NDArray[Any]], targets: Sequence[str]) -> "Figure":
    """Box plots of each split's labels (clip, target), NaN where missing, a panel a split (the paper's Figure 1).

    The box spans the quartiles, whiskers reach the last label within 1.5 times its height, the line is the median and
    the diamond the mean; labels beyond are dots, darker where many lie.
    """
    figure, panels = _stacked(len(labels), height=2.6)
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


def durations(seconds: NDArray[Any], fps: NDArray[Any]) -> "Figure":
    """Histograms on two logarithmic axes of lengths (clip,) in s, and below of (video,) fps if any (Figure 2)."""
    kinds = [("duration in seconds", "clips", seconds), ("frames a second", "videos", fps)]
    kinds = [kind for kind in kinds if len(kind[2])]
    figure, panels = _stacked(len(kinds), height=2.6)
    for panel, (label, unit, values) in zip(panels, kinds, strict=True):
        low, high = float(values.min()), float(values.max())
        low, high = (low, high) if high > 1.1 * low else (low / 1.5, high * 1.5)
        edges = np.geomspace(0.98 * low, 1.02 * high, 61)
        panel.hist(values, bins=edges, color="0.55", edgecolor="black", linewidth=0.4)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_ylim(bottom=0.7)  # a single one is seen
        panel.set_xlabel(label)
        panel.set_ylabel(unit)
        _plain_numbers(panel)
    return figure


def cuts(at: NDArray[Any], kept: NDArray[Any], lost: NDArray[Any], chosen: float) -> "Figure":
    """For each cut (cut,) in seconds, rising: the share of clips kept whole and of audio lost; a line at the chosen."""
    figure, (panel,) = _stacked(1, height=3.6)
    panel.step(at, 100 * kept, where="post", color="black", linewidth=2, label="clips kept whole")
    panel.plot(at, 100 * lost, color="black", linewidth=1.5, linestyle="--", label="audio lost")
    panel.axvline(chosen, color="0.5", linewidth=1.5, label=f"cut at {chosen:g} s")
    panel.set_xscale("log")
    panel.set_xlabel("cut in seconds")
    panel.set_ylabel("% of clips, of audio")
    _plain_numbers(panel)
    _legend(figure, [panel])
    return figure


def svg(figure: "Figure") -> bytes:
    """The figure as SVG without a date, and text stays text."""
    import matplotlib as mpl

    make_drawable(figure)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "emimic"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "emimic"})
    return buffer.getvalue()


def png(figure: "Figure", *, dpi: int = 120) -> bytes:
    """The figure as a PNG."""
    make_drawable(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _panels(targets: Sequence[str], *, x_label: str, y_label: str) -> "tuple[Figure, list[Any]]":
    """A figure with an axes for each target, three to a row."""
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


def _stacked(count: int, *, height: float) -> "tuple[Figure, list[Any]]":
    """A figure with so many axes, one below the other, each so many inches high."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height * count + 0.4), layout="constrained")
    return figure, list(figure.subplots(count, 1, squeeze=False).flat)


def _plain_numbers(panel: Any) -> None:
    """30, not 3 x 10^1, on logarithmic axes."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (panel.xaxis, panel.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1,) if high > 3000 * low else (1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())


def _clips(
    panels: Sequence[Any],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> None:
    """A dot a clip, or cells as dark as they are full where dots would hide each other."""
    for panel in panels:
        panel.set_xlim(x_range)
        panel.set_ylim(y_range)
    if len(x) <= _DOTS:
        for i, panel in enumerate(panels):
            panel.plot(x[:, i], y[:, i], "o", color="black", alpha=0.35, markersize=5, markeredgewidth=0)
        return
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter, NullFormatter

    edges = (np.linspace(*x_range, _CELLS + 1), np.linspace(*y_range, _CELLS + 1))
    drawn = np.isfinite(x) & np.isfinite(y)
    counts = [np.histogram2d(x[drawn[:, i], i], y[drawn[:, i], i], bins=edges)[0] for i in range(len(panels))]
    most = max(2.0, *(float(count.max()) for count in counts))
    # Half the labels are zero, so counts span decades; below 1, so that one clip still shows on white.
    norm = LogNorm(vmin=0.3, vmax=most)
    for panel, count in zip(panels, counts, strict=True):
        mesh = panel.pcolormesh(*edges, np.ma.masked_equal(count.T, 0), cmap="Greys", norm=norm)
    bar = panels[0].figure.colorbar(mesh, ax=list(panels), shrink=0.6, aspect=30, label="clips in a cell")
    bar.ax.set_ylim(1, most)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())


def _range(values: NDArray[np.float64], include: tuple[float, ...] = ()) -> tuple[float, float]:
    """What an axis shows: all values but NaN, and what else to include, with a little room."""
    known = [*values[np.isfinite(values)].tolist(), *include]
    low, high = min(known, default=0.0), max(known, default=1.0)
    room = 0.03 * (high - low) or 0.05
    return low - room, high + room


def _legend(figure: "Figure", panels: Sequence[Any]) -> None:
    """One legend for all panels, below them."""
    lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}
    lines = {label: line for label, line in lines.items() if not label.startswith("_")}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(lines), frameon=False)


def _spoken(value: float) -> str:
    return "undefined" if math.isnan(value) else f"= {value:.3f}"
