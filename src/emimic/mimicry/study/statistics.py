"""Statistics of a study: sessions against pseudo-dyads, groups against permutations, groups against each other.

All take values on the scale of tests (Fisher's z of correlations), as (session, dimension + 1) with the mean over the
dimensions last, which needs no correction for the number of dimensions. NumPy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from emimic.metrics import Floats, compute_interval
from emimic.mimicry.alignment import average
from emimic.mimicry.results import Bools
from emimic.mimicry.significance import compute_p_alone, compute_p_corrected

Orders: TypeAlias = NDArray[np.intp]
Side: TypeAlias = Literal["high", "low", "both"]

WITHIN: Final = 5
"""Sessions of each group from which on partners are permuted within groups; below, over the study."""

_RESAMPLES: Final = 2000


@dataclass(frozen=True, slots=True)
class SessionTest:
    """Values of a measure in each session among its pseudo-dyads; all (session, dimension + 1).

    Attributes:
        pseudo_mean: Mean of the session's pseudo-dyads.
        pseudo_std: Their standard deviation.
        es: Effect size: value minus pseudo_mean, over pseudo_std.
        p: Fraction of pseudo-dyads at least as extreme, not corrected.
        p_corrected: The same, corrected for the number of dimensions.
    """

    pseudo_mean: Floats
    pseudo_std: Floats
    es: Floats
    p: Floats
    p_corrected: Floats


@dataclass(frozen=True, slots=True)
class GroupTest:
    """Values of a measure in a group; all (dimension + 1,).

    Attributes:
        sessions: Number of sessions with a value.
        mean: Over sessions.
        low: Lower end of its 95 % bootstrap interval over sessions.
        high: Upper end.
        pseudo_mean: Mean of the group's pseudo-dyads.
        d: Cohen's d of the sessions against the pseudo-dyads.
        p: Of the mean among permuted partners, not corrected.
        p_corrected: The same, corrected for the number of dimensions.
    """

    sessions: Floats
    mean: Floats
    low: Floats
    high: Floats
    pseudo_mean: Floats
    d: Floats
    p: Floats
    p_corrected: Floats


@dataclass(frozen=True, slots=True)
class Contrast:
    """The difference of two groups; all (dimension + 1,).

    Attributes:
        difference: Of the groups' mean gains; a gain is a session's value minus the mean of its pseudo-dyads.
        d: Cohen's d of the gains.
        p: Among permuted groups, two-sided, not corrected.
        p_corrected: The same, corrected for the number of dimensions.
    """

    difference: Floats
    d: Floats
    p: Floats
    p_corrected: Floats


def mask_pairs(n: int) -> Bools:
    """Return the pairs (n, n) of different sessions."""
    return ~np.eye(n, dtype=np.bool_)


def list_pseudo(values: Floats) -> list[Floats]:
    """Return, for each session, the values (pseudo-dyad, dimension + 1) of its two voices with those of others.

    Args:
        values: (n, n, dimension + 1), see `Crosswise`.
    """
    others = mask_pairs(len(values))
    return [np.concatenate([values[i, others[i]], values[others[i], i]]) for i in range(len(values))]


def judge_sessions(real: Floats, pseudo: Sequence[Floats], side: Side) -> SessionTest:
    """Return each session's value among its pseudo-dyads.

    The effect size has SUSY's form, with pseudo-dyads in place of shuffled segments.

    Args:
        real: (n, dimension + 1) on the scale of tests.
        pseudo: n of (pseudo-dyad, dimension + 1).
        side: The values that count against chance.
    """
    columns: list[tuple[Floats, ...]] = []
    for value, draws in zip(real, pseudo, strict=True):
        mean, std = average(draws, 0), compute_std(draws)
        es = (value - mean) / np.where(std > 0, std, np.nan)
        p, p_corrected = compute_p_alone(value, draws, side), compute_p_corrected(value, draws, side)
        columns.append((mean, std, es, p, p_corrected))
    return SessionTest(*(np.stack(column) for column in zip(*columns, strict=True)))


def draw_partners(groups: Orders, draws: int, rng: np.random.Generator) -> Orders:
    """Return permutations (draw, session) of the second voices, within groups if each has `WITHIN` sessions.

    Under the null hypothesis that who met whom has no effect, all permutations are as likely as the real one (which is
    among them), so the test is exact, for any length and autocorrelation.

    Args:
        groups: (session,) number of each session's group.
        draws: Number of permutations.
        rng: Source of random numbers.
    """
    counts = np.bincount(groups)
    blocks = groups if counts[counts > 0].min() >= WITHIN else np.zeros_like(groups)
    orders = np.tile(np.arange(len(groups)), (draws, 1))
    for block in np.unique(blocks):
        rows = np.flatnonzero(blocks == block)
        orders[:, rows] = rng.permuted(orders[:, rows], axis=1)
    return orders


def permute_pairs(values: Floats, rows: Orders, partners: Orders) -> Floats:
    """Return the mean (draw, dimension + 1) of a group's sessions with permuted partners.

    Args:
        values: (n, n, dimension + 1) on the scale of tests.
        rows: (member,) the group's sessions.
        partners: (draw, n), see `draw_partners`.
    """
    return average(values[rows, partners[:, rows]], 1)


def judge_group(real: Floats, pseudo: Floats, permuted: Floats, side: Side, seed: int) -> GroupTest:
    """Return the mean of a group's sessions among those with permuted partners.

    Cohen's d is that of rMEA: the difference of the means over the root of the mean of both variances.

    Args:
        real: (member, dimension + 1) on the scale of tests.
        pseudo: (pseudo-dyad, dimension + 1) of these sessions.
        permuted: (draw, dimension + 1), see `permute_pairs`.
        side: The values that count against chance.
        seed: Of the bootstrap.
    """
    mean, pseudo_mean = average(real, 0), average(pseudo, 0)
    low, high = _resample_mean(real, seed)
    std = np.sqrt((np.square(compute_std(real)) + np.square(compute_std(pseudo))) / 2)
    return GroupTest(
        sessions=np.isfinite(real).sum(axis=0).astype(np.float64),
        mean=mean,
        low=low,
        high=high,
        pseudo_mean=pseudo_mean,
        d=(mean - pseudo_mean) / np.where(std > 0, std, np.nan),
        p=compute_p_alone(mean, permuted, side),
        p_corrected=compute_p_corrected(mean, permuted, side),
    )


def contrast_groups(gains: Floats, first: Orders, second: Orders, draws: int, seed: int) -> Contrast:
    """Return the difference of two groups' mean gains among permuted groups.

    Args:
        gains: (n, dimension + 1).
        first: (member,) sessions of the first group.
        second: (member,) of the second.
        draws: Number of permutations.
        seed: Of the permutations.
    """
    joined = gains[np.concatenate([first, second])]
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(len(joined)), (draws, 1)), axis=1)
    size = len(first)
    difference = average(joined[:size], 0) - average(joined[size:], 0)
    permuted = average(joined[orders[:, :size]], 1) - average(joined[orders[:, size:]], 1)
    std = np.sqrt((np.square(compute_std(joined[:size])) + np.square(compute_std(joined[size:]))) / 2)
    return Contrast(
        difference=difference,
        d=difference / np.where(std > 0, std, np.nan),
        p=compute_p_alone(difference, permuted, "both"),
        p_corrected=compute_p_corrected(difference, permuted, "both"),
    )


def compute_std(values: Floats) -> Floats:
    """Return the standard deviation (column,) of the finite values, over n - 1; NaN below two."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    centered = np.where(finite, values - average(values, 0), 0.0)
    variance = np.square(centered).sum(axis=0) / np.maximum(count - 1, 1)
    return np.asarray(np.where(count > 1, np.sqrt(variance), np.nan))


def _resample_mean(values: Floats, seed: int) -> tuple[Floats, Floats]:
    """Return the 95 % percentile interval of the mean over resampled sessions; NaN below two with a value."""
    is_enough = np.isfinite(values).sum(axis=0) >= 2
    drawn = np.random.default_rng(seed).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = compute_interval(average(values[drawn], 1))
    return np.where(is_enough, low, np.nan), np.where(is_enough, high, np.nan)
