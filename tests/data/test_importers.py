"""Published layouts become corpora: votes, masks, speakers, splits, resuming, damaged names."""

import csv
import io
import json
import os
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from json_schema import keeps
from media_files import wav
from typer.testing import CliRunner

from emimic.cli import app
from emimic.cli import corpus as imports
from emimic.data.corpus import load_corpus
from emimic.data.importers import LAYOUTS, ImportReport, find_layout, import_layout, importer
from emimic.data.importers.masks import MASKS, get_category_labels
from emimic.data.importers.msp_podcast import TEST_SETS
from emimic.data.importers.splits import choose_speakers
from emimic.data.importers.trim import trim_zeros
from emimic.task import EMOTIONS, AudioError, CorpusError, SettingsError

TONE = wav(struct.pack("<1600h", *([1000, -1000] * 800)))

# Written again from the README of the data, not taken from `masks`.
WANTED = {
    "anger": "0 0 - - 0 0",
    "boredom": "0 0 0 0 0 0",
    "calm": "0 0 0 0 0 0",
    "contempt": "0 - - 0 0 0",
    "disgust": "0 0 - - - 0",
    "fear": "0 0 - - - 0",
    "happiness": "- - - 0 - 1",
    "neutral": "0 0 0 0 0 0",
    "sadness": "0 0 - - 0 0",
    "surprise": "- - 0 0 - -",
}


def clip(path: Path, data: bytes = TONE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def rows(out: Path, *splits: str) -> dict[str, dict[str, str]]:
    collected = {}
    for split in splits or ("train", "valid", "test"):
        if (table := out / f"{split}_split.csv").is_file():
            with table.open(newline="", encoding="utf-8") as file:
                collected |= {row["Filename"]: row | {"split": split} for row in csv.DictReader(file)}
    return collected


def labels(row: dict[str, str]) -> str:
    return " ".join(row[name] or "-" for name in EMOTIONS)


def bring(name: str, folder: Path, **options: Any) -> tuple[Path, ImportReport]:
    out = folder.parent / "out"
    return out, import_layout(find_layout(name), folder, out, **options)


def ravdess(folder: Path, actors: int = 10) -> Path:
    """All emotions of each actor in a strong repetition, and a song of the first."""
    for actor in range(1, actors + 1):
        for emotion in range(1, 9):
            clip(folder / f"Actor_{actor:02d}" / f"03-01-{emotion:02d}-02-01-01-{actor:02d}.wav")
    clip(folder / "Actor_01" / "03-02-03-01-02-01-01.wav")
    return folder


def emodb(folder: Path, table: bool = True) -> Path:
    for speaker in ("03", "08", "09", "10"):
        for letter in "WLEAFTN":
            clip(folder / "wav" / f"{speaker}a01{letter}a.wav")
    if table:
        lines = ["Nr.\tSatz\terkannt\tnatuerlich", "1\xa0\xa0\t03a01Fa.wav\t90,00\xa0\xa0\t75,00\xa0"]
        lines += ["2\xa0\xa0\t03a01Wa.wav\t95,50\xa0\xa0\t60,00\xa0"]
        (folder / "erkennung.txt").write_text("\n".join(lines) + "\n", encoding="latin-1")
    return folder


def crema_d(folder: Path) -> Path:
    for actor in range(1001, 1006):
        for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"):
            clip(folder / "AudioWAV" / f"{actor}_IEO_{emotion}_HI.wav")
            clip(folder / "AudioMP3" / f"{actor}_IEO_{emotion}_HI.mp3")
    clip(folder / "AudioWAV" / "1001_ITH_SAD_X.wav")
    people = '"ActorID","Age","Sex"\n1001,51,"Male"\n1002,21,"Female"\n1003,21,"Female"\n1004,42,"Female"\n'
    (folder / "VideoDemographics.csv").write_text(people)
    (folder / "processedResults").mkdir()
    return folder


def nemo(folder: Path) -> Path:
    lines = ["file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"]
    for speaker, gender in {"EB0": "female", "KD0": "female", "KS0": "male", "WR0": "male"}.items():
        for emotion in ("anger", "fear", "happiness", "neutral", "sadness", "surprised"):
            name = f"{speaker}_{emotion}_38.wav"
            clip(folder / "samples" / name)
            lines.append(f'{name}\t{emotion}\t"Ród, smoka” to serial.\tród\t        {speaker}\t{gender}\t23')
    (folder / "data.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def msp_podcast(folder: Path, *more: str) -> Path:
    table = [
        "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set",
        "MSP-PODCAST_0001_0001.wav,A,7.0,1.0,4.0,30,Male,Train",
        "MSP-PODCAST_0001_0002.wav,H,4.0,6.5,4.0,30,Male,Train",
        "MSP-PODCAST_0002_0001.wav,X,2.5,4.0,,Unknown,Unknown,Train",
        "MSP-PODCAST_0003_0001.wav,N,3.777778,3.555556,3.777778,39,Female,Development",
        "MSP-PODCAST_0004_0001.wav,C,4.0,4.0,4.0,41,Female,Test1",
        "MSP-PODCAST_0005_0001.wav,U,4.0,4.0,4.0,41,Female,Test2",
        "MSP-PODCAST_0006_0001.wav,,,,,Unknown,Unknown,Test3",
        *more,
    ]
    (folder / "Labels").mkdir(parents=True)
    (folder / "Labels" / "labels_consensus.csv").write_text("\n".join(table) + "\n")
    for line in table[1:8]:
        clip(folder / "Audios" / line.split(",")[0])
    return folder


def test_masks_are_those_of_the_data() -> None:
    for category, wanted in WANTED.items():
        actual = get_category_labels(category)
        assert " ".join(f"{actual[name]:g}" if name in actual else "-" for name in EMOTIONS) == wanted
    assert set(WANTED) == set(MASKS)
    assert get_category_labels("") == {}
    assert get_category_labels("anger", 0.3)["Joy"] == 0.3


@given(
    st.dictionaries(
        st.text("abc0123", min_size=1, max_size=4), st.sampled_from(["male", "female", ""]), min_size=2
    ),
    st.data(),
)
def test_speakers_are_drawn_by_gender_and_always_the_same(
    genders: dict[str, str], data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, len(genders) - 1))
    drawn = choose_speakers(genders, "x", n)
    assert len(drawn) == n
    assert drawn <= set(genders)
    for gender in set(genders.values()):
        part = [speaker for speaker in genders if genders[speaker] == gender]
        assert abs(len(drawn & set(part)) - n * len(part) / len(genders)) < 1
    shuffled = dict(data.draw(st.permutations(list(genders.items()))))
    assert choose_speakers(shuffled, "x", n) == drawn


def test_a_fifth_of_the_speakers_by_default() -> None:
    assert len(choose_speakers(dict.fromkeys(map(str, range(91)), ""), "x")) == 18
    assert len(choose_speakers({"a": "", "b": ""}, "x")) == 1
    with pytest.raises(CorpusError, match="--valid-speakers 0"):
        choose_speakers({"a": ""}, "x")
    assert choose_speakers({"a": ""}, "x", 0) == frozenset()


def test_ravdess(tmp_path: Path) -> None:
    out, report = bring("ravdess", ravdess(tmp_path / "in"))
    actual = rows(out)
    assert len(actual) == 80
    assert report.planned == {"song (--song takes it)": 1}
    emotions = ["neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"]
    for name, row in actual.items():
        assert row["Emotion"] == emotions[int(name[6:8]) - 1]
        assert labels(row) == WANTED[row["Emotion"]]
        assert row["Speaker"] == f"ravdess-{name[18:20]}"
        assert row["Gender"] == ("male" if int(name[18:20]) % 2 else "female")
        assert (row["Intensity"], row["Statement"]) == ("strong", "Kids are talking by the door")
    valid = {row["Gender"]: row["Speaker"] for row in rows(out, "valid").values()}
    assert set(valid) == {"male", "female"}
    assert report.splits == {"train": {"clips": 64, "speakers": 8}, "valid": {"clips": 16, "speakers": 2}}
    corpus = load_corpus(out)
    assert corpus.targets == EMOTIONS
    assert len(corpus.splits["train"].items) == 64
    assert not corpus.splits["train"].left_out


def test_ravdess_song_video_and_copies(tmp_path: Path) -> None:
    folder = ravdess(tmp_path / "in")
    clip(folder / "Actor_01" / "01-01-03-01-02-01-01.mp4")
    clip(folder / "copy" / "Actor_01" / "03-01-01-02-01-01-01.wav")
    clip(folder / "Actor_01" / "03-01-09-02-01-01-01.wav")  # no ninth emotion
    clip(folder / "Actor_01" / "._03-01-01-02-01-01-01.wav")  # what a Mac leaves
    out, report = bring("ravdess", folder, song=True, valid_speakers=4)
    song = rows(out)["03-02-03-01-02-01-01.wav"]
    assert (song["Channel"], song["Intensity"]) == ("song", "normal")
    assert report.splits["valid"]["speakers"] == 4
    assert sum(report.planned.values()) == 1
    assert set(report.left_out) == {
        str(Path("copy", "Actor_01", "03-01-01-02-01-01-01.wav")),
        "03-01-09-02-01-01-01.wav",
    }
    assert "Left out (2):" in report.to_text()
    assert "3 left out" in report.to_text()


def test_emodb(tmp_path: Path) -> None:
    out, report = bring("emodb", emodb(tmp_path / "in"), valid_speakers=2)
    actual = rows(out)
    assert actual["03a01Fa.wav"]["Joy"] == "0.9"
    assert labels(actual["03a01Wa.wav"]) == WANTED["anger"]
    assert actual["03a01Wa.wav"]["RecognizedPercent"] == "95.5"
    assert actual["08a01Fa.wav"]["Joy"] == "1"  # not in the table
    assert {row["Gender"] for row in rows(out, "valid").values()} == {"male", "female"}
    assert actual["03a01Na.wav"] | {"split": ""} == {
        "Filename": "03a01Na.wav",
        **dict.fromkeys(EMOTIONS, "0"),
        "Speaker": "emodb-03",
        "Emotion": "neutral",
        "Gender": "male",
        "Sentence": "a01",
        "RecognizedPercent": "",
        "NaturalPercent": "",
        "split": "",
    }
    assert not report.notes
    assert len(load_corpus(out).splits["train"].items) == 14


def test_emodb_without_listeners_or_with_a_damaged_table(tmp_path: Path) -> None:
    folder = emodb(tmp_path / "in", table=False)
    out, report = bring("emodb", folder)
    assert rows(out)["03a01Fa.wav"]["Joy"] == "1"
    assert "no erkennung.txt" in report.notes[0]
    for text in ("", "1\t03a01Fa.wav\t900,00\t75,00\n", "1\t03a01Fa.wav\t?\t?\n"):
        (folder / "erkennung.txt").write_text(text)
        with pytest.raises(CorpusError, match=r"erkennung\.txt: found"):
            bring("emodb", folder)


COUNTS = """"","A","F","H","N","fileName","numResponses","meanHappyResp"
"100001",0,0,6,4,"1001_IEO_HAP_HI",10,80.5
"100002",8,0,2,0,"1001_IEO_ANG_HI",10,50
"100003",0,0,0,9,"1001_IEO_NEU_HI",9,-1
"100004",0,0,1,4,"1001_ITH_SAD_XX",5,100
"200001",0,0,10,0,"1001_IEO_NEU_HI",10,100
"300001",0,0,10,0,"1001_IEO_ANG_HI",10,100
"""
VOTES = """"","queryType","clipName","respEmo","respLevel"
"1",1,"1001_IEO_HAP_HI","H",90
"2",1,"1001_IEO_HAP_HI","H",70
"3",1,"1001_IEO_HAP_HI","N",99
"4",1,"1001_IEO_HAP_HI","A",50
"5",2,"1001_IEO_HAP_HI","H",99
"6",3,"1001_IEO_ANG_HI","H",99
"7",1,"1001_IEO_ANG_HI","A",99
"""
MAJORITY = """"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel"
"1","1001_IEO_HAP_HI","F:H","54.75:61.00","H","79.25"
"2","1001_IEO_ANG_HI","A","62.5","H","80"
"""


def test_crema_d_joy_is_the_fraction_of_votes_times_their_level(tmp_path: Path) -> None:
    folder = crema_d(tmp_path / "in")
    (folder / "processedResults" / "tabulatedVotes.csv").write_text(COUNTS)
    (folder / "finishedResponses.csv").write_text(VOTES)  # the better table counts
    out, report = bring("crema-d", folder, valid_speakers=1)
    actual = rows(out)
    assert len(actual) == 31
    assert all(name.endswith(".wav") for name in actual)
    assert labels(actual["1001_IEO_HAP_HI.wav"]) == "- - - 0 - 0.483"
    assert labels(actual["1001_IEO_ANG_HI.wav"]) == "0 0 - - 0 0.1"
    assert labels(actual["1001_IEO_NEU_HI.wav"]) == "0 0 0 0 0 0"
    assert actual["1001_ITH_SAD_X.wav"]["Joy"] == "0.2"
    assert labels(actual["1002_IEO_HAP_HI.wav"]) == WANTED["happiness"]  # without votes
    row = actual["1001_IEO_HAP_HI.wav"]
    assert [row[name] for name in ("Speaker", "Gender", "Age", "Sentence", "Intensity")] == [
        "crema-d-1001", "male", "51", "IEO", "high",
    ]  # fmt: skip
    assert actual["1005_IEO_HAP_HI.wav"]["Gender"] == ""  # not among the actors
    assert report.notes == ("27 clips have no votes: their Joy is 1 for happiness, else as masked",)
    assert not report.left_out
    assert load_corpus(out, splits=["train"]).targets == EMOTIONS


@pytest.mark.parametrize(
    ("table", "text", "happy", "angry", "notes"),
    [
        ("finishedResponses.csv", VOTES, "0.4", "0", 1),
        ("processedResults/summaryTable.csv", MAJORITY, "0.305", "0", 2),
        (None, "", "1", "0", 1),
    ],
)
def test_crema_d_other_tables(
    tmp_path: Path, table: str | None, text: str, happy: str, angry: str, notes: int
) -> None:
    folder = crema_d(tmp_path / "in")
    if table:
        (folder / table).write_text(text)
    out, report = bring("crema-d", folder)
    actual = rows(out)
    assert actual["1001_IEO_HAP_HI.wav"]["Joy"] == happy
    assert actual["1001_IEO_ANG_HI.wav"]["Joy"] == angry
    assert len(report.notes) == notes


def test_nemo(tmp_path: Path) -> None:
    folder = nemo(tmp_path / "in")
    out, _ = bring("nemo", folder)
    actual = rows(out)
    row = actual["WR0_surprised_38.wav"]
    assert labels(row) == WANTED["surprise"]
    assert [row[name] for name in ("Speaker", "Emotion", "Gender", "Age", "Sentence", "Text")] == [
        "nemo-WR0", "surprise", "male", "23", "38", '"Ród, smoka” to serial.',
    ]  # fmt: skip
    assert len(rows(out, "valid")) == 6
    assert len(load_corpus(out).splits["train"].items) == 18
    (folder / "data.tsv").unlink()
    again, report = bring("nemo", folder)
    assert "Text" not in rows(again)["WR0_surprised_38.wav"]
    assert "no data.tsv" in report.notes[0]


def test_msp_podcast(tmp_path: Path) -> None:
    out, report = bring("msp-podcast", msp_podcast(tmp_path / "in"))
    actual = rows(out)
    assert {name[12:21]: row["split"] for name, row in actual.items()} == {
        "0001_0001": "train", "0001_0002": "train", "0002_0001": "train", "0003_0001": "valid", "0004_0001": "test",
    }  # fmt: skip
    row = actual["MSP-PODCAST_0001_0001.wav"]
    assert [row[name] for name in ("Arousal", "Dominance", "Valence")] == ["1", "0.5", "0"]
    assert (row["Speaker"], row["Gender"], row["Emotion"]) == ("msp-podcast-30", "male", "anger")
    unrated = actual["MSP-PODCAST_0002_0001.wav"]
    assert labels(unrated) == "- - - - - -"
    assert [unrated[name] for name in ("Arousal", "Dominance", "Speaker", "Gender")] == ["0.25", "", "", ""]
    assert labels(actual["MSP-PODCAST_0004_0001.wav"]) == WANTED["contempt"]
    assert report.planned == {"of Test2": 1, "of Test3": 1}
    assert not report.left_out
    corpus = load_corpus(out)
    assert len(corpus.splits["train"].items) == 3
    np.testing.assert_allclose(
        corpus.splits["valid"].items[0].vad, np.array([2.777778, 2.777778, 2.555556]) / 6, rtol=1e-5
    )


def test_msp_podcast_other_test_set_and_damaged_rows(tmp_path: Path) -> None:
    folder = msp_podcast(
        tmp_path / "in",
        "MSP-PODCAST_0007_0001.wav,A,4,4,4,1,Male,Train",
        "MSP-PODCAST_0008_0001.wav,A,9.5,4,4,1,Male,Train",
        "MSP-PODCAST_0009_0001.wav,Q,4,4,4,1,Male,Train",
    )
    clip(folder / "Audios" / "MSP-PODCAST_0008_0001.wav")
    clip(folder / "Audios" / "MSP-PODCAST_0009_0001.wav")
    clip(folder / "Audios" / "MSP-PODCAST_0010_0001.wav")
    out, report = bring("msp-podcast", folder, test_set="Test2")
    assert list(rows(out, "test")) == ["MSP-PODCAST_0005_0001.wav"]
    assert {name[12:16]: reason.split(";")[0] for name, reason in report.left_out.items()} == {
        "0007": "is in labels_consensus.csv, but no recording has this name",
        "0008": "EmoAct is 9.5",
        "0009": "EmoClass is Q",
        "0010": "has no row in labels_consensus.csv",
    }
    with (folder / "Labels" / "labels_consensus.csv").open("a") as file:
        file.write("MSP-PODCAST_0011_0001.wav,A,4\n")
    with pytest.raises(CorpusError, match="row 12 has 3 fields, expected 8"):
        bring("msp-podcast", folder)
    (folder / "Labels" / "labels_consensus.csv").write_text("FileName,EmoClass\n")
    with pytest.raises(CorpusError, match="expected EmoAct, EmoDom, EmoVal"):
        bring("msp-podcast", folder)
    (folder / "Labels" / "labels_consensus.csv").unlink()
    with pytest.raises(CorpusError, match="does not exist"):
        bring("msp-podcast", folder)


def test_a_corpus_in_part_names_its_targets(tmp_path: Path) -> None:
    for speaker in ("03", "08"):
        clip(tmp_path / "in" / f"{speaker}a01Fa.wav")
    out, report = bring("emodb", tmp_path / "in")
    header = (out / "train_split.csv").read_text().splitlines()[0]
    assert header == "Filename,Empathic Pain,Joy,Speaker,Emotion,Gender,Sentence"
    assert report.targets == ("Empathic Pain", "Joy")
    assert report.notes[-1].endswith("--set targets='[Empathic Pain, Joy]'")
    assert load_corpus(out, targets=("Empathic Pain", "Joy")).targets == report.targets


def test_an_import_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = emodb(tmp_path / "in"), tmp_path / "out"
    real, calls = importer.files.write_atomically, []

    def full(path: Path, data: bytes | str) -> None:
        calls.append(path)
        if len(calls) == 6:
            raise OSError(28, "No space left on device")
        real(path, data)

    with monkeypatch.context() as broken:
        broken.setattr(importer.files, "write_atomically", full)
        with pytest.raises(CorpusError, match=r"can't be written.*rerun the command to resume"):
            bring("emodb", folder, workers=1)
    assert not list(out.glob("*.csv"))
    files = {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()}
    assert 0 < len(files) < 28
    _, report = bring("emodb", folder)
    assert (report.made, report.skipped) == (28 - len(files), len(files))
    assert {path: path.stat().st_mtime_ns for path in files} == files
    tables = {path.name: path.read_bytes() for path in out.glob("*.csv")}
    whole = import_layout(LAYOUTS["emodb"], folder, tmp_path / "b")
    assert (whole.made, whole.skipped) == (28, 0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "b").glob("*.csv")} == tables
    assert (out / "audio" / "03a01Fa.wav").read_bytes() == TONE
    # Without validation, its table goes; the clips are not listed twice.
    _, report = bring("emodb", folder, valid_speakers=0)
    assert (report.made, list(report.splits)) == (0, ["train"])
    assert not (out / "valid_split.csv").exists()
    assert len(load_corpus(out, splits=["train"]).splits["train"].items) == 28


def test_what_is_no_recording_is_named(tmp_path: Path) -> None:
    folder = emodb(tmp_path / "in")
    (folder / "wav" / "03a01Fa.wav").write_bytes(b"")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72862\n"
    (folder / "wav" / "03a01Wa.wav").write_bytes(pointer)
    (folder / "wav" / "notes.wav").write_bytes(TONE)
    out, report = bring("emodb", folder)
    assert report.failed["03a01Fa.wav"].startswith("is empty")
    assert "git lfs pull" in report.failed["03a01Wa.wav"]
    assert list(report.left_out) == ["notes.wav"]
    assert set(rows(out)).isdisjoint({*report.failed, "notes.wav"})
    written = json.loads((out / "import.json").read_text())
    keeps("data/importers/import_schema.json", written, {**written, "report": None})
    assert written["report"]["failed"] == report.failed
    for path in (folder / "wav").iterdir():
        path.write_bytes(pointer)
    with pytest.raises(CorpusError, match=r"none of 28 recordings can be used .*git lfs pull"):
        import_layout(LAYOUTS["emodb"], folder, tmp_path / "other")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_of_something_else(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    if name == "msp-podcast":
        (folder / "Labels").mkdir(parents=True)
        (folder / "Labels/labels_consensus.csv").write_text(
            "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
        )
    clip(folder / "holiday.wav")
    with pytest.raises(CorpusError) as caught:
        bring(name, folder)
    message = str(caught.value)
    assert "found 1 recording such as holiday.wav" in message
    assert LAYOUTS[name].expected in message
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    folder, out = emodb(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    (out / "train_split.csv").write_text("mine")
    with pytest.raises(CorpusError, match=r"holds train_split\.csv and no import\.json"):
        bring("emodb", folder)
    assert (out / "train_split.csv").read_text() == "mine"
    with pytest.raises(CorpusError, match="lies in"):
        import_layout(LAYOUTS["emodb"], folder, folder / "out")
    with pytest.raises(CorpusError, match="is not a folder"):
        import_layout(LAYOUTS["emodb"], tmp_path / "nowhere", tmp_path / "b")
    import_layout(LAYOUTS["emodb"], folder, tmp_path / "b")
    with pytest.raises(CorpusError, match="was imported as"):
        import_layout(LAYOUTS["emodb"], folder, tmp_path / "b", trim=True)
    (tmp_path / "b" / "import.json").write_text("{")
    with pytest.raises(CorpusError, match=r"import\.json can't be read"):
        import_layout(LAYOUTS["emodb"], folder, tmp_path / "b")


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    for name, options, message in (
        ("emodb", {"link": True, "trim": True}, "--link and --trim"),
        ("emodb", {"song": True}, "emodb has no option --song"),
        ("nemo", {"test_set": "Test2"}, "nemo has no option --test-set"),
        ("msp-podcast", {"valid_speakers": 3}, "msp-podcast has no option --valid-speakers"),
    ):
        with pytest.raises(SettingsError, match=message):
            import_layout(LAYOUTS[name], tmp_path, tmp_path / "out", **options)
    with pytest.raises(CorpusError, match=r"found 'x', expected a corpus of crema-d, ravdess"):
        find_layout("x")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_links(tmp_path: Path) -> None:
    folder = emodb(tmp_path / "in")
    out, _ = bring("emodb", folder, link=True)
    link = out / "audio" / "03a01Fa.wav"
    assert link.is_symlink()
    assert link.resolve() == (folder / "wav" / "03a01Fa.wav").resolve()
    moved = folder.rename(tmp_path / "moved")
    _, report = bring("emodb", moved, link=True)
    assert report.made == 28  # links that lead nowhere are made again
    assert len(load_corpus(out).splits["train"].items) > 0


@pytest.mark.parametrize(("channels", "bits"), [(1, 16), (2, 16), (1, 8), (2, 24)])
def test_zeros_at_the_end_are_trimmed(channels: int, bits: int) -> None:
    size = channels * bits // 8
    silence = b"\x80" if bits == 8 else b"\0"
    loud = bytes([7]) + silence * (size - 1)  # one low byte in the first channel only
    data = silence * size * 3 + loud + silence * size * 5
    trimmed = trim_zeros(wav(data, channels=channels, bits=bits))
    with wave.open(io.BytesIO(trimmed)) as sound:
        assert sound.getnframes() == 4
        assert sound.readframes(4) == silence * size * 3 + loud
        assert (sound.getnchannels(), sound.getsampwidth() * 8, sound.getframerate()) == (
            channels,
            bits,
            16_000,
        )
    assert trim_zeros(trimmed) is trimmed
    with pytest.raises(AudioError, match="digital zeros only"):
        trim_zeros(wav(silence * size * 9, channels=channels, bits=bits))


def test_trimming_an_import(tmp_path: Path) -> None:
    folder = emodb(tmp_path / "in")
    sound = b"\1\2" * 800
    (folder / "wav" / "03a01Fa.wav").write_bytes(wav(sound + b"\0\0" * 800))
    (folder / "wav" / "03a01Wa.wav").write_bytes(wav(b"\0\0" * 800))
    (folder / "wav" / "03a01Na.wav").write_bytes(b"no sound")
    out, report = bring("emodb", folder, trim=True)
    assert soundfile.info(out / "audio" / "03a01Fa.wav").frames == 800
    assert "zeros only" in report.failed["03a01Wa.wav"]
    assert "no PCM WAV" in report.failed["03a01Na.wav"]
    assert set(rows(out)).isdisjoint(report.failed)


def test_a_failed_import_may_be_tried_with_other_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = emodb(tmp_path / "in")
    for path in (folder / "wav").iterdir():
        path.write_bytes(b"ID3 as if mp3")
    with pytest.raises(CorpusError, match="leave --trim out"):
        bring("emodb", folder, trim=True)

    def refuse(*_: Any) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    with monkeypatch.context() as windows:
        windows.setattr(Path, "symlink_to", refuse)
        with pytest.raises(CorpusError, match="leave --link out"):
            bring("emodb", folder, link=True)
    _, report = bring("emodb", folder)
    assert report.made == 28


def test_the_command(tmp_path: Path) -> None:
    assert [str(name) for name in imports.Published] == list(LAYOUTS)
    assert tuple(imports.TestSet) == TEST_SETS
    folder = emodb(tmp_path / "in")
    words = ["import", "emodb", str(folder), "--out", str(tmp_path / "out"), "--valid-speakers", "1", "-q"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "28 clips made, 0 were there, 0 failed, 0 left out" in done.output
    assert "valid: clips 7, speakers 1" in done.output
    (folder / "wav" / "03a02Fa.wav").write_bytes(b"")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "03a02Fa.wav: is empty" in done.output
