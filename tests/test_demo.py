"""`make demo` shows what it promises: more joy in the happy sentence, and a burst's own emotion the highest."""

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
SAMPLE = emimic.sample.folder()
BURSTS = {
    name: SAMPLE / "audio" / file
    for file, name in re.findall(
        r"^\tcp \S+/audio/(\S+) demo/clips/burst-(\w+)\.mp3$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
}
SENTENCES = {path.stem: path for path in (SAMPLE / "speech").iterdir() if path.suffix != ".csv"}


@pytest.fixture(scope="module")
def intensities() -> dict[str, dict[str, float]]:
    """By clip and emotion, of the model in the package."""
    predictor = emimic.load()
    results = {name: predictor(path) for name, path in {**BURSTS, **SENTENCES}.items()}
    return {
        name: dict(zip(result.targets, map(float, result.prediction.intensities), strict=True))
        for name, result in results.items()
    }


@pytest.mark.parametrize("speaker", ["man", "woman"])
def test_a_happy_sentence_has_more_joy(speaker: str, intensities: dict[str, dict[str, float]]) -> None:
    happy, angry = intensities[f"{speaker}-happy"], intensities[f"{speaker}-angry"]
    assert happy["Joy"] > angry["Joy"], (happy, angry)


@pytest.mark.parametrize("emotion", ["Amusement", "Joy"])
def test_a_burst_has_most_of_its_own_emotion(emotion: str, intensities: dict[str, dict[str, float]]) -> None:
    burst = intensities[emotion.lower()]
    assert max(burst, key=burst.__getitem__) == emotion, burst


def test_a_neutral_burst_has_little_of_any(intensities: dict[str, dict[str, float]]) -> None:
    own = min(intensities["amusement"]["Amusement"], intensities["joy"]["Joy"])
    assert max(intensities["neutral"].values()) < own, intensities["neutral"]


def test_the_bursts_are_what_their_names_say() -> None:
    with (SAMPLE / "test_split.csv").open(newline="", encoding="utf-8") as handle:
        rows = {row["Filename"]: row for row in csv.DictReader(handle)}
    meant = {
        name: [emotion.lower() for emotion in EMOTIONS if float(rows[path.stem][emotion])] or ["neutral"]
        for name, path in BURSTS.items()
    }
    assert meant == {"amusement": ["amusement"], "joy": ["joy"], "neutral": ["neutral"]}
    assert len({rows[path.stem]["Speaker"] for path in BURSTS.values()}) == 1


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
