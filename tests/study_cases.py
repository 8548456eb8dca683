"""Synthetic studies of timelines, without audio."""

from dataclasses import dataclass

import numpy as np
from made_results import HOP, timeline, wandering

from emimic.mimicry.study import Session


@dataclass(frozen=True)
class Case:
    """A session, and the lag with which its second voice follows the first, in seconds; NaN if it doesn't."""

    session: Session
    lag: float


def make_study(
    number: int, *, steps: int = 200, seed: int = 0, noise: float = 1.0, sign: float = 1.0
) -> list[Case]:
    """Return sessions of a therapist and a client: the first half coupled, with noise, the rest not."""
    rng = np.random.default_rng(seed)
    cases = []
    for row in range(number):
        lag = int(rng.integers(2, 11)) * (-1) ** row
        long, other = wandering(steps + 24, rng), wandering(steps, rng)
        is_coupled = row < number // 2
        second = sign * long[12 - lag : 12 - lag + steps] + noise * other if is_coupled else other
        voices = [timeline(long[12 : 12 + steps]), timeline(second)]
        group = "coupled" if is_coupled else "control"
        session = Session.from_timelines(f"s{row:02}", voices, group=group, roles=("therapist", "client"))
        cases.append(Case(session, lag * HOP if is_coupled else float("nan")))
    return cases
