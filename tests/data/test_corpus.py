"""Corpora in the ABAW layout: what is found, what is left out and named (refused: test_tables.py)."""

import json
import math
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_corpora import HEADER, make, refused, row, wav
from rich.console import Console

from emimic.data import corpus as module
from emimic.data.corpus import Corpus, Item, Split, load_corpus
from emimic.data.split_tables import get_clip_key, list_some
from emimic.media import decode
from emimic.task import EMOTIONS, AudioError, CorpusError

# --- what is found


def test_labels_follow_the_paper_whatever_the_columns_order(tmp_path: Path) -> None:
    header = "Joy,Filename,Excitement,Empathic Pain,Note,Determination,Amusement,Admiration,Speaker"
    rows = {"train": ["0.6,00001,0.5,0.4,hm,0.3,0.2,0.1,ann"], "valid": ["0,7,0,0,hm,0,0,1,bob"]}
    make(tmp_path, header, clips=False, **rows)
    wav(tmp_path / "audio" / "1.wav", 0.5)
    wav(tmp_path / "raw" / "0007.WAV", 1.5)
    corpus = load_corpus(tmp_path)
    assert corpus.targets == EMOTIONS
    train, valid = corpus.splits["train"], corpus.splits["valid"]
    np.testing.assert_array_equal(train.labels, np.float32([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]))
    assert train.labels.dtype == np.float32
    assert (train.items[0].id, train.items[0].path) == ("00001", tmp_path / "audio" / "1.wav")
    assert valid.items[0].path == tmp_path / "raw" / "0007.WAV"
    assert (train.items[0].seconds, valid.items[0].seconds) == (0.5, 1.5)
    assert valid.hours == 1.5 / 3600
    assert (train.speakers, valid.speakers) == (("ann",), ("bob",))
    assert corpus.splits.keys() == {"train", "valid"}


@given(
    st.integers(0, 99_999), st.integers(0, 5), st.sampled_from(["", ".mp3", ".MP4", ".wav"]), st.booleans()
)
def test_spellings_of_a_number_are_one_clip(n: int, zeros: int, suffix: str, spaces: bool) -> None:
    name = "0" * zeros + str(n) + suffix
    assert get_clip_key(f"  {name} " if spaces else name) == str(n)


@given(st.text(st.characters(categories=["L", "N", "Pd", "Pc"], include_characters="."), min_size=1))
def test_only_media_suffixes_and_zeros_are_dropped(name: str) -> None:
    key = get_clip_key(name)
    assert get_clip_key(key + ".mp3") in (key, key.lstrip("0") or "0")
    if not name.isdigit() and Path(name).suffix.lower() not in decode.MEDIA_SUFFIXES:
        assert key == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("name", ["000001-01-1", "clip.v2", "Ä b", "v2.10", "١"])
def test_other_names_stay(name: str) -> None:
    assert get_clip_key(name) == name == get_clip_key(f"{name}.mp3")


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_may_be_spelt_in_two_ways(listed: str, stored: str, tmp_path: Path) -> None:
    make(tmp_path, clips=False, train=[row(unicodedata.normalize(listed, "Märta"))])
    wav(tmp_path / "audio" / (unicodedata.normalize(stored, "Märta") + ".wav"))
    wav(tmp_path / "audio" / "2.wav")
    corpus = load_corpus(tmp_path)
    assert corpus.splits["train"].items[0].id == unicodedata.normalize(listed, "Märta")
    rows = [row(unicodedata.normalize(stored, "Märta"))]
    make(tmp_path, clips=False, train=[row(unicodedata.normalize(listed, "Märta"))], valid=rows)
    refused(tmp_path, "both list")


def test_bom_crlf_spaces_blank_lines_and_an_empty_column(tmp_path: Path) -> None:
    make(tmp_path)
    header = HEADER.replace(",", " , ") + ",,"
    text = "\r\n".join([header, "", " 1 " + row("").replace(",", ", ") + ",,", ""])
    (tmp_path / "train_split.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "valid_split.csv").rename(tmp_path / "val_split.csv")
    corpus = load_corpus(tmp_path)
    assert corpus.splits["train"].listed == ("1",)
    np.testing.assert_array_equal(corpus.splits["train"].labels, [[0, 0.5, 0, 0, 1, 0.25]])
    assert list(corpus.splits) == ["train", "valid"]


def test_both_spellings_of_valid(tmp_path: Path) -> None:
    corpus = load_corpus(make(tmp_path, val=[row("3")]))
    assert corpus.splits["valid"].listed == ("2",)
    assert "val_split.csv was not read" in corpus.warnings[0]


def test_other_numeric_columns_are_targets(tmp_path: Path) -> None:
    header = "Filename,Valence,affect,Arousal,Speaker"
    corpus = load_corpus(
        make(tmp_path, header, train=["a,-0.5,calm,3,1"], valid=["b,,sad,-1,2", "c,1,sad,1,3"])
    )
    assert corpus.targets == ("Valence", "Arousal")
    np.testing.assert_array_equal(corpus.splits["train"].labels, [[-0.5, 3]])
    assert corpus.splits["train"].list_outside() == ("a",)
    message = "the targets are all numeric columns of train_split.csv: Valence, Arousal; name the targets"
    assert corpus.warnings[0].startswith(message)
    assert corpus.warnings[1].startswith("train_split.csv: Arousal goes from 3 to 3")
    assert (
        corpus.warnings[2]
        == "valid_split.csv: 1 clips have unknown targets; scores leave out what is missing"
    )
    np.testing.assert_array_equal(corpus.splits["valid"].labels, [[np.nan, -1], [1, 1]])
    only = load_corpus(tmp_path, targets="Arousal", label_scale=2)
    assert (only.targets, only.warnings) == (("Arousal",), ())
    np.testing.assert_array_equal(only.splits["valid"].labels, [[-0.5], [0.5]])


def test_a_part_of_the_six_is_pointed_out(tmp_path: Path) -> None:
    corpus = load_corpus(make(tmp_path, "Filename,Anger,Joy", train=["1,0,1"], valid=["2,1,0"]))
    assert corpus.targets == ("Anger", "Joy")
    assert "(Joy of the six emotions, the others are missing)" in corpus.warnings[0]


def test_the_test_split_may_have_no_labels(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "test_split.csv").write_text("Filename\n00003\n4.mp4\n", encoding="utf-8")
    wav(tmp_path / "audio" / "3.wav")
    wav(tmp_path / "audio" / "4.wav")
    split = load_corpus(tmp_path).splits["test"]
    assert split.listed == tuple(item.id for item in split.items) == ("00003", "4.mp4")
    assert all(item.labels is None for item in split.items)
    assert "test: rows 2, usable 2, missing 0" in (text := load_corpus(tmp_path).to_text())
    assert "without usable labels 2" in text
    with pytest.raises(CorpusError, match=r"'test' has no labels \(00003, 4.mp4\)"):
        _ = split.labels
    alone = load_corpus(tmp_path, splits="test")
    assert (list(alone.splits), alone.targets) == (["test"], EMOTIONS)


def test_a_test_split_labeled_in_part_keeps_every_clip(tmp_path: Path) -> None:
    corpus = load_corpus(make(tmp_path, test=[row("3"), row("4", "", "", "", "", "", "")]))
    assert [item.labels is None for item in corpus.splits["test"].items] == [False, True]


def test_a_test_table_without_clips_does_not_stop_a_study(tmp_path: Path) -> None:
    make(tmp_path, test=[row("3")])
    (tmp_path / "audio" / "3.wav").unlink()
    split = load_corpus(tmp_path).splits["test"]
    assert (split.listed, split.items, split.hours) == (("3",), (), 0)
    with pytest.raises(CorpusError, match="no usable clip"):
        _ = split.labels
    refused(tmp_path, "'test'", "3: no file", splits=["test"])


def test_labels_may_be_left_unread(tmp_path: Path) -> None:
    odd = [row("3", "much", "", 70, 80, 90, 99), row("4", "", "", "", "", "", "")]
    make(tmp_path, train=odd)
    corpus = load_corpus(tmp_path, splits=["train"], labels=False)
    assert (corpus.targets, corpus.warnings) == (EMOTIONS, ())
    assert [(item.id, item.labels) for item in corpus.splits["train"].items] == [("3", None), ("4", None)]


def test_other_splits_by_name(tmp_path: Path) -> None:
    make(tmp_path, dev=[row("9")])
    assert list(load_corpus(tmp_path, splits=["dev", "val", "dev"]).splits) == ["dev", "valid"]


def test_symlinked_media_folders_are_fine(tmp_path: Path) -> None:
    folder, store = tmp_path / "corpus", tmp_path / "store"
    folder.mkdir()
    make(folder)
    (folder / "audio").rename(store)
    (folder / "audio").symlink_to(store)
    assert not any(split.left_out for split in load_corpus(folder).splits.values())


def test_two_files_of_one_name(tmp_path: Path) -> None:
    make(tmp_path)
    wav(tmp_path / "audio" / "00001.wav")  # beside 1.wav
    wav(tmp_path / "raw" / "2.wav")  # beside audio/2.wav: what preparing leaves, nothing odd
    wav(tmp_path / "audio" / ".1.tmp.wav")
    (tmp_path / "audio" / "1.txt").touch()
    (tmp_path / "audio" / "2.mp3").mkdir()
    corpus = load_corpus(tmp_path)
    assert corpus.warnings == ("1 could be 00001.wav, 1.wav; 00001.wav was taken",)
    assert corpus.splits["valid"].items[0].path == tmp_path / "audio" / "2.wav"


# --- what is left out and named


def damaged(tmp_path: Path) -> Path:
    bad = row("6", 0, "nan", 0, "", 0, "inf")
    make(
        tmp_path,
        train=[row(name) for name in ("1", "3", "4", "5")] + [bad, row("003"), row("7", 0, 0, 0, 0, 0, 1.25)],
    )
    (tmp_path / "audio" / "4.wav").unlink()
    (tmp_path / "audio" / "003.wav").unlink()
    (tmp_path / "audio" / "5.wav").write_text("this is no recording", encoding="utf-8")
    return tmp_path


def test_every_clip_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    corpus = load_corpus(damaged(tmp_path), workers=2)
    train = corpus.splits["train"]
    assert train.listed == ("1", "3", "4", "5", "6", "003", "7")
    assert [item.id for item in train.items] == ["1", "3", "7"]
    left = {clip.id: (clip.kind, clip.reason) for clip in train.left_out}
    assert left["4"] == ("missing", "no file of that name under audio/ or raw/")
    kind, reason = left["5"]
    assert kind == "unreadable"
    assert reason.startswith("audio/5.wav: ")
    assert left["6"] == (
        "label",
        "Amusement is nan, Empathic Pain is empty, Joy is inf, expected a finite number",
    )
    assert left["003"] == ("duplicate", "listed again in line 7; line 3 counts")
    assert corpus.warnings == ("train: kept although a label is outside [0, 1]: 7",)


def test_the_report_is_json_and_counts(tmp_path: Path) -> None:
    report = load_corpus(damaged(tmp_path)).to_dict()
    train = json.loads(json.dumps(report, allow_nan=False))["splits"]["train"]
    left = train.pop("left_out")
    assert left[0] == {"id": "4", "reason": "no file of that name under audio/ or raw/", "kind": "missing"}
    assert train.pop("hours") == pytest.approx(0.3 / 3600)
    assert train == {
        "rows": 7,
        "found": 5,
        "usable": 3,
        "missing": 1,
        "unreadable": 1,
        "duplicates": 1,
        "labels_outside_0_1": 1,
        "labels_not_finite": 1,
        "speakers": None,
    }


def test_the_summary_names_up_to_a_limit(tmp_path: Path) -> None:
    corpus = load_corpus(damaged(tmp_path))
    text = corpus.to_text()
    counts = "rows 7, usable 3, missing 1, unreadable 1, duplicates 1, without usable labels 1"
    assert f"train: {counts}, labels outside [0, 1] 1, hours 0.00, speakers unknown\n" in text
    assert "valid: rows 1, usable 1, missing 0, " in text
    assert "Left out (4):\n  train 4: no file" in text
    assert "Warnings (1):\n  train: kept although" in text
    assert "more" not in text
    assert "  and 2 more" in corpus.to_text(limit=2)


def test_without_a_scan_lengths_are_unknown(tmp_path: Path) -> None:
    corpus = load_corpus(damaged(tmp_path), scan=False)
    train = corpus.splits["train"]
    assert [item.id for item in train.items] == ["1", "3", "5", "7"]
    assert math.isnan(train.items[0].seconds)
    assert math.isnan(train.hours)
    assert corpus.to_dict()["splits"]["train"]["hours"] is None
    assert "hours unknown" in corpus.to_text()


def test_warnings_of_the_decoder_are_reported_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emimic.progress.get_console", lambda: Console(stderr=True, force_terminal=True))
    make(tmp_path)
    path = tmp_path / "audio" / "1.wav"
    path.write_bytes(path.read_bytes()[:-600])
    corpus = load_corpus(tmp_path)
    assert len(corpus.warnings) == 1
    assert corpus.warnings[0].startswith("audio/1.wav: damaged or cut short")
    assert corpus.splits["train"].items[0].seconds == (1600 - 300) / 16_000
    load_corpus(tmp_path, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Reading clips" in captured.err


def test_leaving_early_drops_the_jobs_not_begun() -> None:
    begun: list[int] = []

    def work(n: int) -> int:
        begun.append(n)
        time.sleep(0.005)
        return n

    results = module.run_in_parallel(work, range(500), workers=1, progress=False, text="")
    assert next(results) == 0
    results.close()
    assert len(begun) < 500


def test_items_compare_and_hash() -> None:
    one = Item("1", Path("1.wav"), np.zeros(6, np.float32), None, 1.0)
    assert one == Item("1", Path("1.wav"), np.zeros(6, np.float32), None, 1.0)
    assert len({one, one}) == 1
    assert Split("train", ("1",), (one,), ()).speakers is None


def test_some() -> None:
    assert list_some(["a", "b"]) == "a, b"
    assert list_some(["a", "b", "c"], limit=1) == "a and 2 more"


def test_any_audio_error_leaves_the_clip_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path, **_: Any) -> np.ndarray:
        if path.stem == "3":
            raise AudioError("odd")
        return np.zeros(8, np.float32)

    monkeypatch.setattr(decode, "load", load)
    corpus: Corpus = load_corpus(make(tmp_path, train=[row("1"), row("3")]))
    assert [(clip.id, clip.reason) for clip in corpus.splits["train"].left_out] == [("3", "odd")]
