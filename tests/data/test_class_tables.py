"""Category tables: labels that are said once per class, joined onto the split tables."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_corpora import make, refused, wav

from emimic.data import loader
from emimic.data.corpus import load_corpus
from emimic.describe.report import describe
from emimic.evaluation.evaluate import evaluate
from emimic.task import EMOTIONS
from emimic.training import setup as runs
from emimic.training import validation
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

SPLITS = {"splits": ["train", "valid"], "workers": 1}
TRAIN = ["1,laugh,a", "3,sob,a", "4,sigh,b", "5,,b", "6,gasp,b"]
VALID = ["2,laugh,c", "7,sob,c", "8,sigh,d", "9,cheer,d"]
TARGETS = """Category,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy,Arousal,Dominance,Valence
laugh,0,1,0,0,,1,.7,,.9
sob,0,0,0,1,0,0,.4,.2,.1
sigh,,,,,,,,,
cheer,0,,1,0,1,.5,.9,.8,.9
"""


def corpus(folder: Path, targets: str = TARGETS, **tables: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    make(folder, "Filename,Category,Speaker", **({"train": TRAIN, "valid": VALID} | tables))
    (folder / "targets.csv").write_text(targets, encoding="utf-8")
    return folder


def test_labels_come_from_the_class(tmp_path: Path) -> None:
    actual = load_corpus(corpus(tmp_path), **SPLITS, category="Category")
    assert actual.targets == EMOTIONS
    train, valid = (actual.splits[name] for name in ("train", "valid"))
    nothing = [np.nan] * 6
    wanted = {"1": [0, 1, 0, 0, np.nan, 1], "3": [0, 0, 0, 1, 0, 0], "4": nothing, "6": nothing}
    assert {item.id for item in train.items} == wanted.keys()
    for item in train.items:
        np.testing.assert_array_equal(item.labels, np.float32(wanted[item.id]))
    np.testing.assert_array_equal(train.items[0].vad, np.float32([0.7, np.nan, 0.9]))
    assert [item.vad is None for item in train.items] == [False, False, True, True]
    assert [item.category for item in train.items] == ["laugh", "sob", "sigh", "gasp"]
    assert [left.id for left in train.left_out] == ["5"]  # neither a label nor a class
    # A clip of valid may be without labels as well, yet not all.
    assert [item.id for item in valid.items] == ["2", "7", "9"]
    assert [left.id for left in valid.left_out] == ["8"]
    assert "targets.csv has no row for gasp" in " ".join(actual.warnings)


def test_without_the_auxiliary_task_a_clip_of_a_class_alone_is_left_out(tmp_path: Path) -> None:
    train = load_corpus(corpus(tmp_path), **SPLITS).splits["train"]
    assert [item.id for item in train.items] == ["1", "3"]


def test_a_class_that_no_split_has_is_a_warning(tmp_path: Path) -> None:
    folder = corpus(tmp_path, TARGETS + "lauhg,0,1,0,0,0,0,,,\n", test=["10,groan,e"])
    notes = " ".join(load_corpus(folder, **SPLITS).warnings)
    assert "no clip is of the class lauhg; is it spelled" in notes
    corpus(tmp_path, TARGETS + "groan,0,1,0,0,0,0,,,\n")
    assert "no clip is of the class" not in " ".join(load_corpus(folder, **SPLITS).warnings)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("", ["targets.csv", "the header is ''"]),
        ("Category\nlaugh\n", ["the header is 'Category'"]),
        ("Category,Joy,Joy\nlaugh,1,1\n", ["distinct"]),
        ("Category,Joy\n", ["no rows"]),
        ("Category,Joy\nlaugh,1,0\n", ["line 2: 3 fields, expected 2"]),
        ("Category,Joy\nlaugh,1\nlaugh,0\n", ["line 3", "'laugh'", "no other row"]),
        ("Category,Joy\n,1\n", ["line 2: the class is ''"]),
        ("Category,Joy\nlaugh,much\n", ["line 2: Joy is 'much', expected a finite number", "leave the field empty"]),
        ("Category,Joy\nlaugh,nan\n", ["Joy is 'nan'"]),
        ("Category,Arousal\nlaugh,1.2\n", ["Arousal is '1.2', expected a number from 0 to 1"]),
        ("Class,Joy\nlaugh,1\n", ["'Class'", "train_split.csv has no such column", "Filename, Category, Speaker"]),
        ("Category,Joy,Speaker\nlaugh,1,2\n", ["targets.csv and", "train_split.csv both have the column Speaker"]),
    ],
)  # fmt: skip
def test_a_table_that_makes_no_sense_is_refused(targets: str, message: list[str], tmp_path: Path) -> None:
    refused(corpus(tmp_path, targets), *message)


def test_an_unlabeled_split_needs_no_classes(tmp_path: Path) -> None:
    folder = corpus(tmp_path)
    (folder / "test_split.csv").write_text("Filename\n20\n", encoding="utf-8")
    wav(folder / "audio" / "20.wav")
    assert load_corpus(folder, workers=1).splits["test"].items[0].labels is None


def test_training_scores_what_is_known_alone(
    undrawn: None, tmp_path: Path, tiny: Callable[..., dict[str, Any]]
) -> None:
    """A target that some clips don't have is compared over the others; and the verbs see ordinary columns."""
    folder = corpus(
        tmp_path / "corpus",
        valid=[f"{i},{('laugh', 'sob', 'cheer')[i % 3]},c" for i in range(20, 32)],
    )
    settings = TrainSettings(**tiny(epochs=1, still=True))
    run = runs.open_run(folder, tmp_path / "open", settings, resume=False, show=False)
    assert run.valid is not None
    assert run.log is not None
    run.log.close()
    labels = np.stack([item.labels for item in run.valid.items])
    rng = np.random.default_rng(0)
    guesses = rng.random(labels.shape).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "predict_source", lambda *_, **__: (guesses, None))
        entry = validation.validate(run, run.valid)
    wanted = {}
    for i, name in enumerate(EMOTIONS):
        known = np.isfinite(labels[:, i])
        x, y = guesses[known, i].astype(float), labels[known, i].astype(float)
        if y.min() < y.max():
            wanted[name] = float(np.corrcoef(x, y)[0, 1])
    assert wanted.keys() == {*EMOTIONS} - {"Admiration"}  # whose labels are all 0
    actual = {name: value for name, value in entry["targets"].items() if value is not None}
    assert actual == pytest.approx(wanted, rel=1e-5)
    assert entry["watched"] == pytest.approx(np.mean(list(wanted.values())), rel=1e-5)
    train(folder, tmp_path / "run", settings, show=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert describe(folder, progress=False).numbers["targets"] == list(EMOTIONS)
        assert "Joy" in evaluate(tmp_path / "run", folder, n_bootstrap=10, progress=False).to_text()
