"""Headers that are nearly right, columns that number rows, and which table an error is about."""

import pytest
from make_corpora import HEADER, make, refused, row, wav

from emimic.data.corpus import load_corpus
from emimic.data.headers import find_close
from emimic.task import EMOTIONS, VAD, CorpusError
from emimic.training.corpora import load_corpora
from emimic.training.settings import TrainSettings


@pytest.mark.parametrize(
    ("column", "known"),
    [
        ("speaker", "Speaker"), ("SPEAKER", "Speaker"), ("Speaker ID", "Speaker"), ("speaker_id", "Speaker"),
        ("SpkrID", "Speaker"), ("Speeker", "Speaker"), ("File", "Filename"), ("file_name", "Filename"),
        ("joy", "Joy"), ("JOY", "Joy"), ("Empathic_Pain", "Empathic Pain"), ("EmpathicPain", "Empathic Pain"),
        ("Admiraton", "Admiration"), ("Amusment", "Amusement"), ("Ｊｏｙ", "Joy"), ("arousal", "Arousal"),
        ("\u200bJoy", "Joy"),
    ],
)  # fmt: skip
def test_names_close_to_known_ones(column, known):
    assert find_close(column) == known


@pytest.mark.parametrize(
    "name",
    ["", "Speaker", "Gender", "Age", "Emotion", "Category", "Sentence", "Intensity", "Calm", "Amused", "Triumph",
     "Excited", "Anger", "Fear", "Sex", "ActorName", "Toy", "Enjoyment", *EMOTIONS, *VAD],
)  # fmt: skip
def test_names_of_their_own(name):
    assert find_close(name) is None


@pytest.mark.parametrize("column", ["speaker", "SPEAKER", "Speaker ID", "spkr"])
def test_a_speaker_column_spelled_otherwise(column, tmp_path):
    rows = {"train": [row("1", speaker="anna")], "valid": [row("2", speaker="anna")]}
    make(tmp_path, f"{HEADER},{column}", **rows)
    refused(tmp_path, "train_split.csv: the header has", repr(column), "no Speaker", "Rename it to Speaker")
    refused(tmp_path, repr(column), labels=False)
    (tmp_path / "train_split.csv").write_text(f"{HEADER},Speaker\n{row('1', speaker='anna')}\n")
    refused(tmp_path, "valid_split.csv: the header has")


def test_an_emotion_spelled_otherwise(tmp_path):
    make(tmp_path, HEADER.replace("Joy", "joy"))
    refused(tmp_path, "train_split.csv: the header has 'joy' and no Joy", HEADER.replace("Joy", "joy"))
    make(tmp_path, f"{HEADER},joy", train=[row("1") + ",1"], valid=[row("2") + ",1"])
    refused(tmp_path, "train_split.csv: found both Joy and 'joy'")
    assert load_corpus(tmp_path, targets=["joy"]).targets == ("joy",)  # who names it means it


def test_spaces_around_a_name_are_none(tmp_path):
    make(tmp_path, HEADER.replace("Joy", " Joy\u00a0").replace("Filename", " Filename"))
    assert load_corpus(tmp_path).targets == EMOTIONS


def test_a_filename_column_spelled_otherwise(tmp_path):
    make(tmp_path, HEADER.replace("Filename", "File"))
    refused(tmp_path, "train_split.csv: the header is", "Is 'File' the Filename?")


def test_labels_of_a_category_table_spelled_otherwise(tmp_path):
    make(tmp_path, "Filename,Kind", train=["1,a"], valid=["2,a"])
    (tmp_path / "targets.csv").write_text("Kind,joy\na,1\n", encoding="utf-8")
    refused(tmp_path, "targets.csv: the header has 'joy' and no Joy")


def test_another_table_spells_its_speakers_otherwise(tmp_path):
    make(tmp_path, HEADER + ",Speaker", train=[row("1", speaker="a")], valid=[row("2", speaker="b")])
    (tmp_path / "old_split.csv").write_text("Filename,speaker\n3,a\n", encoding="utf-8")
    (note,) = load_corpus(tmp_path).warnings
    assert note.startswith("leaks into old_split.csv can't be looked for")
    assert "'speaker' and no Speaker" in note


def test_of_several_corpora_each_is_asked(tmp_path):
    (tmp_path / "one").mkdir()
    one = make(tmp_path / "one")
    (tmp_path / "two").mkdir()
    two = make(tmp_path / "two", "Filename,joy", train=["3,1"], valid=["4,0"])
    settings = TrainSettings(encoder=None, encoder_config={"model_type": "wav2vec2"})
    with pytest.raises(CorpusError, match=r"two.train_split\.csv: the header has 'joy' and no Joy"):
        load_corpora([one, two], settings, progress=False)


@pytest.mark.parametrize("name", ["Unnamed: 0", "Unnamed: 0.1", "index", "level_0", "id", "Number", "Take"])
def test_columns_that_number_rows_are_no_targets(name, tmp_path):
    rows = {"train": ["0,1,0.5", "1,3,0.1", "2,4,0.2"], "valid": ["0,2,0.5"]}
    make(tmp_path, f"{name},Filename,Calm", clips=False, **rows)
    for n in "1234":
        wav(tmp_path / "audio" / f"{n}.wav")
    corpus = load_corpus(tmp_path)
    assert corpus.targets == ("Calm",)
    assert f"train_split.csv: {name} only numbers the rows" in corpus.warnings[0]
    assert load_corpus(tmp_path, targets=[name]).targets == (name,)


@pytest.mark.parametrize("name", ["Unnamed: 0", "Unnamed: 0_x", "index_y"])
def test_an_index_that_a_merge_left_with_gaps(name, tmp_path):
    make(tmp_path, f"Filename,{name},Calm", train=["1,5.0,.5", "3,,.5", "4,9.0,.1"], valid=["2,0,.5"])
    assert load_corpus(tmp_path, scan=False).targets == ("Calm",)


def test_an_index_alone_is_no_label(tmp_path):
    make(tmp_path, ",Filename,Unnamed: 0", clips=False, train=["0,1,7", "1,3,9"], valid=["0,2,8"])
    refused(tmp_path, "train_split.csv: no label column among")


def test_whole_labels_are_labels(tmp_path):
    make(tmp_path, "Filename,Calm,no", train=["1,1,0", "3,0,0", "5,1,1"], valid=["2,0,1"])
    assert load_corpus(tmp_path).targets == ("Calm", "no")


def test_shuffled_ids_of_many_rows_are_no_labels(tmp_path):
    rows = [f"{n},{n * 37 % 101},{n % 2}" for n in range(1, 31)]
    make(tmp_path, "Filename,Take,Calm", train=rows, valid=["90,5,1"])
    assert load_corpus(tmp_path, scan=False).targets == ("Calm",)


def test_the_table_without_a_column_is_named_with_both_headers(tmp_path):
    make(tmp_path)
    short = "Filename,Admiration,Amusement"
    for wrong, right in (("train", "valid"), ("valid", "train")):
        (tmp_path / f"{right}_split.csv").write_text(f"{HEADER}\n{row('2')}\n", encoding="utf-8")
        (tmp_path / f"{wrong}_split.csv").write_text(f"{short}\n1,0,1\n", encoding="utf-8")
        refused(
            tmp_path,
            f"{wrong}_split.csv has no column Determination, Empathic Pain",
            f"found {short.replace(',', ', ')}; {right}_split.csv has {HEADER.replace(',', ', ')}",
        )
