"""Pictures of how predictions relate to labels. The only place that draws with matplotlib for `evaluate`.

Everything is grey: density as darkness, lines told apart by their dashes, so print and colour-blind
readers lose nothing.
"""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic import scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS: Final = 3
_DOTS: Final = 500
"""Up to this many clips, dots are legible; the challenge's validation split has 4,588."""
_CELLS: Final = 33
"""Cells across a panel."""


def scatter(predictions: ArrayLike, labels: ArrayLike, targets: Sequence[str]) -> "Figure":
    """Prediction against label, a panel for each target, darker where more clips lie.

    The dashed line is where they are equal, the solid one the least-squares line; the title gives
    Pearson's correlation.

    Args:
        predictions: (clip, target), at least one clip.
        labels: (clip, target), intensities in [0, 1].
        targets: the target's names.

    Raises:
        ScoreError: if the shapes differ or a number is not finite.
    """
    rho = np.atleast_1d(scores.pearson(predictions, labels))
    x, y = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    x_range, y_range = _range(x, include=(0.0, 1.0)), _range(y, include=(0.0, 1.0))
    figure, panels = _panels(targets, x_label="label", y_label="prediction")
    _clips(panels, x, y, x_range, y_range)
    for i, (panel, target) in enumerate(zip(panels, targets, strict=True)):
        panel.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="equal")
        if not scores.constant(x[:, i]):
            slope, offset = np.polyfit(x[:, i], y[:, i], 1)
            ends = np.array([x[:, i].min(), x[:, i].max()])
            panel.plot(ends, offset + slope * ends, color="black", linewidth=2, label="least squares")
        panel.set_title(f"{target}\nρ {_spoken(rho[i])}")
    _legend(figure, panels)
    return figure


def residuals(predictions: ArrayLike, labels: ArrayLike, targets: Sequence[str]) -> "Figure":
    """Prediction minus label against prediction, a panel for each target, darker where more clips lie.

    The line with dots is the mean residual in up to ten equally filled bins of the prediction: away from
    zero, such predictions are too high or too low on average. The title gives the root of the mean
    squared error.

    Takes and raises what `scatter` does.
    """
    rmse = np.sqrt(np.atleast_1d(scores.mse(predictions, labels)))
    x = np.asarray(predictions, dtype=np.float64)
    y = x - np.asarray(labels, dtype=np.float64)
    x_range, y_range = _range(x), _range(y, include=(-0.5, 0.5))
    figure, panels = _panels(targets, x_label="prediction", y_label="prediction − label")
    _clips(panels, x, y, x_range, y_range)
    for i, (panel, target) in enumerate(zip(panels, targets, strict=True)):
        panel.axhline(0, color="black", linestyle="--", linewidth=1, label="no error")
        # Fewer clips in a bin, and its mean is noise; bins of a constant would split at random.
        bins = 1 if scores.constant(x[:, i]) else min(max(len(x) // 20, 1), 10)
        parts = np.array_split(np.argsort(x[:, i], kind="stable"), bins)
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
        panel.set_title(f"{target}\nroot mean squared error {rmse[i]:.3f}")
    _legend(figure, panels)
    return figure


def png(figure: "Figure", *, dpi: int = 120) -> bytes:
    """The figure as a PNG."""
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
    counts = [np.histogram2d(x[:, i], y[:, i], bins=edges)[0] for i in range(len(panels))]
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
    """What an axis shows: all values and what else to include, with a little room."""
    low, high = min((float(values.min()), *include)), max((float(values.max()), *include))
    room = 0.03 * (high - low) or 0.05
    return low - room, high + room


def _legend(figure: "Figure", panels: Sequence[Any]) -> None:
    """One legend for all panels, below them."""
    lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}
    lines = {label: line for label, line in lines.items() if not label.startswith("_")}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(lines), frameon=False)


def _spoken(value: float) -> str:
    return "undefined" if math.isnan(value) else f"= {value:.3f}"
