"""Every measure against its formula, written again with plain loops, and on pairs with a known coupling."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import HOP, timeline, wandering

from emimic.mimicry import Settings, compare, compare_voices
from emimic.mimicry.coherence import BANDS, SEGMENT, compute_bands
from emimic.mimicry.compare import make_series
from emimic.mimicry.group_phase import compute_phases, compute_rho
from emimic.mimicry.influence import compute_influence
from emimic.mimicry.lag_profile import find_extreme
from emimic.mimicry.measures import MEASURES, NAMES, get_sign, measure, name_influences
from emimic.mimicry.results import Comparison, MimicryError, Series
from emimic.mimicry.significance import compute_p_alone, compute_p_corrected, judge_side
from emimic.mimicry.study.analysis import SEGMENT as SUSY_SEGMENT
from emimic.mimicry.susy import compute_susy
from emimic.mimicry.timeline_warnings import describe_heat_map, find_streaks
from emimic.mimicry.windows import WindowGrid, make_stack

OPTIONS = Settings(alignment="windowed", draws=99)


def series(values: np.ndarray, gaps: object = None) -> Series:
    return make_series(timeline(values, gaps=gaps))


def pair_of(comparison: Comparison, name: str) -> tuple[float, float]:
    """Return the overall value and p of a measure."""
    (found,) = [one for one in comparison.measures if one.name == name]
    return float(found.values[-1]), float(found.p[-1])


# Against the formulas


@settings(max_examples=10, deadline=None)
@given(number=st.integers(0, 10_000), gapped=st.booleans())
def test_lag_measures_are_those_of_rmea(number: int, gapped: bool) -> None:
    rng = np.random.default_rng(number)
    a, b = wandering(110, rng, phi=0.7), wandering(110, rng, phi=0.7)
    gaps = slice(40, 52) if gapped else slice(0)
    first, second = series(a, gaps), series(b)
    found = measure(make_stack([first]), make_stack([second]), OPTIONS, HOP)
    # Windows of 25 steps, every 12, lags up to 12: plain loops, weighted by the steps that both have.
    lags = range(-12, 13)
    sums = {lag: np.zeros((4, 9)) for lag in lags}  # r, z, |z|, weight
    leads = np.zeros(9)
    windows = 0
    for start in range(12, 110 - 25 - 12 + 1, 12):
        common = {
            lag: [t for t in range(start, start + 25) if first.voiced[t] and second.voiced[t + lag]]
            for lag in lags
        }
        usable = {lag for lag in lags if min(len(common[lag]), len(common[-lag])) >= 7.5}
        if len(usable) < 12.5:
            continue
        windows += 1
        rows = {}
        for lag in usable:
            steps = np.array(common[lag])
            r = np.array(
                [np.corrcoef(first.values[steps, d], second.values[steps + lag, d])[0, 1] for d in range(9)]
            )
            z = 0.5 * np.log((1 + r) / (1 - r))
            sums[lag] += len(steps) * np.stack([r, z, abs(z), np.ones(9)])
            rows[lag] = r
        best = [max(usable, key=lambda lag, d=d: rows[lag][d]) for d in range(9)]
        leads += np.sign(best)
    weight = max(values[3, 0] for values in sums.values())
    means = {lag: values[:3] / values[3] for lag, values in sums.items() if 2 * values[3, 0] >= weight}
    expected = {
        "similarity": np.max([values[0] for values in means.values()], axis=0),
        "peak": np.max([values[0] for values in means.values()], axis=0),
        "trough": np.min([values[0] for values in means.values()], axis=0),
        "lag_zero": means[0][1],
        "all_lags": np.mean([values[1] for values in means.values()], axis=0),
        "absolute": np.mean([values[2] for values in means.values()], axis=0),
        "lead": np.mean([means[lag][1] for lag in means if lag > 0], axis=0)
        - np.mean([means[lag][1] for lag in means if lag < 0], axis=0),
        "lead_windows": leads / windows,
    }
    assert found.profile.windows[0] == windows
    for name, values in expected.items():
        assert found.values[name][0, :-1] == pytest.approx(values, abs=1e-9), name
    for name in ("lag_zero", "all_lags", "absolute"):
        assert found.values[name][0, -1] == pytest.approx(expected[name].mean()), name


@settings(max_examples=8, deadline=None)
@given(number=st.integers(0, 10_000))
def test_influence_is_the_partial_correlation_of_a_regression(number: int) -> None:
    rng = np.random.default_rng(number)
    y, x = series(wandering(140, rng), slice(60, 66)), series(wandering(140, rng), slice(100, 103))
    grid = WindowGrid(25, 12, 12, 0.3)
    found = compute_influence(make_stack([x]), make_stack([y]), grid, "positive")[0]
    best = np.full(9, -np.inf)
    for lag in (2, 4, 6, 8, 10):
        for d in range(9):
            target, known, dummies = [], [], []
            for window, start in enumerate(range(2, 140 - 25 - 10 + 1, 25)):
                for s in range(start, start + 25):
                    row = [y.values[s + lag, d], y.values[s, d], y.values[s - 2, d], x.values[s, d]]
                    if np.isfinite(row).all():
                        target.append(row[0])
                        known.append(row[1:])
                        dummies.append(window)
            design = np.column_stack([np.array(known)[:, :2], np.eye(max(dummies) + 1)[dummies]])

            def residual(values: np.ndarray, design: np.ndarray = design) -> np.ndarray:
                return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]

            left, right = residual(np.array(target)), residual(np.array(known)[:, 2])
            best[d] = max(best[d], left @ right / math.sqrt((left @ left) * (right @ right)))
    assert found == pytest.approx(best, abs=3e-3)  # a small ridge keeps the own past apart
    other = compute_influence(make_stack([y]), make_stack([x]), grid, "positive")[0]
    named = {name: values[0] for name, values in name_influences(found[None], other[None]).items()}
    net = [0.5 * math.log((1 + r) * (1 - s) / (1 - r) / (1 + s)) for r, s in zip(found, other, strict=True)]
    for name, values in (("first", found), ("second", other), ("net", net)):
        assert named[f"influence_{name}"] == pytest.approx([*values, np.mean(values)]), name


def test_every_measure_names_its_test() -> None:
    page = (Path(__file__).parents[2] / "docs" / "mimicry.md").read_text(encoding="utf-8").splitlines()
    begin = page.index("| measure | formula | source | its test |") + 2
    named: dict[str, str] = {}
    for line in page[begin : page.index("", begin)]:
        (test,) = re.findall(r"`(test_\w+)` \|$", line)
        named |= dict.fromkeys(re.findall(r"`(\w+)`", line.split("|")[1]), test)
    assert set(named) == {*NAMES, "rho", "susy_es"}
    assert all(callable(globals()[test]) for test in named.values())


@pytest.mark.parametrize("steps", [64 * 2, 300])
def test_coherence_is_welchs(steps: int) -> None:
    rng = np.random.default_rng(steps)
    a, b = wandering(steps, rng), wandering(steps, rng)
    b += np.roll(a, 3, axis=0)
    length = round(SEGMENT / HOP)
    firsts, second = make_stack([series(a), series(b)]), make_stack([series(b)])
    found = compute_bands(firsts, second, HOP)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    x_power, y_power, cross = np.zeros((length, 9)), np.zeros((length, 9)), np.zeros((length, 9), complex)
    for start in range(0, steps - length + 1, length // 2):
        parts = [v[start : start + length] for v in (firsts.values[0], second.values[0])]
        x, y = (np.fft.fft((part - part.mean(axis=0)) * taper[:, None], axis=0) for part in parts)
        x_power, y_power, cross = x_power + abs(x) ** 2, y_power + abs(y) ** 2, cross + x.conj() * y
    value = abs(cross) ** 2 / (x_power * y_power)
    for name, (low, high) in BANDS.items():
        band = [k for k in range(length // 2) if low <= k / (length * HOP) < high]
        assert found[name][0] == pytest.approx(value[band].mean(axis=0))
        assert found[name][1] == pytest.approx(np.ones(9))
    short = make_stack([series(a[:100])])
    assert np.isnan(compute_bands(short, short, HOP)["slow"]).all()


def test_the_docs_name_the_windows_and_segments() -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "mimicry.md").read_text(encoding="utf-8").split())
    grid = WindowGrid.from_settings(OPTIONS, HOP)
    width, every, reach = (f"{steps * HOP:g}" for steps in (grid.width, grid.hop, grid.reach))
    assert f"windows of {width} s, every {every} s, lags up to {reach} s" in page
    assert f"lagSec = {reach}, winSec = {width}, incSec = {every}" in page
    assert f"segments of {SUSY_SEGMENT:g} s, without overlap" in page
    rng = np.random.default_rng(8)
    a, b = series(wandering(280, rng)), series(wandering(280, rng))
    halves, whole = (compute_susy(a, b, segment=seconds, lag=2.4) for seconds in (28.0, SUSY_SEGMENT))
    assert whole.es == pytest.approx(halves.es)  # 56 s: shorter than a minute


def test_susy_is_the_published_definition() -> None:
    rng = np.random.default_rng(3)
    a, b = wandering(220, rng, phi=0.6), wandering(220, rng, phi=0.6)
    b[3:] += a[:-3]
    found = compute_susy(series(a), series(b), segment=10.0, lag=2.0)
    width, reach = 50, 10
    for d in (0, 5):
        lines = {True: [], False: []}  # type: ignore[var-annotated]
        for i in range(4):
            for j in range(4):
                x, y = a[i * width : (i + 1) * width, d], b[j * width : (j + 1) * width, d]
                x, y = x - x.mean(), y - y.mean()
                scale = width * x.std() * y.std()  # R's ccf: divided by all steps of a segment
                line = [
                    sum(x[t] * y[t + k] for t in range(width) if 0 <= t + k < width) / scale
                    for k in range(-reach, reach + 1)
                ]
                lines[i == j].append(np.arctanh(line))
        for key, change in (("z", np.asarray), ("absolute", np.abs)):
            real, pseudo = (np.mean([change(line) for line in lines[same]], axis=0) for same in (True, False))
            es = (real.mean() - pseudo.mean()) / pseudo.std(ddof=1)
            assert getattr(found, key)[d] == pytest.approx(real.mean(), rel=1e-5)
            assert getattr(found, "es" if key == "z" else "es_absolute")[d] == pytest.approx(es, rel=1e-4)
    assert np.isnan(compute_susy(series(a[:1]), series(b[:1]), segment=10.0, lag=2.0).es).all()


def make_analytic(values: np.ndarray) -> np.ndarray:
    """Return the sum of the waves of positive frequencies, twice, of an odd number of steps."""
    steps = np.arange(len(values))
    waves = [np.exp(2j * np.pi * k * steps / len(values)) for k in range(1, len(values) // 2 + 1)]
    return np.sum([2 * (values @ wave.conj()) / len(values) * wave for wave in waves], axis=0)


def test_rho_is_the_published_definition() -> None:
    rng = np.random.default_rng(4)
    voices = [wandering(151, rng) for _ in range(3)]
    found = compute_rho(np.stack([compute_phases(series(v)) for v in voices]), np.ones(151, bool))
    for d in (0, 8):
        values = [v[:, d].astype(np.float32).astype(float) for v in voices]
        theta = np.array([np.angle(make_analytic(v - v.mean())) for v in values])
        q = [np.angle(np.mean([np.exp(1j * theta[k, t]) for k in range(3)])) for t in range(151)]
        mean = [np.angle(np.mean(np.exp(1j * (theta[k] - q)))) for k in range(3)]
        rho = [
            abs(np.mean([np.exp(1j * (theta[k, t] - q[t] - mean[k])) for k in range(3)])) for t in range(151)
        ]
        assert found[d] == pytest.approx(np.mean(rho), rel=1e-5)
    same = compute_phases(series(voices[0]))
    assert compute_rho(np.stack([same, same, same]), np.ones(151, bool)) == pytest.approx(np.ones(10))
    assert np.isnan(compute_rho(np.stack([same, same]), np.zeros(151, bool))).all()


# On pairs with a known coupling


def follow(steps: int, lag: int, sign: float, seed: int, noise: float = 0.7) -> Comparison:
    """Compare a voice with one that follows it after `lag` steps."""
    rng = np.random.default_rng(seed)
    long = wandering(steps + 24, rng)
    second = sign * long[12 - lag : 12 - lag + steps] + noise * wandering(steps, rng)
    options = Settings(alignment="windowed", draws=99, coupling="positive" if sign > 0 else "negative")
    return compare(timeline(long[12 : 12 + steps]), timeline(second, "other"), settings=options)


@pytest.mark.parametrize("lag", [-5, 5])
def test_who_leads_and_who_influences(lag: int) -> None:
    found = follow(400, lag, 1.0, 1)
    assert found.leader == ("seed" if lag > 0 else "mimic")
    for name in ("lead", "lead_windows", "influence_net"):
        value, p = pair_of(found, name)
        assert value * lag > 0, name
        assert p <= 0.05, name
    names = ("influence_first", "influence_second") if lag > 0 else ("influence_second", "influence_first")
    assert pair_of(found, names[0])[0] > 3 * pair_of(found, names[1])[0]
    for name in ("peak", "all_lags", "coherence_slow", "coherence_fast"):
        assert pair_of(found, name)[1] <= 0.05, name
    assert pair_of(follow(300, 0, 1.0, 2), "lag_zero")[1] <= 0.05


def test_negative_coupling_is_found_with_its_lag() -> None:
    found = follow(300, 5, -1.0, 3)
    assert found.overall.similarity < -0.4
    assert found.overall.chance.beyond
    assert found.overall.chance.low > found.overall.similarity
    assert found.leads[-1].lag == pytest.approx(1.0)
    assert found.leader == "seed"
    assert pair_of(found, "trough")[0] == found.overall.similarity
    both = Settings(alignment="windowed", draws=99, coupling="both")
    seed, mimic = (timeline(one.values) for one in (found.seed, found.mimic))
    again = compare(seed, mimic, settings=both)
    assert again.overall.similarity == pytest.approx(found.overall.similarity)
    assert again.overall.chance.beyond
    assert again.overall.chance.low == -again.overall.chance.high
    assert 0 < compare(seed, mimic, settings=OPTIONS).overall.similarity < 0.2
    with pytest.raises(MimicryError, match="warping looks for positive similarity"):
        Settings(coupling="negative")


def test_every_measure_has_a_p_and_a_meaning() -> None:
    found = follow(300, 3, 1.0, 4)
    assert [one.name for one in found.measures] == list(NAMES[1:])
    assert all(np.isfinite(one.p).all() and np.isfinite(one.values).all() for one in found.measures)
    assert {get_sign(one, "negative") for one in MEASURES if one.side == "coupling"} == {"low"}
    lines = found.lag_lines
    assert lines is not None
    assert lines.lags[lines.observed.argmax()] == pytest.approx(0.6)
    assert (lines.low < lines.high).all()


def test_extremes_prefer_short_lags() -> None:
    values = np.array([0.5, 0.1, -0.7, 0.5, 0.5])[:, None]
    assert [float(part[0]) for part in find_extreme(values)] == [0.5, 1.0]
    assert [float(part[0]) for part in find_extreme(values, "negative")] == [-0.7, 0.0]
    assert [float(part[0]) for part in find_extreme(values, "both")] == [-0.7, 0.0]
    assert np.isnan(find_extreme(np.full((3, 1), np.nan))[1]).all()


def test_p_of_either_side() -> None:
    rng = np.random.default_rng(5)
    draws, value = rng.standard_normal((199, 4)), np.array([1.5, -1.5, math.nan, 0.2])
    for side, ranked in (("high", draws), ("low", -draws), ("both", abs(draws - draws.mean(axis=0)))):
        sign = {"high": value, "low": -value, "both": abs(value - draws.mean(axis=0))}[side]
        p = compute_p_alone(value, draws, side)  # type: ignore[arg-type]
        assert p[[0, 1, 3]] == pytest.approx((1 + (ranked >= sign).sum(axis=0)[[0, 1, 3]]) / 200)
        assert math.isnan(p[2])
        corrected = compute_p_corrected(value, draws, side)  # type: ignore[arg-type]
        assert (corrected[:2] >= p[:2] - 1e-12).all()
        assert corrected[3] == p[3]
    low = judge_side(np.array([-0.9]), np.tanh(0.2 * draws[:, :1]), level=0.95, coupling="negative")[0]
    assert low.beyond
    assert low.low < 0 < low.high


def test_three_voices_in_one_conversation() -> None:
    rng = np.random.default_rng(6)
    common = wandering(260, rng)
    voices = [
        timeline(common[lag : lag + 240] + 0.6 * wandering(240, rng), name)
        for lag, name in ((8, "a"), (6, "b"), (4, "c"))
    ]
    found = compare_voices(voices, settings=Settings(draws=39))
    assert [(pair.seed.name, pair.mimic.name) for pair in found.comparisons] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    assert all(pair.leader == "seed" for pair in found.comparisons)
    assert found.rho is not None
    assert found.rho.chance.beyond
    assert len(found.rho_dimensions) == 9
    apart = compare_voices(
        [timeline(wandering(240, rng), name) for name in "abc"], settings=Settings(draws=39)
    )
    assert apart.rho is not None
    assert apart.rho.similarity < 0.65 < found.rho.similarity
    with pytest.raises(MimicryError, match="found 2 voices, expected three"):
        compare_voices(voices[:2])


# Warnings


def test_streaks_at_lag_zero_suggest_crosstalk() -> None:
    at_zero = np.array([0.95, 0.95, 0.2, 0.99, 0.99, 0.99, 0.99, np.nan])
    streaks = find_streaks(at_zero, np.ones(8, bool))
    assert (streaks.longest, streaks.fraction) == (4, 0.5)
    assert find_streaks(at_zero, np.zeros(8, bool)).longest == 0
    rng = np.random.default_rng(7)
    voice = wandering(300, rng)
    copy = compare(timeline(voice), timeline(voice + 0.05 * wandering(300, rng)), settings=OPTIONS)
    assert any("almost the same at lag 0 in 100% of the windows" in note for note in copy.notes)
    flat = wandering(300, rng)
    flat[:, 2] = 0.3
    other = compare(timeline(flat, "flat"), timeline(wandering(300, rng)), settings=OPTIONS)
    assert "flat hardly changes in Determination" in other.notes
    assert not any("crosstalk" in note for note in other.notes)
    assert describe_heat_map(np.full((4, 5), np.nan)) is None
