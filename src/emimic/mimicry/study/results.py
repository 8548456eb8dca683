"""Results of a study: plain dataclasses, and their JSON."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry.measures import MEASURES, NAMES, Measure
from emimic.mimicry.results import MEANING, Settings
from emimic.mimicry.study.crosswise import Crosswise
from emimic.mimicry.study.statistics import Contrast, GroupTest, SessionTest
from emimic.version import __version__

SCHEMA: Final = "emimic/study/1"

EVERY: Final = "(all)"
"""Name of the summary over all groups."""

RHO: Final = Measure("rho", "high", False, "cluster phase of all voices, 0 to 1")
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
    """A session: id, group, roles, each role's seconds of voice, and remarks."""

    id: str
    group: str
    roles: tuple[str, ...]
    voice: tuple[float, ...]
    notes: tuple[str, ...]


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
                    "measures": {name: _make_plain(asdict(test)) for name, test in tests.items()},
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
                name: _make_plain(
                    {"value": values[row]}
                    | {key: part[row] for key, part in asdict(voices.tests[name]).items()}
                )
                for name, values in voices.values.items()
            },
            "susy": None if dyads is None else _make_plain(asdict(dyads.susy[row])),
        }


def to_value(name: str, values: Floats) -> Floats:
    """Return means on the scale of the measure: of correlations, tanh of the mean z."""
    return np.asarray(np.tanh(values)) if BY_NAME[name].is_correlation else values


def _describe_group(name: str, test: GroupTest) -> dict[str, Floats]:
    """Return a group's test with its means on the measure's own scale."""
    fields = asdict(test)
    return fields | {key: to_value(name, fields[key]) for key in ("mean", "low", "high", "pseudo_mean")}


def list_groups(voices: Voices) -> Iterator[tuple[str, str, dict[str, Floats]]]:
    """Yield group, measure, and the fields of its test with means on the measure's own scale."""
    for group, tests in voices.summaries.items():
        for name, test in tests.items():
            yield group, name, _describe_group(name, test)


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
