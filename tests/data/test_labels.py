"""Labels that are missing, of the VAD head, and of an auxiliary task: from the table to the scores."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from json_schema import keeps
from label_cases import CLASSES, write
from make_corpora import HEADER, make, refused, row
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_models import predict_items
from tone_corpus import ENCODER

from emimic.data import loader
from emimic.data.corpus import Item, load_corpus
from emimic.evaluation.evaluate import evaluate
from emimic.evaluation.submit import submit
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.task import EMOTIONS, VAD, CorpusError, ModelError, SettingsError
from emimic.training import build
from emimic.training import setup as runs
from emimic.training.loop import Result, train
from emimic.training.settings import TrainSettings

Tiny = Callable[..., dict[str, Any]]
BOTH = f"{HEADER},{','.join(VAD)},Category"
ALONE = f"Filename,{','.join(VAD)}"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of VAD alone."""
    return write(tmp_path_factory.mktemp("alone"), six=False)


def reading(**given: Any) -> dict[str, Any]:
    return {"splits": ["train", "valid"], "workers": 1, **given}


# --- tables


def test_which_labels_a_training_clip_needs(mixed: Path) -> None:
    corpus = load_corpus(mixed, **reading(category="Category"))
    train = corpus.splits["train"]
    assert corpus.targets == EMOTIONS
    assert len(train.items) == 10
    assert train.left_out == ()
    known = [(int(np.isfinite(item.labels).sum()), item.vad, item.category) for item in train.items[:5]]
    assert [count for count, _, _ in known] == [6, 0, 6, 0, 3]
    assert [vad is None for _, vad, _ in known] == [False, False, True, True, False]
    np.testing.assert_array_equal(np.isnan(known[4][1]), [True, True, False])
    assert train.items[0].vad.dtype == np.float32
    assert {kind for _, _, kind in known} == {None, *CLASSES}
    assert known[2][2] is None
    assert corpus.warnings == (
        "train_split.csv: 6 clips have unknown targets; the loss leaves out what is missing",
    )
    assert train.list_outside() == ()
    assert all(item.category is None for item in load_corpus(mixed, **reading()).splits["train"].items)
    json.dumps(corpus.to_dict(), allow_nan=False)


def test_without_a_category_a_clip_that_has_only_one_is_left_out(mixed: Path) -> None:
    corpus = load_corpus(mixed, **reading())
    left = corpus.splits["train"].left_out
    assert [clip.id for clip in left] == ["4", "9"]
    assert left[0].kind == "label"
    assert left[0].reason == ", ".join(f"{name} is empty" for name in EMOTIONS) + ", expected a finite number"


def test_one_known_label_is_enough_in_every_split(tmp_path: Path) -> None:
    none = [""] * 6
    rows = [
        f"{row('2')},,,,",
        f"{row('3')},,,.5,",
        f"{row('4', '', 0, 0, 0, 0, 0)},,,,",
        f"{row('5', *none)},,.5,,",
        f"{row('6', *none)},,,,calm",  # a category is a label of training clips only
    ]
    tests = [line.replace(line[0], f"1{line[0]}", 1) for line in rows]
    make(tmp_path, BOTH, train=[f"{row('1')},,,,"], valid=rows, test=tests)
    corpus = load_corpus(tmp_path, workers=1, category="Category")
    valid, test = corpus.splits["valid"], corpus.splits["test"]
    assert [item.id for item in valid.items] == ["2", "3", "4", "5"]
    assert [item.vad is None for item in valid.items] == [True, False, True, False]
    assert np.isnan(valid.labels).sum(axis=1).tolist() == [0, 0, 1, 6]
    assert valid.left_out[0].reason.startswith("Admiration is empty, Amusement is empty")
    # A test table need not be labeled, so the clip without any label stays there.
    assert [item.id for item in test.items] == ["12", "13", "14", "15", "16"]
    assert [item.labels is None for item in test.items] == [False] * 4 + [True]
    np.testing.assert_array_equal(test.labels[:4], valid.labels)
    assert np.isnan(test.labels[4]).all()
    assert corpus.warnings == tuple(
        f"{name}_split.csv: 2 clips have unknown targets; scores leave out what is missing"
        for name in ("valid", "test")
    )


def test_a_row_keeps_its_other_columns(tmp_path: Path) -> None:
    make(tmp_path, BOTH, train=[f"{row('1')},,,,"], valid=[f"{row('2')},,,, keen "])
    (item,) = load_corpus(tmp_path, **reading()).splits["valid"].items
    assert (item.row["Filename"], item.row["Category"], item.row["Arousal"]) == ("2", "keen", "")
    assert item.category is None


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("slip", ["nan", "inf", "-inf"])
def test_a_slip_is_not_a_missing_label(split: str, slip: str, tmp_path: Path) -> None:
    """An empty field says that a label is missing; one that says nan or inf says that something went wrong."""
    rows = {name: [f"{row(str(clip))},0,0,0,"] for name, clip in (("train", 1), ("valid", 2), ("test", 3))}
    rows[split] += [f"{row('8', 0, slip, '', 0, 0, 0)},0,0,0,", f"{row('9')},0,{slip},,"]
    actual = load_corpus(make(tmp_path, BOTH, **rows), workers=1).splits[split]
    assert [item.id for item in actual.items] == [{"train": "1", "valid": "2", "test": "3"}[split]]
    assert [clip.reason for clip in actual.left_out] == [
        f"Amusement is {slip}, Determination is empty, expected a finite number",
        f"Dominance is {slip}, expected a finite number",
    ]


def test_vad_alone(tmp_path: Path) -> None:
    rows = ["1,.5,.5,.5", "3,,.5,", "4,,,"]
    make(tmp_path, ALONE, train=rows, valid=["2,0,1,0.25", "5,0,,0", "6,,,"])
    corpus = load_corpus(tmp_path, **reading())
    assert corpus.targets == ()
    assert "the VAD head alone is concerned" in corpus.warnings[0]
    assert "targets: none beside VAD" in corpus.to_text()
    train, valid = corpus.splits["train"], corpus.splits["valid"]
    assert [item.id for item in train.items] == ["1", "3"]
    assert [item.labels.shape for item in train.items] == [(0,), (0,)]
    empty = "Arousal is empty, Dominance is empty, Valence is empty, expected a finite number"
    assert train.left_out[0].reason == empty
    np.testing.assert_array_equal(valid.items[0].vad, np.float32([0, 1, 0.25]))
    np.testing.assert_array_equal(valid.items[1].vad, np.float32([0, np.nan, 0]))
    assert [clip.reason for clip in valid.left_out] == [empty]
    assert load_corpus(tmp_path, **reading(targets=[])).targets == ()


def test_vad_named_as_targets_is_no_label_of_the_head(tmp_path: Path) -> None:
    """Then any scale goes, as with other columns of one's own."""
    make(tmp_path, ALONE, train=["1,-3,.5,.5"], valid=["2,0,1,7"])
    corpus = load_corpus(tmp_path, **reading(targets=["Valence", "Arousal"]))
    item = corpus.splits["train"].items[0]
    np.testing.assert_array_equal(item.labels, np.float32([0.5, -3]))
    assert item.vad is None
    other = load_corpus(
        make(tmp_path, ALONE + ",Calm", train=["1,0,.5,1,.1"], valid=["2,0,1,1,.2"]),
        **reading(targets=["Calm"]),
    )
    np.testing.assert_array_equal(other.splits["train"].items[0].vad, np.float32([0, 0.5, 1]))


@pytest.mark.parametrize(
    ("field", "low", "high"), [("1.5", "0", "1.5"), ("-0.1", "-0.1", "0"), ("7", "0", "7")]
)
def test_vad_on_another_scale_is_refused(field: str, low: str, high: str, tmp_path: Path) -> None:
    make(tmp_path, ALONE, train=[f"1,0,{field},0"], valid=["2,0,0,0"])
    message = f"Arousal, Dominance, Valence go from {low} to {high}; expected 0 to 1. Rescale"
    refused(tmp_path, "train_split.csv", message)
    assert load_corpus(tmp_path, labels=False, scan=False).splits["train"].items[0].vad is None


def test_a_vad_field_that_is_no_number_is_refused(tmp_path: Path) -> None:
    make(tmp_path, ALONE, train=["1,0,much,0"], valid=["2,0,0,0"])
    refused(tmp_path, "train_split.csv, line 2 (clip 1): Dominance is 'much'")


def test_a_category_column_that_is_not_there(tmp_path: Path) -> None:
    make(tmp_path, BOTH, train=[f"{row('1')},,,,calm"], valid=[f"{row('2')},,,,"])
    refused(tmp_path, "has no column Mood; found Filename, Admiration", category="Mood")
    assert load_corpus(tmp_path, category="Mood", labels=False).splits["train"].items[0].category is None


def test_a_category_of_numbers_is_no_target(tmp_path: Path) -> None:
    make(tmp_path, "Filename,Calm,Mood", train=["1,.5,3"], valid=["2,.25,4"])
    assert load_corpus(tmp_path).targets == ("Calm", "Mood")
    corpus = load_corpus(tmp_path, category="Mood")
    assert corpus.targets == ("Calm",)
    assert corpus.splits["train"].items[0].category == "3"


# --- what is built


def item(number: int, labels: list[float], **given: Any) -> Item:
    return Item(str(number), Path("x"), np.float32(labels), None, 1.0, **given)


class Stub:
    folder = Path("corpus")

    def __init__(self, *targets: str) -> None:
        self.targets = targets


FELT = {"vad": np.float32([0.1, 0.2, np.nan])}


@pytest.mark.parametrize(
    ("given", "targets", "items", "message"),
    [
        (
            {"category": "Mood"},
            "a",
            [item(1, [0], category="x")],
            "'Mood' names 1 classes of training clips; exp",
        ),
        ({"category": "Mood"}, "a", [item(1, [0])], "'Mood' names 0 classes"),
        (
            {"category": "Mood"},
            "",
            [item(1, [], category="x", **FELT), item(2, [], category="y")],
            "'Mood' names 2 classes of training clips beside V/A/D labels only",
        ),
        (
            {"vad_head": False},
            "",
            [item(1, [], **FELT)],
            "V/A/D labels only; expected vad_head on, vad_weight above 0",
        ),
        (
            {"vad_weight": 0},
            "",
            [item(1, [], **FELT)],
            "V/A/D labels only; expected vad_head on, vad_weight above 0",
        ),
        (
            {},
            "",
            [item(1, [])],
            "V/A/D labels only; expected vad_head on, vad_weight above 0 and clips with such",
        ),
        (
            {"standardize_targets": True},
            "abc",
            [item(1, [np.nan, 0, np.nan]), item(2, [np.nan, np.nan, np.nan], **FELT)],
            "no training clip has a label for a, c; add labels",
        ),
    ],
)
def test_nothing_to_learn_is_refused(
    given: dict[str, Any], targets: str, items: list[Item], message: str, tiny: Tiny
) -> None:
    with pytest.raises(CorpusError, match=message):
        build.build_model(TrainSettings(**tiny(**given)), Stub(*targets), items)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "felt", "predicted"),
    [({}, FELT, True), ({}, {}, False), ({"vad_weight": 0}, FELT, False), ({"vad_head": False}, FELT, False)],
)
def test_vad_is_predicted_where_it_was_learned(
    given: dict[str, Any], felt: dict[str, Any], predicted: bool, tiny: Tiny
) -> None:
    model = build.build_model(TrainSettings(**tiny(**given)), Stub("a"), [item(1, [0.5], **felt)])  # type: ignore[arg-type]
    assert model.config.vad_learned == model.config.predicts_vad == predicted
    assert (model.predict([np.ones(800, np.float32)])[0].vad is not None) == predicted


def test_missing_labels_do_not_count_in_what_targets_are_scaled_by(tiny: Tiny) -> None:
    items = [
        item(1, [0.0, np.nan]),
        item(2, [0.5, 0.25]),
        item(3, [np.nan, np.nan], **FELT),
        item(4, [1.0, 0.75]),
    ]
    settings = TrainSettings(**tiny(standardize_targets=True))
    config = build.build_model(settings, Stub("a", "b"), items).config  # type: ignore[arg-type]
    np.testing.assert_allclose(config.target_mean, [0.5, 0.5])
    np.testing.assert_allclose(config.target_std, [np.sqrt(1 / 6), 0.25])


def test_a_frozen_model_without_targets_has_nothing_to_learn(tiny: Tiny) -> None:
    config = EmiConfig(encoder_config=ENCODER, targets=[], freeze_encoder=True, vad_pretrained=True)
    with pytest.raises(
        SettingsError, match="nothing is left to train: freeze_encoder also freezes the V/A/D head"
    ):
        runs.make_optimizer(EmiModel(config), TrainSettings(**tiny(freeze_encoder=True)))


def test_a_run_is_on_its_labels_of_every_kind() -> None:
    plain = item(1, [0.5])
    others = [item(1, [0.5], **FELT), item(1, [0.5], category="x"), item(1, [np.nan]), item(2, [0.5])]
    assert len({runs.fingerprint([one], []) for one in (plain, *others)}) == 5


# --- trained and scored


def correlations(predictions: np.ndarray, labels: np.ndarray) -> list[float]:
    return [
        float(np.corrcoef(predictions[:, i].astype(float), labels[:, i].astype(float))[0, 1])
        for i in range(labels.shape[1])
    ]


@pytest.fixture(scope="module")
def both(mixed: Path, tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> tuple[Path, Result]:
    """A run on all kinds of labels."""
    run = tmp_path_factory.mktemp("both") / "run"
    given = {
        "category": "Category",
        "loss": {"mse": 1.0, "ccc": 0.2},
        "standardize_targets": True,
        "epochs": 2,
    }
    return run, train(mixed, run, TrainSettings(**tiny(**given)), show=False)


def test_all_kinds_of_labels_are_learned_and_watched(both: tuple[Path, Result], mixed: Path) -> None:
    run, result = both
    entry = result.history[(result.best_epoch or 0) - 1]
    items = load_corpus(mixed, **reading()).splits["valid"].items
    model = EmiModel.open_run(run)
    assert model.config.predicts_vad
    assert model.config.categories == sorted(CLASSES)
    assert load_file(run / "model.safetensors")["category.weight"].shape == (2, model.category.in_features)
    predictions, vad = predict_items(model, items)
    for actual, truth, names, prefix in (
        (predictions, [item.labels for item in items], EMOTIONS, ""),
        (vad, [item.vad for item in items], VAD, "vad_"),
    ):
        rho = correlations(actual, np.stack(truth))
        assert list(entry[prefix + "targets"]) == list(names)
        np.testing.assert_allclose(list(entry[prefix + "targets"].values()), rho, atol=1e-4)
        assert entry[prefix + "pearson"] == pytest.approx(np.mean(rho), abs=1e-4)
        assert entry[prefix + "watched"] == pytest.approx(np.mean(rho), abs=1e-4)
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    tags = {f"pearson/{name}" for name in ("mean", *EMOTIONS, *VAD)}
    assert tags == {tag for tag in events.Tags()["scalars"] if tag.startswith("pearson/")}
    assert result.to_text().splitlines()[0].split()[3:5] == ["Admiration", "Amusement"]


def test_vad_is_the_mean_over_a_clips_frames(both: tuple[Path, Result], mixed: Path) -> None:
    model = EmiModel.open_run(both[0])
    items = load_corpus(mixed, **reading()).splits["valid"].items
    source = loader.make_waveform_source(items, model.clip_format)
    _, vad = predict_items(model, items)
    with torch.inference_mode():
        outputs = [model(torch.from_numpy(source.read(item, 0).values)[None]) for item in items]
    wanted = [output.vad[0].mean(dim=0).numpy() for output in outputs]
    np.testing.assert_allclose(vad, wanted, atol=2e-6)
    assert all(output.categories is None for output in outputs), "an auxiliary task is for training"


@pytest.mark.usefixtures("undrawn")
def test_evaluation_scores_vad_beside_the_targets(
    both: tuple[Path, Result], mixed: Path, tmp_path: Path
) -> None:
    run, result = both
    entry = result.history[(result.best_epoch or 0) - 1]
    report = evaluate(run, mixed, out=tmp_path, n_bootstrap=5, progress=False)
    assert report.vad is not None
    assert list(report.metrics["ccc"].targets) == list(EMOTIONS)
    assert list(report.vad.metrics["ccc"].targets) == list(VAD)
    assert report.mean_pearson == pytest.approx(entry["pearson"], abs=1e-4)
    assert report.vad.mean_pearson == pytest.approx(entry["vad_pearson"], abs=1e-4)
    written = json.loads((tmp_path / "report.json").read_text())
    keeps("evaluation/evaluation_schema.json", written)
    assert written["vad"]["metrics"].keys() == {
        "pearson",
        "ccc",
        "mse",
        "calibration_error",
    }
    lines = report.to_text().splitlines()
    assert [line.split()[0] for line in lines if line.startswith(VAD)] == list(VAD)
    assert (tmp_path / "predictions.csv").read_text().startswith(HEADER + "\n")


@pytest.mark.usefixtures("undrawn")
def test_evaluation_leaves_out_unknown_labels_alone(
    both: tuple[Path, Result], mixed: Path, tmp_path: Path
) -> None:
    report = evaluate(both[0], mixed, split="train", out=tmp_path, n_bootstrap=5, progress=False)
    assert report.vad is not None
    assert (report.clips, report.vad.clips) == (6, 6)  # 1, 3, 5, 6, 8, 10 and 1, 2, 5, 6, 7, 10
    assert list(report.known.values()) == [4, 4, 4, 6, 6, 6]
    assert dict(report.vad.known) == {"Arousal": 4, "Dominance": 4, "Valence": 6}
    assert dict(report.left_out)["2"] == "no label is known"
    assert report.vad.left_out == ()
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 8
    table = (mixed / "train_split.csv").read_text().splitlines()
    chosen = {"Arousal": ("1", "2", "6", "7"), "Valence": ("1", "2", "5", "6", "7", "10")}
    items = {clip.id: clip for clip in load_corpus(mixed, **reading()).splits["train"].items}
    for name, clips in chosen.items():
        column_index = VAD.index(name)
        truth = np.array([[table[int(clip)].split(",")[7 + column_index]] for clip in clips], float)
        _, vad = predict_items(EmiModel.open_run(both[0]), [items[clip] for clip in clips])
        (wanted,) = correlations(vad[:, [column_index]], truth)
        assert report.vad.metrics["pearson"].targets[name].value == pytest.approx(wanted, abs=1e-4)


@pytest.mark.usefixtures("undrawn")
def test_a_split_without_labels_of_the_model_is_not_scored(both: tuple[Path, Result], tmp_path: Path) -> None:
    none = row("1", *[""] * 6)
    make(tmp_path, BOTH, train=[f"{none},.1,.2,.3,"], valid=[f"{row('2')},,,,"])
    with pytest.raises(
        CorpusError, match=r"no clip of the split 'train' has a label .* expected one of Admiration"
    ):
        evaluate(both[0], tmp_path, split="train", progress=False)
    report = evaluate(both[0], tmp_path, out=tmp_path, n_bootstrap=5, progress=False)
    assert (report.clips, report.vad) == (1, None)
    assert "vad" not in report.to_dict()


@pytest.fixture(scope="module")
def felt(alone: Path, tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> tuple[Path, Result]:
    """A run on labels of VAD alone."""
    run = tmp_path_factory.mktemp("felt") / "run"
    return run, train(alone, run, TrainSettings(**tiny(epochs=2, loss={"pearson": 1.0})), show=False)


def test_vad_alone_trains_its_head_alone(felt: tuple[Path, Result], alone: Path) -> None:
    run, result = felt
    assert result.targets == VAD
    entry = result.history[(result.best_epoch or 0) - 1]
    assert entry.keys() == {"epoch", "steps", "loss", "pearson", "watched", "targets"}
    assert result.to_text().splitlines()[0].split() == ["epoch", "loss", "mean", *VAD]
    assert "validation Pearson; the model of epoch" in result.to_text()
    assert {name.split(".")[0] for name in load_file(run / "model.safetensors")} == {"encoder", "vad"}
    items = load_corpus(alone, **reading()).splits["valid"].items
    predictions, vad = predict_items(EmiModel.open_run(run), items)
    assert predictions.shape == (5, 0)
    rho = correlations(vad, np.stack([item.vad for item in items]))
    np.testing.assert_allclose(list(entry["targets"].values()), rho, atol=1e-4)
    (prediction,) = EmiModel.open_run(run).predict([np.ones(1600, np.float32)])
    assert prediction.intensities.shape == (0,)
    assert prediction.vad.shape == (len(prediction.times), 3)


def test_vad_alone_is_scored(felt: tuple[Path, Result], alone: Path, tmp_path: Path) -> None:
    report = evaluate(felt[0], alone, out=tmp_path, n_bootstrap=5, progress=False)
    assert list(report.metrics["mse"].targets) == list(VAD)
    assert report.vad is None
    best = felt[1].history[(felt[1].best_epoch or 0) - 1]
    assert report.mean_pearson == pytest.approx(best["pearson"], abs=1e-4)
    assert (tmp_path / "predictions.csv").read_text().startswith("Filename,Arousal,Dominance,Valence\n11,")
    assert (tmp_path / "scatter.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ModelError, match="predicts V/A/D alone; expected a model with targets"):
        submit(felt[0], alone, split="valid", out=tmp_path / "out.csv", progress=False)
    assert not (tmp_path / "out.csv").exists()
    other = make(tmp_path, train=[row("1")], valid=[row("2")])
    with pytest.raises(CorpusError, match="without targets there must be the columns Arousal"):
        evaluate(felt[0], other, progress=False)


def test_vad_alone_on_all_clips(alone: Path, tmp_path: Path, tiny: Tiny) -> None:
    given = {"epochs": 1, "train_on": "train+valid", "ema": 0.9}
    result = train(alone, tmp_path / "run", TrainSettings(**tiny(**given)), show=False)
    assert result.history[0].keys() == {"epoch", "steps", "loss"}
    assert result.history[0]["steps"] == 4  # 15 clips
    assert "no validation: all clips were trained on" in result.to_text()
    assert EmiModel.open_run(tmp_path / "run").config.predicts_vad


def test_vad_is_learned_from_cached_features(mixed: Path, tmp_path: Path, tiny: Tiny) -> None:
    given = {"freeze_encoder": True, "feature_dtype": "float32", "epochs": 2, "lr": 1e-2}
    result = train(
        mixed, tmp_path / "run", TrainSettings(**tiny(still=True, vad_head=True, **given)), show=False
    )
    assert {"vad_pearson", "pearson"} < result.history[0].keys()
    assert result.history[1]["loss"] < result.history[0]["loss"]
    stored = load_file(tmp_path / "run" / "last.safetensors")
    assert "optimizer.vad.dense.weight.exp_avg" in stored
    assert not any(name.startswith("optimizer.encoder.") for name in stored)
