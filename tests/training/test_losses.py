"""Losses against formulas written again, and finite where a correlation is undefined."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emimic.metrics import ScoreError
from emimic.task import SettingsError
from emimic.training import losses
from emimic.training.losses import Mix, compute_rank_loss


def sample(clips=16, targets=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(clips, targets, generator=generator, dtype=torch.float64)
    noise = torch.randn(clips, targets, generator=generator, dtype=torch.float64)
    return (0.1 + 0.5 * labels + 0.1 * noise).to(dtype), labels.to(dtype)


def formula(name, x, y):
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if name == "mse":
        return float(np.square(x - y).sum() / x.size)
    if name == "bce":
        x = np.clip(x, 1e-4, 1 - 1e-4)
        return float(-(y * np.log(x) + (1 - y) * np.log(1 - x)).mean())
    terms = []
    for a, b in zip(x.T, y.T, strict=True):
        if name == "pearson":
            terms.append(1 - np.corrcoef(a, b)[0, 1])
        else:
            cov = np.cov(a, b, bias=True)
            terms.append(1 - 2 * cov[0, 1] / (cov[0, 0] + cov[1, 1] + (a.mean() - b.mean()) ** 2))
    return float(np.mean(terms))


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_losses_equal_their_formula(name, dtype, tolerance):
    x, y = sample(dtype=dtype)
    loss = losses.LOSSES[name](x, y)
    assert loss.shape == ()
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(formula(name, x, y), abs=tolerance)


@pytest.mark.parametrize("name", ["ccc", "pearson"])
def test_the_floor_does_not_bias_small_deviations(name):
    x, y = sample()
    x = 0.3 + 0.02 * (x - x.mean(0))  # a standard deviation of about .003, as early in training
    assert losses.LOSSES[name](x, y).item() == pytest.approx(formula(name, x, y), abs=1e-9)


@pytest.mark.parametrize("name", ["ccc", "pearson"])
def test_agreement_lowers_the_loss(name):
    _, y = sample()
    loss = losses.LOSSES[name]
    assert loss(y, y).item() == pytest.approx(0, abs=1e-12)
    assert loss(1 - y, y) > loss(torch.rand_like(y), y) > 0
    assert losses.compute_pearson_loss(1 - y, y).item() == pytest.approx(2, abs=1e-12)


def test_following_the_gradient_raises_the_correlation():
    _, y = sample(seed=1)
    x = torch.rand(16, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    before = formula("pearson", x.detach(), y)
    for _ in range(20):
        (gradient,) = torch.autograd.grad(losses.compute_pearson_loss(x, y), x)
        x = (x - 2 * gradient).detach().requires_grad_()
    assert formula("pearson", x.detach(), y) < before - 0.2


def _constant_predictions():
    return torch.full((8, 6), 0.3), sample(clips=8, dtype=torch.float32)[1]


DEGENERATE = {
    "constant predictions": _constant_predictions,
    "constant labels": lambda: _constant_predictions()[::-1],
    "both constant": lambda: (torch.full((8, 6), 0.3), torch.full((8, 6), 0.1)),
    "equal constants": lambda: (torch.full((8, 6), 0.3), torch.full((8, 6), 0.3)),
    "one clip": lambda: (torch.full((1, 6), 0.3), torch.full((1, 6), 0.7)),
    "all zero": lambda: (torch.zeros(8, 6), torch.zeros(8, 6)),
    "one label not zero": lambda: (torch.full((8, 6), 0.3), torch.eye(8)[:, :6]),
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_and_gradients_are_finite_where_correlation_is_undefined(name, case, dtype):
    x, y = (side.to(dtype) for side in DEGENERATE[case]())
    x.requires_grad_()
    loss = losses.LOSSES[name](x, y)
    loss.backward()
    assert 0 <= loss.item() <= (-math.log(1e-4) if name == "bce" else 2) + 1e-6
    assert torch.isfinite(x.grad).all()
    # The slope of a correlation is at most 1 / (clips x standard deviation), the latter not below .001.
    assert x.grad.abs().max() <= 2e3
    if name == "pearson":
        assert loss.item() == pytest.approx(1, abs=1e-3)


def test_constant_predictions_have_a_way_out():
    x, y = _constant_predictions()
    x = x.requires_grad_()
    losses.compute_pearson_loss(x, y).backward()
    step = x.detach() - 1e-3 * x.grad
    assert formula("pearson", step, y) < 0.01


@pytest.mark.parametrize("name", losses.LOSSES)
def test_bf16_is_computed_in_float32(name):
    x, y = sample(clips=64, dtype=torch.bfloat16)
    loss = losses.LOSSES[name](x, y)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(formula(name, x.double(), y.double()), abs=1e-6)
    mixed = losses.LOSSES[name](x, y.float())
    assert mixed.item() == loss.item()


@pytest.mark.parametrize("name", losses.LOSSES)
def test_gradients_agree_with_differences(name):
    x, y = sample(clips=5, targets=2)
    assert torch.autograd.gradcheck(losses.LOSSES[name], (x.requires_grad_(), y))


def known_only(name, x, y):
    """The formula over the known labels: an error over all of them, a correlation over each target's own clips."""
    known = ~np.isnan(y)
    if name in ("mse", "bce"):
        return formula(name, x[known], y[known]) if known.any() else 0.0
    terms = []
    for a, b, k in zip(x.T, y.T, known.T, strict=True):
        if not k.any():
            continue
        a, b = a[k], b[k]
        cov, x_var, y_var = ((a - a.mean()) * (b - b.mean())).mean(), a.var(), b.var()
        if name == "ccc":
            terms.append(1 - 2 * cov / max(x_var + y_var + (a.mean() - b.mean()) ** 2, losses.FLOOR))
        else:
            terms.append(1 - cov / np.sqrt(max(x_var, losses.FLOOR) * max(y_var, losses.FLOOR)))
    return float(np.mean(terms)) if terms else 0.0


@pytest.mark.parametrize("name", losses.LOSSES)
@settings(max_examples=60)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 4))), st.integers(0, 1000))
def test_missing_labels_are_left_out_of_the_formula(name, missing, seed):
    x, y = sample(*missing.shape, seed=seed)
    y[torch.from_numpy(missing)] = math.nan
    x.requires_grad_()
    loss = losses.LOSSES[name](x, y)
    (gradient,) = torch.autograd.grad(loss, x)
    assert loss.item() == pytest.approx(known_only(name, x.detach().numpy(), y.numpy()), rel=1e-9, abs=1e-12)
    assert torch.isfinite(gradient).all()
    assert not gradient[torch.from_numpy(missing)].any()
    # What a missing label would have been, or was predicted there, doesn't matter.
    other = torch.where(torch.from_numpy(missing), 7 - x.detach(), x.detach())
    assert losses.LOSSES[name](other, y).item() == pytest.approx(loss.item(), abs=1e-12)


@pytest.mark.parametrize("name", [*losses.LOSSES, "mix"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_any_label_a_loss_is_zero(name, dtype):
    loss = Mix(dict.fromkeys(losses.LOSSES, 1.0)) if name == "mix" else losses.LOSSES[name]
    x = sample(clips=4)[0].to(dtype).requires_grad_()
    found = loss(x, torch.full((4, 6), math.nan))
    found.backward()
    assert found.item() == 0
    assert not x.grad.any()
    # One target with labels is as if it were alone.
    _, y = sample(clips=4, seed=1)
    y[:, 1:] = math.nan
    assert loss(x, y).item() == pytest.approx(loss(x[:, :1], y[:, :1]).item(), rel=1e-6)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_gradients_agree_with_differences_around_missing_labels(name):
    x, y = sample(clips=5, targets=3)
    y[[0, 3, 3], [1, 1, 2]] = math.nan
    assert torch.autograd.gradcheck(losses.LOSSES[name], (x.requires_grad_(), y))


def test_parts_of_a_mean_weigh_as_many_labels_as_they_have():
    x, y = sample(clips=12)
    y[:5, 1:] = math.nan
    whole = losses.compute_mse(x, y)
    parts = [(x[:7], y[:7]), (x[7:], y[7:])]
    fractions = [int((~b.isnan()).sum()) / int((~y.isnan()).sum()) for _, b in parts]
    assert sum(fractions) == 1
    found = sum(fraction * losses.compute_mse(*part) for fraction, part in zip(fractions, parts, strict=True))
    assert found.item() == pytest.approx(whole.item(), rel=1e-12)


def test_mix_is_the_weighted_sum():
    x, y = sample()
    mix = Mix({"mse": 2.0, "ccc": 0.5, "pearson": 0.25})
    expected = 2 * formula("mse", x, y) + 0.5 * formula("ccc", x, y) + 0.25 * formula("pearson", x, y)
    assert mix(x, y).item() == pytest.approx(expected, abs=1e-12)
    assert Mix({"mse": 1, "ccc": 0})(x, y).item() == pytest.approx(formula("mse", x, y), abs=1e-12)


@pytest.mark.parametrize(
    ("weights", "decomposes"),
    [
        ({"mse": 1.0}, True),
        ({"mse": 2, "ccc": 0}, True),
        ({"mse": 1, "ccc": 0.1}, False),
        ({"pearson": 1}, False),
    ],
)
def test_decomposes_says_whether_parts_average_to_the_whole(weights, decomposes):
    x, y = sample(clips=12)
    mix = Mix(weights)
    assert mix.decomposes is decomposes
    parts = sum(n / 12 * mix(a, b) for n, a, b in zip((5, 7), x.split([5, 7]), y.split([5, 7]), strict=True))
    assert math.isclose(parts, mix(x, y), rel_tol=1e-12) is decomposes


def test_a_mix_keeps_its_weights():
    given = {"mse": 1.0}
    mix = Mix(given)
    given["mse"] = 5.0
    assert mix.weights == {"mse": 1.0}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"mae": 1.0, "mse": 1.0}, "'mae'; known are mse, bce, ccc, pearson"),
        ({"mse": -1.0}, "'mse' is -1.0"),
        ({"ccc": math.nan}, "'ccc' is nan"),
        ({"mse": math.inf}, "'mse' is inf"),
        ({"mse": 0.0}, "at least one above 0"),
        ({}, "at least one above 0"),
    ],
)
def test_mixes_that_make_no_sense(weights, message):
    with pytest.raises(SettingsError, match=message):
        Mix(weights)


@pytest.mark.parametrize("shapes", [((4, 6), (4, 5)), ((4, 1), (4,)), ((4,), (4,)), ((0, 6), (0, 6))])
def test_shapes_that_would_broadcast_or_have_no_mean_are_refused(shapes):
    x, y = (torch.zeros(shape) for shape in shapes)
    for loss in (*losses.LOSSES.values(), Mix({"mse": 1.0})):
        with pytest.raises(ScoreError, match="predictions have shape"):
            loss(x, y)


# --- weights and ranks


@pytest.mark.parametrize("name", ["mse", "ccc", "pearson"])
def test_weights_are_factors_of_errors_or_repeat_a_clip(name: str) -> None:
    """In MSE a clip of weight 3 has three times the error; in a correlation it counts as three clips."""
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.random((2, 6, 2)))
    y[1, 0] = torch.nan
    weights = torch.tensor([3.0, 2.0, 1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    loss = Mix({name: 1.0})
    x.requires_grad_()
    found = loss(x, y, weights)
    found.backward()
    gradient, x.grad = x.grad.clone(), None
    if name == "mse":
        known = ~y.isnan()
        (weights[:, None] * (x - y.nan_to_num()).square())[known].sum().div(known.sum()).backward()
    else:
        rows = torch.repeat_interleave(torch.arange(6), weights.long())
        wanted = loss(x[rows], y[rows])
        wanted.backward()
        assert found.item() == pytest.approx(wanted.item(), rel=1e-9)
    np.testing.assert_allclose(gradient, x.grad, rtol=1e-9, atol=1e-12)
    ones = torch.ones(6, dtype=torch.float64)
    assert loss(x, y, ones).item() == pytest.approx(loss(x, y).item(), rel=1e-12)


@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 10_000))
def test_the_rank_loss_is_the_mean_over_pairs(clips: int, quantities: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(clips, quantities))
    ranks = rng.choice([0.0, 1.0, 2.0, np.nan], size=(clips, quantities))
    groups = rng.integers(-1, 2, clips)
    heat = np.where(groups == 0, 0.1, 0.7)
    terms = [
        math.log1p(math.exp(-(values[i, q] - values[j, q]) / heat[i]))
        for q in range(quantities)
        for i in range(clips)
        for j in range(clips)
        if groups[i] == groups[j] >= 0 and ranks[i, q] > ranks[j, q]
    ]
    x = torch.tensor(values, requires_grad=True)
    found = compute_rank_loss(x, *map(torch.tensor, (ranks, groups, heat)))
    assert float(found.detach()) == pytest.approx(np.mean(terms) if terms else 0.0, rel=1e-6)
    found.backward()
    assert torch.isfinite(x.grad).all()
    assert bool(x.grad.any()) is bool(terms)
