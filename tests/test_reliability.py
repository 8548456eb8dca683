"""Bins of predictions, their mean labels, and the calibration error with its bootstrap."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_samples import sample

from emimic import metrics
from emimic.reliability import assign_bins, compute_reliability


def test_bins_of_a_constructed_calibration():
    x = np.repeat([0.1, 0.3, 0.6, 0.9], 50)
    y = np.zeros(200)
    y[50:65], y[100:140], y[150:195] = 1, 1, 1  # of 50: 0, 15, 40, 45
    order = np.random.default_rng(0).permutation(200)
    (actual,) = compute_reliability(x[order], y[order], bins=4, n=200)
    np.testing.assert_allclose(actual.predicted, [0.1, 0.3, 0.6, 0.9])
    np.testing.assert_allclose(actual.observed, [0, 0.3, 0.8, 0.9])
    assert actual.counts.tolist() == [50] * 4
    assert actual.error == pytest.approx((0.1 + 0 + 0.2 + 0) / 4)
    assert (actual.low <= actual.observed).all()
    assert (actual.observed <= actual.high).all()
    assert actual.low[2] == pytest.approx(0.8 - 1.96 * math.sqrt(0.8 * 0.2 / 50), abs=0.04)
    # Ten bins make no more of four predictions than four do.
    assert metrics.compute_calibration_error(x, y) == pytest.approx(actual.error)


def test_perfect_calibration_and_a_bias():
    x = np.linspace(0, 1, 400)
    assert metrics.compute_calibration_error(x, x) == 0
    assert metrics.compute_calibration_error(x + 0.2, x) == pytest.approx(0.2)
    # Errors in both directions within a bin cancel: it is about means.
    assert metrics.compute_calibration_error(np.full(400, 0.5), x) == pytest.approx(0, abs=1e-12)


def test_few_clips_get_few_bins_and_unknown_labels_none():
    x, y = sample(clips=400, targets=3)
    y[39:, 1], y[:, 2] = math.nan, math.nan
    full, few, none = compute_reliability(x, y, n=10)
    assert full.counts.tolist() == [40] * 10
    assert few.counts.tolist() == [39]
    assert few.error == pytest.approx(abs(np.mean(x[:39, 1] - y[:39, 1])))
    assert len(none.counts) == 0
    assert math.isnan(none.error)
    np.testing.assert_allclose(metrics.compute_calibration_error(x, y), [full.error, few.error, none.error])
    assert (np.diff(full.predicted) > 0).all()
    with pytest.raises(metrics.ScoreError, match="found 0 bins"):
        compute_reliability(x, y, bins=0)


def test_the_bootstrap_of_the_calibration_error_keeps_the_bins():
    x, y = sample(clips=120, targets=1)
    groups = [i % 5 for i in range(120)]
    assigned = np.argsort(np.argsort(x[:, 0], kind="stable")) * 6 // 120
    draws = np.random.default_rng(2)
    expected = []
    for _ in range(20):
        rows = [i for g in draws.integers(5, size=5) for i in range(120) if i % 5 == g]
        gaps = [sum(x[i, 0] - y[i, 0] for i in rows if assigned[i] == b) for b in range(6)]
        expected.append(sum(map(abs, gaps)) / len(rows))
    actual = metrics.resample_statistic(metrics.compute_calibration_error, x, y, groups=groups, n=20, seed=2)
    np.testing.assert_allclose(actual[:, 0], expected, rtol=1e-9)


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 8))
@settings(max_examples=100)
def test_equal_bins_rise_and_never_split_equal_values(values, bins):
    assigned = assign_bins(np.array(values, dtype=float), bins)
    assert sorted(set(assigned.tolist())) == list(range(len(set(assigned.tolist()))))
    assert len(set(assigned.tolist())) <= bins
    for (a, one), (b, two) in itertools.product(zip(values, assigned, strict=True), repeat=2):
        assert (one == two) if a == b else (one <= two) == (a < b) or one == two
    if len(set(values)) == len(values) >= bins:
        counts = np.bincount(assigned, minlength=bins)
        assert counts.max() - counts.min() <= 1
