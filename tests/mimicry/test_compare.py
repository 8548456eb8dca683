"""Similar timelines are found with their lag and leader, unrelated ones no more often than the level says."""

import io
import json
import math
import re
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from json_schema import keeps
from made_results import HOP, timeline, wandering
from typer.testing import CliRunner

from emimic.cli import app, mimicry_request
from emimic.inference.timeline import Timeline
from emimic.mimicry import MimicryError, Report, Settings, alignment, compare, compare_all
from emimic.mimicry.compare import make_series
from emimic.mimicry.plots import draw_comparison
from emimic.mimicry.significance import judge
from emimic.mimicry.windows import Stack, WindowGrid, correlate_windows
from emimic.task import EMOTIONS, AudioError

COMMON = Settings(alignment="windowed", draws=19)
LENIENT = Settings(
    alignment="windowed", draws=19, level=0.75
)  # few draws, for speed: of surrogates one or two may be near


def binomial(rate: float, pairs: int) -> tuple[float, float]:
    """The counts between which 99.9 % of experiments end."""
    probabilities = [math.comb(pairs, k) * rate**k * (1 - rate) ** (pairs - k) for k in range(pairs + 1)]
    total = np.cumsum(probabilities)
    return float(np.searchsorted(total, 0.0005)), float(np.searchsorted(total, 0.9995))


@pytest.mark.parametrize("alignment_", ["dtw", "windowed"])
def test_a_comparison_ends_when_it_is_stopped(alignment_: Any) -> None:
    rng, calls = np.random.default_rng(0), []
    lines = [timeline(wandering(300, rng), name) for name in ("one", "other")]

    def stop() -> None:
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_all(lines[0], lines[1:], settings=Settings(alignment=alignment_), stop=stop)
    assert len(calls) == 2


# What must be found, and what must not


@pytest.mark.parametrize("gapped", [False, True])
def test_lag_and_leader_are_found_in_100_of_100(gapped: bool) -> None:
    rng = np.random.default_rng(0)
    found = []
    for number in range(100):
        lag = int(rng.integers(2, 12)) * (-1) ** number
        whole = wandering(200 + 24, rng)
        second = whole[12 - lag : 212 - lag] * rng.uniform(0.5, 2, 9) + rng.normal(size=9)
        second = second + second.std(axis=0) * 0.3 * rng.standard_normal(second.shape)
        gaps = [slice(40, 50), slice(120, 135)] if gapped else [slice(0), slice(0)]
        result = compare(
            timeline(whole[12:212], gaps=gaps[0]), timeline(second, "other", gaps=gaps[1]), settings=LENIENT
        )
        lead = result.leads[-1]
        assert abs(lead.lag - lag * HOP) <= HOP + 1e-9
        assert abs(lead.whole_lag - lag * HOP) <= HOP + 1e-9
        assert abs(lead.median_lag - lag * HOP) <= HOP + 1e-9
        found.append(result.leader == ("seed" if lag > 0 else "mimic"))
    assert sum(found) == 100


@pytest.mark.parametrize("phi", [0.5, 0.95])
@pytest.mark.parametrize(("method", "steps"), [("windowed", 100), ("dtw", 40)])
def test_unrelated_series_are_found_similar_at_the_stated_level(method: Any, steps: int, phi: float) -> None:
    rng = np.random.default_rng(1)
    pairs, overall, somewhere = 150, 0, 0
    for number in range(pairs):
        sides = [timeline(wandering(steps, rng, phi=phi)) for _ in range(2)]
        result = compare(*sides, settings=Settings(alignment=method, draws=19, seed=number))
        overall += result.overall.chance.beyond
        somewhere += any(one.chance.beyond for one in result.dimensions)
    low, high = binomial(0.05, pairs)
    assert low <= overall <= high
    assert somewhere <= high


def test_a_slower_imitation_is_found_with_its_path_and_pace() -> None:
    rng = np.random.default_rng(2)
    seed = np.cumsum(wandering(60, rng), axis=0)
    times = 59 * (np.linspace(0, 1, 75) + 0.05 * np.sin(2 * np.pi * np.linspace(0, 1, 75)))
    mimic = np.stack([np.interp(times, np.arange(60), one) for one in seed.T], axis=1)
    result = compare(timeline(seed), timeline(mimic, "slow"), settings=Settings(draws=99))
    assert result.overall.chance.beyond
    assert result.overall.similarity > 0.98
    assert result.path is not None
    assert result.path.tempo == pytest.approx(60 / 75)
    truth = np.interp(result.path.mimic, HOP * np.arange(75), times * HOP)
    assert np.abs(result.path.seed - truth).mean() < HOP
    assert result.path.normalized < 0.05
    assert result.path.normalized == pytest.approx(result.path.cost / 135)
    assert result.leader is None


def test_the_two_sides_exchanged_change_the_sign_of_the_lag() -> None:
    rng = np.random.default_rng(3)
    whole = wandering(220, rng)
    first, second = timeline(whole[5:205], "a"), timeline(whole[:200], "b")
    there = compare(first, second, settings=LENIENT)
    back = compare(second, first, settings=LENIENT)
    assert there.leads[-1].lag == pytest.approx(1.0)
    assert back.leads[-1].lag == pytest.approx(-1.0)
    assert (there.leader, back.leader) == ("seed", "mimic")
    assert compare(first, first, settings=LENIENT).leader == "together"
    assert there.leads[-1].seed_leads == back.leads[-1].mimic_leads == 1.0


def test_level_gain_and_offset_do_not_count() -> None:
    rng = np.random.default_rng(4)
    a, b = wandering(120, rng), wandering(120, rng)
    for method in ("dtw", "windowed"):
        options = Settings(alignment=method, draws=19)
        plain = compare(timeline(a), timeline(b), settings=options)
        moved = compare(timeline(a), timeline(3 * b - 7), settings=options)
        assert moved.overall.similarity == pytest.approx(plain.overall.similarity, abs=1e-4)


def test_what_lies_in_a_gap_is_never_looked_at() -> None:
    rng = np.random.default_rng(5)
    a, b = wandering(120, rng), wandering(120, rng)
    wild = b.copy()
    wild[30:40] = 1e6
    for method in ("dtw", "windowed"):
        options = Settings(alignment=method, draws=19)
        results = [compare(timeline(a), timeline(v, gaps=slice(30, 40)), settings=options) for v in (b, wild)]
        assert results[0].to_dict() == results[1].to_dict()
    # Pauses at the ends shift nothing for warping: it begins with the first voice.
    padded = np.concatenate([np.zeros((9, 9)), b])
    shifted = compare(timeline(a), timeline(padded, gaps=slice(0, 9)), settings=Settings(draws=19))
    plain = compare(timeline(a), timeline(b), settings=Settings(draws=19))
    assert shifted.overall == plain.overall
    assert shifted.path is not None
    assert plain.path is not None
    assert shifted.path.lag == pytest.approx(plain.path.lag)


def test_the_same_seed_gives_the_same_numbers_and_another_one_others() -> None:
    rng = np.random.default_rng(6)
    a, b = timeline(wandering(100, rng)), timeline(wandering(100, rng))
    results = [
        compare(a, b, settings=Settings(alignment="windowed", draws=39, seed=s)).to_dict() for s in (3, 3, 4)
    ]
    assert results[0] == results[1]
    assert results[0]["overall"]["similarity"] == results[2]["overall"]["similarity"]
    assert results[0]["overall"]["chance"] != results[2]["overall"]["chance"]


# The mathematics, against plain loops


@settings(max_examples=40)
@given(
    rows=st.integers(1, 9), columns=st.integers(1, 9), number=st.integers(0, 10_000), draws=st.integers(1, 3)
)
def test_warping_is_the_cheapest_way(rows: int, columns: int, number: int, draws: int) -> None:
    rng = np.random.default_rng(number)
    seeds, mimic = rng.standard_normal((draws, rows, 2)), rng.standard_normal((columns, 2))
    (warped,) = alignment.warp(seeds, mimic, band=1.0)
    for draw in range(draws):
        local = [[float(np.mean((x - y) ** 2)) for y in mimic] for x in seeds[draw]]
        best = {(-1, -1): 0.0}
        for i in range(rows):
            for j in range(columns):
                ways = [
                    best.get((i - 1, j - 1), math.inf) + 2 * local[i][j],
                    best.get((i - 1, j), math.inf) + local[i][j],
                    best.get((i, j - 1), math.inf) + local[i][j],
                ]
                best[i, j] = min(ways)
        assert warped.cost[draw] == pytest.approx(best[rows - 1, columns - 1], rel=1e-5, abs=1e-5)
        on = warped.on[:, draw]
        path = list(zip(warped.seed[on, draw][::-1], warped.mimic[on, draw][::-1], strict=True))
        assert path[0] == (0, 0)
        assert path[-1] == (rows - 1, columns - 1)
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(path)]
        assert set(steps) <= {(1, 1), (1, 0), (0, 1)}
        paid = 2 * local[0][0] + sum(
            local[i][j] * (di + dj) for (i, j), (di, dj) in zip(path[1:], steps, strict=True)
        )
        assert warped.cost[draw] == pytest.approx(paid, rel=1e-5, abs=1e-5)
        x, y = np.array([seeds[draw, i] for i, _ in path]), np.array([mimic[j] for _, j in path])
        for index in range(2):
            if min(x[:, index].std(), y[:, index].std()) > 0.01:
                expected = np.corrcoef(x[:, index], y[:, index])[0, 1]
                assert warped.similarity[draw, index] == pytest.approx(expected)


def test_no_step_of_the_path_leaves_the_band() -> None:
    rng = np.random.default_rng(7)
    (warped,) = alignment.warp(rng.standard_normal((1, 80, 3)), rng.standard_normal((50, 3)), band=0.1)
    on = warped.on[:, 0]
    assert np.abs(warped.seed[on, 0] / 79 - warped.mimic[on, 0] / 49).max() <= 0.1 + 1e-12


@settings(max_examples=25)
@given(number=st.integers(0, 10_000), reach=st.integers(0, 5))
def test_windows_correlate_what_both_have(number: int, reach: int) -> None:
    rng = np.random.default_rng(number)
    a, b = rng.standard_normal((2, 60, 2))
    voiced = rng.random((2, 60)) > 0.25
    grid = WindowGrid(12, reach, 5, 0.5)
    a[~voiced[0]], b[~voiced[1]] = 0, 0
    stacks = [
        Stack(values[None], on[None].astype(float), np.array([60]))
        for values, on in zip((a, b), voiced, strict=True)
    ]
    chunks = list(correlate_windows(*stacks, grid))
    valid = {
        int(start): r[0] for chunk in chunks for start, r in zip(chunk.starts, chunk.values, strict=True)
    }
    for start in range(reach, 60 - 12 - reach + 1, 5):
        counts = {}
        for lag in range(-reach, reach + 1):
            steps = [s for s in range(start, start + 12) if voiced[0, s] and voiced[1, s + lag]]
            counts[lag] = steps
        usable = [lag for lag in counts if min(len(counts[lag]), len(counts[-lag])) >= 6]
        assert (2 * len(usable) >= len(counts)) == (start in valid)
        if start not in valid:
            continue
        for lag, steps in counts.items():
            for index in range(2):
                value = valid[start][lag + reach, index]
                if lag in usable:
                    x, y = a[steps, index], b[[s + lag for s in steps], index]
                    assert value == pytest.approx(np.corrcoef(x, y)[0, 1])
                else:
                    assert math.isnan(value)


@settings(max_examples=50)
@given(steps=st.integers(1, 200), turn=st.integers(1, 100), number=st.integers(0, 100))
def test_surrogates_keep_neighbors_together(steps: int, turn: int, number: int) -> None:
    orders = alignment.draw_walks(steps, 20, turn, np.random.default_rng(number))
    assert orders.shape == (20, steps)
    assert orders.min() >= 0
    assert orders.max() < steps
    assert np.abs(np.diff(orders, axis=1)).max(initial=0) <= 1


def test_chance_is_the_fraction_of_draws_as_high_corrected_by_the_largest() -> None:
    rng = np.random.default_rng(8)
    draws = np.tanh(rng.standard_normal((99, 3)) * [0.3, 0.6, 0.1])
    observed = np.tanh([0.6, 3.6, math.nan])
    first, second, third = judge(observed, draws, level=0.95)
    known = np.concatenate([observed[None], draws])[:, :2]
    z = np.arctanh(known)
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    for index, one in enumerate((first, second)):
        assert one.p_alone == pytest.approx((1 + (draws[:, index] >= observed[index]).sum()) / 100)
        assert one.p == pytest.approx((1 + (z[1:].max(axis=1) >= z[0, index]).sum()) / 100)
        assert one.beyond == (one.p <= 0.05) == (observed[index] > one.high)
        assert one.low == pytest.approx(draws[:, index].min())
        assert one.high < 1
    assert second.beyond
    assert math.isnan(third.p)
    assert not third.beyond


@given(number=st.integers(0, 1000), draws=st.sampled_from([3, 19, 20, 39, 100]))
def test_beyond_the_interval_is_beyond_chance(number: int, draws: int) -> None:
    rng = np.random.default_rng(number)
    observed = np.tanh(rng.normal(0.6, 0.4, 2))
    others = np.tanh(0.4 * rng.standard_normal((draws, 2)))
    for one, value in zip(judge(observed, others, level=0.95), observed, strict=True):
        assert (value > one.high) == (one.p <= 0.05) == one.beyond
        assert math.isinf(one.high) == (draws < 19)


def test_a_correlation_of_one_is_beyond_any_chance_below_it() -> None:
    draws = np.tanh(np.random.default_rng(0).normal(0.8, 0.3, (199, 9)))
    for one in judge(np.ones(9), draws, level=0.95):
        assert one.high < 1
        assert one.beyond
        assert one.p == pytest.approx(1 / 200)


@pytest.mark.parametrize("level", [5e-324, 0.001])
def test_a_level_near_0_ends_at_the_lowest_draw(level: float) -> None:
    rng = np.random.default_rng(5)
    draws = np.tanh(rng.standard_normal((19, 1)))
    (one,) = judge(np.tanh(rng.standard_normal(1)), draws, level=level)
    assert one.high == pytest.approx(float(draws.min()))
    assert one.beyond


def test_vad_frames_are_averaged_within_half_a_hop() -> None:
    values = np.random.default_rng(9).random((4, 9))
    line = timeline(values)
    assert line.vad is not None
    assert line.vad_times is not None
    varied = line.vad + np.tile(np.linspace(-0.09, 0.09, 10), 4)[:, None].astype(np.float32)
    varied[13] = np.nan
    found = make_series(Timeline(**{name: getattr(line, name) for name in line.__slots__} | {"vad": varied}))
    assert found.dimensions == (*EMOTIONS, "Arousal", "Dominance", "Valence")
    assert found.values[[0, 2, 3], 6:] == pytest.approx(values[[0, 2, 3], 6:], abs=1e-6)
    assert found.values[1, 6:] == pytest.approx(np.delete(varied[10:20], 3, axis=0).mean(axis=0))
    varied[10:20] = np.nan
    assert not make_series(
        Timeline(**{name: getattr(line, name) for name in line.__slots__} | {"vad": varied})
    ).voiced[1]


# Inputs that can't be compared


def short(steps: int = 100, **options: Any) -> Timeline:
    return timeline(wandering(steps, np.random.default_rng(steps)), **options)


@pytest.mark.parametrize(
    ("first", "second", "options", "message"),
    [
        (short(45), short(60), COMMON, r"9\.0 s in common are too short for a window of 5 s with lags of 2\.5 s"),
        (short(), short(name="b", gaps=slice(0, None)), Settings(), r"^b: no voice at all; a comparison needs 2 s"),
        (short(), short(name="b", gaps=slice(5, None)), Settings(), r"^b: only about 1\.0 s of voice; a comparison"),
        (short(), timeline(np.ones((100, 6)), targets=tuple("uvwxyz")), COMMON, "same model"),
        (short(), timeline(wandering(100, np.random.default_rng(0))[:, :6], "b"), COMMON, "Valence, and b"),
        (short(), short(hop=0.1), COMMON, "hop of 0.2 s, and one of 0.1 s"),
        (short(1600), short(), Settings(), "320 s of voice are too long to warp"),
        (short(), timeline(np.ones((100, 9))), Settings(), "no dimension changes on both sides"),
        (short(gaps=slice(0, 50)), short(gaps=slice(50, None)), COMMON, "in none of .* windows of 5 s both have a"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_says_why(
    first: Timeline, second: Timeline, options: Settings, message: str
) -> None:
    with pytest.raises(MimicryError, match=message):
        compare(first, second, settings=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window is 0; give seconds above 0"),
        ({"lag": math.nan}, "lag is nan"),
        ({"voice": 1.5}, "voice is 1.5"),
        ({"level": 1}, "level is 1"),
        ({"draws": 18}, "18 draws can't show a level of 0.95; give 19 or more"),
        ({"alignment": "both"}, "dtw or windowed"),
        ({"seed": -1}, "0 or more"),
        ({"band": 0}, "band is 0"),
    ],
)
def test_invalid_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MimicryError, match=message):
        Settings(**options)


def test_a_dimension_without_variance_has_no_similarity_and_changes_no_other() -> None:
    rng = np.random.default_rng(10)
    a, b = wandering(100, rng), wandering(100, rng)
    a[:, 2] = 0.3
    for method in ("dtw", "windowed"):
        result = compare(timeline(a), timeline(b), settings=Settings(alignment=method, draws=19))
        assert [math.isnan(one.similarity) for one in result.dimensions] == [i == 2 for i in range(9)]
        mean = np.nanmean([one.similarity for one in result.dimensions])
        if method == "dtw":
            assert result.overall.similarity == pytest.approx(mean)
        else:
            assert result.windows is not None
            assert result.windows.without_variance[2] == len(result.windows.times)
            assert math.isnan(result.leads[2].lag)
        json.dumps(result.to_dict(), allow_nan=False)


# Several mimics, other recordings


def keeps_its_schema(report: Report) -> None:
    """By the schema in the package, with no field that it does not name."""
    keeps("mimicry/schema.json", report.to_dict())


def test_a_conversation_keeps_the_schema_too() -> None:
    keeps_its_schema(compare_all(short(), [short(90)], settings=COMMON))


def test_several_mimics_are_judged_together_and_a_bad_one_costs_itself() -> None:
    rng = np.random.default_rng(11)
    seed = wandering(60, rng)
    mimics = [timeline(seed + 2.5 * wandering(60, rng), f"m{i}") for i in range(6)]
    silent = timeline(seed, "silent", gaps=slice(0, None))
    report = compare_all(timeline(seed, "seed"), [*mimics, silent], settings=Settings(draws=99))
    assert [one.mimic.name for one in report.comparisons] == [f"m{i}" for i in range(6)]
    assert len(report.failed) == 1
    assert report.failed[0].startswith("silent: no voice")
    assert report.together is not None
    each = [one.overall.similarity for one in report.comparisons]
    assert report.together.similarity == pytest.approx(np.mean(each))
    assert report.together.chance.p <= min(one.overall.chance.p for one in report.comparisons)
    written = report.to_dict()
    assert written["schema"] == "emimic/mimicry/1"
    assert len(written["comparisons"]) == 6
    json.dumps(written, allow_nan=False)
    keeps_its_schema(report)
    assert all(round(t, 3) == t for t in written["comparisons"][0]["path"]["mimic"])
    with pytest.raises(MimicryError, match="no mimic"):
        compare_all(timeline(seed), [])


@pytest.mark.parametrize("method", ["dtw", "windowed"])
def test_other_recordings_stand_for_chance(method: Any) -> None:
    rng = np.random.default_rng(12)
    seed = wandering(100, rng)
    mimic = timeline(seed + 0.5 * wandering(100, rng), "mimic")
    others = [timeline(wandering(100 + i, rng), f"o{i}") for i in range(19)]
    options = Settings(alignment=method, draws=19)
    result = compare(timeline(seed), mimic, settings=options, others=[*others, short(gaps=slice(0, None))])
    assert result.chance == "recordings"
    assert result.overall.chance.draws == 19
    assert result.overall.chance.p == pytest.approx(0.05)
    best = max(compare(other, mimic, settings=options).overall.similarity for other in others)
    if method == "dtw":
        assert result.overall.chance.high == pytest.approx(best)
    few = compare(timeline(seed), mimic, settings=options, others=others[:3])
    assert not few.overall.chance.beyond
    assert "3 recordings to compare against can't show p below 0.25; 19 could" in few.notes
    with pytest.raises(MimicryError, match="none has 2 s of voice"):
        compare(timeline(seed), mimic, settings=options, others=[short(gaps=slice(0, None))])


# Plots, the terminal, files


@pytest.mark.parametrize("method", ["dtw", "windowed"])
def test_the_plot_names_everything_and_is_the_same_each_time(method: Any) -> None:
    rng = np.random.default_rng(13)
    a = wandering(80, rng)
    a[:, 3] = 1.0
    result = compare(
        timeline(a, "seed", gaps=slice(20, 30)),
        timeline(a[:70], "mimic"),
        settings=Settings(alignment=method, draws=19),
    )
    drawn = draw_comparison(result, form="svg")
    assert ET.fromstring(drawn).tag.endswith("svg")
    # Letters are drawn as outlines; each text stands beside them as a comment.
    labels = set(re.findall(r"<!-- (.*?) -->", drawn.decode()))
    assert {*EMOTIONS, "Arousal", "Dominance", "Valence", "Overall", "no variance", "Lag (s)"} <= labels
    assert {"seed: seed", "mimic: mimic"} <= labels or {"first: seed", "second: mimic"} <= labels
    if method == "dtw":
        assert drawn == draw_comparison(result, form="svg")
    else:
        assert draw_comparison(result).startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MimicryError, match=r"pip install '.*\[plots\]'"):
        draw_comparison(compare(short(), short(90), settings=COMMON))


class Ears:
    """A stand-in for the predictor: a file's timeline depends on its samples alone."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def predict_timeline(
        self,
        source: Any,
        *,
        name: Any = None,
        sample_rate: Any = None,
        progress: bool = False,
        notes: Any = None,
    ) -> Timeline:
        if isinstance(source, Path):
            if not source.exists():
                raise AudioError(f"{source}: does not exist")
            source, name = soundfile.read(source, dtype="float32")[0], source
        assert (sample_rate is None) == isinstance(name, Path) or sample_rate == 16_000
        start = round(float(source.ravel()[0]) * 100)
        whole = wandering(400, np.random.default_rng(0))
        return timeline(whole[start : start + 200], Path(name).stem)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recordings whose first sample gives the first step of their timelines."""
    monkeypatch.setattr(mimicry_request, "Predictor", Ears)
    files = {"seed": [0.15], "mimic": [0.1], "talk": [0.15, 0.1], "twice": [0.1, 0.1]}
    for name, levels in files.items():
        soundfile.write(tmp_path / f"{name}.wav", np.tile(levels, (1600, 1)), 16_000, subtype="FLOAT")
    return tmp_path


def invoke(*words: Any) -> Any:
    return CliRunner().invoke(app, ["mimicry", *map(str, words), "--draws", "39", "-q"])


def test_a_conversation_in_two_channels(folder: Path) -> None:
    done = invoke(folder / "talk.wav", "--out", folder / "out")
    assert done.exit_code == 0, done.output
    assert "talk channel 1 leads by 1.0 s" in done.output
    written = json.loads((folder / "out" / "mimicry.json").read_text(encoding="utf-8"))
    (pair,) = written["comparisons"]
    assert pair["leader"] == "seed"
    assert pair["leads"][-1]["lag"] == 1.0
    assert written["settings"]["alignment"] == "windowed"
    assert {path.name for path in (folder / "out").iterdir()} == {
        "mimicry.json",
        "talk channel 1 and talk channel 2 lags.png",
        "talk channel 1 and talk channel 2.png",
        "talk channel 1 and talk channel 2.svg",
    }  # fmt: skip
    assert "+1.0" in done.output


def test_a_seed_and_its_mimics(folder: Path) -> None:
    done = invoke(folder / "seed.wav", folder / "mimic.wav", "--alignment", "windowed")
    assert done.exit_code == 0, done.output
    assert "seed leads by 1.0 s" in done.output
    assert all(name in done.output for name in (*EMOTIONS, "Arousal", "Overall"))
    done = invoke(folder / "seed.wav", folder / "mimic.wav", folder / "gone.wav", folder / "seed.wav")
    assert done.exit_code == 1
    assert "gone.wav: does not exist" in done.output
    assert "Mean" in done.output


def test_against_a_folder(folder: Path) -> None:
    done = invoke(folder / "seed.wav", folder / "mimic.wav", "--against", folder)
    assert done.exit_code == 0, done.output
    assert "95% of other recordings stay below" in done.output
    assert "2 recordings to compare against can't show p below 0.33" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed.wav"], r"seed\.wav: has 1 channel, so there is no channel 2"),
        (["twice.wav", "--channels"], r"both channels are the same"),
        (["talk.wav", "seed.wav", "--channels"], r"give either it or a MIMIC"),
        (["seed.wav", "gone.wav"], r"gone\.wav: does not exist"),
        (["seed.wav", "mimic.wav", "--against", "empty"], r"no recording to compare against"),
    ],
)
def test_the_verb_says_what_is_wrong(folder: Path, words: list[str], message: str) -> None:
    (folder / "empty").mkdir()
    done = invoke(*(word if word.startswith("--") else folder / word for word in words))
    assert done.exit_code == 1
    with pytest.raises((MimicryError, AudioError), match=message):
        raise done.exception


def test_the_table_is_whole_when_it_is_piped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mimicry_request.show(compare_all(short(), [short(90)], settings=COMMON))
    text = capsys.readouterr().out
    assert "…" not in text
    assert "Determination" in text
    assert io.StringIO(text).readline().startswith("one and one")
