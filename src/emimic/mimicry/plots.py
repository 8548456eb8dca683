"""One picture of a pair: both recordings' curves, the lag over time, the similarities beside what chance reaches.

Readable in grey: the seed is a broad light line, the mimic a thin dark one; a value beyond chance is a filled mark.
"""

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from emimic.figures import make_drawable
from emimic.install import install
from emimic.metrics import Floats
from emimic.mimicry.alignment import standardize
from emimic.mimicry.results import Comparison, Curves, Dimension, MimicryError, sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SEED: Final[dict[str, Any]] = {"color": "#E3A24F", "linewidth": 4.5, "solid_capstyle": "butt"}
_MIMIC: Final[dict[str, Any]] = {"color": "#10357A", "linewidth": 1.3}
_CHANCE: Final = "#C4C4C4"
_LIMIT: Final = 6.0  # standard deviations shown; a spike beyond is cut off


def picture(found: Comparison, *, form: Literal["png", "svg"] = "png") -> bytes:
    """A row a dimension: the z-scored curves on the seed's clock, and the similarity; below, lag over time and overall.

    Raises MimicryError when matplotlib isn't installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise MimicryError(f"a picture needs matplotlib: {install('plots')}") from None
    names = found.seed.dimensions
    with rc_context({"svg.hashsalt": "emimic", "font.size": 9, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(11, 1.9 + 0.62 * len(names) + 1.5))
        high = figure.get_figheight()
        grid = figure.add_gridspec(
            len(names) + 1, 2, width_ratios=[3.4, 1], height_ratios=[1] * len(names) + [2],
            left=0.14, right=0.97, top=1 - 1.0 / high, bottom=0.6 / high, hspace=0.16, wspace=0.05,
        )  # fmt: skip
        seed, (times, mimic) = _scaled(found.seed), _laid(found)
        left = [figure.add_subplot(grid[row, 0]) for row in range(len(names) + 1)]
        right = [figure.add_subplot(grid[row, 1]) for row in range(len(names) + 1)]
        for row, name in enumerate(names):
            axis = left[row]
            axis.plot(found.seed.times, seed[:, row], **_SEED)
            axis.plot(times, mimic[:, row], **_MIMIC)
            axis.set(ylim=_reach(seed[:, row], mimic[:, row]), yticks=[-2, 0, 2], xticklabels=[])
            axis.tick_params(axis="y", labelsize=6.5, length=2)
            axis.set_ylabel(f"{name}\n(z)", rotation=0, ha="right", va="center", labelpad=2)
            axis.grid(alpha=0.25)
        _lag(left[-1], found)
        ends = (found.seed.times[0] - found.seed.hop / 2, found.seed.times[-1] + found.seed.hop / 2)
        for axis in left:
            axis.set_xlim(ends)
        for axis, dimension in zip(right, (*found.dimensions, found.overall), strict=True):
            _similarity(axis, dimension, last=axis is right[-1])
        right[-1].text(-0.97, 1.7, "Overall", fontsize=9, va="center")
        _words(figure, found, left[0], right[0], high)
        make_drawable(figure)
        file = io.BytesIO()
        figure.savefig(file, format=form, dpi=120, metadata={"Date": None} if form == "svg" else None)
    return file.getvalue()


def _laid(found: Comparison) -> tuple[Floats, Floats]:
    """The mimic's z-scored curves (step, dimension), NaN in gaps, and the seconds on the seed's clock (step,)."""
    mimic = _scaled(found.mimic)
    if found.path is None:
        return found.mimic.times, mimic
    # A step of the seed on which several of the mimic lie shows their mean.
    rows = np.searchsorted(found.seed.times, found.path.seed - 1e-9)
    columns = np.searchsorted(found.mimic.times, found.path.mimic - 1e-9)
    total, count = np.zeros_like(found.seed.values), np.zeros((len(found.seed.times), 1))
    np.add.at(total, rows, mimic[columns])
    np.add.at(count, rows, 1.0)
    return found.seed.times, np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def _reach(*curves: Floats) -> tuple[float, float]:
    """Lowest and highest standard deviation to show, with a margin; at least -2 to 2."""
    low, high = min(map(np.nanmin, curves)), max(map(np.nanmax, curves))
    return max(min(-2.0, low - 0.3), -_LIMIT), min(max(2.0, high + 0.3), _LIMIT)


def _scaled(one: Curves) -> Floats:
    values = np.full_like(one.values, np.nan)
    values[one.heard] = standardize(one.values[one.heard])
    return values


def _lag(axis: "Axes", found: Comparison) -> None:
    """Lag over time: of each window, its mark as large as its correlation; or along the warping path."""
    axis.axhline(0, color="0.3", linewidth=0.8)
    if found.path is not None:
        first, second = found.path.seed[0], found.path.mimic[0]
        lags = (found.path.mimic - second) - (found.path.seed - first)
        axis.plot(found.path.seed, lags, **_MIMIC)
        reach = max(0.5, 1.15 * float(np.abs(lags).max()))
        label = "Lag (s)\nfrom first voice\n+ mimic is later\n− mimic is sooner"
    else:
        assert found.windows is not None
        peaks = np.clip(np.nan_to_num(found.windows.peaks[:, -1]), 0.1, 1)
        marks = {"s": 70 * peaks**2, "facecolor": "none", "edgecolor": _MIMIC["color"], "linewidth": 1.2}
        axis.scatter(found.windows.times, found.windows.lags[:, -1], **marks)
        axis.axhline(found.leads[-1].lag, color=_MIMIC["color"], linewidth=0.9, linestyle=(0, (6, 3)))
        reach = found.settings.lag * 1.15
        label = "Lag (s)\nof each window\n+ second follows\n− second leads"
    axis.set_ylim(-reach, reach)
    axis.set_ylabel(label, rotation=0, ha="right", va="center", ma="right")
    axis.yaxis.set_label_coords(-0.04, 0.5)
    axis.grid(alpha=0.25)
    axis.set_xlabel(f"seconds of {_short(found.seed.name)}" if found.path is not None else "seconds")


def _similarity(axis: "Axes", one: Dimension, *, last: bool) -> None:
    """The interval by chance as a grey bar, the value as a mark: filled beyond chance, open within."""
    axis.axvline(0, color="0.3", linewidth=0.8)
    if np.isfinite(one.similarity):
        low, high = max(-1.0, one.chance.low), min(1.0, one.chance.high)
        axis.barh(0, high - low, left=low, height=0.7, color=_CHANCE)
        face = "black" if one.chance.beyond else "white"
        axis.plot(
            one.similarity, 0, "o", markersize=7, markerfacecolor=face, markeredgecolor="black", clip_on=False
        )
        words = f"{one.similarity:.2f}, p {_p(one.chance.p)}"
    else:
        words = "no variance"
    axis.text(-0.97, 0.62, words, fontsize=8, va="bottom", ha="left")
    axis.set(
        xlim=(-1.07, 1.07), ylim=(-1.2, 2.4) if last else (-0.7, 1.5), yticks=[], xticks=[-1, -0.5, 0, 0.5, 1]
    )
    axis.grid(alpha=0.25, axis="x")
    if last:
        axis.set_xlabel("similarity (correlation)")
    else:
        axis.set_xticklabels([])


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _words(figure: Any, found: Comparison, left: "Axes", right: "Axes", high: float) -> None:
    """Title, what the lines and bars are."""
    own = found.path is not None
    title = figure.text(0.02, 1 - 0.18 / high, _title(found), fontsize=12, va="top")
    title.set_parse_math(False)
    how = "warped onto the seed's time" if own else "at the same time"
    figure.text(0.02, 1 - 0.48 / high, f"Curves in standard deviations (z), {how}", va="top", color="0.25")
    seed, mimic = _short(found.seed.name), _short(found.mimic.name)
    lines = [left.plot([], [], **_SEED)[0], left.plot([], [], **_MIMIC)[0]]
    names = [f"seed: {seed}", f"mimic: {mimic}"] if own else [f"first: {seed}", f"second: {mimic}"]
    left.legend(
        lines, names, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0.1
    )
    draws = "surrogates" if found.chance == "surrogates" else "other recordings"
    right.set_title(
        f"Similarity (mark) and what\n{found.settings.level:.0%} of {draws} reach (bar)", fontsize=9, pad=4
    )


def _title(found: Comparison) -> str:
    """The sentence, with names that fit a line."""
    short = (replace(one, name=_short(one.name)) for one in (found.seed, found.mimic))
    seed, mimic = short
    return sentence(replace(found, seed=seed, mimic=mimic))


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:14]}…{name[-9:]}"
