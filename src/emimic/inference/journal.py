"""The journal of `emimic predict --out FOLDER`: results stored while it runs, so that a killed run can be resumed.

FOLDER/journal.jsonl is JSON lines. The first line names the model and the version of emimic. Every other line holds a
batch, `clips` or `timelines`, and is flushed to the disk once that batch is predicted. An entry holds its file's
absolute path, size and modification time, and is valid while these three stay the same. Values are stored bit for bit,
so the final files don't depend on interruptions. Failures are not stored: these files are tried again.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from emimic.data.transcripts import Word
from emimic.files import make_folder
from emimic.inference.description import hash_model
from emimic.inference.grid import TimelineOptions
from emimic.inference.recording import Recording, split_recording
from emimic.inference.results import Result, Sentence, Speech
from emimic.inference.timeline import Timeline, VoiceSegment
from emimic.journal import JournalFile
from emimic.prediction import Prediction
from emimic.version import __version__

NAME: Final = "journal.jsonl"
SCHEMA: Final = "emimic/journal/1"


_Sentences: TypeAlias = tuple[Speech, tuple[Sentence, ...]]


@dataclass(frozen=True, slots=True)
class Stamp:
    """The identity of a recording's file before it was predicted.

    Attributes:
        file: Absolute path.
        size: Bytes.
        changed: Modification time in ns.
        channel: Number of the channel, counted from 1; None for all channels averaged.
    """

    file: str
    size: int
    changed: int
    channel: int | None = None


def stamp(recording: Recording) -> Stamp | None:
    """Return a recording's stamp; None if it is not a file (standard input, a missing file)."""
    path, number = split_recording(recording)
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return Stamp(os.path.abspath(path), status.st_size, status.st_mtime_ns, number)  # noqa: PTH100 - links stay


class Journal(JournalFile):
    """The journal of a folder; no other process can use the folder until it is closed."""

    def __init__(
        self,
        folder: Path,
        model: Path,
        *,
        targets: tuple[str, ...],
        options: TimelineOptions | None = None,
        fresh: bool = False,
        words: str = "",
    ) -> None:
        """Open the journal and read its results.

        Args:
            folder: Created if missing.
            model: The model's folder.
            targets: Names of the model's intensities.
            options: Of the timelines to read and add; None reads none.
            fresh: Discard the stored results.
            words: Changes with the words that a model takes; empty for a model without.

        Raises:
            EmimicError: Another process uses the folder, or the file is not a journal.
        """
        make_folder(folder)
        key = hash_model(model)
        key = sha256(f"{key} {words}".encode()).hexdigest() if words else key
        head = {"schema": SCHEMA, "emimic": __version__, "model": key}
        super().__init__(folder / NAME, head, fresh=fresh)
        self._targets = targets
        self._clips: dict[Stamp, Result] = {}
        self._options = None if options is None else asdict(options)
        self._timelines: dict[Stamp, Timeline] = {}
        self._sentences: dict[tuple[Stamp, str], _Sentences] = {}
        for entry in self.read_entries():
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # damaged on the disk
                self._take(entry)

    def get_clip(self, mark: Stamp | None, recording: Recording) -> Result | None:
        """Return the stored result under the recording's present path, None without one."""
        result = None if mark is None else self._clips.get(mark)
        path, number = split_recording(recording)
        return None if result is None else replace(result.replace_path(path), channel=number)

    def get_timeline(self, mark: Stamp | None) -> Timeline | None:
        """Return the stored timeline with this journal's options, None without one."""
        return None if mark is None else self._timelines.get(mark)

    def get_sentences(self, mark: Stamp | None, key: str) -> _Sentences | None:
        """Return the stored words and sentences, of words that `key` stands for; None without any."""
        return None if mark is None else self._sentences.get((mark, key))

    def add_clips(self, results: Iterable[tuple[Stamp, Result]]) -> None:
        """Store a batch of results; return when it is on the disk."""
        self._add("clips", [{**_pack_stamp(mark), **pack(result)} for mark, result in results])

    def add_timelines(self, timelines: Iterable[tuple[Stamp, Timeline]]) -> None:
        """Store timelines; return when they are on the disk."""
        options = {"options": self._options}
        self._add(
            "timelines", [{**_pack_stamp(mark), **options, **pack_timeline(line)} for mark, line in timelines]
        )

    def add_sentences(self, mark: Stamp, key: str, speech: Speech, sentences: tuple[Sentence, ...]) -> None:
        """Store a recording's words and sentences; return when they are on the disk."""
        self._add("sentences", [{**_pack_stamp(mark), "key": key, **pack_sentences(speech, sentences)}])

    def _add(self, kind: str, entries: list[dict[str, Any]]) -> None:
        if entries:
            self.append({kind: entries})

    def _take(self, batch: dict[str, Any]) -> None:
        for entry in batch.get("clips", ()):
            self._clips[_unpack_stamp(entry)] = unpack(entry, Path(entry["file"]), self._targets)
        for entry in batch.get("timelines", ()):
            if self._options is not None and self._options == entry.get("options"):
                self._timelines[_unpack_stamp(entry)] = unpack_timeline(entry, self._targets)
        for entry in batch.get("sentences", ()):
            self._sentences[_unpack_stamp(entry), entry["key"]] = unpack_sentences(entry)


def pack(result: Result) -> dict[str, Any]:
    """Return a result as exact, JSON-ready values, without its targets and timeline."""
    prediction = result.prediction
    return {
        "path": str(result.path),
        "seconds": result.seconds,
        "was_cut": result.was_cut,
        "was_padded": result.was_padded,
        "was_silent": result.was_silent,
        "notes": list(result.notes),
        "intensities": _pack_array(prediction.intensities),
        "vad": None if prediction.vad is None else _pack_array(prediction.vad),
        "times": _pack_array(prediction.times),
        "novelty": prediction.novelty,
        "speech": None if result.speech is None else _pack_speech(result.speech),
    }


def unpack(entry: dict[str, Any], recording: Recording, targets: tuple[str, ...]) -> Result:
    """Return the result that `pack` stored, with notes that name the recording's path.

    Raises:
        ValueError, KeyError, TypeError: The entry was not written by `pack`.
    """
    vad = None if entry["vad"] is None else _unpack_array(entry["vad"])
    path, number = split_recording(recording)
    result = Result(
        path=Path(entry.get("path", path)),
        targets=targets,
        seconds=entry["seconds"],
        was_cut=entry["was_cut"],
        was_padded=entry["was_padded"],
        was_silent=entry["was_silent"],
        notes=tuple(entry["notes"]),
        prediction=Prediction(
            _unpack_array(entry["intensities"]), vad, _unpack_array(entry["times"]), novelty=entry["novelty"]
        ),
        channel=number,
        speech=None if entry["speech"] is None else _unpack_speech(entry["speech"]),
    )
    return result.replace_path(path)


_ARRAYS: Final = ("times", "starts", "ends", "intensities", "vad_times", "vad")


def pack_timeline(line: Timeline) -> dict[str, Any]:
    """Return a timeline as exact, JSON-ready values, without its targets."""
    arrays = {name: getattr(line, name) for name in _ARRAYS}
    return {
        "name": line.name,
        "seconds": line.seconds,
        "window": line.window,
        "hop": line.hop,
        "method": line.method,
        "voice_segments": [[segment.start, segment.end] for segment in line.voice_segments],
        **{name: None if array is None else _pack_array(array) for name, array in arrays.items()},
    }


def unpack_timeline(entry: dict[str, Any], targets: tuple[str, ...]) -> Timeline:
    """Return the timeline that `pack_timeline` stored.

    Raises:
        ValueError, KeyError, TypeError: The entry was not written by `pack_timeline`.
    """
    arrays: dict[str, Any] = {
        name: None if entry[name] is None else _unpack_array(entry[name]) for name in _ARRAYS
    }
    return Timeline(
        name=entry["name"],
        seconds=entry["seconds"],
        targets=targets,
        window=entry["window"],
        hop=entry["hop"],
        method=entry["method"],
        voice_segments=tuple(VoiceSegment(start, end) for start, end in entry["voice_segments"]),
        **arrays,
    )


def pack_sentences(speech: Speech, sentences: tuple[Sentence, ...]) -> dict[str, Any]:
    """Return words and sentences as exact, JSON-ready values."""
    return {
        "speech": _pack_speech(speech),
        "sentences": [
            {
                "text": sentence.text,
                "start": sentence.start,
                "end": sentence.end,
                "intensities": _pack_array(sentence.intensities),
                "vad": None if sentence.vad is None else _pack_array(sentence.vad),
            }
            for sentence in sentences
        ],
    }


def unpack_sentences(entry: dict[str, Any]) -> _Sentences:
    """Return what `pack_sentences` stored.

    Raises:
        ValueError, KeyError, TypeError: The entry was not written by `pack_sentences`.
    """
    sentences = tuple(
        Sentence(
            part["text"],
            part["start"],
            part["end"],
            _unpack_array(part["intensities"]),
            None if part["vad"] is None else _unpack_array(part["vad"]),
        )
        for part in entry["sentences"]
    )
    return _unpack_speech(entry["speech"]), sentences


def _pack_speech(speech: Speech) -> dict[str, Any]:
    words = None if speech.words is None else [[word.word, word.start, word.end] for word in speech.words]
    return {"text": speech.text, "source": speech.source, "words": words}


def _unpack_speech(entry: dict[str, Any]) -> Speech:
    words = None if entry["words"] is None else tuple(Word(*word) for word in entry["words"])
    return Speech(entry["text"], words, entry["source"])


def _pack_stamp(mark: Stamp) -> dict[str, Any]:
    channel = {} if mark.channel is None else {"channel": mark.channel}
    return {"file": mark.file, "size": mark.size, "changed": mark.changed, **channel}


def _unpack_stamp(entry: dict[str, Any]) -> Stamp:
    return Stamp(entry["file"], entry["size"], entry["changed"], entry.get("channel"))


def _pack_array(array: NDArray[Any]) -> list[Any]:
    return [array.dtype.str, list(array.shape), b64encode(array.tobytes()).decode()]


def _unpack_array(packed: list[Any]) -> NDArray[Any]:
    kind, shape, data = packed
    return np.frombuffer(b64decode(data), dtype=kind).reshape(shape).copy()
