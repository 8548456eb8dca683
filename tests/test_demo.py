"""`make demo`: more joy in the happy sentence, and the emotion of a burst is its highest."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

import emimic
import emimic.sample
from emimic.media import decode
from emimic.task import EMOTIONS

ROOT = Path(__file__).parent.parent
SAMPLE = emimic.sample.get_folder()
SENTENCES = {path.stem: path for path in (SAMPLE / "speech").iterdir() if path.suffix != ".csv"}
CLIPS = {
    Path(to).stem: ROOT / source
    for source, to in re.findall(
        r"^\tcp (\S+) demo/clips/(\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE
    )
}
"""The clips that `make demo` predicts, by the names that it gives them."""


def test_the_clips_are_what_their_names_say() -> None:
    assert list(CLIPS) == ["sentence-happy", "sentence-angry", "burst-amusement"]
    happy, angry, burst = CLIPS.values()
    assert [happy.stem, angry.stem] == ["woman-happy", "woman-angry"]
    with (SAMPLE / "test_split.csv").open(newline="", encoding="utf-8") as handle:
        rows = {row["Filename"]: row for row in csv.DictReader(handle)}
    assert [name for name in EMOTIONS if float(rows[burst.stem][name])] == ["Amusement"]


def test_the_predictions_are_as_promised() -> None:
    predictor = emimic.load()
    happy, angry, burst = (
        dict(zip(result.targets, map(float, result.prediction.intensities), strict=True))
        for result in map(predictor, CLIPS.values())
    )
    assert happy["Joy"] > angry["Joy"], (happy, angry)
    assert max(burst, key=burst.__getitem__) == "Amusement", burst


def test_the_sentences_are_pairs_listeners_recognized() -> None:
    with (SAMPLE / "speech" / "sources.csv").open(newline="", encoding="utf-8") as handle:
        rows = {Path(row["File"]).stem: row for row in csv.DictReader(handle)}
    assert set(rows) == set(SENTENCES)
    assert {rows[name]["File"] for name in rows} == {path.name for path in SENTENCES.values()}
    for speaker, sex in (("man", "male"), ("woman", "female")):
        happy, angry = rows[f"{speaker}-happy"], rows[f"{speaker}-angry"]
        assert (happy["Emotion"], angry["Emotion"]) == ("happiness", "anger")
        assert happy["Sex"] == sex
        assert all(happy[name] == angry[name] for name in ("Speaker", "Sex", "Sentence", "German", "English"))
        assert min(float(row["Recognized"]) for row in (happy, angry)) >= 95
    for row in rows.values():  # EmoDB's file names: speaker, sentence, emotion (Freude, Wut), version
        code = {"happiness": "F", "anger": "W"}[row["Emotion"]]
        assert re.fullmatch(rf"{row['Speaker'][-2:]}{row['Sentence']}{code}[a-z]", row["Source"])
    notice = (SAMPLE / "README.md").read_text(encoding="utf-8")
    assert all(words in notice for words in ("CC0-1.0", "Interspeech 2005", "audeering/emodb"))


@pytest.mark.parametrize("path", SENTENCES.values(), ids=SENTENCES)
def test_no_sentence_ends_in_padding(path: Path) -> None:
    samples = decode.load(path)
    assert 1.5 < len(samples) / 16_000 <= 2.0
    assert np.abs(samples[-160:]).max() >= 1e-4
