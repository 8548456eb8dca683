"""Split tables and labels that are refused, each with a message that names the culprit."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from make_corpora import HEADER, make, refused, row

from emimic.data import corpus as module
from emimic.data.corpus import load_corpus
from emimic.task import EMOTIONS, CorpusError


def test_no_folder_no_tables(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere", "not a folder")
    refused(tmp_path, "no train_split.csv, valid_split.csv", "no *_split.csv at all")
    make(tmp_path)
    refused(
        tmp_path,
        "no holdout_split.csv",
        "found train_split.csv, valid_split.csv",
        splits=["train", "holdout"],
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "the header is ''"),
        ("\n\n", "the header is ''"),
        (HEADER, "no rows"),
        (HEADER.replace(",", ";") + "\n" + row("1").replace(",", ";"), "separated by commas"),
        ("Name,Joy\n1,1", "Filename among them"),
        ("Filename,Joy,Joy\n1,1,1", "distinct"),
        (HEADER + "\n1,0,0", "line 2: 3 fields, expected 7"),
        (HEADER + "\n" + row("3") + ",1", "line 2: 8 fields, expected 7"),
        (HEADER + "\n\n" + row("1", 0, "much", 0, 0, 0, 0), "line 3 (clip 1): Amusement is 'much'"),
        (HEADER + "\n" + row("1", 0, '"0,5"', 0, 0, 0, 0), "Amusement is '0,5', expected a number"),
        (HEADER + "\n" + row("1", 0, "1e39", 0, 0, 0, 0), "line 2 (clip 1): Amusement is '1e39'"),
        (
            HEADER + ",Note\n" + row("1") + ",a\n" + row("3") + ',"b\n' + row("4") + ",c",
            "line 3 can't be read",
        ),
        (HEADER + ",Note\n" + row("1") + ',"a"b"', "line 2 can't be read"),
        (f"{HEADER}\n{row('1')}\n{HEADER}\n{row('3')}", "line 3 (clip Filename)"),
        ("Filename,G\u00eane,Ge\u0302ne\n1,0,0", "distinct"),
        (HEADER + ",Note\n" + row("1") + "," + "x" * 200_000, "line 2 can't be read"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, table: str, message: str) -> None:
    make(tmp_path)
    (tmp_path / "train_split.csv").write_text(table, encoding="utf-8")
    refused(tmp_path, "train_split.csv", message)


def test_tables_without_labels(tmp_path: Path) -> None:
    make(tmp_path, "Filename,Note", train=["1,x"], valid=["2,"])
    refused(tmp_path, "train_split.csv: no label column among Filename, Note", "Empathic Pain")
    refused(tmp_path, "train_split.csv has no column Joy; found Filename, Note", targets=["Joy"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")
def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    make(tmp_path)
    for name in ("old_split.csv", "train_split.csv", "targets.csv"):
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
        if name == "old_split.csv":
            (note,) = load_corpus(tmp_path, scan=False).warnings
            assert "old_split.csv can't be read (it is a pipe" in note
        else:
            refused(tmp_path, f"{name} can't be read (it is a pipe")  # targets.csv is read first


def test_marks_within_a_header_are_none(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "train_split.csv").write_text(f"\ufeff\ufeff{HEADER}\r{row('1')}\r", encoding="utf-8")
    assert load_corpus(tmp_path, scan=False).targets == EMOTIONS
    make(tmp_path, "Filename,G\u00eane", train=["1,.5"])
    (tmp_path / "valid_split.csv").write_text("Filename,Ge\u0302ne\u200b\n2,.5\n", encoding="utf-8")
    assert load_corpus(tmp_path, scan=False).targets == ("G\u00eane",)


def test_ids_stay_as_they_are_written(tmp_path: Path) -> None:
    corpus = make(tmp_path, valid=[row("caf\u00e9")])
    name = "cafe\u0301"
    (tmp_path / "valid_split.csv").write_text(f"{HEADER}\n{row(name)}\n", encoding="utf-8")
    assert load_corpus(corpus, scan=False).splits["valid"].listed == (name,)


def test_classes_spelled_in_two_ways(tmp_path: Path) -> None:
    rows = [f"{row(str(i))},{kind}" for i, kind in enumerate(("caf\u00e9", "cafe\u0301", "Calm", "calm"), 3)]
    make(tmp_path, f"{HEADER},Kind", train=rows, valid=[f"{row('2')},x"])
    corpus = load_corpus(tmp_path, scan=False, category="Kind")
    assert [item.category for item in corpus.splits["train"].items] == ["caf\u00e9"] * 2 + ["Calm", "calm"]
    (note,) = corpus.warnings
    assert note.startswith("train_split.csv: Calm and calm in the column Kind differ only in case")


def test_classes_are_no_targets(tmp_path: Path) -> None:
    make(tmp_path, "Filename,Kind", train=["1,1", "3,2"], valid=["2,1"])
    (tmp_path / "targets.csv").write_text("Kind,Joy\n1,.5\n2,0\n", encoding="utf-8")
    assert load_corpus(tmp_path, scan=False).targets == ("Joy",)
    (tmp_path / "targets.csv").write_text("Kind,Joy\n1.0,.5\n2.0,0\n", encoding="utf-8")
    refused(tmp_path, "no label column", "no clip is of the class 1.0, 2.0", "no row for 1, 2")
    (tmp_path / "targets.csv").unlink()
    make(tmp_path, "Filename,Sex,Calm", train=["1,1,.5", "3,2,.1"], valid=["2,1,.2"])
    assert load_corpus(tmp_path, scan=False, columns=["Sex"]).targets == ("Calm",)


def test_a_class_is_one_in_every_unicode_form(tmp_path: Path) -> None:
    make(tmp_path, "Filename,Kind", train=["1,caf\u00e9"], valid=["2,cafe\u0301"])
    (tmp_path / "targets.csv").write_text("Kind,Joy\ncafe\u0301,.5\n", encoding="utf-8")
    assert [s.labels.tolist() for s in load_corpus(tmp_path, scan=False).splits.values()] == [
        [[0.5]],
        [[0.5]],
    ]
    (tmp_path / "targets.csv").write_text("Kind,Joy\ncafe\u0301,.5\ncaf\u00e9,.9\n", encoding="utf-8")
    refused(tmp_path, "targets.csv, line 3: the class is")
    (tmp_path / "targets.csv").write_text("Kind,Calm\ncaf\u00e9,1e39\n", encoding="utf-8")
    refused(tmp_path, "targets.csv, line 2: Calm is '1e39'")


def test_vad_columns_that_do_nothing_are_pointed_out(tmp_path: Path) -> None:
    make(tmp_path, f"{HEADER},Arousal,Valence", train=[f"{row('1')},.5,.5"], valid=[f"{row('2')},.1,.1"])
    notes = load_corpus(tmp_path, scan=False).warnings
    assert [note.partition(":")[0] for note in notes] == [
        f"{name}_split.csv has Arousal, Valence without Dominance" for name in ("train", "valid")
    ]
    make(tmp_path, f"{HEADER},Arousal,Dominance,Valence", train=[f"{row('1')},.5,.5,.5"])
    (tmp_path / "valid_split.csv").write_text(f"{HEADER}\n{row('2')}\n")
    (note,) = load_corpus(tmp_path, scan=False).warnings
    assert note.endswith("valid_split.csv has not: V/A/D are learned and not scored")


def test_a_target_without_any_label_is_pointed_out(tmp_path: Path) -> None:
    make(tmp_path, valid=[row("2", "", 0.5, 0, 0, 1, 0), row("4", "", 0, 0, 0, 1, 0)])
    (note,) = load_corpus(tmp_path, scan=False).warnings
    assert note.startswith("valid_split.csv: 2 clips have unknown targets; none has Admiration;")


@pytest.mark.parametrize("scale", ["100", True, 1e-40])
def test_what_is_no_scale(scale: object, tmp_path: Path) -> None:
    make(tmp_path, "Filename,Calm", train=["1,.5"], valid=["2,.5"])
    refused(tmp_path, "label_scale", label_scale=scale)


def test_tables_in_other_encodings(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "valid_split.csv").write_text(f"{HEADER}\n{row('2')}", encoding="utf-16")
    refused(tmp_path, "valid_split.csv", "UTF-8")


def test_a_table_that_is_a_folder(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "valid_split.csv").unlink()
    (tmp_path / "valid_split.csv").mkdir()
    refused(tmp_path, "valid_split.csv can't be read")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "sub/1", "..", ".", "", "C:\\1.wav", "C:1", "a\\b", "1\x07"]
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    (tmp_path / "valid_split.csv").write_text(f"{HEADER}\n{row('2')}\n{row(name)}\n", encoding="utf-8")
    refused(tmp_path, "valid_split.csv, line 3", repr(name), "bare name")


def test_columns_that_differ_between_splits(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "valid_split.csv").write_text("Filename,Joy\n2,1\n", encoding="utf-8")
    refused(tmp_path, "valid_split.csv has no column Admiration", "found Filename, Joy")


@pytest.mark.parametrize("targets", [["Joy", "Joy"], ["Speaker"], ["Filename"]])
def test_invalid_targets(tmp_path: Path, targets: list[str]) -> None:
    refused(make(tmp_path), "expected distinct label columns", targets=targets)


def test_no_targets_need_vad_labels(tmp_path: Path) -> None:
    message = (
        "without targets there must be the columns Arousal, Dominance, Valence; found Filename, Admiration"
    )
    refused(make(tmp_path), "train_split.csv", message, targets=[])
    assert load_corpus(tmp_path, targets=[], labels=False).targets == ()


@pytest.mark.parametrize("scale", [0, -1, math.inf, math.nan])
def test_invalid_scales(tmp_path: Path, scale: float) -> None:
    refused(make(tmp_path), "label_scale", label_scale=scale)


def test_a_scale_of_a_hundred_is_asked_about(tmp_path: Path) -> None:
    make(tmp_path, train=[row("1", 0, 0, 33.3, 0, 100, 1)], valid=[row("2", 50, 0, 0, 0, 0, 0)])
    refused(tmp_path, "train_split.csv", "reach 100", "label_scale=100", "--label-scale 100")
    refused(tmp_path, "reach 100", "even after division by label_scale 10", label_scale=10)
    corpus = load_corpus(tmp_path, label_scale=100)
    np.testing.assert_allclose(corpus.splits["train"].labels, [[0, 0, 0.333, 0, 1, 0.01]], rtol=1e-6)
    make(tmp_path, train=[row("1", 0, 0, 0, 0, 0, 99)], valid=[row("2", 0.5, 0, 0, 0, 0, 1)])
    refused(tmp_path, "valid_split.csv", "labels reach 1 only", label_scale=100)


def test_one_emotion_is_enough_to_ask_about_the_scale(tmp_path: Path) -> None:
    header = "Filename,Joy,Calm"
    make(tmp_path, header, train=["1,70,0.5"], valid=["2,90,0"])
    refused(tmp_path, "train_split.csv", "reach 70", "--label-scale 100")
    refused(tmp_path, "train_split.csv", "reach 70", targets=["Joy"])
    corpus = load_corpus(tmp_path, targets=["Calm"])
    assert corpus.warnings == ()
    make(tmp_path, header, train=["1,0.7,0.5"], valid=["2,0.9,0"])
    refused(tmp_path, "labels reach 0.7 only", "--label-scale 1", label_scale=100)


def test_other_columns_on_a_larger_scale_are_pointed_out(tmp_path: Path) -> None:
    make(tmp_path, "Filename,Calm,Valence", train=["1,70,-3", "3,,2"], valid=["2,0.5,-1"])
    targets = ["Calm", "Valence"]
    scale, masked = load_corpus(tmp_path, targets=targets).warnings
    assert scale.startswith("train_split.csv: Calm goes from 70 to 70, expected about 0 to 1;")
    assert load_corpus(tmp_path, targets=targets, label_scale=100).warnings == (masked,)


def test_all_zero_labels_have_any_scale(tmp_path: Path) -> None:
    zeros = [0] * 6
    corpus = load_corpus(make(tmp_path, train=[row("1", *zeros)], valid=[row("2", *zeros)]), label_scale=100)
    assert not corpus.splits["train"].labels.any()


def test_a_clip_in_two_splits(tmp_path: Path) -> None:
    make(tmp_path, valid=[row("2"), row("0001.wav")])
    refused(tmp_path, "train_split.csv and valid_split.csv", "0001.wav", allow_speaker_overlap=True)


def test_a_speaker_in_two_splits(tmp_path: Path) -> None:
    header = HEADER + ",Speaker"
    rows = {"train": [row("1", speaker="ann"), row("3", speaker="")], "valid": [row("2", speaker="bob")]}
    make(tmp_path, header, **rows, test=[row("4", speaker="bob"), row("5", speaker="")])
    refused(tmp_path, "valid_split.csv and test_split.csv", "speakers bob", "Give each speaker to one split")
    corpus = load_corpus(tmp_path, allow_speaker_overlap=True)
    assert corpus.warnings == ("valid_split.csv and test_split.csv both name speakers: bob",)
    assert corpus.splits["train"].items[1].speaker is None
    assert "speakers 1\n" in corpus.to_text()
    make(tmp_path, header, **rows | {"train": [row("1", speaker="bob")]})
    refused(tmp_path, "train_split.csv and valid_split.csv both name the speakers bob")


def test_leaks_are_looked_for_in_tables_that_are_not_loaded(tmp_path: Path) -> None:
    header = HEADER + ",Speaker"
    rows = {"train": [row("1", speaker="ann")], "valid": [row("2", speaker="bob")]}
    make(tmp_path, header, **rows, test=[row("3", speaker="ann"), row("4", speaker="cy")])
    both = {"splits": ["train", "valid"]}
    refused(tmp_path, "train_split.csv and test_split.csv both name the speakers ann", **both)
    assert (
        load_corpus(tmp_path, splits=["valid"]).warnings == ()
    )  # valid has nothing in common with the others
    corpus = load_corpus(tmp_path, allow_speaker_overlap=True, **both)
    assert corpus.warnings == ("train_split.csv and test_split.csv both name speakers: ann",)
    make(tmp_path, header, clips=False, **rows, test=[row("02.wav", speaker="cy")])
    refused(tmp_path, "valid_split.csv and test_split.csv both list 02.wav", **both)


def test_a_broken_table_that_is_not_loaded_is_warned_of(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "old_split.csv").write_text("no table at all", encoding="utf-8")
    (warning,) = load_corpus(tmp_path).warnings
    assert warning.startswith("leaks into old_split.csv can't be looked for: ")
    assert "the header is 'no table at all'" in warning


def test_nothing_usable(tmp_path: Path) -> None:
    make(tmp_path, clips=False)
    refused(tmp_path, "no clip of split 'train' can be used", "1: no file of that name")


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path) -> None:
        raise PermissionError("denied")

    make(tmp_path)
    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(CorpusError, match="can't be listed"):
        module.list_media(tmp_path / "audio")
