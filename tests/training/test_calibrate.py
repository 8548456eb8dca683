"""Calibration: maps that rise and keep ranks, a novelty score that knows near from far, both in every engine."""

import io
import json
import shutil
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from json_schema import keeps
from rich.console import Console
from tone_corpus import make_corpus
from typer.testing import CliRunner

from emimic import cli
from emimic.calibration import ARRAYS, FILE, SLOPE, Calibration, Intervals, Map, Novelty
from emimic.data.corpus import load_corpus
from emimic.data.loader import ModelInput
from emimic.export.export import export
from emimic.files import read_json
from emimic.inference import batch, journal
from emimic.inference.description import hash_model
from emimic.inference.engine import DEFAULT, GraphEngine, TorchEngine, open_engine
from emimic.inference.predictor import Predictor
from emimic.inference.results import UNLIKE, Result, Results
from emimic.output import formats, html_page, terminal
from emimic.prediction import Prediction
from emimic.task import EMOTIONS, CorpusError, EmimicWarning, ModelError, SettingsError
from emimic.training import calibrate, calibration_clips, calibration_fit
from emimic.training.calibration_fit import (
    compute_calibration_error,
    fit_intervals,
    fit_isotonic,
    fit_map,
    fit_novelty,
    map_across,
)

Array = np.ndarray[Any, Any]
RAW = st.floats(-2, 3, width=32)
UNIT = st.floats(0, 1, width=32)


# Maps


def brute_force(values: Array, weights: Array) -> Array:
    """Of all ways to cut the points into stretches with rising means, the means nearest to the values."""
    count, best = len(values), (np.inf, values)
    for size in range(count):
        for cuts in combinations(range(1, count), size):
            stretches = [slice(a, b) for a, b in pairwise([0, *cuts, count])]
            means = [np.average(values[s], weights=weights[s]) for s in stretches]
            if all(a <= b for a, b in pairwise(means)):
                fit = np.concatenate(
                    [np.full(s.stop - s.start, m) for s, m in zip(stretches, means, strict=True)]
                )
                best = min(
                    best, (float(np.sum(weights * (values - fit) ** 2)), fit), key=lambda pair: pair[0]
                )
    return best[1]


def test_intervals_cover_nine_tenths_of_unseen_speakers() -> None:
    """Errors that grow with the value; a speaker is in one half."""
    rng = np.random.default_rng(0)
    value = rng.uniform(0, 1, 4000)
    label = (value + rng.normal(0, 0.02 + 0.1 * value)).clip(0, 1)
    folds = rng.integers(0, 40, 4000) % 2
    few = np.where(np.arange(4000) < 90, label, np.nan)
    found = fit_intervals({"Joy": value, "Few": value}, {"Joy": label, "Few": few}, folds)
    assert found is not None
    assert set(found.widths) == set(found.coverage) == {"Joy"}
    assert 0.88 < found.coverage["Joy"] < 0.93
    pairs = found.compute(["Joy", "Few"], np.array([[0.1, 0.1], [0.9, 0.9], [np.nan, 0.5]]))
    assert np.isnan(pairs[:, 1]).all()
    assert np.isnan(pairs[2]).all()
    half = (pairs[:2, 0, 1] - pairs[:2, 0, 0]) / 2
    np.testing.assert_allclose(half[0], 1.645 * 0.03, rtol=0.3)
    assert pairs[1, 0, 1] == 1.0
    assert pairs[1, 0, 0] == pytest.approx(0.9 - 1.645 * 0.11, abs=0.05)
    assert Intervals.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert fit_intervals({"Few": value}, {"Few": few}, folds) is None


def test_each_half_is_mapped_by_the_other() -> None:
    raw = np.tile(np.linspace(0, 1, 50), 2)
    folds = np.repeat([0, 1], 50)
    labels = np.where(folds == 0, raw, 0.5)
    mapped = map_across(raw, labels, folds)
    np.testing.assert_allclose(mapped[:50], 0.5, atol=0.002)
    np.testing.assert_allclose(mapped[55:95], raw[55:95], atol=0.02)


@settings(max_examples=60)
@given(st.lists(st.tuples(UNIT, st.floats(0.125, 9, width=32)), min_size=1, max_size=7))
def test_isotonic_regression_by_its_definition(points: list[tuple[float, float]]) -> None:
    values, weights = np.array(points).T
    fitted, block = fit_isotonic(values, weights)
    np.testing.assert_allclose(fitted, brute_force(values, weights), atol=1e-9)
    # A block is a stretch of one value, and the next block's is higher.
    assert (np.diff(fitted)[np.diff(block) == 0] == 0).all()
    assert (np.diff(fitted)[np.diff(block) == 1] > 0).all()


@settings(max_examples=100)
@given(
    st.lists(st.tuples(RAW, UNIT, st.sampled_from([0.5, 1.0, 7.0])), min_size=1, max_size=60),
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30),
)
def test_a_fitted_map_rises_strictly_and_stays_within_bounds(
    clips: list[tuple[float, float, float]], asked: list[float]
) -> None:
    fit = fit_map(*np.array(clips).T)
    raw = np.unique(np.round([*asked, *np.linspace(-3, 4, 50)], 3))
    mapped = fit(raw)
    assert (np.diff(mapped) > 0).all()
    assert ((mapped > 0) & (mapped < 1)).all()
    assert np.abs(mapped - np.interp(raw, fit.x, fit.y)).max() <= SLOPE


def test_a_map_is_right_about_clips_that_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    raw = rng.uniform(-0.2, 0.7, 8000)
    labels = (rng.random(8000) < np.clip(raw, 0, 1) ** 2).astype(float)
    fitted, fresh = slice(0, 5000), slice(5000, None)
    ones = np.ones(8000)
    fit = fit_map(raw[fitted], labels[fitted], ones[fitted])
    assert compute_calibration_error(raw[fresh], labels[fresh], ones[fresh]) > 0.1
    assert compute_calibration_error(fit(raw[fresh]), labels[fresh], ones[fresh]) < 0.02
    order = np.argsort(raw)
    assert (np.argsort(fit(raw)) == order).all(), "ranks are kept"
    assert len(fit.x) <= 200


def test_labels_that_are_missing_or_weigh_nothing_are_left_out() -> None:
    raw, labels = np.array([0.1, 0.2, 0.5, 0.6]), np.array([0.0, 0.4, 1.0, np.nan])
    assert fit_map(raw, labels, np.array([1.0, 1, 0, 1])) == fit_map(raw[:2], labels[:2], np.ones(2))


def test_equal_raw_values_become_one_knot() -> None:
    assert fit_map(np.full(4, 0.3), np.array([0, 1, 0, 0.0]), np.array([1.0, 2, 1, 1])) == Map(
        (float(np.float32(0.3)),), (0.4,)
    )


def test_a_calibration_error_by_hand() -> None:
    # Two bins of equal weight: |.15 - .5| and |.8 - 1|.
    error = compute_calibration_error(
        np.array([0.1, 0.2, 0.8]), np.array([0.0, 1.0, 1.0]), np.array([1.0, 1, 2]), bins=2
    )
    assert error == pytest.approx((0.35 + 0.2) / 2)


@pytest.mark.parametrize(
    ("x", "y"),
    [((), ()), ((0.0, 0.0), (0.0, 1.0)), ((0.0, 1.0), (0.5, 0.4)), ((0.0,), (1.1,)), ((np.nan,), (0.5,))],
)
def test_a_map_of_other_knots_is_refused(x: tuple[float, ...], y: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected knots"):
        Map(x, y)


def test_corpora_weigh_the_same_however_large() -> None:
    labels, groups = np.array([0, 0, 0, 1, np.nan]), np.array([0, 0, 0, 1, 1])
    clip_weights = calibrate._weight_clips(labels, groups, [1.0, 2.0], "Joy")
    np.testing.assert_allclose(clip_weights, [1 / 3, 1 / 3, 1 / 3, 2, 0])
    with pytest.raises(CorpusError, match=r"Joy has labels from 0 to 3, expected 0 to 1"):
        calibrate._weight_clips(np.array([0, 3.0]), np.array([0, 0]), [1.0], "Joy")
    with pytest.raises(CorpusError, match="no clip has a label of Joy"):
        calibrate._weight_clips(np.array([np.nan, 1.0]), np.array([0, 1]), [1.0, 0.0], "Joy")


# Novelty


def cloud(center: float, *, count: int = 400, features: int = 30, seed: int = 0) -> Array:
    """Clips around a place, in a plane of ten dimensions with little noise beside it, (clip, feature)."""
    plane = np.random.default_rng(99).standard_normal((10, features))
    rng = np.random.default_rng(seed)
    rows = center + rng.standard_normal((count, 10)) @ plane + 0.05 * rng.standard_normal((count, features))
    return rows.astype(np.float32)


def test_near_is_near_and_far_is_far_on_every_side() -> None:
    score = fit_novelty(
        {"low": cloud(0), "high": cloud(40, seed=1)}, {"low": cloud(0, seed=2), "high": cloud(40, seed=3)}
    )
    assert score.names == ("low", "high")
    for center in (0, 40):  # either group is enough
        marked = score.compute_distances(cloud(center, count=3000, seed=4)).min(axis=1) > 1
        assert 0.002 < marked.mean() < 0.03
    assert (score.compute_distances(cloud(20, seed=5)).min(axis=1) > 1).mean() > 0.95, (
        "between the groups is neither"
    )
    rng = np.random.default_rng(6)
    beside = cloud(0, seed=7) + rng.standard_normal((400, 30)).astype(np.float32)
    assert (score.compute_distances(beside).min(axis=1) > 1).mean() > 0.95, (
        "outside the plane, though near in it"
    )
    assert score(cloud(0)[0]) == score.compute_distances(cloud(0)[:1]).min()


def test_the_arrays_fit_a_small_file(tmp_path: Path) -> None:
    groups = {str(i): cloud(i, features=1280, count=80, seed=i) for i in range(8)}
    score = fit_novelty(groups, groups)
    assert score.basis.shape[1] < calibration_fit.COMPONENTS
    Calibration((), (), score).save(tmp_path)
    assert (tmp_path / ARRAYS).stat().st_size < 400_000


# On disk


def sample(**changes: Any) -> Calibration:
    rng = np.random.default_rng(0)
    maps = tuple(
        Map(tuple(np.sort(rng.random(5)).tolist()), tuple(np.sort(rng.random(5)).tolist())) for _ in EMOTIONS
    )
    return replace(
        Calibration(
            EMOTIONS, maps, fit_novelty({"a": cloud(0)}, {"a": cloud(0, seed=1)}), {"split": "valid"}
        ),
        **changes,
    )


def test_what_is_saved_is_loaded_to_the_bit(tmp_path: Path) -> None:
    made = sample()
    made.save(tmp_path)
    found = Calibration.load(tmp_path)
    assert (found.targets, found.maps, found.facts) == (made.targets, made.maps, made.facts)
    assert found.novelty is not None
    assert made.novelty is not None
    for name in ("shift", "scale", "basis", "means", "factors"):
        ours, theirs = getattr(made.novelty, name), getattr(found.novelty, name)
        assert ours.dtype == theirs.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)
    first = {name: (tmp_path / name).read_bytes() for name in (FILE, ARRAYS)}
    found.save(tmp_path)
    assert first == {name: (tmp_path / name).read_bytes() for name in (FILE, ARRAYS)}
    replace(found, novelty=None).save(tmp_path)
    assert Calibration.load(tmp_path).novelty is None
    assert not (tmp_path / ARRAYS).exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (FILE, b"{"),
        (FILE, b"[]"),
        (FILE, b'{"schema": "emimic/calibration/2"}'),
        (
            FILE,
            b'{"schema": "emimic/calibration/1", "maps": {"Joy": {"x": [1, 0], "y": [0, 1]}},'
            b' "novelty": null, "fitted": {}}',
        ),
        (ARRAYS, b"PK"),
        (ARRAYS, None),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    sample().save(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{FILE} can't be used .*emimic calibrate"):
        Calibration.load(tmp_path)


def test_arrays_of_other_shapes_are_refused() -> None:
    good = sample().novelty
    assert good is not None
    with pytest.raises(ValueError, match=r"means is float64 .* expected finite float32 \(1, "):
        Novelty(good.names, good.shift, good.scale, good.basis, good.means.astype(np.float64), good.factors)


def test_a_calibration_for_other_targets_or_another_model_says_so(tmp_path: Path) -> None:
    made = sample()
    made.save(tmp_path)
    assert Calibration.find(tmp_path / "nothing", EMOTIONS) is None
    with pytest.raises(ModelError, match="the model predicts Joy, Fear"):
        Calibration.find(tmp_path, ["Joy", "Fear"])
    one = Prediction(np.zeros(6, np.float32), None, np.zeros(1), pooled=np.zeros(8, np.float32))
    with pytest.raises(ModelError, match="30 pooled features, this has 8"):
        made.apply(one)


# From corpora to results


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run, two corpora of tones, engines exported before and after the command calibrated the run."""
    folder = tmp_path_factory.mktemp("calibration")
    model = tiny_models.model("whisper", do_normalize=False, max_seconds=0.5, vad_learned=True)
    model.save_pretrained(folder / "run")
    for name, seed in (("tones", 0), ("more", 1)):
        make_corpus(folder / name, train=tuple(range(1500, 5500, 100)), valid=20, seed=seed)
    export(folder / "run", folder / "before")
    export(folder / "run")
    result = command(folder, "tones", "more", "--weight", "more=2")
    assert result.exit_code == 0, result.output
    assert "Joy " in result.output
    assert "more: " in result.output
    assert "fewer than 100 labeled clips" in result.output
    export(folder / "run", folder / "after")
    return folder


def test_what_is_written_keeps_its_schemas(base: Path) -> None:
    written = [base / "run", base / "after", DEFAULT]
    keeps("calibration_schema.json", *(read_json(folder / FILE) for folder in written))
    engines = [base / "before", base / "after", DEFAULT]
    keeps("inference/engine_schema.json", *(read_json(folder / "engine.json") for folder in engines))


def command(folder: Path, *words: str) -> Any:
    corpora = [str(folder / word) if (folder / word).is_dir() else word for word in words]
    return CliRunner().invoke(cli.app, ["calibrate", str(folder / "run"), *corpora, "-q"])


def tone(seed: int, samples: int = 4000) -> Array:
    """As the corpora's clips."""
    rng = np.random.default_rng(seed)
    wave = (0.1 + 0.6 * rng.random()) * np.sin(
        2 * np.pi * (200 + 1500 * rng.random()) * np.arange(samples) / 16_000
    )
    return (wave + 0.02 * rng.standard_normal(samples)).astype(np.float32)


def test_the_engines_agree(base: Path) -> None:
    ours, theirs = TorchEngine(base / "run"), GraphEngine(base / "after")
    clips = [tone(n, 1000 + 300 * n) for n in range(20)]
    raw = ours.model.predict(clips)
    fitted = Calibration.load(base / "run")
    for own, a, b in zip(raw, ours.predict(clips), theirs.predict(clips), strict=True):
        np.testing.assert_allclose(a.intensities, b.intensities, atol=1e-4)
        np.testing.assert_array_equal(a.intensities, fitted.calibrate_intensities(own.intensities))
        assert ((a.intensities >= 0) & (a.intensities <= 1)).all()
        assert own.vad is not None
        assert a.vad is not None
        assert b.vad is not None
        np.testing.assert_array_equal(a.vad, own.vad.clip(0, 1))
        assert ((b.vad >= 0) & (b.vad <= 1)).all()
        assert a.novelty == pytest.approx(b.novelty, abs=1e-3)
        assert a.pooled is b.pooled is None
    assert theirs.check() < 1e-4
    facts = fitted.facts["corpora"]
    assert facts["more"] == {"weight": 2.0, "labeled": 20, "reference": 40, "held_out": 20}


def test_what_was_trained_on_is_near_and_hums_and_hisses_are_far(base: Path) -> None:
    engine = GraphEngine(base / "after")
    near = [one.novelty for one in engine.predict([tone(n) for n in range(100, 140)])]
    hum = 0.5 * np.sin(2 * np.pi * 50 * np.arange(4000) / 16_000)
    hiss = 0.001 * np.random.default_rng(0).standard_normal(4000)
    far = [one.novelty for one in engine.predict([hum.astype(np.float32), hiss.astype(np.float32)])]
    assert np.mean([n is not None and n < 1 for n in near]) > 0.9
    assert all(n is not None and n > 1 for n in far)


def test_an_engine_exported_without_calibration_has_none(base: Path) -> None:
    clip = tone(0)
    raw = TorchEngine(base / "run").model.predict([clip])[0]
    (plain,) = GraphEngine(base / "before").predict([clip])
    np.testing.assert_allclose(plain.intensities, raw.intensities, atol=1e-5)
    assert plain.novelty is None


def test_a_changed_calibration_in_an_engine_is_refused(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base / "after", tmp_path / "engine")
    text = (folder / FILE).read_text()
    (folder / FILE).write_text(text + " ")
    with pytest.raises(ModelError, match=f"{FILE} is not the file"):
        GraphEngine(folder)


def test_an_engine_inside_a_run_uses_the_runs_calibration(base: Path) -> None:
    engine = open_engine(base / "run")
    assert isinstance(engine, GraphEngine)
    clip = tone(1)
    (found,) = engine.predict([clip])
    np.testing.assert_allclose(
        found.intensities, GraphEngine(base / "after").predict([clip])[0].intensities, atol=1e-5
    )
    assert found.novelty is not None
    with pytest.raises(ModelError, match="give --out with --calibration"):
        export(base / "run", calibration=base / "run")


def test_a_sister_runs_calibration_is_exported(base: Path, tmp_path: Path) -> None:
    result = command(base, "tones", "--out", str(tmp_path / "fit"), "--clips", "10", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert Calibration.load(tmp_path / "fit").facts["corpora"]["tones"]["reference"] == 10
    tiny_models.model("whisper", seed=1, do_normalize=False, max_seconds=0.5).save_pretrained(
        tmp_path / "sister"
    )
    export(tmp_path / "sister", tmp_path / "engine", calibration=tmp_path / "fit")
    assert GraphEngine(tmp_path / "engine").predict([tone(0)])[0].novelty is not None
    with pytest.raises(ModelError, match=f"has no {FILE}; expected a folder that emimic calibrate wrote"):
        export(tmp_path / "sister", tmp_path / "other", calibration=tmp_path)


def test_a_calibration_of_other_weights_warns_and_a_new_one_changes_the_identity(
    base: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(base / "run", tmp_path / "run", ignore=shutil.ignore_patterns("engines"))
    key = hash_model(run)
    Calibration.load(run).save(run)
    assert hash_model(run) == key
    replace(Calibration.load(run), facts={}).save(run)
    assert hash_model(run) != key
    with pytest.warns(EmimicWarning, match="fitted to other weights"):
        TorchEngine(run)


def test_fits_are_reproducible_and_of_varied_lengths(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_clips, "SHORTEST", 0.05)
    model = tiny_models.model("whisper", do_normalize=False, max_seconds=0.5)
    items = load_corpus(base / "tones", splits=["train"]).splits["train"].items

    def read(seed: int) -> list[ModelInput]:
        source = calibration_clips.vary_lengths(model, items, seed)
        return [source.read(item, 0) for item in items]

    clips, again, other = read(0), read(0), read(1)
    for a, b in zip(clips, again, strict=True):
        np.testing.assert_array_equal(a.values, b.values)
    own = [soundfile.info(item.path).frames for item in items]
    kinds = [(len(clip.values) > n) - (len(clip.values) < n) for clip, n in zip(clips, own, strict=True)]
    assert min(kinds.count(kind) for kind in (-1, 0, 1)) >= 5
    assert max(len(clip.values) for clip in clips) <= 8000
    assert [len(clip.values) for clip in clips] != [len(clip.values) for clip in other]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["tones", "--split", "train"], "found the split train"),
        (["tones", "tones"], "found corpora named tones, tones"),
        (["tones", "--weight", "speech=2"], "found a weight of speech, expected one of tones"),
        (["tones", "--weight", "tones=-1"], "found the weight -1.0 of tones"),
    ],
)
def test_settings_that_make_no_sense(base: Path, words: list[str], error: str) -> None:
    result = command(base, *words)
    assert isinstance(result.exception, SettingsError)
    assert error in str(result.exception)


def test_a_corpus_without_the_split_is_only_known(base: Path, tmp_path: Path) -> None:
    make_corpus(tmp_path / "plain", train=tuple(range(1500, 5500, 100)), valid=20, seed=3)
    (tmp_path / "plain" / "valid_split.csv").unlink()
    words = (str(tmp_path / "plain"), "--out", str(tmp_path / "out"))
    result = command(base, "tones", *words)
    assert result.exit_code == 0, result.output
    both, alone = Calibration.load(tmp_path / "out"), tmp_path / "alone"
    assert both.novelty is not None
    assert both.novelty.names == ("tones", "plain")
    assert command(base, "tones", "--out", str(alone)).exit_code == 0
    assert both.maps == Calibration.load(alone).maps
    result = command(base, *words)
    assert isinstance(result.exception, CorpusError)
    assert "no clip has a label" in str(result.exception)


def test_a_weight_needs_a_name_and_a_number(base: Path) -> None:
    result = command(base, "tones", "--weight", "tones:2")
    assert result.exit_code == 2
    assert "expected NAME=x" in result.output


def test_a_run_that_learned_from_the_split_is_reported(base: Path) -> None:
    counts = {"Joy": 200}
    (note,) = calibrate._list_notes({"train_on": "train+valid"}, "valid", counts, {})
    assert note.startswith("the run was trained on valid")
    assert calibrate._list_notes({"train_on": "train"}, "valid", counts, {}) == ()


# In results


def result(novelty: float | None) -> Result:
    one = Prediction(np.linspace(0, 1, 6).astype(np.float32), None, np.zeros(1), novelty=novelty)
    return Result(Path(f"{novelty}.wav"), EMOTIONS, 1.0, False, False, one)


def test_novelty_is_shown_wherever_results_are() -> None:
    near, far, unknown = map(result, (0.8, 1.2, None))
    assert (near.marks, far.marks, unknown.marks) == ([], [UNLIKE], [])
    all_three = Results(EMOTIONS, (near, far, unknown), ())
    found = all_three.to_dict()
    keeps("output/formats/schema.json", found)
    assert [clip.get("novelty") for clip in found["clips"]] == [0.8, 1.2, None]
    assert [clip.get("unlike_training_data") for clip in found["clips"]] == [False, True, None]
    rows = [line.split(",") for line in formats.to_csv(all_three).splitlines()]
    assert [row[-3] for row in rows] == ["Novelty", "0.800000", "1.200000", ""]
    assert "Novelty" not in formats.to_csv(Results(EMOTIONS, (unknown,), ()))
    assert list(all_three.to_frame().Novelty[:2]) == [0.8, 1.2]
    assert UNLIKE in far._repr_html_()


def test_the_table_has_a_short_mark_and_a_footnote() -> None:
    def printed(*results: Result) -> str:
        console = Console(file=io.StringIO(), width=200)
        console.print(terminal.make_table(Results(EMOTIONS, results, ())))
        return console.file.getvalue()  # type: ignore[attr-defined]

    assert f"?: {UNLIKE}" in printed(result(1.2))
    assert any(line.split()[:1] == ["?"] for line in printed(result(1.2)).splitlines())
    assert "?" not in printed(result(0.8), result(None))


def test_the_page_says_it_plainly() -> None:
    wave = tone(0, 16_000)
    message = "is unlike the data the model was trained on"
    assert message in html_page.make_page(result(1.2), b"", "audio/wav", wave)
    assert message not in html_page.make_page(result(0.8), b"", "audio/wav", wave)


def test_novelty_survives_the_journal_and_slimming() -> None:
    far = result(1.23456789)
    kept = journal.unpack(json.loads(json.dumps(journal.pack(batch.reduce_frames(far)))), far.path, EMOTIONS)
    assert kept.prediction.novelty == 1.23456789


def test_silence_has_no_novelty_and_windows_are_calibrated(base: Path) -> None:
    predictor = Predictor(base / "after")
    silent = predictor(np.zeros(4000, np.float32), sample_rate=16_000)
    assert silent.was_silent
    assert silent.prediction.novelty is None
    assert predictor(tone(0), sample_rate=16_000).prediction.novelty is not None
    wave = tone(3, 16_000)
    line = predictor.predict_timeline(
        wave, sample_rate=16_000, window=0.4, hop=0.2, exact=True, voice_segments=False
    )
    clip = wave[round(line.starts[2] * 16_000) : round(line.ends[2] * 16_000)]
    (alone,) = GraphEngine(base / "after").predict([clip])
    np.testing.assert_allclose(line.intensities[2], alone.intensities, atol=1e-5)
    assert line.vad is not None
    assert ((line.vad >= 0) & (line.vad <= 1)).all()
