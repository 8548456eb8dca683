"""Scores of predictions against labels, with intervals, and the sentences that go with them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic import scores
from emimic.study.tables import some

METRICS: Final[Mapping[str, scores.Statistic]] = {
    "pearson": scores.pearson,
    "ccc": scores.ccc,
    "mse": scores.mse,
}
_SPOKEN: Final = {"pearson": "Pearson's correlation", "ccc": "CCC", "mse": "MSE"}
LEVEL: Final = 0.95
_SHOWN: Final = 40  # notes in a table: a damaged corpus may have thousands
FEW: Final = 20
"""With fewer speakers than this, percentile intervals are said to be rough: they come out too narrow."""


@dataclass(frozen=True)
class Score:
    """One number with its 95 % bootstrap interval; NaN where undefined."""

    value: float
    low: float
    high: float
    undefined: int
    """How many resamples left it undefined; the interval ignores those."""

    def to_dict(self) -> dict[str, float | None]:
        """For strict JSON: NaN becomes None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        clean = {name: None if math.isnan(number) else number for name, number in numbers.items()}
        return {**clean, "undefined_resamples": self.undefined}


@dataclass(frozen=True)
class Metric:
    """One metric for each target, and its means."""

    targets: Mapping[str, Score]
    mean: Score
    """Over all targets (paper section 3.1, eq. 1): NaN if one of them is undefined."""
    mean_of_defined: Score
    """Over the targets for which it is defined; the same as `mean` if that is all of them."""

    @property
    def defined(self) -> tuple[str, ...]:
        """The targets for which the metric is defined."""
        return tuple(name for name, score in self.targets.items() if not math.isnan(score.value))

    def to_dict(self) -> dict[str, Any]:
        """For strict JSON."""
        return {
            "targets": {name: score.to_dict() for name, score in self.targets.items()},
            "mean": self.mean.to_dict(),
            "mean_of_defined": {**self.mean_of_defined.to_dict(), "targets": list(self.defined)},
        }


@dataclass(frozen=True)
class Report:
    """What `score` and `evaluate` found."""

    split: str
    clips: int
    left_out: tuple[tuple[str, str], ...]
    """(clip, reason) for every clip of the split that could not be scored."""
    metrics: Mapping[str, Metric]
    """By name: pearson, ccc, mse."""
    resampled: str
    """What the bootstrap drew: "speakers" or "clips"."""
    n_bootstrap: int
    notes: tuple[str, ...]
    """Plain sentences on everything undefined, left out, or odd in the corpus."""
    vad: "Report | None" = None
    """The same for arousal, dominance and valence, where the model answers them and the split has their labels."""

    @property
    def mean_pearson(self) -> float:
        """The challenge's score (paper section 3.1, eq. 1), in [-1, 1], or NaN."""
        return self.metrics["pearson"].mean.value

    def to_dict(self) -> dict[str, Any]:
        """Everything, for strict JSON: NaN becomes None."""
        return {
            "split": self.split,
            "clips": self.clips,
            "left_out": [{"clip": clip, "reason": reason} for clip, reason in self.left_out],
            "interval": {"level": LEVEL, "resampled": self.resampled, "resamples": self.n_bootstrap},
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "notes": list(self.notes),
        } | ({} if self.vad is None else {"vad": self.vad.to_dict()})

    def table(self) -> str:
        """The scores as aligned plain text, a row for each target and the mean, then the notes."""
        head = (f"{self.split}: {self.clips} clips", "Pearson", "CCC", "MSE")
        columns = [self.metrics[name] for name in METRICS]
        targets = columns[0].targets
        rows = [head, *((name, *(_cell(column.targets[name]) for column in columns)) for name in targets)]
        rows.append(("mean", *(_cell(column.mean) for column in columns)))
        if any(math.isnan(column.mean.value) for column in columns):
            rows.append(("mean of the defined", *(_cell(column.mean_of_defined) for column in columns)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines.append(f"[95 % bootstrap intervals over {self.resampled}, {self.n_bootstrap} resamples]")
        more = len(self.notes) - _SHOWN
        lines += [*self.notes[:_SHOWN], *([f"and {more} more notes"] if more > 0 else [])]
        return "\n".join(lines if self.vad is None else [*lines, self.vad.table()])


def score(
    predictions: ArrayLike,
    labels: ArrayLike,
    targets: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    *,
    split: str = "valid",
    left_out: Sequence[tuple[str, str]] = (),
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Report:
    """Pearson, CCC and MSE for each target and their means, each with a 95 % bootstrap interval.

    Args:
        predictions: (clip, target), unbounded, as the model gives them.
        labels: (clip, target), intensities in [0, 1].
        targets: the target's names.
        speakers: who speaks in each clip. If all are known and differ, whole speakers are resampled;
            otherwise clips, which makes intervals too narrow where clips share a speaker.
        split: a name for the report.
        left_out: (clip, reason) for clips that are not among the predictions, for the report.
        n_bootstrap: the number of resamples.
        seed: of the bootstrap.

    Raises:
        ScoreError: if the shapes, the number of targets or speakers differ, or a number is not finite.
    """
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != len(targets):
        raise scores.ScoreError(
            f"predictions have shape {x.shape}; expected (clip, {len(targets)}) for {targets}"
        )
    # One speaker alone can't be resampled.
    groups = speakers if speakers and all(speakers) and len(set(speakers)) > 1 else None
    metrics: dict[str, Metric] = {}
    for name, statistic in METRICS.items():
        values = statistic(x, y)
        drawn = scores.resamples(statistic, x, y, groups=groups, n=n_bootstrap, seed=seed)
        known = ~np.isnan(values)
        metrics[name] = Metric(
            targets={target: _scored(values[i], drawn[:, i]) for i, target in enumerate(targets)},
            mean=_scored(values.mean(), drawn.mean(axis=1)),
            mean_of_defined=_mean(values[known], drawn[:, known]),
        )
    notes = [*_undefined(x, y, targets, metrics), *_ignored(metrics, n_bootstrap)]
    if groups and len(set(groups)) < FEW:
        notes.append(f"intervals rest on {len(set(groups))} speakers only and are probably too narrow")
    if left_out:
        named = some([f"{clip} ({why})" for clip, why in left_out])
        notes.append(f"clips left out: {len(left_out)}: {named}")
    return Report(
        split=split,
        clips=len(x),
        left_out=tuple(left_out),
        metrics=metrics,
        resampled="clips" if groups is None else "speakers",
        n_bootstrap=n_bootstrap,
        notes=tuple(notes),
    )


def _scored(value: float, drawn: NDArray[np.float64]) -> Score:
    """A value with the interval of its resamples (n,)."""
    low, high = scores.interval(drawn, level=LEVEL)
    return Score(float(value), float(low), float(high), int(np.isnan(drawn).sum()))


def _mean(values: NDArray[np.float64], drawn: NDArray[np.float64]) -> Score:
    """The mean of values (target,) with resamples (n, target); NaN without targets."""
    if not len(values):
        return Score(math.nan, math.nan, math.nan, len(drawn))
    return _scored(values.mean(), drawn.mean(axis=1))


def _undefined(
    x: NDArray[np.float64], y: NDArray[np.float64], targets: Sequence[str], metrics: Mapping[str, Metric]
) -> list[str]:
    """A sentence for each undefined score, and one for each undefined mean."""
    notes = []
    flat_x, flat_y = scores.constant(x), scores.constant(y)
    for name, metric in metrics.items():
        for i, target in enumerate(targets):
            if target in metric.defined:
                continue
            if len(x) < 2:
                why = "1 clip is too few" if len(x) else "0 clips are too few"
            else:
                sides = [side for side, flat in (("predictions", flat_x[i]), ("labels", flat_y[i])) if flat]
                why = f"{' and '.join(sides)} are constant"
            notes.append(f"{target}: {why}, so {_SPOKEN[name]} is undefined")
        if len(metric.defined) < len(targets):
            rest = f"over {', '.join(metric.defined)} it is {metric.mean_of_defined.value:.3f}"
            notes.append(
                f"mean: {_SPOKEN[name]} is undefined for {len(targets) - len(metric.defined)} of "
                f"{len(targets)} targets, so its mean is undefined; "
                + (rest if metric.defined else "no target is left to average")
            )
    return notes


def _ignored(metrics: Mapping[str, Metric], n: int) -> list[str]:
    """A sentence for each defined score that resamples left undefined."""
    return [
        f"{target}: {score.undefined} of {n} resamples leave {_SPOKEN[name]} undefined and are ignored"
        if score.undefined < n
        else f"{target}: {_SPOKEN[name]} has no interval, which takes at least two clips"
        for name, metric in metrics.items()
        for target, score in metric.targets.items()
        if score.undefined and not math.isnan(score.value)
    ]


def _cell(score: Score) -> str:
    if math.isnan(score.value):
        return "undefined"
    if math.isnan(score.low):
        return f"{score.value:.3f} [no interval]"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
