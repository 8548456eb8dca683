"""Plots of a study: lag lines, distributions, networks, and a heat map per session.

Readable in gray: real pairs are dark, pseudo-dyads light; what exceeds chance is filled or solid, the rest open or
dashed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from emimic.figures import render
from emimic.metrics import Floats
from emimic.mimicry.alignment import average
from emimic.mimicry.measures import NAMES
from emimic.mimicry.plots import draw_heat_map_on, import_figure
from emimic.mimicry.study.crosswise import Crosswise
from emimic.mimicry.study.results import EVERY, Study, Voices, format_value, list_groups
from emimic.mimicry.study.statistics import Orders, mask_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_REAL: Final = "#10357A"
_PSEUDO: Final = "#C4C4C4"
_LOW, _HIGH = 2.5, 97.5  # percentiles of the band of pseudo-dyads
_COMMON: Final = 0.8  # minimum fraction of sessions with a value at a lag, for means to be drawn there


def draw_lag_lines(study: Study, voices: Voices) -> bytes:
    """Return a PNG with a panel per group: the mean correlation at each lag, real pairs and pseudo-dyads, overall.

    Raises:
        MimicryError: matplotlib is not installed.
    """
    dyads = _get_dyads(voices)
    groups = _list_groups(voices)
    figure, axes = _make_panels(groups)
    lags = study.hop * (np.arange(dyads.profiles.shape[2]) - dyads.profiles.shape[2] // 2)
    others = mask_pairs(len(voices.sessions))
    diagonal = np.arange(len(voices.sessions))
    real = dyads.profiles[diagonal, diagonal]
    for axis, group in zip(axes, groups, strict=True):
        rows = _find_rows(voices, group)
        pseudo = np.concatenate([dyads.profiles[row, others[row]] for row in rows])
        found = summarize_lines(real[rows], pseudo)
        axis.fill_between(
            lags, found.low, found.high, color=_PSEUDO, label="95 % of pseudo-dyads", linewidth=0
        )
        axis.plot(lags, found.pseudo_mean, color="0.35", linewidth=1.4, linestyle="--", label="their mean")
        for row in rows:
            axis.plot(lags, real[row], color=_REAL, linewidth=0.6, alpha=0.45)
        axis.plot(lags, found.mean, color=_REAL, linewidth=2.8, label="mean of the sessions")
        axis.axvline(0, color="0.3", linewidth=0.7)
        fewer = "" if found.sessions == len(rows) else f", mean of {found.sessions}"
        axis.set_title(f"{_name_group(group)}: {len(rows)} sessions{fewer}", fontsize=10)
        axis.set_xlabel(f"lag (s): below 0 {voices.roles[1]} leads, above 0 {voices.roles[0]}", fontsize=9)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("mean correlation, overall")
    _add_legend(figure, axes[-1], 3)
    return render(figure)


@dataclass(frozen=True, slots=True)
class LagSummary:
    """Lines of a group, all (lag,), NaN at lags that less than four of five sessions have.

    Attributes:
        mean: Of the sessions that have all the others.
        pseudo_mean: Of such pseudo-dyads.
        low: Lower end of the band of 95 % of them.
        high: Upper end.
        sessions: Number of sessions in `mean`.
    """

    mean: Floats
    pseudo_mean: Floats
    low: Floats
    high: Floats
    sessions: int


def summarize_lines(real: Floats, pseudo: Floats) -> LagSummary:
    """Return means that are of the same lines at every lag: with others at each they would jump where lines end.

    Args:
        real: (session, lag) correlation, NaN at lags with too little common voice.
        pseudo: (pseudo-dyad, lag).
    """
    finite = np.isfinite(real)
    shown = finite.sum(axis=0) >= max(1, _COMMON * finite.any(axis=1).sum())
    lines = [one[shown.any() & np.isfinite(one[:, shown]).all(axis=1)] for one in (real, pseudo)]
    means = [np.where(shown, average(one, 0), np.nan) for one in lines]
    low, high = np.full((2, len(shown)), np.nan)
    if len(lines[1]):
        low[shown], high[shown] = np.percentile(lines[1][:, shown], [_LOW, _HIGH], axis=0)
    return LagSummary(means[0], means[1], low, high, len(lines[0]))


def draw_distribution(study: Study, voices: Voices) -> bytes:
    """Return a PNG with a panel per group: the similarity of each session, above that of the pseudo-dyads.

    Raises:
        MimicryError: matplotlib is not installed.
    """
    dyads = _get_dyads(voices)
    groups = _list_groups(voices)
    figure, axes = _make_panels(groups)
    matrix = dyads.values[NAMES[0]][..., -1]
    others = mask_pairs(len(matrix))
    finite = matrix[np.isfinite(matrix)]
    edges = np.linspace(finite.min(initial=0.0), finite.max(initial=0.2), 31)
    test = voices.tests[NAMES[0]]
    for axis, group in zip(axes, groups, strict=True):
        rows = _find_rows(voices, group)
        pseudo = np.concatenate([matrix[row, others[row]] for row in rows])
        counts, _ = np.histogram(pseudo[np.isfinite(pseudo)], edges)
        heights = counts / max(1, counts.max())
        axis.bar(
            edges[:-1],
            heights,
            np.diff(edges),
            align="edge",
            color=_PSEUDO,
            label="pseudo-dyads",
        )
        values = voices.values[NAMES[0]][rows, -1]
        beyond = test.p[rows, -1] <= 1 - study.settings.level + 1e-12
        offsets = 1.12 + 0.28 * (np.argsort(np.argsort(values)) % 5) / 4
        marks: dict[str, Any] = {
            "markeredgecolor": "black",
            "linestyle": "",
            "markersize": 5.5,
            "clip_on": False,
        }
        axis.plot(
            values[beyond],
            offsets[beyond],
            "o",
            markerfacecolor="black",
            label="session beyond chance",
            **marks,
        )
        axis.plot(
            values[~beyond], offsets[~beyond], "o", markerfacecolor="white", label="within chance", **marks
        )
        axis.set(ylim=(0, 1.5), yticks=[])
        axis.set_title(_title_group(voices, group), fontsize=10)
        axis.set_xlabel("similarity (correlation), overall", fontsize=9)
        axis.grid(alpha=0.25, axis="x")
    axes[0].set_ylabel("pseudo-dyads (bars), sessions (marks)", fontsize=9)
    _add_legend(figure, axes[-1], 3)
    return render(figure)


def draw_heat_map(study: Study, voices: Voices, row: int) -> bytes:
    """Return a PNG of one session: the correlation, overall, of each window at each lag.

    Raises:
        MimicryError: matplotlib is not installed.
    """
    figure = import_figure()(figsize=(9, 3.2))
    axis = figure.add_axes((0.085, 0.17, 0.82, 0.7))
    settings = study.settings
    width = round(settings.window / study.hop)
    reach = int(settings.lag / study.hop + 1e-6)
    hop = max(1, width // 2) * study.hop
    heat_map = _get_dyads(voices).heat_maps[row]
    first = (reach + width / 2) * study.hop
    draw_heat_map_on(
        figure, axis, heat_map, first + hop * np.arange(len(heat_map), dtype=np.float64), study.hop
    )
    axis.set_title(f"{voices.sessions[row]}: {voices.name}", fontsize=10)
    axis.set_ylabel(f"lag (s)\nabove 0: {voices.roles[0]} leads", fontsize=10)
    return render(figure, dpi=90)


@dataclass(frozen=True, slots=True)
class Edge:
    """A pair of voices in a network: their names, similarity, and True if it exceeds chance."""

    first: str
    second: str
    similarity: float
    is_beyond: bool


def list_edges(study: Study) -> dict[str, list[Edge]]:
    """Return the mean similarity of every pair of roles, by group."""
    edges: dict[str, list[Edge]] = {}
    for voices in study.voices:
        if voices.dyads is None:
            continue
        for group, name, fields in list_groups(voices):
            if name == NAMES[0] and group != EVERY:
                is_beyond = bool(fields["p"][-1] <= 1 - study.settings.level + 1e-12)
                edges.setdefault(_name_group(group), []).append(
                    Edge(voices.roles[0], voices.roles[1], float(fields["mean"][-1]), is_beyond)
                )
    return edges


def draw_network(panels: Mapping[str, Sequence[Edge]]) -> bytes:
    """Return a PNG with a panel per title: voices as circles, pairs as lines.

    Raises:
        MimicryError: matplotlib is not installed.
    """
    figure, axes = _make_panels(list(panels), height=4.4)
    for axis, (title, edges) in zip(axes, panels.items(), strict=True):
        names = list(dict.fromkeys(name for edge in edges for name in (edge.first, edge.second)))
        angles = np.pi / 2 + 2 * np.pi * np.arange(len(names)) / len(names)
        place = dict(zip(names, np.stack([np.cos(angles), np.sin(angles)], axis=1), strict=True))
        for edge in edges:
            _draw_edge(axis, place[edge.first], place[edge.second], edge)
        for name, (x, y) in place.items():
            axis.plot(x, y, "o", markersize=17, markerfacecolor="white", markeredgecolor="black", zorder=3)
            axis.text(x, y + (0.28 if y > -0.01 else -0.28), name, ha="center", va="center", fontsize=9)
        axis.set(xlim=(-1.7, 1.7), ylim=(-1.45, 1.45), aspect="equal")
        axis.axis("off")
        axis.set_title(title, fontsize=10)
    words = "width and number: similarity; solid: more than chance, dashed: not"
    figure.text(0.5, 0.05, words, ha="center", fontsize=9)
    return render(figure)


def _draw_edge(axis: "Axes", start: Floats, end: Floats, edge: Edge) -> None:
    style = "-" if edge.is_beyond else (0, (4, 3))
    color = "black" if edge.is_beyond else "0.55"
    x, y = zip(start, end, strict=True)
    axis.plot(
        x, y, color=color, linestyle=style, linewidth=0.8 + 7 * np.nan_to_num(abs(edge.similarity)), zorder=1
    )
    middle = start + 0.42 * (end - start)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axis.text(
        float(middle[0]),
        float(middle[1]),
        format_value(edge.similarity, ".2f"),
        ha="center",
        va="center",
        fontsize=8,
        bbox=box,
        zorder=2,
    )


def _make_panels(groups: list[str], height: float = 3.6) -> tuple[Any, list["Axes"]]:
    """Return a figure and an axis per group, with common axes."""
    figure = import_figure()(figsize=(max(5.5, min(4.2 * len(groups), 16.8)), height))
    axes = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    figure.subplots_adjust(left=0.09, right=0.98, top=0.9, bottom=0.27, wspace=0.07)
    return figure, list(axes)


def _add_legend(figure: Any, axis: "Axes", columns: int) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=columns, frameon=False, fontsize=9)


def _get_dyads(voices: Voices) -> Crosswise:
    assert voices.dyads is not None
    return voices.dyads


def _list_groups(voices: Voices) -> list[str]:
    """Return the names of the groups, without the summary over all."""
    return [group for group in voices.summaries if group != EVERY]


def _find_rows(voices: Voices, group: str) -> Orders:
    return np.flatnonzero(np.array([name == group for name in voices.groups]))


def _name_group(group: str) -> str:
    return group or "all sessions"


def _title_group(voices: Voices, group: str) -> str:
    test = voices.summaries[group][NAMES[0]]
    return f"{_name_group(group)}: d {format_value(test.d[-1], '.2f')}, p {format_value(test.p[-1])}"
