"""Scores by the values of a column: each group as if alone, differences, quartiles, and the verb from end to end."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_models
from json_schema import keeps
from typer.testing import CliRunner

from emimic import metrics
from emimic.cli import app
from emimic.data import loader
from emimic.data.corpus import load_corpus
from emimic.evaluation.groups import MISSING, name_files, name_groups, score_groups
from emimic.evaluation.report import score
from emimic.task import CorpusError


def sample(clips: int = 120, targets: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random((clips, targets))
    return 0.2 + 0.5 * labels + 0.1 * rng.normal(size=labels.shape), labels


def by(x: Any, y: Any, fields: list[str], speakers: Any = None, n: int = 50) -> Any:
    names = [f"T{i}" for i in range(y.shape[1])]
    speakers = speakers or [None] * len(x)
    return score_groups(names, x, y, {"Column": fields}, speakers, n_bootstrap=n)["Column"]


def test_a_group_is_scored_as_if_alone() -> None:
    x, y = sample()
    y[:, 1] = y[:, 1] > 0.5
    y[::5, 0] = np.nan
    fields = ["ab"[i % 2] if i % 3 else "" for i in range(120)]
    speakers = [f"s{i % 8}" for i in range(120)]
    actual = by(x, y, fields, speakers)
    assert list(actual.groups) == ["a", "b", MISSING]
    for value, text in (("a", "a"), ("b", "b"), (MISSING, "")):
        rows = [i for i, field in enumerate(fields) if field == text]
        alone = score(x[rows], y[rows], ["T0", "T1"], n_bootstrap=5)
        group = actual.groups[value]
        assert (group.clips, group.speakers) == (40, len({speakers[i] for i in rows}))
        assert dict(group.known) == dict(alone.known)
        assert group.metrics.keys() == alone.metrics.keys()
        for name, metric in group.metrics.items():
            for target, one in metric.targets.items():
                assert one.value == pytest.approx(alone.metrics[name].targets[target].value)
                assert one.low <= one.high
            assert group.means[name].value == pytest.approx(alone.metrics[name].mean.value)


def test_the_largest_difference_is_resampled_on_the_same_speakers() -> None:
    x, y = sample(clips=120)
    x[::3, 1] += 0.4 * np.random.default_rng(1).normal(size=40)
    speakers = [f"s{i % 10}" for i in range(120)]  # every speaker is in all groups
    fields = ["abc"[i % 3] for i in range(120)]
    actual = by(x, y, fields, speakers, n=80)
    one = actual.differences["pearson"]["T1"]
    values = {c: metrics.compute_pearson(x[i::3, 1], y[i::3, 1]) for i, c in enumerate("abc")}
    assert (one.highest, one.lowest) == (max(values, key=values.__getitem__), "a")
    assert one.score.value == pytest.approx(max(values.values()) - values["a"])
    draws = np.random.default_rng(0)
    drawn = []
    for _ in range(80):
        own = [i for g in draws.integers(10, size=10) for i in range(120) if i % 10 == g]
        parts = [[i for i in own if fields[i] == value] for value in (one.highest, one.lowest)]
        high, low = (np.corrcoef(x[part, 1], y[part, 1])[0, 1] for part in parts)
        drawn.append(high - low)
    np.testing.assert_allclose([one.score.low, one.score.high], np.percentile(drawn, [2.5, 97.5]), rtol=1e-7)
    mean = actual.differences["mse"]["mean"]
    errors = {c: np.square(x[i::3] - y[i::3]).mean() for i, c in enumerate("abc")}
    assert mean.score.value == pytest.approx(max(errors.values()) - min(errors.values()))
    assert f"({one.highest} over a)" in actual.to_text()


def test_means_are_over_the_targets_that_every_group_has() -> None:
    x, y = sample(clips=60)
    fields = ["en" if i % 2 else "de" for i in range(60)]
    y[::2, 1] = np.nan  # unknown in German
    actual = by(x, y, fields)
    assert actual.shared["pearson"] == ("T0",)
    assert actual.groups["en"].means["pearson"].value == pytest.approx(
        metrics.compute_pearson(x[1::2, 0], y[1::2, 0])
    )
    assert "T1" not in actual.differences["pearson"]
    json.dumps([actual.to_dict(), actual.list_differences()], allow_nan=False)


def test_small_groups_say_so() -> None:
    x, y = sample(clips=30)
    actual = by(x, y, ["a"] * 29 + ["b"])
    assert actual.groups["b"].metrics is None
    assert actual.differences == {}
    assert "not scored, fewer than 2 clips: b" in actual.to_text()
    assert "nan" not in actual.to_text()
    assert actual.to_dict()["b"]["note"] == "fewer than 2 clips: not scored"
    nothing = by(x[:2], y[:2], ["a", "b"])
    assert "not scored, fewer than 2 clips: a, b" in nothing.to_text()


def test_numbers_are_cut_into_quartiles_and_text_is_not() -> None:
    ages = [str(age) for age in range(18, 58)]
    names, order = name_groups([*ages, ""])
    assert order == ["18 to 27", "28 to 37", "38 to 47", "48 to 57", MISSING]
    assert [names.count(value) for value in order] == [10, 10, 10, 10, 1]
    assert names[:11] == ["18 to 27"] * 10 + ["28 to 37"]
    ties = [str(value) for value in [0.5] * 30 + list(range(1, 12))]
    names, order = name_groups(ties)
    assert names.count("0.5") == 30
    assert order[0] == "0.5"
    assert name_groups(["10", "9", "2"])[1] == ["2", "9", "10"]
    assert name_groups(["b", "10", "A"])[1] == ["10", "A", "b"]
    many = [f"n{i}" for i in range(30)]
    assert name_groups(many)[0] == many
    assert name_groups(["nan", *ages])[0] == ["nan", *ages]
    assert name_groups(["", ""]) == ([MISSING] * 2, [MISSING])


def test_files_of_columns_have_names_of_their_own() -> None:
    names = name_files(["Gender", "gender", "a/b", "a b", "../x"])
    assert list(names.values()) == [
        "by_Gender.csv",
        "by_gender_2.csv",
        "by_a_b.csv",
        "by_a_b_2.csv",
        "by_.._x.csv",
    ]


@pytest.fixture
def scored_run(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    """A tiny model and a corpus whose labels are its predictions for f, and 0.5 less these for m."""
    run, corpus = tmp_path / "run", tmp_path / "corpus"
    model = tiny_models.model(targets=["Calm", "Keen"], vad_head=False)
    model.save_pretrained(run)
    (corpus / "audio").mkdir(parents=True)
    head = "Filename,Calm,Keen,Speaker,Gender,Age"
    for number in range(24):
        soundfile.write(
            corpus / f"audio/{number}.wav", 0.3 * tiny_models.clip(1600 + 40 * number, number), 16_000
        )
    blank = [head, *(f"{number},0,0,s{number % 6},,1" for number in range(24))]
    (corpus / "valid_split.csv").write_text("\n".join(blank))
    items = load_corpus(corpus, targets=["Calm", "Keen"], splits=["valid"]).splits["valid"].items
    predictions, _ = tiny_models.predict_items(model, items)
    rows = [head]
    for number, values in enumerate(predictions.astype(float)):
        gender = "f" if number % 6 < 3 else "m"
        labels = values if gender == "f" else 0.5 - values
        fields = [
            *map(repr, labels.tolist()),
            f"s{number % 6}",
            "" if number == 0 else gender,
            str(number + 18),
        ]
        rows.append(",".join([str(number), *fields]))
    (corpus / "valid_split.csv").write_text("\n".join(rows))
    return run, corpus, predictions


def test_evaluate_by_columns(scored_run: tuple[Path, Path, np.ndarray], undrawn: None) -> None:
    run, corpus, predictions = scored_run
    command = ["evaluate", str(run), str(corpus), "-q", "--bootstrap", "20", "--by", "Gender", "--by", "Age"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    out = run / "evaluation" / "valid"
    report = json.loads((out / "report.json").read_text())
    keeps("evaluation/evaluation_schema.json", report)
    assert report["groups"].keys() == {"Gender", "Age"}
    assert list(report["groups"]["Age"]) == ["18 to 23", "24 to 29", "30 to 35", "36 to 41"]
    groups = report["groups"]["Gender"]
    assert [groups[value]["clips"] for value in ("f", "m", MISSING)] == [11, 12, 1]
    assert [groups[value]["speakers"] for value in ("f", "m", MISSING)] == [3, 3, 1]
    assert groups[MISSING]["note"] == "fewer than 2 clips: not scored"
    rows = [i for i in range(1, 24) if i % 6 >= 3]
    for position, target in enumerate(("Calm", "Keen")):
        one, two = (groups[value]["metrics"] for value in "fm")
        assert one["pearson"]["targets"][target]["value"] == pytest.approx(1)
        assert two["pearson"]["targets"][target]["value"] == pytest.approx(-1)
        assert one["mse"]["targets"][target]["value"] == pytest.approx(0, abs=1e-9)
        bias = float(np.mean(2 * predictions[rows, position].astype(float) - 0.5))
        assert two["calibration_error"]["targets"][target]["value"] == pytest.approx(abs(bias), abs=1e-5)
        difference = report["differences"]["Gender"]["pearson"][target]
        assert difference["value"] == pytest.approx(2)
        assert (difference["highest"], difference["lowest"]) == ("f", "m")
    with (out / "by_Gender.csv").open(newline="") as file:
        head, *table = csv.reader(file)
    assert head[:7] == ["Gender", "clips", "speakers", "target", "known_labels", "pearson", "pearson_low"]
    assert [row[:6] for row in table[:4]] == [
        ["f", "11", "3", "Calm", "11", "1.000000"],
        ["f", "11", "3", "Keen", "11", "1.000000"],
        ["m", "12", "3", "Calm", "12", "-1.000000"],
        ["m", "12", "3", "Keen", "12", "-1.000000"],
    ]
    assert set(table[4][5:]) == {""}
    assert "by Gender  clips  speakers  Pearson" in result.stdout
    assert "Pearson: mean 2.000 [2.000, 2.000] (f over m)" in result.stdout
    files = ["report.json", "predictions.csv", "by_Gender.csv", "by_Age.csv"]
    assert result.stderr.startswith("written: " + ", ".join(str(out / name) for name in files))
    assert all((out / name).is_file() for name in files)


def test_an_unknown_column_is_refused_before_predicting(
    scored_run: tuple[Path, Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, corpus, _ = scored_run
    monkeypatch.setattr(loader, "predict_source", lambda *_, **__: pytest.fail("predicted in vain"))
    result = CliRunner().invoke(app, ["evaluate", str(run), str(corpus), "-q", "--by", "Language"])
    assert isinstance(result.exception, CorpusError)
    assert str(result.exception) == (
        f"{corpus / 'valid_split.csv'} has no column Language; found Filename, Calm, Keen, Speaker, Gender, Age. "
        "Name one of these (--by)"
    )
    assert not (run / "evaluation").exists()
