"""Dynamic time warping of a seed and its mimic, each at its own speed."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry import alignment
from emimic.mimicry.alignment import standardize
from emimic.mimicry.results import Alignment, Bools, MimicryError, Path, Series, Settings

LONGEST: Final = 300.0
"""Maximum seconds of voice; beyond, warping every surrogate would take minutes."""


def align(
    first: Series, second: Series, settings: Settings, stand_ins: Sequence[Series], stop: Callable[[], object]
) -> Alignment:
    """Return the correlation along the warping path, and that of every surrogate or stand-in of the seed.

    Silent steps are removed before warping: they have no value to compare. `stop` is called between batches of draws.

    Raises:
        MimicryError: A recording has too much voice, or no dimension changes on both sides.
    """
    for series in (first, second):
        if series.voice > LONGEST:
            raise MimicryError(
                f"{series.name}: {series.voice:.0f} s of voice are too long to warp (at most {LONGEST:g} s); "
                "cut it, or use the alignment windowed"
            )
    seed, mimic = first.values[first.voiced], second.values[second.voiced]
    varying = (standardize(seed) != 0).any(axis=0) & (standardize(mimic) != 0).any(axis=0)
    if not varying.any():
        raise MimicryError(
            f"{first.name}, {second.name}: no dimension changes on both sides; there is nothing to compare"
        )
    batches = (
        (series.values[series.voiced][None] for series in stand_ins)
        if stand_ins
        else alignment.read_batches(alignment.draw_orders(first, settings), seed)
    )
    target = standardize(mimic[:, varying])
    observed = next(alignment.warp(standardize(seed[None][..., varying]), target, band=settings.band))
    drawn = []
    for batch in batches:
        for warped in alignment.warp(standardize(batch[..., varying]), target, band=settings.band):
            stop()
            drawn.append(warped.similarity)
    return Alignment(
        observed=_append_mean(observed.similarity, varying)[0],
        draws=_append_mean(np.concatenate(drawn), varying),
        path=_make_path(first, second, observed),
    )


def _append_mean(similarity: Floats, varying: Bools) -> Floats:
    """Return (draw, dimension + 1) of (draw, varying dimension): NaN for constant dimensions, the mean last."""
    values = np.full((len(similarity), len(varying)), np.nan)
    values[:, varying] = similarity
    return np.concatenate([values, alignment.average(values, 1)[:, None]], axis=1)


def _make_path(first: Series, second: Series, warped: alignment.Warped) -> Path:
    x, y = first.times[first.voiced], second.times[second.voiced]
    on = warped.on[::-1, 0]
    seed, mimic = x[warped.seed[::-1, 0][on]], y[warped.mimic[::-1, 0][on]]
    return Path(
        seed=seed,
        mimic=mimic,
        cost=float(warped.cost[0]),
        normalized=float(warped.cost[0] / (len(x) + len(y))),
        lag=float(np.median((mimic - y[0]) - (seed - x[0]))),
        tempo=len(x) / len(y),
    )
