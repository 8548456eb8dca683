"""Each pair of voices as a table for R's rMEA (Kleinbub and Ramseyer 2021): one file per dyad, at a constant rate."""

import csv
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from emimic.files import CsvText, make_one_line
from emimic.metrics import Floats
from emimic.mimicry.results import Series
from emimic.mimicry.study.session import Session


def list_dyads(sessions: Sequence[Session]) -> Iterator[tuple[tuple[str, str], Session]]:
    """Yield the two roles and the session of each pair of voices, role by role."""
    pairs = [(pair, session) for session in sessions for pair in combinations(session.roles, 2)]
    for pair in dict.fromkeys(pair for pair, _ in pairs):
        yield from ((pair, session) for other, session in pairs if other == pair)


def make_name(dyad: str, group: str) -> str:
    """Return DYAD_1_GROUP, which rMEA splits at `_`: the dyad, the number of the session, the group."""
    return f"{dyad.replace('_', '-')}_1_{group.replace('_', '-') or 'all'}"


def make_dyad_csv(session: Session, roles: tuple[str, str]) -> str:
    """Return one row per step, and a column of each voice per dimension: `s1Col = 1, s2Col = 2` are the first one's.

    rMEA can't read missing values: silence between two voiced steps is interpolated linearly, at an end the nearest
    value is repeated.
    """
    first, second = (session.voices[session.roles.index(role)] for role in roles)
    steps = min(len(first.times), len(second.times))
    columns = np.stack([_fill(voice.cut(steps)) for voice in (first, second)], axis=2)
    text = CsvText(newline="")
    writer = csv.writer(text)
    writer.writerow([make_one_line(f"{role} {name}") for name in first.dimensions for role in roles])
    writer.writerows([f"{value:z.5f}" for value in row] for row in columns.reshape(steps, -1))
    return text.getvalue()


def _fill(voice: Series) -> Floats:
    """Return the values (step, dimension) with silence interpolated."""
    steps, on = np.arange(len(voice.times)), voice.voiced
    return np.stack([np.interp(steps, steps[on], column[on]) for column in voice.values.T], axis=1)
