"""The tables of a study as CSV, in long format: one row per value.

docs/mimicry.md describes the columns; within a version, columns are only added on the right.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, Final

from emimic.files import CsvText, make_one_line
from emimic.mimicry.measures import NAMES
from emimic.mimicry.study.results import (
    BY_NAME,
    Study,
    Voices,
    describe_contrast,
    describe_sessions,
    list_groups,
)

SESSIONS: Final = (
    "session", "group", "voices", "first", "second", "dimension", "measure", "unit", "value", "pseudo_mean",
    "value_z", "pseudo_mean_z", "pseudo_std_z", "es", "p", "p_corrected", "lag", "leader", "windows", "susy_es",
)  # fmt: skip
"""Columns of study.csv."""

GROUPS: Final = (
    "group", "voices", "dimension", "measure", "unit", "sessions", "mean", "low", "high", "pseudo_mean", "d", "p",
    "p_corrected",
)  # fmt: skip
"""Columns of groups.csv."""

CONTRASTS: Final = (
    "first_group", "second_group", "voices", "dimension", "measure", "unit", "difference", "difference_z", "d", "p",
    "p_corrected",
)  # fmt: skip
"""Columns of contrasts.csv."""


def make_sessions_csv(study: Study) -> str:
    """Return study.csv: one row per session, voices, dimension and measure."""
    return _make_csv(SESSIONS, (row for voices in study.voices for row in _list_sessions(study, voices)))


def _list_sessions(study: Study, voices: Voices) -> Iterator[Sequence[Any]]:
    first, second = voices.roles if voices.dyads is not None else ("", "")
    for row, name in product(range(len(voices.sessions)), voices.values):
        parts = describe_sessions(voices, name).values()
        leader = voices.find_leader(row, study.settings.level, study.hop)
        for column, dimension in enumerate(study.dimensions):
            is_main = name == NAMES[0]
            dyads = voices.dyads
            susy = None
            if dyads is not None and name in ("all_lags", "absolute"):
                susy = (dyads.susy[row].es if name == "all_lags" else dyads.susy[row].es_absolute)[column]
            yield (
                voices.sessions[row], voices.groups[row], voices.name, first, second, dimension, name,
                BY_NAME[name].unit, *(part[row, column] for part in parts),
                dyads.lags[row, column] if dyads is not None and is_main else None,
                leader if is_main and dimension == study.dimensions[-1] else None,
                None if dyads is None else int(dyads.windows[row]),
                susy,
            )  # fmt: skip


def make_groups_csv(study: Study) -> str:
    """Return groups.csv: one row per group, voices, dimension and measure."""
    return _make_csv(
        GROUPS,
        (
            (group, voices.name, dimension, name, BY_NAME[name].unit, int(fields["sessions"][column]),
             *(fields[key][column] for key in GROUPS[6:]))
            for voices in study.voices
            for group, name, fields in list_groups(voices)
            for column, dimension in enumerate(study.dimensions)
        ),
    )  # fmt: skip


def make_contrasts_csv(study: Study) -> str:
    """Return contrasts.csv: one row per pair of groups, voices, dimension and measure; only a header for one group."""
    return _make_csv(
        CONTRASTS,
        (
            (*groups, voices.name, dimension, name, BY_NAME[name].unit, *(part[column] for part in parts))
            for voices in study.voices
            for groups, tests in voices.contrasts.items()
            for name in tests
            for parts in [describe_contrast(voices, groups, name).values()]
            for column, dimension in enumerate(study.dimensions)
        ),
    )


def _make_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = CsvText(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([_format(value) for value in row] for row in rows)
    return text.getvalue()


def _format(value: Any) -> Any:
    """Return a field: five decimals, empty for NaN and None."""
    if value is None:
        return ""
    if isinstance(value, str):
        return make_one_line(value)
    if isinstance(value, int):
        return value
    return f"{float(value):z.5f}" if math.isfinite(value) else ""
