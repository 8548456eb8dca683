"""Results of a study: plain dataclasses, and their JSON."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry.alignment import average
from emimic.mimicry.measures import MEASURES, NAMES, Measure, to_scale
from emimic.mimicry.results import MEANING, Settings
from emimic.mimicry.study.crosswise import Crosswise
from emimic.mimicry.study.statistics import Contrast, GroupTest, SessionTest
from emimic.version import __version__

SCHEMA: Final = "emimic/study/1"

EVERY: Final = "(all)"
"""Name of the summary over all groups."""

RHO: Final = Measure("rho", "high", "fraction", "cluster phase of all voices, 0 to 1")
"""The measure of more than two voices."""

BY_NAME: Final[Mapping[str, Measure]] = {measure.name: measure for measure in (*MEASURES, RHO)}


@dataclass(frozen=True, slots=True)
class Voices:
    """Two roles (a dyad) or more, in all sessions that have them.

    Attributes:
        roles: Names, in order; of a dyad, the first voice and the second.
        sessions: (n,) ids.
        groups: (n,) names of their groups.
        values: (n, dimension + 1) by measure, the mean over dimensions last.
        tests: Each session among its pseudo-dyads (or pseudo-groups), by measure.
        summaries: Each group, by name and measure.
        contrasts: Each pair of groups, by names and measure.
        dyads: Details of a dyad, None of more voices.
    """

    roles: tuple[str, ...]
    sessions: tuple[str, ...]
    groups: tuple[str, ...]
    values: dict[str, Floats]
    tests: dict[str, SessionTest]
    summaries: dict[str, dict[str, GroupTest]]
    contrasts: dict[tuple[str, str], dict[str, Contrast]]
    dyads: Crosswise | None

    @property
    def name(self) -> str:
        """The roles, joined."""
        return " and ".join(self.roles)

    def find_leader(self, row: int, level: float, hop: float) -> str | None:
        """Return the role that leads in a session, None if neither, or if its similarity does not exceed chance.

        Args:
            row: Of the session.
            level: Fraction of unrelated pairs within chance.
            hop: Seconds between steps; a lag of one step does not decide.
        """
        if self.dyads is None or not self.tests[NAMES[0]].p[row, -1] <= 1 - level + 1e-12:
            return None
        lag = self.dyads.lags[row, -1]
        return None if abs(lag) < 1.5 * hop else self.roles[0] if lag > 0 else self.roles[1]


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """A session: id, group, roles, each role's seconds of voice, remarks, and those that the study's notes gather."""

    id: str
    group: str
    roles: tuple[str, ...]
    voice: tuple[float, ...]
    notes: tuple[str, ...]
    gathered: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """A session without results, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Study:
    """The results of a study.

    Attributes:
        settings: Of all comparisons; draws is the number of permutations.
        segment: Seconds of SUSY's segments.
        hop: Seconds between steps.
        dimensions: Names, `Overall` last.
        sessions: Those with results.
        voices: Every pair of roles, then those of more voices.
        failed: The others.
        notes: Remarks on the study.
    """

    settings: Settings
    segment: float
    hop: float
    dimensions: tuple[str, ...]
    sessions: tuple[SessionFacts, ...]
    voices: tuple[Voices, ...]
    failed: tuple[Failed, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: NaN is None; values of a dimension each, in the order of `dimensions`."""
        settings = asdict(self.settings)
        used = ("window", "lag", "voice", "draws", "level", "seed", "coupling")
        return {
            "schema": SCHEMA,
            "emimic": __version__,
            "meaning": MEANING,
            "settings": {name: settings[name] for name in used} | {"segment": self.segment, "hop": self.hop},
            "dimensions": list(self.dimensions),
            "measures": {name: measure.meaning for name, measure in BY_NAME.items()},
            "units": {name: measure.unit for name, measure in BY_NAME.items()},
            "sessions": [_make_plain(asdict(session)) for session in self.sessions],
            "voices": [self._describe_voices(voices) for voices in self.voices],
            "failed": [asdict(failed) for failed in self.failed],
            "notes": list(self.notes),
        }

    def _describe_voices(self, voices: Voices) -> dict[str, Any]:
        return {
            "roles": list(voices.roles),
            "sessions": [self._describe_session(voices, row) for row in range(len(voices.sessions))],
            "groups": [
                {
                    "group": group,
                    "measures": {
                        name: _make_plain(_describe_group(name, test)) for name, test in tests.items()
                    },
                }
                for group, tests in voices.summaries.items()
            ],
            "contrasts": [
                {
                    "groups": list(groups),
                    "measures": {
                        name: _make_plain(describe_contrast(voices, groups, name)) for name in tests
                    },
                }
                for groups, tests in voices.contrasts.items()
            ],
        }

    def _describe_session(self, voices: Voices, row: int) -> dict[str, Any]:
        dyads = voices.dyads
        return {
            "id": voices.sessions[row],
            "group": voices.groups[row],
            "windows": None if dyads is None else int(dyads.windows[row]),
            "lag": None if dyads is None else _make_plain(dyads.lags[row]),
            "leader": voices.find_leader(row, self.settings.level, self.hop),
            "measures": {
                name: _make_plain({key: part[row] for key, part in describe_sessions(voices, name).items()})
                for name in voices.values
            },
            "susy": None if dyads is None else _make_plain(asdict(dyads.susy[row])),
        }


def to_value(name: str, values: Floats) -> Floats:
    """Return means in the measure's unit: of correlations, tanh of the mean z."""
    return np.asarray(np.tanh(values)) if BY_NAME[name].unit == "r" else values


def _to_z(name: str, values: Floats) -> Floats:
    """Return values on the scale of tests where that is Fisher's z, else NaN."""
    return values if BY_NAME[name].unit != "fraction" else np.full_like(values, np.nan)


def describe_sessions(voices: Voices, name: str) -> dict[str, Floats]:
    """Return the fields of a measure in each session, all (session, dimension + 1); `_z`: Fisher's z, or NaN."""
    test, values = voices.tests[name], voices.values[name]
    return {
        "value": values,
        "pseudo_mean": to_value(name, test.pseudo_mean),
        "value_z": _to_z(name, to_scale(BY_NAME[name], values)),
        "pseudo_mean_z": _to_z(name, test.pseudo_mean),
        "pseudo_std_z": _to_z(name, test.pseudo_std),
        "es": test.es,
        "p": test.p,
        "p_corrected": test.p_corrected,
    }


def describe_contrast(voices: Voices, groups: tuple[str, str], name: str) -> dict[str, Floats]:
    """Return the fields of a contrast, all (dimension + 1,): differences in the measure's unit, and of Fisher's z."""
    test = voices.contrasts[groups][name]
    gains = voices.values[name] - to_value(name, voices.tests[name].pseudo_mean)
    first, second = (average(gains[[one == group for one in voices.groups]], 0) for group in groups)
    fields = asdict(test) | {"difference_z": _to_z(name, test.difference), "difference": first - second}
    return {key: fields[key] for key in ("difference", "difference_z", "d", "p", "p_corrected")}


def _describe_group(name: str, test: GroupTest) -> dict[str, Floats]:
    """Return a group's test with its means in the measure's unit."""
    fields = asdict(test)
    return fields | {key: to_value(name, fields[key]) for key in ("mean", "low", "high", "pseudo_mean")}


def list_groups(voices: Voices) -> Iterator[tuple[str, str, dict[str, Floats]]]:
    """Yield group, measure, and the fields of its test with means in the measure's unit."""
    for group, tests in voices.summaries.items():
        for name, test in tests.items():
            yield group, name, _describe_group(name, test)


def format_value(value: float, form: str = ".3f") -> str:
    """Return a number as text; "-" for NaN."""
    return format(value, form) if math.isfinite(value) else "-"


def _make_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _make_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _make_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_make_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value
