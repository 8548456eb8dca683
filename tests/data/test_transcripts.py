"""Words of clips: from a table, plain texts or transcripts, always those of the clip itself."""

import json
from pathlib import Path

import pytest
from make_corpora import HEADER, make, row

from emimic.data.corpus import load_corpus
from emimic.data.transcripts import Transcript, Word, add_texts, read_all, read_text, write
from emimic.task import CorpusError


def say(corpus: Path, clip: str, words: str) -> None:
    file = corpus / "transcripts" / f"{clip}.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text(words, encoding="utf-8")


def texts(corpus: Path, split: str = "train") -> dict[str, str | None]:
    return {item.id: item.text for item in add_texts(load_corpus(corpus)).splits[split].items}


def test_words_come_from_the_table_else_a_text_else_a_transcript(tmp_path: Path) -> None:
    train = [f'{row("1")},"  well,  done "', *(f"{row(clip)}," for clip in ("2", "3", "4"))]
    make(tmp_path, f"{HEADER},text", train=train, valid=[f"{row('9')},so"])
    say(tmp_path, "00001", "not this")
    say(tmp_path, "0002", "wow\n cafe\u0301 ")
    transcripts = tmp_path / "features" / "transcripts"
    transcripts.mkdir(parents=True)
    for number in (2, 3):
        transcript = Transcript(str(number), (Word(" I", 0, 0.1), Word(" am", 0.1, 0.2)))
        write(transcripts / f"{number}.json", transcript)
        assert read_all(transcripts)[str(number)] == transcript
    assert texts(tmp_path) == {"1": "well, done", "2": "wow caf\u00e9", "3": "I am", "4": None}
    corpus = add_texts(load_corpus(tmp_path))
    assert "train: 1 of 4 clips have no words and are used without: 4" in corpus.warnings
    assert corpus.targets == load_corpus(tmp_path).targets


def test_a_column_of_words_is_no_label_even_if_they_are_numbers(tmp_path: Path) -> None:
    make(tmp_path, "Filename,Smile,Text", train=["1,0.5,42", "2,.1,7"], valid=["3,0.5,1"])
    assert load_corpus(tmp_path).targets == ("Smile",)


def test_a_corpus_without_words_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(CorpusError, match="no clip of split 'train' has words; expected a column Text"):
        add_texts(load_corpus(tmp_path))


def test_two_texts_of_one_clip_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    say(tmp_path, "1", "so")
    say(tmp_path, "0001", "sorry")
    with pytest.raises(CorpusError, match=r"0001\.txt and 1\.txt are of the same clip"):
        texts(tmp_path)
    (tmp_path / "transcripts" / "0001.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CorpusError, match="expected a text in UTF-8"):
        read_text(tmp_path / "transcripts" / "0001.txt")
    broken = tmp_path / "features" / "transcripts" / "1.json"
    broken.parent.mkdir(parents=True)
    broken.write_text(json.dumps({"id": "1", "words": [{"word": "so"}]}))
    with pytest.raises(CorpusError, match=r"1\.json can't be read"):
        read_all(broken.parent)
