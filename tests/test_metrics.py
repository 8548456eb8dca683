"""Scores against scipy and independent formulas, invariances, and the bootstrap against a plain loop."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from score_samples import sample

from emimic import metrics
from emimic.task import EmimicError


def lin(x, y):
    """Lin's coefficient, written with sums over n."""
    n = len(x)
    mx, my = sum(x) / n, sum(y) / n
    cov = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / n
    return 2 * cov / (sum((a - mx) ** 2 for a in x) / n + sum((b - my) ** 2 for b in y) / n + (mx - my) ** 2)


def squared(x, y):
    return math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / len(x)


def wins(x, y):
    """AUC by comparing every pair."""
    pairs = [(a, b) for a, one in zip(x, y, strict=True) for b, two in zip(x, y, strict=True) if one > two]
    return sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs) if pairs else math.nan


REFERENCE = {
    metrics.compute_pearson: lambda x, y: stats.pearsonr(x, y).statistic,
    metrics.compute_ccc: lin,
    metrics.compute_mse: squared,
}


pairs = st.integers(3, 40).flatmap(
    lambda n: st.tuples(*[arrays(np.float64, (n, 2), elements=st.integers(-100, 100).map(float))] * 2)
)


@pytest.mark.parametrize("statistic", REFERENCE)
def test_scores_equal_their_formula(statistic):
    x, y = sample()
    expected = [REFERENCE[statistic](x[:, i].tolist(), y[:, i].tolist()) for i in range(6)]
    np.testing.assert_allclose(statistic(x, y), expected, rtol=1e-12)
    one = statistic(x[:, 2], y[:, 2])
    assert isinstance(one, float)
    assert one == pytest.approx(expected[2], rel=1e-12)


@given(pairs)
@settings(max_examples=60)
def test_scores_equal_their_formula_on_any_numbers(pair):
    x, y = pair
    for i in range(2):
        if np.ptp(x[:, i]) and np.ptp(y[:, i]):
            for statistic, formula in REFERENCE.items():
                expected = formula(x[:, i].tolist(), y[:, i].tolist())
                assert statistic(x, y)[i] == pytest.approx(expected, rel=1e-9, abs=1e-9)
        else:
            assert np.isnan(metrics.compute_pearson(x, y)[i])


@given(pairs, st.floats(0.1, 10), st.floats(-5, 5), st.randoms())
@settings(max_examples=60)
def test_invariances(pair, scale, offset, random):
    x, y = pair
    rho = metrics.compute_pearson(x, y)
    np.testing.assert_allclose(metrics.compute_pearson(scale * x + offset, y), rho, atol=1e-9)
    np.testing.assert_allclose(metrics.compute_pearson(-scale * x, y), -rho, atol=1e-9)
    order = list(range(len(x)))
    random.shuffle(order)
    for statistic in REFERENCE:
        np.testing.assert_allclose(statistic(x[order], y[order]), statistic(x, y), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(statistic(y, x), statistic(x, y), rtol=1e-9, atol=1e-12)
    moved = metrics.compute_mse(x + offset, y + offset)
    np.testing.assert_allclose(moved, metrics.compute_mse(x, y), rtol=1e-9, atol=1e-9)


@given(pairs)
@settings(max_examples=60)
def test_bounds(pair):
    x, y = pair
    rho, agreement = metrics.compute_pearson(x, y), metrics.compute_ccc(x, y)
    defined = ~np.isnan(rho)
    assert (np.abs(rho[defined]) <= 1).all()
    # Agreement is correlation less the penalty for another mean or scale.
    assert (np.abs(agreement[defined]) <= np.abs(rho[defined]) + 1e-12).all()


def test_perfect_and_shifted_predictions():
    _, y = sample()
    np.testing.assert_allclose(metrics.compute_pearson(y, y), 1, rtol=1e-12)
    np.testing.assert_allclose(metrics.compute_ccc(y, y), 1, rtol=1e-12)
    assert (metrics.compute_mse(y, y) == 0).all()
    np.testing.assert_allclose(metrics.compute_pearson(y + 0.5, y), 1, rtol=1e-12)
    assert (metrics.compute_ccc(y + 0.5, y) < 0.9).all()
    np.testing.assert_allclose(metrics.compute_mse(y + 0.5, y), 0.25, rtol=1e-12)


def test_constants_are_undefined_even_with_float_noise():
    x, y = sample()
    x[:, 1] = 0.3
    x[:, 2] = np.float32(0.3) + np.spacing(np.float32(0.3)) * np.random.default_rng(1).integers(-3, 4, 60)
    y[:, 3] = 0.0
    x[:, 4] = 1e-3 * x[:, 0]  # small, not constant
    rho = metrics.compute_pearson(x, y)
    assert np.isnan(rho).tolist() == [False, True, True, True, False, False]
    assert metrics.find_constant(x).tolist() == [False, True, True, False, False, False]
    assert metrics.find_constant(y).tolist() == [False, False, False, True, False, False]
    agreement = metrics.compute_ccc(x, y)
    np.testing.assert_allclose(agreement[[1, 2, 3]], 0, atol=1e-5)
    assert np.isfinite(metrics.compute_mse(x, y)).all()
    assert math.isnan(metrics.compute_mean_pearson(x, y))
    assert metrics.compute_mean_pearson(x[:, :1], y[:, :1]) == rho[0]


def test_ccc_of_equal_constants_is_undefined():
    assert np.isnan(metrics.compute_ccc(np.full(5, 0.4), np.full(5, 0.4)))
    assert metrics.compute_ccc(np.full(5, 0.4), np.full(5, 0.1)) == 0


def test_mean_pearson_is_equation_1():
    x, y = sample()
    expected = sum(stats.pearsonr(x[:, i], y[:, i]).statistic for i in range(6)) / 6
    assert metrics.compute_mean_pearson(x, y) == pytest.approx(expected, rel=1e-12)
    assert metrics.compute_mean_pearson(x[:, 0], y[:, 0]) == pytest.approx(
        stats.pearsonr(x[:, 0], y[:, 0]).statistic
    )
    assert math.isnan(metrics.compute_mean_pearson(np.zeros((4, 0)), np.zeros((4, 0))))


def test_few_clips():
    none, one = np.zeros((0, 6)), np.full((1, 6), 0.5)
    for statistic in (metrics.compute_pearson, metrics.compute_ccc):
        assert np.isnan(statistic(none, none)).tolist() == [True] * 6
        assert np.isnan(statistic(one, one / 2)).tolist() == [True] * 6
    assert np.isnan(metrics.compute_mse(none, none)).all()
    np.testing.assert_allclose(metrics.compute_mse(one, one / 2), 0.0625)
    assert metrics.find_constant(none).all()
    assert metrics.compute_pearson([1, 2], [3, 9]) == pytest.approx(1)


def test_a_small_variance_on_a_large_mean_keeps_its_digits():
    x, y = sample()
    np.testing.assert_allclose(metrics.compute_pearson(x + 1e4, y), metrics.compute_pearson(x, y), rtol=1e-8)
    drawn = metrics.resample_statistic(metrics.compute_pearson, x + 1e4, y, n=20)
    np.testing.assert_allclose(
        drawn, metrics.resample_statistic(metrics.compute_pearson, x, y, n=20), rtol=1e-8
    )


@pytest.mark.parametrize("statistic", REFERENCE)
def test_refusals(statistic):
    with pytest.raises(ValueError, match=r"\(4, 6\).*\(4, 5\)"):
        statistic(np.zeros((4, 6)), np.zeros((4, 5)))
    with pytest.raises(EmimicError, match=r"\(2, 2, 2\)"):
        statistic(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)))
    with pytest.raises(metrics.ScoreError, match="1 of 3 predictions"):
        statistic([0, np.nan, 1], [0, 0, 1])
    with pytest.raises(metrics.ScoreError, match="2 of 3 labels"):
        statistic([0, 0, 1], [np.inf, -np.inf, 1])


@pytest.mark.parametrize("statistic", REFERENCE)
@pytest.mark.parametrize("grouped", [False, True])
def test_bootstrap_equals_a_plain_loop(statistic, grouped):
    x, y = sample(clips=40, targets=2)
    names = [f"s{i % 7}" for i in range(40)] if grouped else None
    members = (
        [[i for i in range(40) if i % 7 == g] for g in range(7)] if grouped else [[i] for i in range(40)]
    )
    rng = np.random.default_rng(5)
    expected = []
    for _ in range(50):
        rows = list(itertools.chain(*(members[g] for g in rng.integers(len(members), size=len(members)))))
        expected.append([REFERENCE[statistic](x[rows, i].tolist(), y[rows, i].tolist()) for i in range(2)])
    drawn = metrics.resample_statistic(statistic, x, y, groups=names, n=50, seed=5)
    np.testing.assert_allclose(drawn, expected, rtol=1e-9)
    low, high = metrics.bootstrap(statistic, x, y, groups=names, n=50, seed=5, level=0.8)
    np.testing.assert_allclose(low, np.percentile(expected, 10, axis=0), rtol=1e-9)
    np.testing.assert_allclose(high, np.percentile(expected, 90, axis=0), rtol=1e-9)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(3)
    truth, hits = 0.6, 0
    for seed in range(100):
        x, z = rng.normal(size=(2, 100))
        y = truth * x + math.sqrt(1 - truth**2) * z
        low, high = metrics.bootstrap(metrics.compute_pearson, x, y, n=200, seed=seed)
        assert isinstance(low, float)
        hits += bool(low <= truth <= high)
    # 95 of 100, one standard error 2; percentile intervals are a little narrow at n = 100.
    assert 88 <= hits <= 99


def test_clips_that_repeat_a_speaker_need_grouped_resampling():
    rng = np.random.default_rng(0)
    x, y = np.repeat(rng.normal(size=(2, 30)), 20, axis=1)
    speakers = [str(i // 20) for i in range(600)]
    low, high = metrics.bootstrap(metrics.compute_pearson, x, y)
    grouped_low, grouped_high = metrics.bootstrap(metrics.compute_pearson, x, y, groups=speakers)
    # Twenty copies of a clip say nothing new: the honest interval is about sqrt(20) times as wide.
    assert 3 < (grouped_high - grouped_low) / (high - low) < 6


def test_undefined_resamples_are_left_out():
    x, y = sample(clips=6, targets=2)
    y[:, 0] = [0, 0, 0, 0, 0, 1]  # a resample misses the last clip with probability (5/6)^6 = .33
    x[:, 1] = 0.5
    drawn = metrics.resample_statistic(metrics.compute_pearson, x, y, n=1000)
    assert 250 < np.isnan(drawn[:, 0]).sum() < 420
    assert np.isnan(drawn[:, 1]).all()
    low, high = metrics.bootstrap(metrics.compute_pearson, x, y, n=1000)
    kept = drawn[~np.isnan(drawn[:, 0]), 0]
    assert low[0] == pytest.approx(np.percentile(kept, 2.5))
    assert high[0] == pytest.approx(np.percentile(kept, 97.5))
    assert np.isnan([low[1], high[1]]).all()


def test_one_unit_has_no_interval():
    x, y = sample(clips=5)
    low, high = metrics.bootstrap(metrics.compute_mse, x, y, groups=["only"] * 5, n=10)
    assert np.isnan([low, high]).all()
    assert np.isnan(metrics.bootstrap(metrics.compute_mse, x[:1], y[:1], n=10)).all()


def test_seeds():
    x, y = sample()
    a, b, c = (metrics.resample_statistic(metrics.compute_ccc, x, y, n=5, seed=seed) for seed in (1, 1, 2))
    assert (a == b).all()
    assert (a != c).any()


def test_bootstrap_refusals():
    x, y = sample(clips=5)
    with pytest.raises(metrics.ScoreError, match="compute_mean_pearson"):
        metrics.bootstrap(metrics.compute_mean_pearson, x, y)
    with pytest.raises(metrics.ScoreError, match="found 0"):
        metrics.bootstrap(metrics.compute_mse, x, y, n=0)
    with pytest.raises(metrics.ScoreError, match="3 group names for 5 clips"):
        metrics.bootstrap(metrics.compute_mse, x, y, groups=["a", "b", "c"])
    with pytest.raises(metrics.ScoreError, match="level 95"):
        metrics.bootstrap(metrics.compute_mse, x, y, level=95)


# --- labels that aren't known


@st.composite
def masked(draw):
    """Predictions with ties, labels of three targets, the last 0 or 1, some unknown; a group for each clip."""
    n = draw(st.integers(0, 30))
    x = draw(arrays(np.float64, (n, 3), elements=st.integers(-4, 4).map(float)))
    y = draw(arrays(np.float64, (n, 3), elements=st.sampled_from([math.nan, 0.0, 1.0, 0.25, 0.5])))
    y[:, 2] = np.where(np.isnan(y[:, 2]), math.nan, np.round(y[:, 2]))
    return x, y, [draw(st.integers(0, 3)) for _ in range(n)]


ALL = (*REFERENCE, metrics.compute_auc, metrics.compute_calibration_error)


@given(masked())
@settings(max_examples=150)
def test_a_score_is_that_of_the_known_labels(case):
    x, y, _ = case
    for statistic in ALL:
        columns = [2] if statistic is metrics.compute_auc else [0, 1, 2]
        together = statistic(x[:, columns], y[:, columns])
        for i, column in enumerate(columns):
            known = ~np.isnan(y[:, column])
            alone = statistic(x[known, column], y[known, column])
            np.testing.assert_allclose(together[i], alone, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(statistic(x[:, column], y[:, column]), alone, rtol=1e-9, atol=1e-12)
    for i, flat in enumerate(metrics.find_constant(y)):
        assert flat == metrics.find_constant(y[~np.isnan(y[:, i]), i])


@given(masked())
@settings(max_examples=60)
def test_resamples_of_masked_labels_equal_a_plain_loop(case):
    x, y, groups = case
    names = list(dict.fromkeys(groups))
    members = [[row for row, name in enumerate(groups) if name == own] for own in names]
    draws = np.random.default_rng(7)
    rows = [
        [row for g in draws.integers(len(names), size=len(names)) for row in members[g]] if names else []
        for _ in range(5)
    ]
    for statistic in (metrics.compute_mse, metrics.compute_ccc, metrics.compute_auc):
        side = x[:, 2:], y[:, 2:]
        expected = np.array([statistic(side[0][own], side[1][own])[0] for own in rows])
        if len({name for name, label in zip(groups, y[:, 2], strict=True) if not math.isnan(label)}) < 2:
            expected[:] = math.nan
        actual = metrics.resample_statistic(statistic, *side, groups=groups, n=5, seed=7)
        np.testing.assert_allclose(actual[:, 0], expected, rtol=1e-9, atol=1e-9)


def test_a_target_known_of_one_speaker_alone_has_no_interval():
    x, y = sample(clips=40, targets=2)
    speakers = [f"s{i % 4}" for i in range(40)]
    y[[i for i in range(40) if i % 4], 1] = math.nan
    low, high = metrics.bootstrap(metrics.compute_mse, x, y, groups=speakers, n=20)
    assert np.isnan([low, high]).tolist() == [[False, True], [False, True]]


# --- AUC


@given(masked())
@settings(max_examples=100)
def test_auc_compares_every_pair(case):
    x, y = case[0][:, 2], case[1][:, 2]
    known = ~np.isnan(y)
    np.testing.assert_allclose(metrics.compute_auc(x, y), wins(x[known], y[known]), rtol=1e-12)


def test_auc_equals_the_rank_sum_with_ties():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 300).astype(float), (rng.random(300) < 0.3).astype(float)
    ones = y.sum()
    ranks = stats.rankdata(x)[y == 1].sum()
    assert metrics.compute_auc(x, y) == pytest.approx((ranks - ones * (ones + 1) / 2) / (ones * (300 - ones)))
    assert metrics.compute_auc(-x, y) == pytest.approx(1 - metrics.compute_auc(x, y))
    assert metrics.compute_auc(y, y) == 1
    assert metrics.compute_auc(np.zeros(300), y) == 0.5


def test_auc_needs_both_classes_and_no_others():
    x, y = sample(clips=30, targets=2)
    y[:, 0], y[:, 1] = 1.0, math.nan
    assert np.isnan(metrics.compute_auc(x, y)).all()
    y[3, 0] = 0.5
    with pytest.raises(metrics.ScoreError, match="1 of 30 labels of a target are neither 0 nor 1"):
        metrics.compute_auc(x, y)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_bootstrap_of_auc_is_that_of_all_pairs(grouped):
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 8, (40, 2)).astype(float), (rng.random((40, 2)) < 0.4).astype(float)
    y[rng.random((40, 2)) < 0.2] = math.nan
    groups = [f"s{i % 6}" for i in range(40)] if grouped else None
    units = [[i for i in range(40) if i % 6 == g] for g in range(6)] if grouped else [[i] for i in range(40)]
    draws = np.random.default_rng(3)
    expected = []
    for _ in range(150):  # more than one chunk
        rows = [row for g in draws.integers(len(units), size=len(units)) for row in units[g]]
        known = [[row for row in rows if not math.isnan(y[row, i])] for i in range(2)]
        expected.append([wins(x[own, i].tolist(), y[own, i].tolist()) for i, own in enumerate(known)])
    actual = metrics.resample_statistic(metrics.compute_auc, x, y, groups=groups, n=150, seed=3)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    low, high = metrics.bootstrap(metrics.compute_auc, x, y, groups=groups, n=150, seed=3)
    np.testing.assert_allclose([low, high], np.percentile(expected, [2.5, 97.5], axis=0), rtol=1e-12)
