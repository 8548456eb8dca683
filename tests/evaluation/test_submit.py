"""The challenge's CSV, with a stub for the model."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from make_corpora import make

from emimic.data.corpus import Corpus, Item, Left, Split, load_corpus
from emimic.evaluation import predictions as shared
from emimic.evaluation.submit import submit
from emimic.task import CorpusError, ModelError, SettingsError

TARGETS = ["Joy", "Empathic Pain"]


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """A test split without labels; the listed order is not that of the items."""
    items = tuple(Item(name, tmp_path / name, None, None, 1.0) for name in ("00012", "7", "take two"))
    split = Split("test", ("take two", "00012", "7"), items, ())
    predictions = {"00012": (0.25, -0.5), "7": (1.75, 1 / 3), "take two": (0.5, 1.0)}
    state = SimpleNamespace(split=split, predictions=predictions, warnings=())
    model = SimpleNamespace(
        config=SimpleNamespace(targets=list(TARGETS), predicts_vad=False, max_seconds=12.0)
    )

    def load(folder, *, targets, splits, **options):
        assert options["clips"] is None
        assert not options["labels"]
        assert (list(targets), list(splits)) == (TARGETS, ["test"])
        return Corpus(folder, tuple(targets), {state.split.name: state.split}, state.warnings)

    def predict(model, items, options):
        predictions = np.array([state.predictions[item.id] for item in items], dtype=np.float32)
        return predictions, np.full((len(items), 3), np.nan, np.float32)

    monkeypatch.setattr(shared, "open_run", lambda run: model)
    monkeypatch.setattr(shared, "load_corpus", load)
    monkeypatch.setattr(shared, "make_source", lambda model, items, inputs, without: items)
    monkeypatch.setattr(shared.loader, "predict_source", predict)
    return state


def write(tmp_path, **options):
    return submit(tmp_path / "run", tmp_path, out=tmp_path / "new" / "out.csv", progress=False, **options)


def read(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_rows_in_the_order_of_the_split(stub, tmp_path):
    report = write(tmp_path)
    assert report.path.read_bytes() == (
        b"Filename,Joy,Empathic Pain\ntake two,0.500000,1.000000\n12,0.250000,0.000000\n7,1.000000,0.333333\n"
    )
    assert (report.split, report.rows, report.filled, report.clipped) == ("test", 3, (), 2)
    assert report.to_text() == f"{report.path}: 3 rows for the split test; 2 values clipped to [0, 1]"


def test_names_with_a_suffix_become_stems(stub, tmp_path):
    names = ("00003.mp3", "a.b.mp4", "000")
    items = tuple(Item(name, tmp_path / name, None, None, 1.0) for name in names)
    stub.split = Split("test", names, items, ())
    stub.predictions = dict.fromkeys(names, (0.5, 0.5))
    assert [row[0] for row in read(write(tmp_path).path)] == ["Filename", "3", "a.b", "0"]


def leave_out(stub, *names):
    old = stub.split
    kept = tuple(item for item in old.items if item.id not in names)
    stub.split = Split("test", old.listed, kept, tuple(Left(name, "no audio stream") for name in names))


def test_a_file_that_cannot_be_used_stops_the_submission(stub, tmp_path):
    leave_out(stub, "7", "00012")
    target = tmp_path / "new" / "out.csv"
    target.parent.mkdir()
    target.write_text("old")
    with pytest.raises(
        CorpusError, match=r"2 of the 3 files.*7 \(no audio stream\), 00012 \(no audio.*--fill mean"
    ):
        write(tmp_path)
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["out.csv"]


def test_fill_writes_the_mean_of_the_other_rows_and_says_so(stub, tmp_path):
    leave_out(stub, "7")
    report = write(tmp_path, fill="mean")
    rows = {row[0]: row[1:] for row in read(report.path)}
    assert list(rows) == ["Filename", "take two", "12", "7"]
    # The other rows as written, that is clipped: (.5 + .25) / 2 and (1 + 0) / 2.
    assert rows["7"] == ["0.375000", "0.500000"]
    assert report.filled == ("7",)
    assert report.clipped == 1
    assert report.left_out == (("7", "no audio stream"),)
    assert report.to_text().endswith("1 rows are means, not predictions: 7\n  7: no audio stream")


def test_nothing_is_filled_when_nothing_is_missing(stub, tmp_path):
    report = write(tmp_path, fill="mean")
    assert report.filled == ()
    assert report.path.read_bytes() == write(tmp_path).path.read_bytes()


def test_two_rows_for_one_file_are_refused(stub, tmp_path):
    leave_out(stub)
    stub.split = Split(
        "test", (*stub.split.listed, "012"), stub.split.items, (Left("012", "again", "duplicate"),)
    )
    for fill in (None, "mean"):
        with pytest.raises(CorpusError, match="lists 12 more than once"):
            write(tmp_path, fill=fill)
    assert not list((tmp_path / "new").glob("*"))


def test_labels_play_no_part(stub, tmp_path, monkeypatch):
    monkeypatch.setattr(shared, "load_corpus", load_corpus)
    header = "Filename,Joy,Empathic Pain,Speaker"
    rows = ["00012,,,ann", "7,much,nan,bob", "take two,90,70,bob"]
    make(tmp_path, header, train=["1,0,0,ann"], valid=["2,0,0,cy"], test=rows)
    report = write(tmp_path)
    assert [row[0] for row in read(report.path)] == ["Filename", "12", "7", "take two"]
    assert report.left_out == ()
    assert report.notes == ("test_split.csv and train_split.csv both name speakers: ann",)
    assert report.to_text().endswith(report.notes[0])


def test_nan_is_never_submitted(stub, tmp_path):
    stub.predictions["7"] = (np.nan, 0.5)
    with pytest.raises(ModelError, match=r"1 of 3 clips \(7\)"):
        write(tmp_path)
    assert not list((tmp_path / "new").glob("*"))


def test_fill_is_checked_first(tmp_path):
    with pytest.raises(SettingsError, match="'zero'"):
        write(tmp_path, fill="zero")
