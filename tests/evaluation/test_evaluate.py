"""Reports from arrays, and from a run and a split with a stub for the model."""

import csv
import dataclasses
import io
import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from json_schema import keeps
from scipy import stats

from emimic import figures, metrics
from emimic.data.corpus import Corpus, Item, Left, Split
from emimic.evaluation import plots
from emimic.evaluation import predictions as module
from emimic.evaluation.evaluate import evaluate, score
from emimic.reliability import compute_reliability
from emimic.task import EMOTIONS, CorpusError, ModelError


def sample(clips=40, targets=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((clips, targets)).astype(np.float32)
    predictions = (0.2 + 0.4 * labels + 0.1 * rng.normal(size=labels.shape)).astype(np.float32)
    return predictions, labels


def strict(text):
    """JSON as every reader takes it: no NaN, no Infinity."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_report_holds_every_score_with_its_interval():
    x, y = sample()
    report = score(x, y, EMOTIONS, n_bootstrap=200, seed=4)
    rho = [stats.pearsonr(x[:, i].astype(float), y[:, i].astype(float)).statistic for i in range(6)]
    assert [report.metrics["pearson"].targets[name].value for name in EMOTIONS] == pytest.approx(rho)
    assert report.mean_pearson == pytest.approx(np.mean(rho))
    error = np.square(x.astype(float) - y).mean(axis=0)
    assert [report.metrics["mse"].targets[name].value for name in EMOTIONS] == pytest.approx(error)
    assert report.metrics["mse"].mean.value == pytest.approx(error.mean())
    drawn = metrics.resample_statistic(metrics.compute_ccc, x, y, n=200, seed=4)
    joy = report.metrics["ccc"].targets["Joy"]
    assert [joy.low, joy.high] == pytest.approx(np.percentile(drawn[:, 5], [2.5, 97.5]))
    mean = report.metrics["ccc"].mean
    assert [mean.low, mean.high] == pytest.approx(np.percentile(drawn.mean(axis=1), [2.5, 97.5]))
    assert report.metrics["ccc"].mean_of_defined == mean
    assert report.notes == ()
    assert report.resampled == "clips"
    assert report.clips == 40


@pytest.mark.parametrize(
    ("speakers", "resampled"),
    [
        ([f"s{i % 5}" for i in range(40)], "speakers"),
        (["s", None] * 20, "clips"),
        (["s"] * 40, "clips"),
        (None, "clips"),
    ],
)
def test_speakers_are_resampled_when_all_are_known(speakers, resampled):
    x, y = sample()
    report = score(x, y, EMOTIONS, speakers, n_bootstrap=50)
    assert report.resampled == resampled
    groups = speakers if resampled == "speakers" else None
    low, _ = metrics.bootstrap(metrics.compute_pearson, x, y, groups=groups, n=50)
    assert report.metrics["pearson"].targets["Joy"].low == pytest.approx(low[5])
    assert f"intervals over {resampled}, 50 resamples" in report.to_text()
    assert ("too narrow where clips share a speaker" in report.to_text()) is (resampled == "clips")
    assert any("all clips are of one speaker" in note for note in report.notes) is (speakers == ["s"] * 40)


@pytest.mark.parametrize(("speakers", "is_reported"), [(19, True), (20, False)])
def test_few_speakers_are_reported(speakers, is_reported):
    x, y = sample()
    report = score(x, y, EMOTIONS, [f"s{i % speakers}" for i in range(40)], n_bootstrap=10)
    assert ("intervals rest on 19 speakers only and are probably too narrow" in report.notes) is is_reported


def test_constant_predictions_are_reported_plainly():
    x, y = sample()
    x[:, 5] = 0.25
    report = score(x, y, EMOTIONS, n_bootstrap=50)
    assert "Joy: predictions are constant, so Pearson's correlation is undefined" in report.notes
    metric = report.metrics["pearson"]
    assert math.isnan(report.mean_pearson)
    assert math.isnan(metric.targets["Joy"].low)
    assert metric.defined == EMOTIONS[:5]
    five = metrics.compute_pearson(x[:, :5], y[:, :5]).mean()
    assert metric.mean_of_defined.value == pytest.approx(five)
    (note,) = [note for note in report.notes if note.startswith("mean:")]
    assert "undefined for 1 of 6" in note
    assert f"over {', '.join(EMOTIONS[:5])} it is {five:.3f}" in note
    rows = report.to_text().splitlines()
    assert rows[6].split()[:2] == ["Joy", "undefined"]
    assert rows[7].split()[:2] == ["mean", "undefined"]
    assert rows[8].startswith(f"mean of the defined  {five:.3f} [")
    data = strict(json.dumps(report.to_dict(), allow_nan=False))
    assert data["metrics"]["pearson"]["mean"]["value"] is None
    assert data["metrics"]["pearson"]["targets"]["Joy"] == {
        "value": None,
        "low": None,
        "high": None,
        "undefined_resamples": 50,
    }
    assert data["metrics"]["pearson"]["mean_of_defined"]["targets"] == list(EMOTIONS[:5])
    assert data["metrics"]["mse"]["mean"]["value"] == pytest.approx(np.square(x.astype(float) - y).mean())


def test_constant_labels_and_both():
    x, y = sample(targets=2)
    y[:] = 0.0
    x[:, 1] = 0.0
    report = score(x, y, ["A", "B"], n_bootstrap=10)
    assert "A: labels are constant, so Pearson's correlation is undefined" in report.notes
    assert "B: predictions and labels are constant, so Pearson's correlation is undefined" in report.notes
    assert "B: predictions and labels are constant, so CCC is undefined" in report.notes
    assert report.metrics["ccc"].targets["A"].value == pytest.approx(0, abs=1e-12)
    assert any("no target is left to average" in note for note in report.notes)
    assert math.isnan(report.metrics["pearson"].mean_of_defined.value)


def test_resamples_that_are_ignored_are_counted():
    x, y = sample(clips=6, targets=1)
    y[:] = np.array([[0], [0], [0], [0], [0], [1]])
    report = score(x, y, ["A"], n_bootstrap=300)
    ignored = report.metrics["pearson"].targets["A"].undefined
    assert 60 < ignored < 140  # (5/6)^6 = .33 of 300
    assert (
        f"A: {ignored} of 300 resamples leave Pearson's correlation undefined and are ignored" in report.notes
    )


def test_one_clip_and_none():
    x, y = sample(clips=1, targets=1)
    report = score(x, y, ["A"], n_bootstrap=10)
    assert "A: 1 clip is too few, so Pearson's correlation is undefined" in report.notes
    assert "A: MSE has no interval, which takes at least two clips" in report.notes
    assert "[no interval]" in report.to_text()
    none = score(x[:0], y[:0], ["A"], n_bootstrap=10)
    assert "A: 0 clips are too few, so MSE is undefined" in none.notes
    strict(json.dumps(none.to_dict(), allow_nan=False))


def test_unknown_labels_are_left_out_of_their_target_alone():
    x, y = sample(clips=60, targets=3)
    y[:, 2] = np.round(y[:, 2])
    y[10:30, 0], y[:, 1], y[::7, 2] = np.nan, np.nan, np.nan
    report = score(x, y, ["A", "B", "C"], n_bootstrap=50)
    known = ~np.isnan(y[:, 0])
    alone = score(x[known, :1], y[known, :1], ["A"], n_bootstrap=50)
    for name in ("pearson", "ccc", "mse", "calibration_error"):
        metric = report.metrics[name]
        assert metric.targets["A"].value == pytest.approx(alone.metrics[name].targets["A"].value)
        assert metric.defined == ("A", "C")
    assert dict(report.known) == {"A": 40, "B": 0, "C": 51}
    assert list(report.metrics["auc"].targets) == ["C"]
    assert "B: 0 known labels are too few, so MSE is undefined" in report.notes
    assert not any("AUC" in note for note in report.notes)
    rows = report.to_text().splitlines()
    assert rows[0].split()[:5] == ["valid:", "60", "clips", "labels", "Pearson"]
    assert [row.split()[1] for row in rows[1:4]] == ["40", "0", "51"]
    assert rows[1].count(" - ") == 1
    data = strict(json.dumps(report.to_dict(), allow_nan=False))
    assert data["known_labels"] == {"A": 40, "B": 0, "C": 51}
    assert data["calibration"]["B"] == {"error": None, "bins": []}
    assert [one["clips"] for one in data["calibration"]["A"]["bins"]] == [20, 20]


def test_auc_is_for_labels_of_0_and_1():
    x, y = sample(clips=80, targets=2)
    assert "auc" not in score(x, y, ["A", "B"], n_bootstrap=5).metrics
    y[:, 1] = y[:, 1] > 0.6
    report = score(x, y, ["A", "B"], n_bootstrap=50, seed=3)
    metric = report.metrics["auc"]
    low, high = metrics.bootstrap(metrics.compute_auc, x[:, 1], y[:, 1], n=50, seed=3)
    assert (metric.targets["B"].low, metric.targets["B"].high) == (low, high)
    assert metric.mean.value == metric.targets["B"].value == metrics.compute_auc(x[:, 1], y[:, 1])
    assert "AUC" in report.to_text().splitlines()[0]
    y[:, 1] = 1
    assert "B: labels are constant, so AUC is undefined" in score(x, y, ["A", "B"], n_bootstrap=5).notes


def test_left_out_clips_are_named():
    x, y = sample()
    report = score(x, y, EMOTIONS, left_out=[("00007", "no such file")], split="valid", n_bootstrap=5)
    assert report.notes == ("clips left out: 1: 00007 (no such file)",)
    assert report.to_dict()["left_out"] == [{"clip": "00007", "reason": "no such file"}]
    assert report.to_text().startswith("valid: 40 clips")


def test_table_columns_align():
    x, y = sample(targets=2)
    lines = score(x, y, ["A", "A longer name"], n_bootstrap=20).to_text().splitlines()
    assert (
        len({line.index(text) for line, text in zip(lines[:4], ["Pearson", "0.", "0.", "0."], strict=True)})
        == 1
    )


def test_shapes_are_checked():
    x, y = sample()
    with pytest.raises(metrics.ScoreError, match=r"\(40, 6\).*\(clip, 2\)"):
        score(x, y, ["A", "B"])
    with pytest.raises(metrics.ScoreError, match=r"\(40, 6\).*\(39, 6\)"):
        score(x, y[:39], EMOTIONS)


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """A run whose model predicts what `predictions` says, and a split made by hand."""
    x, y = sample(clips=12)
    items = tuple(Item(f"{i:05}", tmp_path / f"{i:05}.mp3", y[i], f"s{i % 4}", 1.0) for i in range(12))
    left = (Left("00099", "no such file", "missing"),)
    split = Split("valid", (*(item.id for item in items), "00099"), items, left)
    state = SimpleNamespace(
        predictions=x,
        vad=np.full((12, 3), np.nan, np.float32),
        labels=y,
        split=split,
        asked=None,
        warnings=(),
        model=SimpleNamespace(config=SimpleNamespace(predicts_vad=False, max_seconds=12.0)),
    )
    state.model.config.targets = list(EMOTIONS)

    def load(folder, *, targets, splits, label_scale, **options):
        assert options["clips"] is None
        assert options["labels"]
        assert not options["allow_speaker_overlap"]
        state.asked = (folder, list(targets), list(splits), label_scale)
        return Corpus(folder, tuple(targets), {state.split.name: state.split}, state.warnings)

    def predict(model, items, options):
        assert model is state.model
        rows = {item.id: row for item, row in zip(split.items, state.predictions, strict=True)}
        return np.array([rows[item.id] for item in items]), state.vad

    monkeypatch.setattr(module, "open_run", lambda run: state.model)
    monkeypatch.setattr(module, "load_corpus", load)
    monkeypatch.setattr(module, "make_source", lambda model, items, inputs, without: items)
    monkeypatch.setattr(module.loader, "predict_source", predict)
    return state


def test_evaluate_writes_report_predictions_and_plots(stub, tmp_path):
    run = tmp_path / "run"
    report = evaluate(run, tmp_path / "corpus", label_scale=100, n_bootstrap=30, progress=False)
    assert stub.asked == (tmp_path / "corpus", list(EMOTIONS), ["valid"], 100)
    out = run / "evaluation" / "valid"
    images = ("scatter.png", "residuals.png", "reliability.png")
    files = {"report.json", "predictions.csv", *images}
    assert {path.name for path in out.iterdir()} == files
    assert {*report.written} == {out / name for name in files}
    data = strict((out / "report.json").read_text())
    keeps("evaluation/evaluation_schema.json", data)
    assert data == report.to_dict()
    assert data["metrics"]["pearson"]["mean"]["value"] == pytest.approx(
        metrics.compute_mean_pearson(stub.predictions, stub.labels)
    )
    assert data["interval"]["resampled"] == "speakers"
    assert data["left_out"] == [{"clip": "00099", "reason": "no such file"}]
    with (out / "predictions.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["Filename", *EMOTIONS]
    assert [row[0] for row in rows] == [item.id for item in stub.split.items]
    np.testing.assert_allclose(np.array([row[1:] for row in rows], float), stub.predictions, atol=6e-7)
    for name in images:
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def settle(run, **settings):
    run.mkdir()
    (run / "train.json").write_text(json.dumps({"settings": settings, "device": "cpu"}))
    return run


@pytest.mark.parametrize(("given", "asked"), [(None, 100.0), (1, 1)])
def test_the_scale_of_the_training_is_the_default(stub, tmp_path, undrawn, given, asked):
    run = settle(tmp_path / "run", label_scale=100.0, train_on="train")
    evaluate(run, tmp_path, label_scale=given, n_bootstrap=5, progress=False)
    assert stub.asked[-1] == asked


@pytest.mark.parametrize(
    ("train_on", "split", "is_reported"),
    [
        ("train", "train", True),
        ("train", "valid", False),
        ("train+valid", "valid", True),
        ("train+valid", "train", True),
        ("train+valid", "test", False),
    ],
)
def test_a_split_that_was_trained_on_is_reported(stub, tmp_path, undrawn, train_on, split, is_reported):
    stub.split = dataclasses.replace(stub.split, name=split)
    run = settle(tmp_path / "run", label_scale=None, train_on=train_on)
    report = evaluate(run, tmp_path, split=split, n_bootstrap=5, progress=False)
    note = f"{split} was trained on: these scores say nothing about unseen clips"
    assert (note in report.notes) is is_reported
    assert (note in report.to_text()) is is_reported


@pytest.mark.parametrize(
    ("split", "settings", "corpus", "is_reported"),
    [
        ("valid", {"train_on": "train"}, None, True),
        ("valid", {"train_on": "train", "epochs": 30}, "same", True),
        ("valid", {"train_on": "train", "epochs": 1}, "same", False),
        ("valid", {"train_on": "train"}, "another", False),
        ("test", {"train_on": "train"}, "same", False),
        ("valid", {"train_on": "train+valid"}, "same", False),
        ("valid", {}, None, False),
    ],
)
def test_a_split_that_chose_the_epoch_is_reported(
    stub, tmp_path, undrawn, split, settings, corpus, is_reported
):
    stub.split = dataclasses.replace(stub.split, name=split)
    run = settle(tmp_path / "run", label_scale=None, **settings)
    if corpus:
        facts = json.loads((run / "train.json").read_text())
        name = tmp_path.name if corpus == "same" else "another"
        facts |= {"corpus": {"folder": f"elsewhere/{name}"}}
        (run / "train.json").write_text(json.dumps(facts))
    report = evaluate(run, tmp_path, split=split, n_bootstrap=5, progress=False)
    assert ("valid chose the epoch, so these scores are a little too good" in report.to_text()) is is_reported


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"settings": 3}'])
def test_broken_settings_of_a_run_are_named(stub, tmp_path, text):
    settle(tmp_path / "run").joinpath("train.json").write_text(text)
    with pytest.raises(ModelError, match=r"train\.json can't be read"):
        evaluate(tmp_path / "run", tmp_path, progress=False)


def test_what_was_odd_in_the_corpus_is_reported(stub, tmp_path, undrawn):
    stub.warnings = ("audio/1.wav: damaged or cut short",)
    report = evaluate(tmp_path / "run", tmp_path, n_bootstrap=5, progress=False)
    assert report.notes[-1] == stub.warnings[0]
    assert report.to_text().endswith(stub.warnings[0])
    assert "clips left out: 1: 00099 (no such file)" in report.to_text()
    many = dataclasses.replace(report, notes=tuple(f"note {i}" for i in range(50)))
    assert many.to_text().endswith("note 39\nand 10 more notes")


def test_a_run_must_be_a_folder_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="somebody/model is no folder"):
        evaluate("somebody/model", tmp_path, progress=False)


def test_evaluate_writes_where_asked(stub, tmp_path, undrawn):
    evaluate(tmp_path / "run", tmp_path, split="val", out=tmp_path / "a" / "b", n_bootstrap=5, progress=False)
    assert (tmp_path / "a" / "b" / "report.json").is_file()
    assert not list((tmp_path / "run").rglob("*.*"))
    assert strict((tmp_path / "a" / "b" / "report.json").read_text())["split"] == "valid"


def test_evaluate_wants_labels_before_it_predicts(stub, tmp_path, monkeypatch):
    bare = tuple(Item(item.id, item.path, None, None, 1.0) for item in stub.split.items)
    stub.split = Split("test", stub.split.listed, bare, ())
    monkeypatch.setattr(module.loader, "predict_source", lambda *_, **__: pytest.fail("predicted in vain"))
    with pytest.raises(CorpusError, match="test"):
        evaluate(tmp_path / "run", tmp_path, split="test", progress=False)


def test_predictions_that_are_not_finite_are_refused(stub, tmp_path):
    stub.predictions[3, 1] = np.nan
    stub.predictions[7] = np.inf
    with pytest.raises(ModelError, match=r"2 of 12 clips \(00003, 00007\)"):
        evaluate(tmp_path / "run", tmp_path, progress=False)
    assert not list((tmp_path / "run").rglob("*.*"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vad_that_is_not_finite_is_refused_where_it_is_predicted(stub, tmp_path, undrawn, value):
    stub.vad = np.zeros((12, 3), np.float32)
    stub.vad[5, 1] = value
    assert evaluate(tmp_path / "run", tmp_path, n_bootstrap=5, progress=False).vad is None
    stub.model.config.predicts_vad = True
    with pytest.raises(ModelError, match=r"1 of 12 clips \(00005\)"):
        evaluate(tmp_path / "run", tmp_path, progress=False)


@pytest.mark.parametrize("draw", [plots.draw_scatter, plots.draw_residuals])
@pytest.mark.parametrize(("clips", "targets"), [(1, 1), (30, 4), (700, 2)])
def test_plots_have_a_panel_for_each_target(draw, clips, targets):
    x, y = sample(clips, targets)
    names = [f"Target {i}" for i in range(targets)]
    figure = draw(x, y, names)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [panel.get_title().splitlines()[0] for panel in panels] == names
    for i, panel in enumerate(panels):
        left, right = panel.get_xlim()
        seen = y[:, i] if draw is plots.draw_scatter else x[:, i]
        assert left < seen.min() <= seen.max() < right
    assert (clips > 500) == any(axes.get_ylabel() == "clips in a bin" for axes in figure.axes)
    assert figures.render(figure, dpi=40).startswith(b"\x89PNG")


def test_plots_of_constants():
    x, y = sample(600, 3)
    x[:, 0], y[:, 1] = 0.2, 0.0
    figure = plots.draw_scatter(x, y, ["A", "B", "C"])
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles[:2] == ["A\nPearson's ρ undefined", "B\nPearson's ρ undefined"]
    assert titles[2] == f"C\nPearson's ρ = {metrics.compute_pearson(x[:, 2], y[:, 2]):.3f}"
    # A line through one place on the x axis has no slope.
    labels = [[line.get_label() for line in axes.get_lines()] for axes in figure.axes[:3]]
    assert labels == [["equal", "least squares"], ["equal"], ["equal", "least squares"]]
    means = [
        axes.get_lines()[-1].get_xdata() for axes in plots.draw_residuals(x, y, ["A", "B", "C"]).axes[:3]
    ]
    assert [len(line) for line in means] == [1, 10, 10]


def test_scatter_draws_the_least_squares_line_and_residuals_the_mean_error():
    x, y = sample(600, 1)
    line = plots.draw_scatter(x, y, ["A"]).axes[0].get_lines()[-1]
    fit = stats.linregress(y[:, 0].astype(float), x[:, 0].astype(float))
    slope = np.ptp(line.get_ydata()) / np.ptp(line.get_xdata())
    assert slope == pytest.approx(fit.slope)
    assert line.get_ydata()[0] == pytest.approx(fit.intercept + fit.slope * y.min())
    means = plots.draw_residuals(x, y, ["A"]).axes[0].get_lines()[-1].get_ydata()
    assert np.mean(means) == pytest.approx((x.astype(float) - y).mean())
    lowest = np.argsort(x[:, 0])[:60]
    assert means[0] == pytest.approx((x.astype(float) - y)[lowest].mean())


def test_plots_leave_out_what_is_not_known():
    x, y = sample(700, 3)
    y[:650, 0], y[:, 1] = np.nan, np.nan
    for draw in (plots.draw_scatter, plots.draw_residuals):
        panels = draw(x, y, ["A", "B", "C"]).axes[:3]
        assert [int(panel.collections[0].get_array().filled(0).sum()) for panel in panels] == [50, 0, 700]
        few = draw(x[640:], y[640:], ["A", "B", "C"])
        assert figures.render(few, dpi=30).startswith(b"\x89PNG")
    fit = stats.linregress(y[650:, 0].astype(float), x[650:, 0].astype(float))
    line = plots.draw_scatter(x, y, ["A", "B", "C"]).axes[0].get_lines()[-1]
    assert line.get_ydata()[0] == pytest.approx(fit.intercept + fit.slope * y[650:, 0].min())


def test_reliability_has_a_point_for_each_bin():
    x, y = sample(200, 2)
    y[:, 1] = np.nan
    actual = dict(zip("AB", compute_reliability(x, y, n=50), strict=True))
    figure = plots.draw_reliability(actual)
    first, second = figure.axes
    assert first.get_title() == f"A\ncalibration error {actual['A'].error:.3f}"
    assert second.get_title() == "B\ncalibration error undefined"
    diagonal, points = first.get_lines()[:2]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    np.testing.assert_allclose(
        points.get_xydata(), np.stack([actual["A"].predicted, actual["A"].observed], 1)
    )
    bars = np.array([path.vertices for path in first.collections[-1].get_paths()])
    np.testing.assert_allclose(bars[:, 0, 1], actual["A"].low)
    np.testing.assert_allclose(bars[:, 1, 1], actual["A"].high)
    assert first.get_xlim() == first.get_ylim()
    assert figures.render(figure, dpi=40).startswith(b"\x89PNG")


def test_every_clip_is_in_a_bin():
    x, y = sample(700, 2)
    x[0], y[0] = -3.0, 1.4
    for draw in (plots.draw_scatter, plots.draw_residuals):
        for axes in draw(x, y, ["A", "B"]).axes[:2]:
            (mesh,) = axes.collections
            assert mesh.get_array().sum() == 700


def test_plots_are_gray_and_leave_no_global_state():
    from matplotlib.image import imread

    before = "matplotlib.pyplot" in sys.modules  # other libraries of other tests import it
    x, y = sample(700, 2)
    pixels = imread(io.BytesIO(figures.render(plots.draw_scatter(x, y, ["A", "B"]), dpi=40)))[..., :3]
    assert pixels.std(axis=2).max() < 0.01
    assert pixels.min() < 0.2
    assert ("matplotlib.pyplot" in sys.modules) == before
