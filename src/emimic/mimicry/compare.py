"""Two timelines -> a Comparison: the curves on one grid, aligned, and judged against chance."""

import math
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from emimic.inference.results import Timeline
from emimic.metrics import Floats
from emimic.mimicry import cross_correlation, dtw
from emimic.mimicry.alignment import mean
from emimic.mimicry.results import Comparison, Curves, Dimension, Found, MimicryError, Report, Settings
from emimic.mimicry.significance import judge
from emimic.task import VAD
from emimic.wording import plural

LEAST_VOICE: Final = 2.0
"""Seconds of voice without which a recording's curves have no shape to follow."""

FEW_SECONDS: Final = 30.0
"""Seconds of voice below which a note says that little can be shown; at 15 s on a common clock 6.5 % of unrelated pairs
are found similar at a level of 5 % (docs/results/mimicry.json)."""

FEW_WINDOWS: Final = 5
"""Windows below which a note says so."""


def compare(
    seed: Timeline, mimic: Timeline, *, settings: Settings | None = None, others: Sequence[Timeline] = ()
) -> Comparison:
    """How alike the curves of two recordings are, and whether that is more than chance.

    others: recordings that have nothing to do with the mimic, each put in the seed's place to see what chance
    reaches; without any, surrogates of the seed are drawn. The same input and settings give the same numbers.

    Raises:
        MimicryError: other targets, VAD or hop on one side; too little voice; too short for a window and its lags, or
            too long to warp; no window in which both are heard; no recording among `others` that can stand in.
    """
    return compare_all(seed, [mimic], settings=settings, others=others).comparisons[0]


def compare_all(
    seed: Timeline,
    mimics: Sequence[Timeline],
    *,
    settings: Settings | None = None,
    others: Sequence[Timeline] = (),
) -> Report:
    """`compare` for each mimic, and for their mean: do they follow this seed, all in all?

    The draws change the seed alone, in the same way for every mimic, so what the mimics share among themselves does
    not count as following the seed. The p values of single mimics are not corrected for their number. A mimic that
    can't be compared costs only itself; raises MimicryError when none can.
    """
    settings = settings or Settings()
    if not mimics:
        raise MimicryError("there is no mimic to compare; give at least one recording beside the seed")
    first = curves(seed)
    stand_ins = _stand_ins(first, map(curves, others), settings) if others else []
    comparisons, found, failed = [], [], []
    for second in map(curves, mimics):
        try:
            _check(first, second)
            find = dtw.find if settings.clock == "own" else cross_correlation.find
            found.append(find(first, second, settings, stand_ins))
        except MimicryError as error:
            failed.append(str(error))
            continue
        comparisons.append(_comparison(first, second, settings, found[-1], len(stand_ins)))
    if not comparisons:
        raise MimicryError("; ".join(failed))
    if len(comparisons) == 1:
        return Report(tuple(comparisons), None, (), tuple(failed))
    observed = mean(np.stack([one.observed for one in found]), 0)
    draws = mean(np.stack([one.draws for one in found]), 0)
    dimensions, overall = _judged(first.dimensions, observed, draws, settings)
    return Report(tuple(comparisons), overall, dimensions, tuple(failed))


def curves(timeline: Timeline) -> Curves:
    """Intensities and VAD on one grid: the frames within half a hop of a step are averaged (a gap stays a gap)."""
    values = timeline.intensities.astype(np.float64)
    names = tuple(timeline.targets)
    if timeline.vad is not None and timeline.vad_times is not None and len(values):
        names += tuple(VAD)
        step = np.floor((timeline.vad_times - timeline.times[0]) / timeline.hop + 0.5).astype(np.intp)
        good = (step >= 0) & (step < len(values)) & np.isfinite(timeline.vad).all(axis=1)
        total, count = np.zeros((len(values), len(VAD))), np.zeros((len(values), 1))
        np.add.at(total, step[good], timeline.vad[good])
        np.add.at(count, step[good], 1.0)
        vad = np.where(count > 0, total / np.maximum(count, 1.0), np.nan)
        values = np.concatenate([values, vad], axis=1)
    values[~np.isfinite(values).all(axis=1)] = np.nan
    return Curves(timeline.name, timeline.hop, names, timeline.times.astype(np.float64), values)


def _check(first: Curves, second: Curves) -> None:
    _same(first, second)
    for one in (first, second):
        if one.voice < LEAST_VOICE:
            found = f"only about {one.voice:.1f} s of voice" if one.voice else "no voice at all"
            raise MimicryError(f"{one.name}: {found}; a comparison needs {LEAST_VOICE:g} s or more")


def _same(first: Curves, second: Curves) -> None:
    if first.dimensions != second.dimensions:
        raise MimicryError(
            f"{first.name} has the curves {', '.join(first.dimensions)}, and {second.name} "
            f"{', '.join(second.dimensions)}; hear both with the same model"
        )
    if abs(first.hop - second.hop) > 1e-9:
        raise MimicryError(
            f"{first.name} has a hop of {first.hop:g} s, and {second.name} of {second.hop:g} s; hear both with one hop"
        )


def _stand_ins(first: Curves, others: Iterable[Curves], settings: Settings) -> list[Curves]:
    """Those of the others that can stand in the seed's place."""
    good = []
    common = settings.clock == "common"
    steps, longest = (len(first.times), math.inf) if common else (0, dtw.LONGEST)
    for one in others:
        _same(first, one)
        if LEAST_VOICE <= one.voice <= longest and len(one.times) >= steps:
            good.append(one)
    if not good:
        raise MimicryError(
            f"of the recordings to compare {first.name} against, none has {LEAST_VOICE:g} s of voice "
            f"{'and is as long' if common else f'and at most {longest:g} s'}; give others, or none to draw surrogates"
        )
    return good


def _judged(
    names: tuple[str, ...], observed: Floats, draws: Floats, settings: Settings
) -> tuple[tuple[Dimension, ...], Dimension]:
    """Each dimension among the chance of all of them, and overall (last in the arrays) by itself."""
    chances = judge(observed[:-1], draws[:, :-1], level=settings.level)
    chances += judge(observed[-1:], draws[:, -1:], level=settings.level)
    found = [
        Dimension(name, float(value), chance)
        for name, value, chance in zip((*names, "Overall"), observed, chances, strict=True)
    ]
    return tuple(found[:-1]), found[-1]


def _comparison(first: Curves, second: Curves, settings: Settings, found: Found, others: int) -> Comparison:
    dimensions, overall = _judged(first.dimensions, found.observed, found.draws, settings)
    notes = [
        f"{one.name} has only {one.voice:.0f} s of voice: so little can hardly show anything"
        for one in (first, second)
        if one.voice < FEW_SECONDS
    ]
    if found.windows is not None and len(found.windows.times) < FEW_WINDOWS:
        count = len(found.windows.times)
        notes.append(
            f"only {count} of {count + found.windows.without_voice} windows have enough voice on both sides"
        )
    least = 1 / (1 - settings.level) - 1
    if others and others < least - 1e-6:
        notes.append(
            f"{plural(others, 'recording')} to compare against can't show p below {1 / (others + 1):.2g}; "
            f"{least:.0f} could"
        )
    return Comparison(
        seed=first, mimic=second, settings=settings, overall=overall, dimensions=dimensions, leads=found.leads,
        path=found.path, windows=found.windows, chance="recordings" if others else "surrogates", notes=tuple(notes),
    )  # fmt: skip
