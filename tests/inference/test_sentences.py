"""Sentences: each is predicted from its own sound, wherever blocks end, and written where the field's programs look."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pympi
import pytest
import soundfile
import textgrid
import webvtt
from fake_engine import Fake, burst
from json_schema import keeps
from tiny_transcribers import whisper

from emimic.cli import predict_request
from emimic.cli.predict_request import Request
from emimic.data.transcripts import Transcript, Word, write
from emimic.inference.predictor import Predictor
from emimic.inference.results import Failure, Result
from emimic.inference.sentences import cut_spans, list_spans, predict_sentences, split_words
from emimic.inference.words import Speech, WordFinder, WordSource
from emimic.output import formats, terminal
from emimic.task import EMOTIONS, AudioError, EmimicError, SettingsError

# transformers takes the std of one token's times where only one was said; the command line is silent about it.
pytestmark = pytest.mark.filterwarnings("ignore:std.*degrees of freedom:UserWarning")

WORDS = (
    Word(" Well", 0.2, 0.5), Word(" done,", 0.5, 0.9), Word(" J.", 0.9, 1.0), Word(' Smith!"', 1.0, 1.4),
    Word(" I", 1.5, 1.6), Word(" am", 1.6, 1.9), Word(" so", 3.4, 3.8), Word(" sorry.", 3.8, 4.4),
)  # fmt: skip
TEXTS = ['Well done, J. Smith!"', "I am", "so sorry."]


def say(folder: Path, clip: str = "clip") -> Path:
    folder.mkdir(exist_ok=True)
    write(folder / f"{clip}.json", Transcript(clip, WORDS))
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Five seconds: loud, softer, silent from 3.3 s on."""
    wave = np.concatenate([burst(1.45, level=0.3), burst(1.85, level=0.1), np.zeros(16_000 * 5 - 52_800)])
    soundfile.write(tmp_path / "clip.wav", wave.astype(np.float32), 16_000, "FLOAT")
    return tmp_path / "clip.wav"


def text_of(words: tuple[Word, ...]) -> str:
    return "".join(word.word for word in words).strip()


def test_sentences_end_at_punctuation_and_pauses() -> None:
    assert [text_of(part) for part in split_words(WORDS, 12)] == TEXTS
    assert split_words([], 12) == split_words([Word(" ", 0, 1)], 12) == []


def test_a_sentence_that_is_too_long_is_divided_at_its_longest_pauses() -> None:
    words = [Word(f" w{i}", i + (0.5 if i == 7 else 0.1), i + 1.0) for i in range(20)]
    parts = split_words(words, 12)
    assert [word for part in parts for word in part] == words
    assert len(parts[0]) == 7
    assert all(part[-1].end - part[0].start <= 12 for part in parts)
    assert min(map(len, parts)) > 2
    assert split_words([Word(" long", 0, 90)], 12) == [(Word(" long", 0, 90),)]


def test_the_sound_of_a_sentence_has_a_margin_without_its_neighbors() -> None:
    spans = list_spans(split_words(WORDS, 12))
    assert spans == [pytest.approx(span) for span in ((0.1, 1.5), (1.4, 2.0), (3.3, 4.5))]


@pytest.mark.parametrize("size", [1, 700, 16_000, 10**6])
def test_spans_are_the_same_samples_whatever_the_blocks(size: int) -> None:
    wave = np.arange(3_000 if size == 1 else 64_000, dtype=np.float32)
    blocks = (wave[start : start + size] for start in range(0, len(wave), size))
    spans = [(0.0, 0.05), (0.04, 0.1), (0.1, 0.1), (0.15, 0.9), (7.0, 8.0)]
    for cut, (start, end) in zip(cut_spans(blocks, spans), spans, strict=True):
        wanted = wave[round(start * 16_000) : round(end * 16_000)]
        np.testing.assert_array_equal(cut, wanted if len(wanted) else [0])


def test_each_sentence_is_predicted_as_a_clip(clip: Path) -> None:
    engine = Fake()
    wave = soundfile.read(clip, dtype="float32")[0]

    def prepare(sound: Any, text: str) -> Any:
        texts.append(text)
        return engine.spec.clip_format.prepare(sound).samples

    texts: list[str] = []
    blocks = [wave[:9_000], wave[9_000:]]
    sentences = predict_sentences(engine, blocks, WORDS, prepare=prepare, batch_seconds=30)
    assert texts == TEXTS
    assert [sentence.text for sentence in sentences] == TEXTS
    assert [(sentence.start, sentence.end) for sentence in sentences] == [(0.2, 1.4), (1.5, 1.9), (3.4, 4.4)]
    for sentence, (start, end) in zip(sentences[:2], ((0.1, 1.5), (1.4, 2.0)), strict=True):
        wanted = engine.result(wave[round(start * 16_000) : round(end * 16_000)])
        np.testing.assert_array_equal(sentence.intensities, wanted.intensities)
        np.testing.assert_allclose(sentence.vad, wanted.vad.mean(axis=0), rtol=1e-6)
    assert np.isnan(sentences[2].intensities).all()
    assert np.isnan(sentences[2].vad).all()
    assert predict_sentences(engine, [wave], (), prepare=prepare, batch_seconds=30) == ()


def test_words_are_those_of_the_recording_of_that_name(clip: Path, tmp_path: Path) -> None:
    finder = WordFinder(WordSource(say(tmp_path / "words")))

    def fail() -> Any:
        raise AssertionError("nothing is read where there is a transcript")

    speech = finder.find(Path("elsewhere/clip.mp4"), fail)
    assert speech is not None
    assert speech.text == " ".join(TEXTS)
    assert speech.words == WORDS
    assert speech.cut(1.55) == Speech('Well done, J. Smith!" I', WORDS[:5], str(tmp_path / "words"))
    assert finder.find(Path("other.wav"), fail) is None
    (tmp_path / "words" / "other.txt").write_text("so\nsorry", encoding="utf-8")
    plain = WordFinder(WordSource(tmp_path / "words"))
    assert plain.find(Path("other.wav"), fail) == Speech("so sorry", None, str(tmp_path / "words/other.txt"))
    assert plain.find(Path("other.wav"), fail, timed=True) is None
    assert plain.key != finder.key
    with pytest.raises(SettingsError, match="is no folder"):
        WordFinder(WordSource(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="no source of words"):
        WordFinder(WordSource())


def test_a_transcriber_finds_words_within_the_recording(clip: Path, tmp_path: Path) -> None:
    source = WordSource(transcriber=str(whisper(tmp_path / "whisper")), language="en")
    sentences = Predictor(Fake(), words=source).predict_sentences(clip)
    assert sentences
    assert all(sentence.text and 0 <= sentence.start <= sentence.end <= 5 for sentence in sentences)
    silence = Predictor(Fake(), words=source).predict_sentences(np.zeros(16_000), sample_rate=16_000)
    assert silence == ()


def test_a_recording_without_words_is_an_error(clip: Path, tmp_path: Path) -> None:
    predictor = Predictor(Fake(), words=WordSource(say(tmp_path / "words", "other")))
    with pytest.raises(AudioError, match=r"expected clip\.json"):
        predictor.predict_sentences(clip)
    assert isinstance(predictor.predict_decoded_sentences(clip, batch_seconds=30), Failure)
    with pytest.raises(SettingsError, match="no source of words"):
        Predictor(Fake()).predict_sentences(clip)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sentences": True}, "no source of words"),
        ({"words": WordSource(Path())}, "uses the voice alone"),
        ({"without": ("text",)}, "has one branch alone"),
        ({"sentences": True, "words": WordSource(Path()), "ray": "local"}, "leave out --ray"),
        ({"sentences": True, "words": WordSource(Path()), "files": (), "mic": 1.0}, "leave out --mic"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EmimicError, match=message):
        predict_request.run(Request(**{"files": ("clip.wav",), **options}), print)


def test_results_files_and_the_journal_have_the_sentences(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(
        files=(str(clip),), out=tmp_path / "out", form="json", kinds=("eaf", "textgrid", "vtt"), sentences=True,
        words=WordSource(say(tmp_path / "words")),
    )  # fmt: skip
    results = predict_request.run(request, lambda line: None)
    document = json.loads(capsys.readouterr().out)
    keeps("output/formats/schema.json", document)
    (fields,) = document["clips"]
    assert fields["words"] == {"text": " ".join(TEXTS), "source": str(tmp_path / "words")}
    assert [part["text"] for part in fields["sentences"]] == TEXTS
    assert fields["sentences"][2]["intensities"] == dict.fromkeys(EMOTIONS)
    for line in (tmp_path / "out" / "journal.jsonl").read_text().splitlines():
        keeps("inference/journal_schema.json", json.loads(line))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "sentences.csv").read_text(encoding="utf-8"))))
    assert [(row["Start"], row["End"], row["Text"]) for row in rows] == [
        ("0.200", "1.400", TEXTS[0]), ("1.500", "1.900", TEXTS[1]), ("3.400", "4.400", TEXTS[2]),
    ]  # fmt: skip
    (result,) = results.clips
    assert result.sentences is not None
    assert float(rows[0]["Joy"]) == pytest.approx(result.sentences[0].intensities[5], abs=1e-6)
    assert rows[2]["Joy"] == ""
    _check_tiers(tmp_path / "out", result)
    # A second run takes them from the journal: nothing is predicted again.
    monkeypatch.setattr(Predictor, "predict_decoded_sentences", None)
    again = predict_request.run(request, lambda line: None)
    assert again.to_dict() == results.to_dict()


def _check_tiers(out: Path, result: Result) -> None:
    spans = [(200, 1400, TEXTS[0]), (1500, 1900, TEXTS[1]), (3400, 4400, TEXTS[2])]
    eaf = pympi.Elan.Eaf(out / "clip.eaf")
    assert eaf.get_annotation_data_for_tier("sentences") == spans
    assert result.sentences is not None
    joy = [
        (*span[:2], f"{s.intensities[5]:.3f}") for span, s in zip(spans[:2], result.sentences, strict=False)
    ]
    assert eaf.get_annotation_data_for_tier("Joy (sentences)") == joy
    tiers = {tier.name: tier for tier in textgrid.TextGrid.fromFile(out / "clip.TextGrid")}
    actual = [
        (round(i.minTime * 1000), round(i.maxTime * 1000), i.mark) for i in tiers["sentences"] if i.mark
    ]
    assert actual == spans
    captions = [(c.start, c.end, c.lines[0]) for c in webvtt.read(out / "clip.vtt")]
    assert captions == [
        ("00:00:00.200", "00:00:01.400", TEXTS[0]), ("00:00:01.500", "00:00:01.900", TEXTS[1]),
        ("00:00:03.400", "00:00:04.400", TEXTS[2]),
    ]  # fmt: skip
    assert [len(caption.lines) for caption in webvtt.read(out / "clip.vtt")] == [2, 2, 1]


def test_the_table_and_the_csv_have_a_row_per_sentence(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = Request(
        files=(str(clip),), form="csv", sentences=True, words=WordSource(say(tmp_path / "words"))
    )
    results = predict_request.run(request, lambda line: None)
    printed = capsys.readouterr().out
    assert [row["Text"] for row in csv.DictReader(io.StringIO(printed))] == TEXTS
    assert printed == formats.to_sentences_csv(results)
    terminal.show(results, "table")
    table = capsys.readouterr().out
    assert table.count("clip") == 3
    assert "Well done" in table
