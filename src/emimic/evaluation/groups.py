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

from emimic.data.fields import read_number
from emimic.evaluation.measures import (
    METRICS,
    NAMES,
    NARROW,
    Measured,
    Metric,
    Score,
    align,
    find_binary,
    format_score,
    get_resampling_groups,
    make_metric,
    make_score,
    measure,
)
from emimic.files import CsvText, fold_case
from emimic.progress import show_progress
from emimic.reliability import assign_bins

MISSING: Final = "(missing)"
DISTINCT: Final = 10
"""A numeric column with more distinct values than this is cut into quartiles."""
FEWEST: Final = 2
"""Groups with fewer clips aren't scored."""
_LISTED: Final = 40  # groups in the printed table; report.json and the CSV have all


@dataclass(frozen=True)
class Group:
    """Scores of the clips with one value of the column.

    Attributes:
        speakers: their number; None where a speaker is unknown.
        known: the number of clips with a known label, by target.
        metrics: None with fewer than `FEWEST` clips.
        means: by metric, over the targets for which it is defined in every scored group, so that groups compare.
    """

    clips: int
    speakers: int | None
    known: Mapping[str, int]
    metrics: Mapping[str, Metric] | None
    means: Mapping[str, Score]

    def to_dict(self) -> dict[str, Any]:
        """Return the scores for strict JSON."""
        counts: dict[str, Any] = {
            "clips": self.clips,
            "speakers": self.speakers,
            "known_labels": {**self.known},
        }
        if self.metrics is None:
            return {**counts, "note": f"fewer than {FEWEST} clips: not scored"}
        means = {name: score.to_dict() for name, score in self.means.items()}
        metrics = {name: metric.to_dict() for name, metric in self.metrics.items()}
        return {**counts, "metrics": metrics, "means_of_shared_targets": means}


@dataclass(frozen=True)
class Difference:
    """The largest difference between two groups: the highest score less the lowest, on the same resamples."""

    score: Score
    highest: str
    lowest: str

    def to_dict(self) -> dict[str, Any]:
        """Return the difference for strict JSON."""
        return {**self.score.to_dict(), "highest": self.highest, "lowest": self.lowest}


@dataclass(frozen=True)
class Groups:
    """Scores by one column.

    Attributes:
        groups: by value of the column.
        shared: by metric, the targets for which it is defined in every scored group.
        differences: by metric, then target or "mean" (over the shared targets); none where fewer than two groups have
            the metric defined.
        resampled: "speakers" or "clips".
    """

    column: str
    groups: Mapping[str, Group]
    shared: Mapping[str, tuple[str, ...]]
    differences: Mapping[str, Mapping[str, Difference]]
    resampled: str

    def to_dict(self) -> dict[str, Any]:
        """Return the groups by value, for strict JSON."""
        return {value: group.to_dict() for value, group in self.groups.items()}

    def list_differences(self) -> dict[str, Any]:
        """Return the differences by metric and target, for strict JSON."""
        return {
            name: {target: difference.to_dict() for target, difference in by_target.items()}
            for name, by_target in self.differences.items()
        }

    def to_text(self) -> str:
        """Return a row of means for each group, then the largest differences, as plain text."""
        groups = {value: group for value, group in self.groups.items() if group.metrics is not None}
        rows = [[f"by {self.column}", "clips", "speakers", *(NAMES[name] for name in self.shared)]]
        for value, group in list(groups.items())[:_LISTED]:
            means = [format_score(group.means.get(name)) for name in self.shared]
            speakers = "unknown" if group.speakers is None else str(group.speakers)
            rows.append([value, str(group.clips), speakers, *means])
        lines = align(rows)
        if len(groups) > _LISTED:
            lines.append(f"and {len(groups) - _LISTED} more groups (report.json has all)")
        narrow = NARROW[self.resampled]
        lines.append(f"[means over the targets; 95 % bootstrap intervals over {self.resampled}{narrow}]")
        targets = max(self.shared.values(), key=len, default=())
        for name, shared in self.shared.items():
            if groups and 0 < len(shared) < len(targets):
                lines.append(
                    f"{NAMES[name]}: mean of {', '.join(shared)}, the targets defined in every group"
                )
        if few := [value for value in self.groups if value not in groups]:
            lines.append(f"not scored, fewer than {FEWEST} clips: {', '.join(few[:_LISTED])}")
        return "\n".join([*lines, *self._format_differences()])

    def _format_differences(self) -> list[str]:
        lines = []
        for name, by_target in self.differences.items():
            targets = {target: difference for target, difference in by_target.items() if target != "mean"}
            worst = max(targets, key=lambda target: targets[target].score.value)
            parts = [
                f"{target} {format_score(difference.score)} ({difference.highest} over {difference.lowest})"
                for target in dict.fromkeys(("mean", worst))
                if (difference := by_target.get(target)) is not None
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
        values: column -> the value of each clip.
        speakers: of the clips.
        n_bootstrap: the number of resamples.
        seed: of the bootstrap.
        progress: whether to show a bar.
    """
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    binary, resampled = find_binary(y), get_resampling_groups(speakers)
    named = {column: name_groups(texts) for column, texts in values.items()}
    sizes = {column: Counter(names) for column, (names, _) in named.items()}
    jobs = [
        (column, value)
        for column, (_, order) in named.items()
        for value in order
        if sizes[column][value] >= FEWEST
    ]
    measured: dict[str, dict[str, dict[str, Measured]]] = {column: {} for column in values}
    for column, value in show_progress(jobs, "groups", total=len(jobs), show=progress):
        inside = np.array([name == value for name in named[column][0]])
        labels_inside = np.where(inside[:, None], y, np.nan)
        measured[column][value] = measure(x, labels_inside, resampled, n_bootstrap, seed, binary=binary)
    by_column = {}
    for column, (names, order) in named.items():
        shared, means = _average_shared(measured[column])
        groups = {}
        for value in order:
            rows = [row for row, name in enumerate(names) if name == value]
            own_means = {name: make_score(*mean[value]) for name, mean in means.items() if value in mean}
            groups[value] = _make_group(
                targets, y[rows], [speakers[row] for row in rows], measured[column].get(value), own_means
            )
        by_column[column] = Groups(
            column=column,
            groups=groups,
            shared={name: tuple(targets[i] for i in columns) for name, columns in shared.items()},
            differences=_compare(measured[column], means, targets),
            resampled="clips" if resampled is None else "speakers",
        )
    return by_column


def _make_group(
    targets: Sequence[str],
    labels: NDArray[np.float64],
    speakers: Sequence[str | None],
    scores: Mapping[str, Measured] | None,
    means: Mapping[str, Score],
) -> Group:
    """Return the group of the clips with these labels (clip, target) and speakers (clip,)."""
    voices = set(speakers)
    return Group(
        clips=len(labels),
        speakers=len(voices) if all(voices) else None,
        known=dict(zip(targets, (~np.isnan(labels)).sum(axis=0).tolist(), strict=True)),
        metrics=None if scores is None else {name: make_metric(scores[name], targets) for name in scores},
        means=means,
    )


def name_groups(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the group of each text, and the groups in the order of a table.

    Groups are the texts. A numeric column with more than `DISTINCT` values is divided into quartiles named by their
    range, equal numbers in one. Empty texts are in `MISSING`, the last group.
    """
    filled = [text for text in texts if text]
    numbers = [_parse(text) for text in filled]
    names, order = filled, sorted(set(filled), key=lambda text: (text.casefold(), text))
    if all(map(math.isfinite, numbers)):
        value = dict(zip(filled, numbers, strict=True))
        order.sort(key=lambda text: value[text])
        if len(set(numbers)) > DISTINCT:
            bins = assign_bins(numbers, 4)
            parts = [[text for text, b in zip(filled, bins, strict=True) if b == i] for i in range(4)]
            ends = [(min(part, key=_parse), max(part, key=_parse)) for part in parts if part]
            order = [low if _parse(low) == _parse(high) else f"{low} to {high}" for low, high in ends]
            names = [order[b] for b in bins]
    remaining = iter(names)
    groups = [next(remaining) if text else MISSING for text in texts]
    return groups, [*order, *([MISSING] if len(filled) < len(texts) else [])]


def format_csv(column: str, groups: Sequence[Groups]) -> str:
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
            for target, count in group.known.items():
                scores = {name: metric.targets.get(target) for name, metric in (group.metrics or {}).items()}
                numbers = [number for name in METRICS for number in _format_fields(scores.get(name))]
                writer.writerow([*facts, target, count, *numbers])
    return text.getvalue()


def name_files(columns: Sequence[str]) -> dict[str, str]:
    """Return the name of each column's CSV, `by_COLUMN.csv`, without characters that file names can't hold."""
    names: dict[str, str] = {}
    for column in columns:
        stem = re.sub(r"[^\w.-]+", "_", column)
        taken = {fold_case(name) for name in names.values()}
        tries = (f"by_{stem}{end}.csv" for end in ("", *(f"_{n}" for n in range(2, len(columns) + 2))))
        names[column] = next(name for name in tries if fold_case(name) not in taken)
    return names


def _format_fields(score: Score | None) -> list[str]:
    numbers = (math.nan,) * 3 if score is None else (score.value, score.low, score.high)
    return ["" if math.isnan(number) else f"{number:.6f}" for number in numbers]


def _parse(text: str) -> float:
    value = read_number(text)
    return math.nan if value is None else value


Values = dict[str, dict[str, tuple[float, NDArray[np.float64]]]]
"""Metric -> group -> a value and its resamples (n,)."""


def _average_shared(
    measured: Mapping[str, Mapping[str, Measured]],
) -> tuple[dict[str, NDArray[np.intp]], Values]:
    """Return, by metric, the targets defined in every group that has any, and the groups' means over them."""
    shared: dict[str, NDArray[np.intp]] = {}
    means: Values = {}
    for name in METRICS:
        groups = {value: scores[name] for value, scores in measured.items() if name in scores}
        defined = {value: group for value, group in groups.items() if not np.isnan(group.values).all()}
        if not groups:
            continue
        means[name] = {}
        shared[name] = np.empty(0, np.intp)
        if defined:
            columns = next(iter(defined.values())).columns
            common = ~np.isnan([group.values for group in defined.values()]).any(axis=0)
            shared[name] = columns[common]
            if common.any():
                means[name] = {
                    value: (group.values[common].mean(), group.drawn[:, common].mean(axis=1))
                    for value, group in defined.items()
                }
    return shared, means


def _compare(
    measured: Mapping[str, Mapping[str, Measured]], means: Values, targets: Sequence[str]
) -> dict[str, dict[str, Difference]]:
    """Return, by metric, then target or "mean", the largest difference between groups."""
    largest: dict[str, dict[str, Difference]] = {}
    for name, mean in means.items():
        by_target: dict[str, dict[str, tuple[float, NDArray[np.float64]]]] = {"mean": mean}
        for value, scores in measured.items():
            group = scores[name]
            for i, column in enumerate(group.columns):
                if not np.isnan(group.values[i]):
                    score = group.values[i], group.drawn[:, i]
                    by_target.setdefault(targets[column], {})[value] = score
        differences = {
            target: _subtract_extremes(values) for target, values in by_target.items() if len(values) > 1
        }
        if differences.keys() - {"mean"}:
            largest[name] = differences
    return largest


def _subtract_extremes(values: dict[str, tuple[float, NDArray[np.float64]]]) -> Difference:
    highest = max(values, key=lambda value: values[value][0])
    lowest = min(reversed(values), key=lambda value: values[value][0])
    (high, high_drawn), (low, low_drawn) = values[highest], values[lowest]
    return Difference(make_score(high - low, high_drawn - low_drawn), highest, lowest)
