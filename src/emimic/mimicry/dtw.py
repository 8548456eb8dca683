"""A seed and its mimic, each at a speed of its own: dynamic time warping."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry import alignment
from emimic.mimicry.alignment import standardize
from emimic.mimicry.results import Bools, Curves, Found, MimicryError, Path, Settings

LONGEST: Final = 300.0
"""Seconds of voice beyond which warping every surrogate would take minutes."""


def find(first: Curves, second: Curves, settings: Settings, stand_ins: Sequence[Curves]) -> Found:
    """Correlation along the path; chance: each surrogate of the seed, or stand-in for it, is warped again.

    Gaps are left out before warping: a pause has no value, so it can't be like another one.
    """
    for one in (first, second):
        if one.voice > LONGEST:
            raise MimicryError(
                f"{one.name}: {one.voice:.0f} s of voice are too long to warp (at most {LONGEST:g} s); "
                "cut it, or compare on a common clock"
            )
    seed, mimic = first.values[first.heard], second.values[second.heard]
    changes = (standardize(seed) != 0).any(axis=0) & (standardize(mimic) != 0).any(axis=0)
    if not changes.any():
        raise MimicryError(
            f"{first.name}, {second.name}: no curve changes on both sides; there is nothing to compare"
        )
    batches = (
        (one.values[one.heard][None] for one in stand_ins)
        if stand_ins
        else alignment.batches(alignment.orders(first, settings), seed)
    )
    target = standardize(mimic[:, changes])
    observed = next(alignment.warp(standardize(seed[None][..., changes]), target, band=settings.band))
    reached = [
        warped.similarity
        for batch in batches
        for warped in alignment.warp(standardize(batch[..., changes]), target, band=settings.band)
    ]
    return Found(
        observed=_with_mean(observed.similarity, changes)[0],
        draws=_with_mean(np.concatenate(reached), changes),
        path=_path(first, second, observed),
    )


def _with_mean(similarity: Floats, changes: Bools) -> Floats:
    """(draw, dimension that changes) -> (draw, dimension + 1): NaN for the others, the mean at the end."""
    whole = np.full((len(similarity), len(changes)), np.nan)
    whole[:, changes] = similarity
    return np.concatenate([whole, alignment.mean(whole, 1)[:, None]], axis=1)


def _path(first: Curves, second: Curves, warped: alignment.Warped) -> Path:
    x, y = first.times[first.heard], second.times[second.heard]
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
