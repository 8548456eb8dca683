"""The analysis of a study: real pairs against pseudo-dyads of other sessions, groups against each other."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Final

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry.alignment import average
from emimic.mimicry.group_phase import Phases, compute_phases, compute_rho
from emimic.mimicry.measures import MEASURES, Measure, get_sign, to_scale
from emimic.mimicry.results import Bools, Coupling, MimicryError, Settings
from emimic.mimicry.study.crosswise import compare_crosswise
from emimic.mimicry.study.remarks import describe_session, list_few_sessions, list_gathered
from emimic.mimicry.study.results import EVERY, RHO, Failed, Study, Voices
from emimic.mimicry.study.session import Session
from emimic.mimicry.study.statistics import (
    Contrast,
    GroupTest,
    Orders,
    SessionTest,
    contrast_groups,
    draw_partners,
    judge_group,
    judge_sessions,
    list_pseudo,
    permute_pairs,
)
from emimic.mimicry.windows import WindowGrid

SEGMENT: Final = 30.0
"""Seconds of SUSY's segments, the value of its paper."""

_PSEUDO_GROUPS: Final = 199  # draws of pseudo-groups of more than two voices, at most


def analyze(
    sessions: Sequence[Session],
    *,
    settings: Settings | None = None,
    segment: float = SEGMENT,
    failed: Sequence[Failed] = (),
    on_progress: Callable[[], object] = lambda: None,
) -> Study:
    """Compare the voices of each session, and judge them by pseudo-dyads and permutations over the study.

    The same sessions and settings give the same numbers. A session that is too short, or of another model than the
    first, is skipped and reported.

    Args:
        sessions: With timelines on one grid.
        settings: Of the comparisons; the alignment is always windowed, and draws is the number of permutations.
        segment: Seconds of SUSY's segments.
        failed: Sessions that have no timelines.
        on_progress: Called `count_steps(sessions)` times.

    Raises:
        MimicryError: Fewer than two sessions can be compared.
    """
    settings = settings or Settings(alignment="windowed")
    usable, skipped = _pick_usable(sessions, settings)
    if len(usable) < 2:
        reasons = "; ".join(f"{one.id}: {one.reason}" for one in (*failed, *skipped))
        raise MimicryError(
            f"found {len(usable)} session to compare, expected two or more{': ' * bool(reasons)}{reasons}. Add sessions"
        )
    names = list(dict.fromkeys(role for session in usable for role in session.roles))
    order = list(dict.fromkeys(session.group for session in usable))
    voices = [
        _analyze_dyads(pair, members, order, settings, segment, on_progress)
        for pair in combinations(names, 2)
        if len(members := [one for one in usable if set(pair) <= set(one.roles)]) >= 2
    ]
    ensembles = dict.fromkeys(session.roles for session in usable if len(session.roles) > 2)
    voices += [
        _analyze_ensemble(roles, members, order, settings)
        for roles in ensembles
        if len(members := [one for one in usable if one.roles == roles]) >= 2
    ]
    first = usable[0].voices[0]
    return Study(
        settings=settings,
        segment=segment,
        hop=first.hop,
        dimensions=(*first.dimensions, "Overall"),
        sessions=tuple(describe_session(session, voices) for session in usable),
        voices=tuple(voices),
        failed=(*failed, *skipped),
        notes=(*list_gathered(usable, voices), *list_few_sessions(voices, settings)),
    )


def count_steps(sessions: Sequence[Session]) -> int:
    """Return the number of steps that `analyze` reports: one per pair of voices of each session."""
    return sum(len(session.roles) * (len(session.roles) - 1) // 2 for session in sessions)


def _pick_usable(sessions: Sequence[Session], settings: Settings) -> tuple[list[Session], list[Failed]]:
    """Return the sessions that can be compared, and why others can't."""
    usable: list[Session] = []
    skipped: list[Failed] = []
    for session in sessions:
        first = session.voices[0]
        steps = min(len(voice.times) for voice in session.voices)
        grid = WindowGrid.from_settings(settings, first.hop)
        like = usable[0].voices[0] if usable else first
        if grid.width < 3 or not len(grid.place(steps)):
            reason = (
                f"{steps * first.hop:.1f} s in common are too short for a window of "
                f"{settings.window:g} s with lags of {settings.lag:g} s on both sides"
            )
            skipped.append(Failed(session.id, reason))
        elif first.dimensions != like.dimensions or abs(first.hop - like.hop) > 1e-9:
            skipped.append(Failed(session.id, "its dimensions or hop differ from the first session's"))
        else:
            usable.append(session)
    counts = Counter(pair for session in usable for pair in combinations(sorted(session.roles), 2))
    for session in list(usable):
        if max(counts[pair] for pair in combinations(sorted(session.roles), 2)) < 2:
            usable.remove(session)
            reason = (
                f"no other session has two of its roles ({', '.join(session.roles)}). Correct their spelling, or add "
                "sessions"
            )
            skipped.append(Failed(session.id, reason))
    return usable, skipped


def _analyze_dyads(
    roles: tuple[str, str],
    members: Sequence[Session],
    order: Sequence[str],
    settings: Settings,
    segment: float,
    on_progress: Callable[[], object],
) -> Voices:
    """Return the results of two roles in the sessions that have both."""
    firsts, seconds = ([session.voices[session.roles.index(role)] for session in members] for role in roles)
    crosswise = compare_crosswise(firsts, seconds, settings, segment=segment, on_progress=on_progress)
    diagonal = np.arange(len(members))
    groups = tuple(session.group for session in members)
    numbers = _number(groups)
    partners = draw_partners(numbers, settings.draws, np.random.default_rng(settings.seed))
    real: dict[str, Floats] = {}
    pseudo: dict[str, list[Floats]] = {}
    permuted: dict[str, Callable[[Orders], Floats]] = {}
    for measure in MEASURES:
        scaled = to_scale(measure, crosswise.values[measure.name])
        real[measure.name] = scaled[diagonal, diagonal]
        pseudo[measure.name] = list_pseudo(scaled)
        permuted[measure.name] = lambda rows, scaled=scaled: permute_pairs(scaled, rows, partners)  # type: ignore[misc]
    values = {name: matrix[diagonal, diagonal] for name, matrix in crosswise.values.items()}
    judged = _judge(MEASURES, real, pseudo, permuted, groups, order, settings)
    return Voices(
        roles, tuple(one.id for one in members), groups, {one.name: values[one.name] for one in MEASURES},
        *judged, dyads=crosswise,
    )  # fmt: skip


def _analyze_ensemble(
    roles: tuple[str, ...], members: Sequence[Session], order: Sequence[str], settings: Settings
) -> Voices:
    """Return rho of more than two roles: each session against pseudo-groups of voices of different sessions."""
    groups = tuple(session.group for session in members)
    phases = [[compute_phases(voice) for voice in session.voices] for session in members]
    on = [[voice.voiced for voice in session.voices] for session in members]
    n, rng = len(members), np.random.default_rng(settings.seed)
    draws = min(settings.draws, _PSEUDO_GROUPS)
    partners = [draw_partners(_number(groups), draws, rng) for _ in roles[1:]]
    real = np.stack([_recombine(phases, on, [row] * len(roles)) for row in range(n)])
    drawn = np.stack(
        [
            np.stack(
                [_recombine(phases, on, [row, *(one[draw, row] for one in partners)]) for row in range(n)]
            )
            for draw in range(draws)
        ]
    )
    # A session's own voices, where a permutation keeps them, are no pseudo-group.
    own = np.all([one == np.arange(n) for one in partners], axis=0)
    pseudo = [drawn[~own[:, row], row] for row in range(n)]
    judged = _judge(
        (RHO,),
        {"rho": real},
        {"rho": pseudo},
        {"rho": lambda rows: average(drawn[:, rows], 1)},
        groups,
        order,
        settings,
    )
    return Voices(roles, tuple(one.id for one in members), groups, {"rho": real}, *judged, dyads=None)


def _recombine(phases: list[list[Phases]], on: list[list[Bools]], rows: Sequence[int]) -> Floats:
    """Return rho (dimension + 1,) of voice k of session rows[k]."""
    steps = min(len(on[row][voice]) for voice, row in enumerate(rows))
    joined = np.stack([phases[row][voice][:steps] for voice, row in enumerate(rows)])
    return compute_rho(joined, np.all([on[row][voice][:steps] for voice, row in enumerate(rows)], axis=0))


def _judge(
    measures: Sequence[Measure],
    real: dict[str, Floats],
    pseudo: dict[str, list[Floats]],
    permuted: dict[str, Callable[[Orders], Floats]],
    groups: tuple[str, ...],
    order: Sequence[str],
    settings: Settings,
) -> tuple[
    dict[str, SessionTest], dict[str, dict[str, GroupTest]], dict[tuple[str, str], dict[str, Contrast]]
]:
    """Return the tests of sessions, the summaries of groups and their contrasts; groups in the study's order."""
    coupling: Coupling = settings.coupling
    names = [name for name in order if name in groups]
    rows = {name: np.flatnonzero([group == name for group in groups]) for name in names}
    if len(names) > 1:
        rows[EVERY] = np.arange(len(groups))
    tests, summaries = {}, {name: {} for name in rows}  # type: ignore[var-annotated]
    contrasts: dict[tuple[str, str], dict[str, Contrast]] = {pair: {} for pair in combinations(names, 2)}
    for measure in measures:
        key, side = measure.name, get_sign(measure, coupling)
        tests[key] = judge_sessions(real[key], pseudo[key], side)
        for name, members in rows.items():
            summaries[name][key] = judge_group(
                real[key][members],
                np.concatenate([pseudo[key][row] for row in members]),
                permuted[key](members),
                side,
                settings.seed,
            )
        gains = real[key] - tests[key].pseudo_mean
        for first, second in contrasts:
            contrasts[first, second][key] = contrast_groups(
                gains, rows[first], rows[second], settings.draws, settings.seed
            )
    return tests, summaries, contrasts


def _number(groups: Sequence[str]) -> Orders:
    """Return the number (session,) of each session's group."""
    names = list(dict.fromkeys(groups))
    return np.array([names.index(group) for group in groups], dtype=np.intp)
