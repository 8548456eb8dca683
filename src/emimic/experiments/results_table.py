"""Tables of a grid's scores beside the published figures, as Markdown, and all of them as JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from emimic.baselines.system import get_system
from emimic.experiments.jobs import Row
from emimic.experiments.significance import Difference, nan_to_none
from emimic.files import write_atomically
from emimic.wording import pluralize

RESAMPLES: Final = 1000
TABLE: Final = "table.md"
RESULTS: Final = "results.json"
SCHEMA: Final = "emimic/comparison/1"


@dataclass(frozen=True)
class RowScores:
    """A row and the scores of its seeds.

    Attributes:
        scores: mean Pearson by seed, NaN where undefined.
        failed: reasons by seed.
        open: seeds that aren't done.
        runs: facts of the finished runs, for the JSON.
        difference: to the reference over the seeds that both have; None for the reference, or without such seeds.
    """

    row: Row
    scores: Mapping[int, float]
    failed: Mapping[int, str]
    open: tuple[int, ...]
    runs: tuple[Mapping[str, Any], ...]
    difference: Difference | None = None

    @property
    def mean(self) -> float:
        """The mean over all finished seeds; NaN if one is undefined, or there are none."""
        return float(np.mean(list(self.scores.values()))) if self.scores else math.nan

    @property
    def std(self) -> float:
        """The standard deviation over seeds (over n - 1); NaN with fewer than two."""
        return float(np.std(list(self.scores.values()), ddof=1)) if len(self.scores) > 1 else math.nan


@dataclass(frozen=True)
class Outcome:
    """All rows of a grid with their scores, the reference among them.

    Attributes:
        over: the resampled units with their number, such as "7 speakers".
        settings: a sentence on the settings of all rows.
        source: of the published figures: "paper" or "published".
        elsewhere: requested runs that another command is working on.
    """

    corpus: str
    split: str
    clips: int
    over: str
    seeds: tuple[int, ...]
    reference: str
    groups: Mapping[str, str]
    rows: tuple[RowScores, ...]
    settings: str
    source: str = "paper"
    elsewhere: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """Return a table for each group, without times and paths, so that equal runs give equal text."""
        by_name = {scores.row.name: scores.row for scores in self.rows}
        reference = f'"{by_name[self.reference].label}"' if self.reference in by_name else self.reference
        text = [
            f"# {self.corpus}, split {self.split}: mean Pearson",
            "",
            self._describe(reference),
            "",
            self.settings,
        ]
        for group, title in self.groups.items():
            rows = [
                scores for scores in self.rows if group in scores.row.groups or self._is_reference(scores)
            ]
            if not all(map(self._is_reference, rows)):
                text += ["", f"## {title}", "", *_format_table(rows, reference, self.source)]
                text += [f"\n{note}" for note in dict.fromkeys(scores.row.note for scores in rows) if note]
        if lines := [line for scores in self.rows for line in _explain_missing(scores)]:
            text += ["", "## Without a figure", "", *lines]
        return "\n".join(text) + "\n"

    def _is_reference(self, scores: RowScores) -> bool:
        return scores.row.name == self.reference

    def _describe(self, reference: str) -> str:
        seeds = f"{len(self.seeds)} seeds" if len(self.seeds) > 1 else "1 seed"
        figures = "The paper's" if self.source == "paper" else f"The {self.source}"
        text = (
            f"{pluralize(self.clips, 'clip')}, {seeds} ({', '.join(map(str, self.seeds))}): mean ± standard deviation "
            "over seeds. "
            f"{figures} figures are of another corpus (Hume-Vidmimic2)"
        )
        text += "." if self.source == "paper" else ", as each system's authors give them."
        text += self.describe_selection()
        if all(scores.difference is None for scores in self.rows):
            return text
        clips = ", too narrow where clips share a speaker" if self.over.endswith("clips") else ""
        return (
            f"{text} Difference: of means over seeds, less that of {reference}, on the same clips; in brackets 95 % of "
            f"{RESAMPLES} resamples of {self.over}, the same for both{clips}. p: Student's t, two-sided, paired by "
            "seed; undefined with fewer than three seeds. Nothing is corrected for the number of rows."
        )

    def describe_selection(self) -> str:
        """Return a sentence where the scored split chose the epochs or the weights of fusion; else nothing."""
        runs = [(scores.row.label, run["settings"]) for scores in self.rows for run in scores.runs]
        selected = [(label, settings) for label, settings in runs if settings["train_on"] == "train"]
        if self.split != "valid" or not selected:
            return ""
        fused = [
            label for label, settings in selected if settings["baseline"] and get_fusion(settings) != "mean"
        ]
        weights = f" and the weights of fusion ({', '.join(dict.fromkeys(fused))})" if fused else ""
        return (
            f" The split valid chose the epochs{weights}: its scores are a little too good, the more so the more "
            "epochs a row chose from; --split test scores one that chose nothing."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all rows for strict JSON."""
        return {
            "schema": SCHEMA,
            "corpus": self.corpus,
            "split": self.split,
            "split_chose": self.describe_selection().strip(),
            "clips": self.clips,
            "resampled": self.over,
            "resamples": RESAMPLES,
            "seeds": list(self.seeds),
            "reference": self.reference,
            "settings": self.settings,
            "rows": [
                {
                    "name": scores.row.name,
                    "label": scores.row.label,
                    "groups": list(scores.row.groups),
                    "paper": {"validation": scores.row.published, "test": scores.row.published_test},
                    "unsure": scores.row.unsure,
                    "mean": nan_to_none(scores.mean),
                    "standard_deviation": nan_to_none(scores.std),
                    "difference": None if scores.difference is None else scores.difference.to_dict(),
                    "open": list(scores.open),
                    "failed": {str(seed): reason for seed, reason in scores.failed.items()},
                    "runs": list(scores.runs),
                }
                for scores in self.rows
            ],
        }

    def write(self, out: Path) -> None:
        """Write TABLE and RESULTS into `out`."""
        write_atomically(out / TABLE, self.to_markdown())
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)
        write_atomically(out / RESULTS, text + "\n")


def _format_table(rows: Sequence[RowScores], reference: str, source: str) -> list[str]:
    head = ["row", "this corpus", f"{source}, validation", f"{source}, test"]
    lines = [[*head, f"less {reference} [95 %]", "p over seeds"]]
    lines.append(["-" * len(name) for name in lines[0]])
    for scores in rows:
        unsure = f" ({scores.row.unsure})" if scores.row.unsure else ""
        figures = [
            "-" if value is None else _format_number(value) + unsure
            for value in (scores.row.published, scores.row.published_test)
        ]
        lines.append([scores.row.label, _format_mean(scores), *figures, *_format_difference(scores)])
    if all(scores.difference is None for scores in rows):
        lines = [line[:4] for line in lines]
    if all(line[3] == "-" for line in lines[2:]):
        lines = [[*line[:3], *line[4:]] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]


def _format_mean(scores: RowScores) -> str:
    if not scores.scores:
        return "failed" if scores.failed else "not run"
    text = "undefined" if math.isnan(scores.mean) else _format_number(scores.mean)
    if not math.isnan(scores.std):
        text += f" ± {_format_number(scores.std)}"
    missing = len(scores.failed) + len(scores.open)
    return text + (f" ({len(scores.scores)} of {len(scores.scores) + missing} seeds)" if missing else "")


def _format_difference(scores: RowScores) -> tuple[str, str]:
    if scores.difference is None:
        return "-", "-"
    value, test = scores.difference, scores.difference.test
    p = "undefined" if test is None or math.isnan(test.p) else f"{test.p:.3f}".replace("0.000", "<0.001")
    if math.isnan(value.value):
        return "undefined", p
    interval = "no interval" if math.isnan(value.low) else f"{value.low:+.3f}, {value.high:+.3f}"
    return f"{value.value:+.3f} [{interval}]", p


def _format_number(value: float) -> str:
    return f"{value:.3f}"


def _explain_missing(scores: RowScores) -> list[str]:
    reasons: dict[str, list[int]] = {}
    for seed, reason in scores.failed.items():
        reasons.setdefault(reason, []).append(seed)
    if undefined := [seed for seed, value in scores.scores.items() if math.isnan(value)]:
        reasons["predictions for a target are constant, so its correlation is undefined"] = undefined
    if scores.open:
        reasons["not run yet"] = list(scores.open)
    return [
        f"- {scores.row.label} (seed {', '.join(map(str, seeds))}): {reason}"
        for reason, seeds in reasons.items()
    ]


def get_fusion(settings: Mapping[str, Any]) -> str:
    """Return how a baseline's run joins its branches, as `Options.fusion`."""
    return get_system(settings["baseline"]).read_options(settings["baseline_options"]).fusion


def name_encoder(settings: Mapping[str, Any]) -> str:
    """Return an encoder's name for a table, without the path of its folder."""
    layers = f", its first {settings['encoder_layers']} layers" if settings.get("encoder_layers") else ""
    if settings.get("encoder") is not None:
        source = str(settings["encoder"])
        is_path = source.startswith(("/", ".", "~")) or Path(source).is_dir()
        return (Path(source).resolve().name if is_path else source) + layers
    config = settings["encoder_config"]
    return f"a {config.get('model_type', 'nameless')} encoder from scratch"
