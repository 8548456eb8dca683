"""Scores by the values of a column of the split's table (fairness), and the largest differences between groups."""

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic import metrics as scores
from emimic.data.cells import read_number
from emimic.evaluation.measures import (
    METRICS,
    NAMES,
    NARROW,
    Measured,
    Metric,
    Score,
    align,
    cell,
    measure,
    resampled_groups,
    scored,
    to_metric,
    two_valued,
)
from emimic.files import CsvText, folded
from emimic.progress import shown

MISSING: Final = "(missing)"
DISTINCT: Final = 10
"""A numeric column with more distinct values than this is cut into quartiles."""
FEWEST: Final = 2
"""Groups with fewer clips aren't scored."""
_LISTED: Final = 40  # groups in the printed table; report.json and the CSV have all


@dataclass(frozen=True)
class Group:
    """Scores of the clips with one value of the column."""

    clips: int
    speakers: int | None
    """None where a speaker is unknown."""
    known: Mapping[str, int]
    """How many of the clips have a known label, for each target."""
    metrics: Mapping[str, Metric] | None
    """None with fewer than `FEWEST` clips."""
    means: Mapping[str, Score]
    """By metric: over the targets for which it is defined in every scored group, so that groups compare."""

    def to_dict(self) -> dict[str, Any]:
        """For strict JSON."""
        found: dict[str, Any] = {
            "clips": self.clips,
            "speakers": self.speakers,
            "known_labels": {**self.known},
        }
        if self.metrics is None:
            return {**found, "note": f"fewer than {FEWEST} clips: not scored"}
        means = {name: score.to_dict() for name, score in self.means.items()}
        metrics = {name: metric.to_dict() for name, metric in self.metrics.items()}
        return {**found, "metrics": metrics, "means_of_shared_targets": means}


@dataclass(frozen=True)
class Difference:
    """The largest difference between two groups: the highest score less the lowest, on the same resamples."""

    score: Score
    highest: str
    lowest: str

    def to_dict(self) -> dict[str, Any]:
        """For strict JSON."""
        return {**self.score.to_dict(), "highest": self.highest, "lowest": self.lowest}


@dataclass(frozen=True)
class Groups:
    """Scores by one column."""

    column: str
    groups: Mapping[str, Group]
    shared: Mapping[str, tuple[str, ...]]
    """By metric: the targets for which it is defined in every scored group."""
    differences: Mapping[str, Mapping[str, Difference]]
    """By metric, then target or "mean" (over the shared targets); none where fewer than two groups have it defined."""
    resampled: str

    def to_dict(self) -> dict[str, Any]:
        """By value, for strict JSON."""
        return {value: group.to_dict() for value, group in self.groups.items()}

    def differences_to_dict(self) -> dict[str, Any]:
        """By metric and target, for strict JSON."""
        return {
            name: {target: one.to_dict() for target, one in found.items()}
            for name, found in self.differences.items()
        }

    def table(self) -> str:
        """A row of means for each group, then the largest differences."""
        groups = {value: group for value, group in self.groups.items() if group.metrics is not None}
        rows = [[f"by {self.column}", "clips", "speakers", *(NAMES[name] for name in self.shared)]]
        for value, group in list(groups.items())[:_LISTED]:
            means = [cell(group.means.get(name)) for name in self.shared]
            speakers = "unknown" if group.speakers is None else str(group.speakers)
            rows.append([value, str(group.clips), speakers, *means])
        lines = align(rows)
        if len(groups) > _LISTED:
            lines.append(f"and {len(groups) - _LISTED} more groups (report.json has all)")
        narrow = NARROW[self.resampled]
        lines.append(f"[means over the targets; 95 % bootstrap intervals over {self.resampled}{narrow}]")
        targets = max(self.shared.values(), key=len, default=())
        for name, own in self.shared.items():
            if groups and 0 < len(own) < len(targets):
                lines.append(f"{NAMES[name]}: mean of {', '.join(own)}, the targets defined in every group")
        if few := [value for value in self.groups if value not in groups]:
            lines.append(f"not scored, fewer than {FEWEST} clips: {', '.join(few[:_LISTED])}")
        return "\n".join([*lines, *self._largest()])

    def _largest(self) -> list[str]:
        lines = []
        for name, found in self.differences.items():
            targets = {target: one for target, one in found.items() if target != "mean"}
            worst = max(targets, key=lambda target: targets[target].score.value)
            parts = [
                f"{target} {cell(found[target].score)} ({found[target].highest} over {found[target].lowest})"
                for target in dict.fromkeys(("mean", worst))
                if target in found
            ]
            lines.append(f"  {NAMES[name]}: {'; '.join(parts)}")
        return ["largest differences between groups, of the mean and of a target:", *lines] if lines else []


def score_groups(
    targets: Sequence[str],
    predictions: NDArray[np.floating[Any]],
    labels: NDArray[np.floating[Any]],
    values: Mapping[str, Sequence[str]],
    speakers: Sequence[str | None],
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Groups]:
    """Score clips by the values of columns.

    Every group is scored on the same resamples of all clips or speakers, so differences between groups have intervals
    too, also where a speaker is in several groups.

    Args:
        targets: the target's names.
        predictions: (clip, target).
        labels: (clip, target), NaN where unknown.
        values: column -> the clip's cells.
        speakers: of the clips.
        n_bootstrap: the number of resamples.
        seed: of the bootstrap.
        progress: whether to show a bar.
    """
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    binary, resampled = two_valued(y), resampled_groups(speakers)
    named = {column: name_groups(cells) for column, cells in values.items()}
    sizes = {column: Counter(names) for column, (names, _) in named.items()}
    jobs = [
        (column, value)
        for column, (_, order) in named.items()
        for value in order
        if sizes[column][value] >= FEWEST
    ]
    measured: dict[str, dict[str, dict[str, Measured]]] = {column: {} for column in values}
    for column, value in shown(jobs, "groups", total=len(jobs), show=progress):
        inside = np.array([name == value for name in named[column][0]])
        own = np.where(inside[:, None], y, np.nan)
        measured[column][value] = measure(x, own, resampled, n_bootstrap, seed, binary=binary)
    found = {}
    for column, (names, order) in named.items():
        shared, means = _means(measured[column])
        groups = {}
        for value in order:
            rows = [row for row, name in enumerate(names) if name == value]
            people = {speakers[row] for row in rows}
            scores_of = measured[column].get(value)
            groups[value] = Group(
                clips=len(rows),
                speakers=len(people) if all(people) else None,
                known=dict(zip(targets, (~np.isnan(y[rows])).sum(axis=0).tolist(), strict=True)),
                metrics=None if scores_of is None else _metrics(scores_of, targets),
                means={name: scored(*mean[value]) for name, mean in means.items() if value in mean},
            )
        found[column] = Groups(
            column=column,
            groups=groups,
            shared={name: tuple(targets[place] for place in places) for name, places in shared.items()},
            differences=_differences(measured[column], means, targets),
            resampled="clips" if resampled is None else "speakers",
        )
    return found


def _metrics(measured: Mapping[str, Measured], targets: Sequence[str]) -> dict[str, Metric]:
    return {name: to_metric(one, targets) for name, one in measured.items()}


def name_groups(cells: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the group of each cell, and the groups in the order of a table.

    Groups are the texts; of a numeric column with more than `DISTINCT` values, quartiles named by their range, equal
    numbers in one. An empty cell is `MISSING`, the last group.
    """
    filled = [text for text in cells if text]
    numbers = [_number(text) for text in filled]
    names, order = filled, sorted(set(filled), key=lambda text: (text.casefold(), text))
    if all(map(math.isfinite, numbers)):
        value = dict(zip(filled, numbers, strict=True))
        order.sort(key=lambda text: value[text])
        if len(set(numbers)) > DISTINCT:
            place = scores.equal_bins(numbers, 4)
            parts = [[text for text, b in zip(filled, place, strict=True) if b == i] for i in range(4)]
            ends = [(min(part, key=_number), max(part, key=_number)) for part in parts if part]
            order = [low if _number(low) == _number(high) else f"{low} to {high}" for low, high in ends]
            names = [order[b] for b in place]
    names_left = iter(names)
    found = [next(names_left) if text else MISSING for text in cells]
    return found, [*order, *([MISSING] if len(filled) < len(cells) else [])]


def to_csv(column: str, groups: Sequence[Groups]) -> str:
    """Return a CSV of one column's groups: a row for each group and target, each metric with its interval."""
    text = CsvText()
    writer = csv.writer(text)
    ends = ("", "_low", "_high")
    writer.writerow(
        [column, "clips", "speakers", "target", "known_labels", *(m + end for m in METRICS for end in ends)]
    )
    for part in groups:
        for value, group in part.groups.items():
            facts = [value, group.clips, "" if group.speakers is None else group.speakers]
            for target, known in group.known.items():
                own = {name: metric.targets.get(target) for name, metric in (group.metrics or {}).items()}
                numbers = [number for name in METRICS for number in _cells(own.get(name))]
                writer.writerow([*facts, target, known, *numbers])
    return text.getvalue()


def csv_names(columns: Sequence[str]) -> dict[str, str]:
    """Return the name of each column's CSV, `by_COLUMN.csv`, without what file names can't hold."""
    found: dict[str, str] = {}
    for column in columns:
        stem = re.sub(r"[^\w.-]+", "_", column)
        taken = {folded(name) for name in found.values()}
        tries = (f"by_{stem}{end}.csv" for end in ("", *(f"_{n}" for n in range(2, len(columns) + 2))))
        found[column] = next(name for name in tries if folded(name) not in taken)
    return found


def _cells(score: Score | None) -> list[str]:
    numbers = (math.nan,) * 3 if score is None else (score.value, score.low, score.high)
    return ["" if math.isnan(number) else f"{number:.6f}" for number in numbers]


def _number(text: str) -> float:
    value = read_number(text)
    return math.nan if value is None else value


Values = dict[str, dict[str, tuple[float, NDArray[np.float64]]]]
"""Metric -> group -> a value and its resamples (n,)."""


def _means(measured: Mapping[str, Mapping[str, Measured]]) -> tuple[dict[str, NDArray[np.intp]], Values]:
    """By metric: the targets defined in every group that has any, and the groups' means over them."""
    shared: dict[str, NDArray[np.intp]] = {}
    means: Values = {}
    for name in METRICS:
        own = {value: found[name] for value, found in measured.items() if name in found}
        some = {value: one for value, one in own.items() if not np.isnan(one.values).all()}
        if not own:
            continue
        means[name] = {}
        shared[name] = np.empty(0, np.intp)
        if some:
            columns = next(iter(some.values())).columns
            common = ~np.isnan([one.values for one in some.values()]).any(axis=0)
            shared[name] = columns[common]
            if common.any():
                means[name] = {
                    value: (one.values[common].mean(), one.drawn[:, common].mean(axis=1))
                    for value, one in some.items()
                }
    return shared, means


def _differences(
    measured: Mapping[str, Mapping[str, Measured]], means: Values, targets: Sequence[str]
) -> dict[str, dict[str, Difference]]:
    """By metric, then target or "mean": the largest difference between groups."""
    found: dict[str, dict[str, Difference]] = {}
    for name, mean in means.items():
        by_target: dict[str, dict[str, tuple[float, NDArray[np.float64]]]] = {"mean": mean}
        for value, own in measured.items():
            for i, place in enumerate(own[name].columns):
                if not np.isnan(own[name].values[i]):
                    one = own[name].values[i], own[name].drawn[:, i]
                    by_target.setdefault(targets[place], {})[value] = one
        differences = {target: _largest(own) for target, own in by_target.items() if len(own) > 1}
        if differences.keys() - {"mean"}:
            found[name] = differences
    return found


def _largest(values: dict[str, tuple[float, NDArray[np.float64]]]) -> Difference:
    highest = max(values, key=lambda value: values[value][0])
    lowest = min(reversed(values), key=lambda value: values[value][0])
    (high, high_drawn), (low, low_drawn) = values[highest], values[lowest]
    return Difference(scored(high - low, high_drawn - low_drawn), highest, lowest)
