"""A plot of a pair: both recordings' timelines, the lag over time, the similarities and those of chance.

Readable in gray: the seed is a broad light line, the mimic a thin dark one; a value beyond chance is a filled mark.
"""

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from emimic.figures import make_drawable, render
from emimic.install import install
from emimic.metrics import Floats
from emimic.mimicry.alignment import standardize
from emimic.mimicry.results import Comparison, Dimension, MimicryError, Series, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SEED: Final[dict[str, Any]] = {"color": "#E3A24F", "linewidth": 4.5, "solid_capstyle": "butt"}
_MIMIC: Final[dict[str, Any]] = {"color": "#10357A", "linewidth": 1.3}
_CHANCE: Final = "#C4C4C4"
_LIMIT: Final = 6.0  # maximum standard deviations shown


def draw_comparison(comparison: Comparison, *, form: Literal["png", "svg"] = "png") -> bytes:
    """Return an image with one row per dimension, and below the lag over time and the overall similarity.

    A row shows the z-scored timelines on the seed's time, and the similarity.

    Raises:
        MimicryError: matplotlib is not installed.
    """
    figure_class = import_figure()
    from matplotlib import rc_context

    names = comparison.seed.dimensions
    with rc_context({"svg.hashsalt": "emimic", "font.size": 9, "font.family": "DejaVu Sans"}):
        figure = figure_class(figsize=(11, 1.9 + 0.62 * len(names) + 1.5))
        height = figure.get_figheight()
        grid = figure.add_gridspec(
            len(names) + 1, 2, width_ratios=[3.4, 1], height_ratios=[1] * len(names) + [2],
            left=0.14, right=0.97, top=1 - 1.0 / height, bottom=0.6 / height, hspace=0.16, wspace=0.05,
        )  # fmt: skip
        left = [figure.add_subplot(grid[row, 0]) for row in range(len(names) + 1)]
        right = [figure.add_subplot(grid[row, 1]) for row in range(len(names) + 1)]
        _draw_timelines(left[:-1], comparison)
        _draw_lag(left[-1], comparison)
        seed = comparison.seed
        for axis in left:
            axis.set_xlim(seed.times[0] - seed.hop / 2, seed.times[-1] + seed.hop / 2)
        for axis, dimension in zip(right, (*comparison.dimensions, comparison.overall), strict=True):
            _draw_similarity(axis, dimension, last=axis is right[-1])
        right[-1].text(-0.97, 1.7, "Overall", fontsize=9, va="center")
        _draw_text(figure, comparison, left[0], right[0], height)
        make_drawable(figure)
        file = io.BytesIO()
        figure.savefig(file, format=form, dpi=120, metadata={"Date": None} if form == "svg" else None)
    return file.getvalue()


def draw_lags(comparison: Comparison, *, form: Literal["png", "svg"] = "png") -> bytes:
    """Return an image of a windowed comparison: the correlation of each window at each lag, and its mean over windows.

    Raises:
        MimicryError: matplotlib is not installed.
    """
    windows, lines = comparison.windows, comparison.lag_lines
    assert windows is not None
    assert lines is not None
    figure = import_figure()(figsize=(9, 5.6))
    heat, mean = figure.add_axes((0.085, 0.58, 0.82, 0.34)), figure.add_axes((0.085, 0.1, 0.82, 0.33))
    draw_heat_map_on(figure, heat, windows.by_lag, windows.times, comparison.seed.hop)
    heat.set_title("Correlation of each window at each lag, overall", fontsize=10)
    heat.set_ylabel("lag (s)\nabove 0: second follows", fontsize=8)
    level = "surrogates" if comparison.chance == "surrogates" else "other recordings"
    mean.fill_between(lines.lags, lines.low, lines.high, color=_CHANCE, linewidth=0, label=f"95 % of {level}")
    mean.plot(lines.lags, lines.observed, color=_MIMIC["color"], linewidth=2.2, label="this pair")
    mean.axvline(0, color="0.3", linewidth=0.7)
    mean.set(ylabel="mean correlation", xlim=(lines.lags[0], lines.lags[-1]))
    mean.set_xlabel(f"lag (s): above 0 {_shorten(comparison.mimic.name)} follows", fontsize=9)
    mean.grid(alpha=0.25)
    corner = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.1}
    mean.legend(frameon=False, fontsize=8, ncols=2, **corner)
    return render(figure, form)


def draw_heat_map_on(figure: Any, axis: "Axes", by_lag: Floats, times: Floats, hop: float) -> None:
    """Draw the correlation (window, lag) over time, dark to light from -1 to 1; windows without voice are hatched.

    Args:
        figure: Of the axis; gets a color bar at its right.
        axis: To draw on.
        by_lag: (window, lag), NaN without voice.
        times: (window,) centers in seconds.
        hop: Seconds between lags.
    """
    reach = by_lag.shape[1] // 2 * hop + hop / 2
    gaps = np.diff(times)
    step = float(np.min(gaps)) if len(gaps) else 1.0
    columns = np.round((times - times[0]) / step).astype(np.intp)
    shown = np.full((by_lag.shape[1], columns[-1] + 1), np.nan)
    shown[:, columns] = by_lag.T
    extent = (times[0] - step / 2, times[0] + step * (columns[-1] + 0.5), -reach, reach)
    axis.set_facecolor("white")
    axis.axhspan(-reach, reach, facecolor="white", edgecolor="0.6", hatch="////", linewidth=0, zorder=0)
    image = axis.imshow(
        shown, aspect="auto", origin="lower", extent=extent, vmin=-1, vmax=1, cmap="cividis", interpolation="nearest",
        zorder=1,
    )  # fmt: skip
    axis.axhline(0, color="white", linewidth=0.7, zorder=2)
    axis.set_xlabel("seconds", fontsize=10)
    box = axis.get_position()
    bar = figure.add_axes((box.x1 + 0.015, box.y0, 0.015, box.height))
    figure.colorbar(image, cax=bar, ticks=[-1, 0, 1])
    bar.set_title("r", fontsize=10)


def import_figure() -> Any:
    """Return matplotlib's class of figures.

    Raises:
        MimicryError: matplotlib is not installed.
    """
    try:
        from matplotlib import figure
    except ImportError:
        raise MimicryError(f"a plot needs matplotlib: {install('plots')}") from None
    return figure.Figure


def _draw_timelines(axes: "list[Axes]", comparison: Comparison) -> None:
    seed, (times, mimic) = _standardize_voiced(comparison.seed), _align_mimic(comparison)
    for column, (axis, name) in enumerate(zip(axes, comparison.seed.dimensions, strict=True)):
        axis.plot(comparison.seed.times, seed[:, column], **_SEED)
        axis.plot(times, mimic[:, column], **_MIMIC)
        axis.set(ylim=_compute_limits(seed[:, column], mimic[:, column]), yticks=[-2, 0, 2], xticklabels=[])
        axis.tick_params(axis="y", labelsize=6.5, length=2)
        axis.set_ylabel(f"{name}\n(z)", rotation=0, ha="right", va="center", labelpad=2)
        axis.grid(alpha=0.25)


def _align_mimic(comparison: Comparison) -> tuple[Floats, Floats]:
    """Return seconds (step,) of the seed, and the mimic's z-scored values (step, dimension), NaN in silence."""
    mimic = _standardize_voiced(comparison.mimic)
    if comparison.path is None:
        return comparison.mimic.times, mimic
    # A step of the seed with several aligned steps of the mimic shows their mean.
    seed = comparison.seed
    rows = np.searchsorted(seed.times, comparison.path.seed - 1e-9)
    columns = np.searchsorted(comparison.mimic.times, comparison.path.mimic - 1e-9)
    total, count = np.zeros_like(seed.values), np.zeros((len(seed.times), 1))
    np.add.at(total, rows, mimic[columns])
    np.add.at(count, rows, 1.0)
    return seed.times, np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def _compute_limits(*values: Floats) -> tuple[float, float]:
    """Return the lowest and highest standard deviation to show, with a margin; at least -2 to 2."""
    low, high = min(map(np.nanmin, values)), max(map(np.nanmax, values))
    return max(min(-2.0, low - 0.3), -_LIMIT), min(max(2.0, high + 0.3), _LIMIT)


def _standardize_voiced(series: Series) -> Floats:
    values = np.full_like(series.values, np.nan)
    values[series.voiced] = standardize(series.values[series.voiced])
    return values


def _draw_lag(axis: "Axes", comparison: Comparison) -> None:
    """Draw the lag over time: of each window, with a mark as large as its correlation; or along the warping path."""
    axis.axhline(0, color="0.3", linewidth=0.8)
    if comparison.path is not None:
        first, second = comparison.path.seed[0], comparison.path.mimic[0]
        lags = (comparison.path.mimic - second) - (comparison.path.seed - first)
        axis.plot(comparison.path.seed, lags, **_MIMIC)
        reach = max(0.5, 1.15 * float(np.abs(lags).max()))
        label = "Lag (s)\nfrom first voice\n+ mimic is later\n− mimic is sooner"
    else:
        assert comparison.windows is not None
        peaks = np.clip(np.nan_to_num(comparison.windows.peaks[:, -1]), 0.1, 1)
        marks = {"s": 70 * peaks**2, "facecolor": "none", "edgecolor": _MIMIC["color"], "linewidth": 1.2}
        axis.scatter(comparison.windows.times, comparison.windows.lags[:, -1], **marks)
        axis.axhline(comparison.leads[-1].lag, color=_MIMIC["color"], linewidth=0.9, linestyle=(0, (6, 3)))
        reach = comparison.settings.lag * 1.15
        label = "Lag (s)\nof each window\n+ second follows\n− second leads"
    axis.set_ylim(-reach, reach)
    axis.set_ylabel(label, rotation=0, ha="right", va="center", ma="right")
    axis.yaxis.set_label_coords(-0.04, 0.5)
    axis.grid(alpha=0.25)
    axis.set_xlabel(
        f"seconds of {_shorten(comparison.seed.name)}" if comparison.path is not None else "seconds"
    )


def _draw_similarity(axis: "Axes", dimension: Dimension, *, last: bool) -> None:
    """Draw the chance interval as a gray bar, the value as a mark: filled beyond chance, open within."""
    axis.axvline(0, color="0.3", linewidth=0.8)
    if np.isfinite(dimension.similarity):
        low, high = max(-1.0, dimension.chance.low), min(1.0, dimension.chance.high)
        axis.barh(0, high - low, left=low, height=0.7, color=_CHANCE)
        face = "black" if dimension.chance.beyond else "white"
        axis.plot(
            dimension.similarity,
            0,
            "o",
            markersize=7,
            markerfacecolor=face,
            markeredgecolor="black",
            clip_on=False,
        )
        text = f"{dimension.similarity:.2f}, p {_format_p(dimension.chance.p)}"
    else:
        text = "no variance"
    axis.text(-0.97, 0.62, text, fontsize=8, va="bottom", ha="left")
    axis.set(
        xlim=(-1.07, 1.07), ylim=(-1.2, 2.4) if last else (-0.7, 1.5), yticks=[], xticks=[-1, -0.5, 0, 0.5, 1]
    )
    axis.grid(alpha=0.25, axis="x")
    if last:
        axis.set_xlabel("similarity (correlation)")
    else:
        axis.set_xticklabels([])


def _format_p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _draw_text(figure: Any, comparison: Comparison, left: "Axes", right: "Axes", height: float) -> None:
    """Draw the title, and the explanation of lines and bars."""
    is_warped = comparison.path is not None
    title = figure.text(0.02, 1 - 0.18 / height, _make_title(comparison), fontsize=12, va="top")
    title.set_parse_math(False)
    time = "warped onto the seed's time" if is_warped else "at the same time"
    figure.text(
        0.02, 1 - 0.48 / height, f"Timelines in standard deviations (z), {time}", va="top", color="0.25"
    )
    seed, mimic = _shorten(comparison.seed.name), _shorten(comparison.mimic.name)
    lines = [left.plot([], [], **_SEED)[0], left.plot([], [], **_MIMIC)[0]]
    names = [f"seed: {seed}", f"mimic: {mimic}"] if is_warped else [f"first: {seed}", f"second: {mimic}"]
    left.legend(
        lines, names, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0.1
    )
    draws = "surrogates" if comparison.chance == "surrogates" else "other recordings"
    right.set_title(
        f"Similarity (mark) and that of\n{comparison.settings.level:.0%} of {draws} (bar)", fontsize=9, pad=4
    )


def _make_title(comparison: Comparison) -> str:
    """Return the finding, with names that fit a line."""
    seed, mimic = (
        replace(series, name=_shorten(series.name)) for series in (comparison.seed, comparison.mimic)
    )
    return summarize(replace(comparison, seed=seed, mimic=mimic))


def _shorten(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:14]}…{name[-9:]}"
