"""The words of clips: the column `Text` of a corpus's tables, `transcripts/ID.txt`, or transcripts with times."""

import dataclasses
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from emimic.data.corpus import Corpus
from emimic.data.headers import TEXT
from emimic.data.items import Item, Split
from emimic.data.split_tables import get_clip_key, list_some
from emimic.files import check_file, read_json, write_atomically
from emimic.task import CorpusError

FOLDER: Final = "transcripts"
"""The folder of plain texts in a corpus, and of transcripts with times among its features."""

SCHEMA: Final = "emimic/transcript/1"


@dataclass(frozen=True, slots=True)
class Word:
    """A word as Whisper writes it, often with a space before it, and its time in seconds."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """A clip's words in order."""

    id: str
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The text of all words."""
        return "".join(word.word for word in self.words)


def join_words(words: Iterable[Word]) -> str:
    """Return the text of words, tidied."""
    return tidy("".join(word.word for word in words))


def write(file: Path, transcript: Transcript) -> None:
    """Write a clip's transcript, atomically."""
    values = {"schema": SCHEMA, **asdict(transcript), "text": transcript.text}
    write_atomically(file, json.dumps(values, ensure_ascii=False) + "\n")


def read(file: Path) -> Transcript:
    """Return the transcript in a file of `write`.

    Raises:
        CorpusError: if it can't be read.
    """
    try:
        check_file(file)
        values = read_json(file)
        words = tuple(
            Word(str(word["word"]), float(word["start"]), float(word["end"])) for word in values["words"]
        )
        return Transcript(str(values["id"]), words)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{file} can't be read ({error}); delete it and make it again") from error


def read_all(folder: Path) -> dict[str, Transcript]:
    """Return the transcripts of a folder by clip key.

    Raises:
        CorpusError: if a file can't be read, or two are of one clip.
    """
    transcripts: dict[str, Transcript] = {}
    for file in sorted(folder.glob("[!.]*.json")):
        if file.name == "features.json":
            continue
        transcript = read(file)
        if transcripts.setdefault(get_clip_key(transcript.id), transcript) is not transcript:
            raise CorpusError(
                f"{file} holds clip {transcript.id!r}, as another file there does; delete one of them"
            )
    return transcripts


def read_text(file: Path) -> str:
    """Return the text in a plain file in UTF-8, on one line.

    Raises:
        CorpusError: if it can't be read.
    """
    try:
        check_file(file)
        return tidy(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{file} can't be read ({error}); expected a text in UTF-8") from error


def tidy(text: str) -> str:
    """Return a text with composed letters, and single spaces in place of line breaks and other blanks."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def list_texts(folder: Path) -> dict[str, Path]:
    """Return clip key -> its plain text file in a folder; empty where there is no folder.

    Raises:
        CorpusError: if two files are of one clip.
    """
    files: dict[str, Path] = {}
    for file in sorted(folder.glob("[!.]*.txt")):
        if (other := files.setdefault(get_clip_key(file.stem), file)) is not file:
            raise CorpusError(f"{other} and {file.name} are of the same clip; delete one of them")
    return files


def add_texts(corpus: Corpus, *, required: bool = True) -> Corpus:
    """Return a corpus whose clips have their words (`Item.text`), and a warning per split where some have none.

    A clip's words are the field of the column `Text`, else `transcripts/ID.txt`, else its transcript among the
    features. Blank ones count as none.

    Args:
        corpus: without words.
        required: some clip of each split must have words.

    Raises:
        CorpusError: if a file can't be read, or no clip of a split has words where they are required.
    """
    texts = list_texts(corpus.folder / FOLDER)
    transcripts = read_all(corpus.folder / "features" / FOLDER)
    notes: list[str] = []
    splits = {
        name: _add_to_split(corpus.folder, split, texts, transcripts, notes, required=required)
        for name, split in corpus.splits.items()
    }
    return dataclasses.replace(corpus, splits=splits, warnings=(*corpus.warnings, *notes))


def _add_to_split(
    folder: Path,
    split: Split,
    texts: Mapping[str, Path],
    transcripts: Mapping[str, Transcript],
    notes: list[str],
    *,
    required: bool,
) -> Split:
    items = [_add_to_item(item, texts, transcripts) for item in split.items]
    missing = [item.id for item in items if item.text is None]
    if required and items and len(missing) == len(items):
        raise CorpusError(
            f"{folder}: no clip of split {split.name!r} has words; expected a column {TEXT}, {FOLDER}/ID.txt, or "
            "transcripts of `emimic features --kind transcripts`"
        )
    if missing:
        notes.append(
            f"{split.name}: {len(missing)} of {len(items)} clips have no words and are used without: "
            f"{list_some(missing)}"
        )
    return dataclasses.replace(split, items=tuple(items))


def _add_to_item(item: Item, texts: Mapping[str, Path], transcripts: Mapping[str, Transcript]) -> Item:
    key = get_clip_key(item.id)
    text = item.row.get(find_column(item.row) or "", "")
    if not text and key in texts:
        text = read_text(texts[key])
    if not text and key in transcripts:
        text = transcripts[key].text
    return dataclasses.replace(item, text=tidy(text) or None)


def find_column(header: Mapping[str, str] | Sequence[str]) -> str | None:
    """Return the column of a table with the words, `Text` in any case; None without one."""
    return next((name for name in header if name.casefold() == TEXT.casefold()), None)
