"""Comparison of two timelines: on one grid, aligned, and judged against chance."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from emimic.inference.timeline import Timeline
from emimic.metrics import Floats, compute_interval
from emimic.mimicry import cross_correlation, dtw
from emimic.mimicry.alignment import average
from emimic.mimicry.measures import MEASURES, get_sign
from emimic.mimicry.results import (
    Alignment,
    Comparison,
    Dimension,
    LagLines,
    MeasureResult,
    MimicryError,
    Report,
    Series,
    Settings,
)
from emimic.mimicry.significance import compute_p_alone, judge_side
from emimic.mimicry.timeline_warnings import list_warnings
from emimic.task import VAD
from emimic.wording import pluralize

MIN_VOICE: Final = 2.0
"""Minimum seconds of voice of a recording."""

FEW_SECONDS: Final = 30.0
"""Seconds of voice below which a note warns: coupling is rarely found (docs/results/mimicry_rates.json)."""

FEW_WINDOWS: Final = 5
"""Number of windows below which a note warns."""


def compare(
    seed: Timeline, mimic: Timeline, *, settings: Settings | None = None, others: Sequence[Timeline] = ()
) -> Comparison:
    """Compute the similarity of two timelines, and whether it exceeds chance.

    The same input and settings give the same numbers.

    Args:
        seed: The first recording.
        mimic: The second recording.
        settings: Of the comparison.
        others: Recordings unrelated to the mimic, each put in the seed's place to sample chance; without any,
            surrogates of the seed are drawn.

    Raises:
        MimicryError: Targets, V/A/D or hop differ; too little voice; too short for a window and its lags, or too long
            to warp; no window with a voice on both sides; no recording among `others` that can replace the seed.
    """
    return compare_all(seed, [mimic], settings=settings, others=others).comparisons[0]


def compare_all(
    seed: Timeline,
    mimics: Sequence[Timeline],
    *,
    settings: Settings | None = None,
    others: Sequence[Timeline] = (),
    stop: Callable[[], object] = lambda: None,
) -> Report:
    """Compare a seed with each mimic, and with their mean.

    The draws change the seed alone, in the same way for every mimic, so similarities among the mimics don't count. The
    p values of single mimics are not corrected for their number. A mimic that can't be compared is skipped and
    reported.

    Args:
        seed: The first recording.
        mimics: The others.
        settings: Of the comparison.
        others: See `compare`.
        stop: Called between the parts of the work; what it raises ends the comparison.

    Raises:
        MimicryError: No mimic can be compared.
    """
    settings = settings or Settings()
    if not mimics:
        raise MimicryError("there is no mimic to compare; give at least one recording beside the seed")
    first = make_series(seed)
    stand_ins = _find_stand_ins(first, map(make_series, others), settings) if others else []
    align = dtw.align if settings.alignment == "dtw" else cross_correlation.align
    comparisons, alignments, failed = [], [], []
    for second in map(make_series, mimics):
        try:
            check_series(first, second)
            alignments.append(align(first, second, settings, stand_ins, stop))
        except MimicryError as error:
            failed.append(str(error))
            continue
        comparisons.append(_make_comparison(first, second, settings, alignments[-1], len(stand_ins)))
    if not comparisons:
        raise MimicryError("; ".join(failed))
    if len(comparisons) == 1:
        return Report(tuple(comparisons), None, (), tuple(failed))
    observed = average(np.stack([alignment.observed for alignment in alignments]), 0)
    draws = average(np.stack([alignment.draws for alignment in alignments]), 0)
    dimensions, overall = judge_dimensions(first.dimensions, observed, draws, settings)
    return Report(tuple(comparisons), overall, dimensions, tuple(failed))


def make_series(timeline: Timeline) -> Series:
    """Return intensities and V/A/D on one grid: the frames within half a hop of a step are averaged."""
    values = timeline.intensities.astype(np.float64)
    names = tuple(timeline.targets)
    if timeline.vad is not None and timeline.vad_times is not None and len(values):
        names += tuple(VAD)
        step = np.floor((timeline.vad_times - timeline.times[0]) / timeline.hop + 0.5).astype(np.intp)
        valid = (step >= 0) & (step < len(values)) & np.isfinite(timeline.vad).all(axis=1)
        total, count = np.zeros((len(values), len(VAD))), np.zeros((len(values), 1))
        np.add.at(total, step[valid], timeline.vad[valid])
        np.add.at(count, step[valid], 1.0)
        vad = np.where(count > 0, total / np.maximum(count, 1.0), np.nan)
        values = np.concatenate([values, vad], axis=1)
    values[~np.isfinite(values).all(axis=1)] = np.nan
    return Series(timeline.name, timeline.hop, names, timeline.times.astype(np.float64), values)


def check_series(first: Series, second: Series) -> None:
    """Raise MimicryError for two recordings of different models, or with too little voice."""
    _check_same_grid(first, second)
    for series in (first, second):
        if series.voice < MIN_VOICE:
            voice = f"only about {series.voice:.1f} s of voice" if series.voice else "no voice at all"
            raise MimicryError(f"{series.name}: {voice}; a comparison needs {MIN_VOICE:g} s or more")


def _check_same_grid(first: Series, second: Series) -> None:
    if first.dimensions != second.dimensions:
        raise MimicryError(
            f"{first.name} has the dimensions {', '.join(first.dimensions)}, and {second.name} "
            f"{', '.join(second.dimensions)}; predict both with the same model"
        )
    if abs(first.hop - second.hop) > 1e-9:
        raise MimicryError(
            f"{first.name} has a hop of {first.hop:g} s, and {second.name} of {second.hop:g} s; predict both with one "
            "hop"
        )


def _find_stand_ins(first: Series, others: Iterable[Series], settings: Settings) -> list[Series]:
    """Return the other recordings that can replace the seed."""
    stand_ins = []
    windowed = settings.alignment == "windowed"
    steps, longest = (len(first.times), math.inf) if windowed else (0, dtw.LONGEST)
    for series in others:
        _check_same_grid(first, series)
        if MIN_VOICE <= series.voice <= longest and len(series.times) >= steps:
            stand_ins.append(series)
    if not stand_ins:
        raise MimicryError(
            f"of the recordings to compare {first.name} against, none has {MIN_VOICE:g} s of voice "
            f"{'and is as long' if windowed else f'and at most {longest:g} s'}; give others, or none to draw surrogates"
        )
    return stand_ins


def judge_dimensions(
    names: tuple[str, ...], observed: Floats, draws: Floats, settings: Settings
) -> tuple[tuple[Dimension, ...], Dimension]:
    """Return each dimension, corrected for all of them, and overall (last in the arrays), which needs no correction."""
    chances = judge_side(observed[:-1], draws[:, :-1], level=settings.level, coupling=settings.coupling)
    chances += judge_side(observed[-1:], draws[:, -1:], level=settings.level, coupling=settings.coupling)
    dimensions = [
        Dimension(name, float(value), chance)
        for name, value, chance in zip((*names, "Overall"), observed, chances, strict=True)
    ]
    return tuple(dimensions[:-1]), dimensions[-1]


def _make_comparison(
    first: Series, second: Series, settings: Settings, alignment: Alignment, others: int
) -> Comparison:
    dimensions, overall = judge_dimensions(first.dimensions, alignment.observed, alignment.draws, settings)
    notes = [
        f"{series.name} has only {series.voice:.0f} s of voice: so little can hardly show anything"
        for series in (first, second)
        if series.voice < FEW_SECONDS
    ]
    windows = alignment.windows
    if windows is not None and len(windows.times) < FEW_WINDOWS:
        count = len(windows.times)
        notes.append(
            f"only {count} of {count + windows.without_voice} windows have enough voice on both sides"
        )
    notes += list_warnings(first, second, alignment)
    needed = 1 / (1 - settings.level) - 1
    if others and others < needed - 1e-6:
        notes.append(
            f"{pluralize(others, 'recording')} to compare against can't show p below {1 / (others + 1):.2g}; "
            f"{needed:.0f} could"
        )
    return Comparison(
        seed=first, mimic=second, settings=settings, overall=overall, dimensions=dimensions, leads=alignment.leads,
        path=alignment.path, windows=windows, chance="recordings" if others else "surrogates", notes=tuple(notes),
        measures=_judge_measures(alignment, settings), lag_lines=_make_lag_lines(alignment, first.hop),
    )  # fmt: skip


def _judge_measures(alignment: Alignment, settings: Settings) -> tuple[MeasureResult, ...]:
    """Return the measures beside the similarity, each with p among the same draws."""
    results = []
    for kind in MEASURES:
        if kind.name in alignment.measures and kind is not MEASURES[0]:
            observed, draws = alignment.measures[kind.name]
            side = get_sign(kind, settings.coupling)
            results.append(MeasureResult(kind.name, observed, compute_p_alone(observed, draws, side)))
    return tuple(results)


def _make_lag_lines(alignment: Alignment, hop: float) -> LagLines | None:
    """Return the lag lines of a windowed comparison."""
    if alignment.profile is None:
        return None
    observed, draws = alignment.profile
    lags = hop * (np.arange(len(observed)) - len(observed) // 2)
    low, high = (np.asarray(end, np.float64) for end in compute_interval(draws))
    return LagLines(np.asarray(lags, np.float64), observed, low, high)
