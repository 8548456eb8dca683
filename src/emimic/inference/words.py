"""The words of recordings to predict: from a folder of transcripts, or transcribed on the fly."""

import hashlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emimic.data.split_tables import get_clip_key
from emimic.data.transcripts import Transcript, Word, join_words, list_texts, read_all, read_text
from emimic.install import install
from emimic.media.waveform import Wave
from emimic.task import AudioError, ModelError, SettingsError


@dataclass(frozen=True, slots=True)
class WordSource:
    """Where words come from.

    Attributes:
        transcripts: Folder of ID.json (`emimic features --kind transcripts`) or ID.txt; None without one.
        transcriber: Whisper model for recordings without a transcript there: a folder, or a name on the hub; None
            without one.
        language: Spoken language, such as en; None: Whisper detects it.
        device: Of the transcriber, as torch names it.
    """

    transcripts: Path | None = None
    transcriber: str | None = None
    language: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Speech:
    """What is said in a recording.

    Attributes:
        text: On one line.
        words: With their times; None of a plain text.
        source: The transcript's file, or the transcriber.
    """

    text: str
    words: tuple[Word, ...] | None
    source: str

    def cut(self, seconds: float) -> "Speech":
        """Return the words that start before a time; of a plain text all."""
        if self.words is None:
            return self
        words = tuple(word for word in self.words if word.start < seconds)
        return Speech(join_words(words), words, self.source)


class WordFinder:
    """Finds the words of recordings; threads may share one."""

    def __init__(self, source: WordSource) -> None:
        """Read the transcripts and open the transcriber.

        Raises:
            ModelError: The transcriber can't be loaded.
            SettingsError: Neither is given, or the folder of transcripts is missing.
            CorpusError: A transcript can't be read, or two are of one recording.
        """
        if source.transcripts is None and source.transcriber is None:
            raise SettingsError(
                "found no source of words, expected one: name a Whisper model (--transcriber), or a folder of "
                "transcripts (--transcripts)"
            )
        self.source = source
        self._transcripts: dict[str, Transcript] = {}
        self._texts: dict[str, Path] = {}
        if (folder := source.transcripts) is not None:
            if not folder.is_dir():
                raise SettingsError(
                    f"{folder} is no folder; expected one with transcripts, ID.json or ID.txt"
                )
            self._transcripts, self._texts = read_all(folder), list_texts(folder)
        self._transcriber = None if source.transcriber is None else _open_transcriber(source)
        self._lock = threading.Lock()

    @property
    def key(self) -> str:
        """16 hex digits that change with anything that decides on words."""
        digest = hashlib.sha256(repr((self.source.transcriber, self.source.language)).encode())
        if self._transcriber is not None:
            digest.update(self._transcriber.weights.encode())
        for name, transcript in sorted(self._transcripts.items()):
            digest.update(repr((name, transcript)).encode(errors="surrogateescape"))
        for name, file in sorted(self._texts.items()):
            digest.update(name.encode(errors="surrogateescape") + file.read_bytes())
        return digest.hexdigest()[:16]

    def find(self, path: Path, read: Callable[[], Iterable[Wave]], *, timed: bool = False) -> Speech | None:
        """Return the words of a recording; None where there is no source of them.

        Args:
            path: Of the recording, whose stem names its transcript.
            read: Returns its samples at 16 kHz in blocks (sample,); called if it is transcribed.
            timed: A plain text, which has no times, is passed over.

        Raises:
            AudioError: The recording can't be read, or the transcriber fails on it.
        """
        key = get_clip_key(path.stem)
        if (transcript := self._transcripts.get(key)) is not None:
            return Speech(join_words(transcript.words), transcript.words, str(self.source.transcripts))
        if (file := self._texts.get(key)) is not None and not timed:
            return Speech(read_text(file), None, str(file))
        if self._transcriber is None:
            return None
        try:
            with self._lock:
                words = tuple(self._transcriber.transcribe_blocks(read()))
        except (RuntimeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            raise AudioError(f"{path}: {self.source.transcriber} can't transcribe it ({reason})") from error
        return Speech(join_words(words), words, str(self.source.transcriber))


def _open_transcriber(source: WordSource) -> Any:
    try:
        from emimic.features.transcriber import Transcriber
    except ModuleNotFoundError as error:
        raise ModelError(
            f"a transcriber needs {error.name}, which isn't installed: {install('train')}, or give --transcripts"
        ) from error
    return Transcriber(str(source.transcriber), language=source.language, device=source.device)
