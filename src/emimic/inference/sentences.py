"""Sentences of a recording, each predicted as a clip of its own."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic import batching
from emimic.data.transcripts import Word, join_words
from emimic.files import make_writable
from emimic.inference.timeline import round_values
from emimic.inference.words import Speech, WordFinder
from emimic.media.waveform import Wave, is_silent
from emimic.task import SAMPLE_RATE, VAD, AudioError

Reader = Callable[[list[str]], Iterator[Wave]]
"""Function that yields a recording in blocks (sample,), and adds remarks about it to a list."""

PAUSE: Final = 1.0
"""Seconds without a word that end an utterance."""

MARGIN: Final = 0.1
"""Seconds of sound kept around a sentence, up to its neighbors: a transcriber's times are about that exact."""

_ENDS: Final = (".", "!", "?", "…", "。", "！", "？", "।", "؟")
_CLOSING: Final = "\"'”’»)]}"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence or utterance, and the prediction of its sound.

    Attributes:
        text: Its words.
        start: Of its first word, in seconds.
        end: Of its last word, in seconds.
        intensities: (target,); NaN for silence.
        vad: (3,) mean arousal, dominance, valence; None if the model has not learned V/A/D.
    """

    text: str
    start: float
    end: float
    intensities: NDArray[np.float32]
    vad: NDArray[np.float32] | None

    def to_fields(self, targets: Sequence[str]) -> dict[str, Any]:
        """Return JSON-ready values."""
        fields = {
            "text": make_writable(self.text),
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "intensities": dict(zip(targets, round_values(self.intensities), strict=True)),
        }
        if self.vad is not None:
            fields["vad"] = dict(zip(VAD, round_values(self.vad), strict=True))
        return fields


def split_words(words: Sequence[Word], max_seconds: float) -> list[tuple[Word, ...]]:
    """Return the words of each sentence.

    A sentence ends with `.`, `!`, `?` or `…`, or before a pause. One over `max_seconds` is divided at its longest
    pauses.
    """
    sentences: list[list[Word]] = []
    ended = True
    for word in words:
        if not word.word.strip():
            continue
        if ended or word.start - sentences[-1][-1].end >= PAUSE:
            sentences.append([])
        sentences[-1].append(word)
        ended = _ends_sentence(word.word)
    return [part for sentence in sentences for part in _divide(tuple(sentence), max_seconds)]


def _ends_sentence(word: str) -> bool:
    text = word.strip().rstrip(_CLOSING)
    is_initial = len(text) == 2 and text[0].isupper() and text[1] == "."
    return text.endswith(_ENDS) and not is_initial


def _divide(words: tuple[Word, ...], max_seconds: float) -> Iterator[tuple[Word, ...]]:
    waiting = [words]
    while waiting:
        part = waiting.pop()
        if len(part) == 1 or part[-1].end - part[0].start <= max_seconds:
            yield part
            continue
        pauses = [later.start - earlier.end for earlier, later in pairwise(part)]
        middle = (len(pauses) - 1) / 2
        # Of equal pauses that next to the middle, so that parts are not single words.
        cut = max(range(len(pauses)), key=lambda i: (round(pauses[i], 3), -abs(i - middle))) + 1
        waiting += [part[cut:], part[:cut]]


def list_spans(sentences: Sequence[Sequence[Word]]) -> list[tuple[float, float]]:
    """Return (start, end) in seconds of the sound of each sentence, with a margin that no neighbor's word is in."""
    spans = []
    for i, words in enumerate(sentences):
        start, end = words[0].start, words[-1].end
        before = sentences[i - 1][-1].end if i else 0.0
        after = sentences[i + 1][0].start if i + 1 < len(sentences) else np.inf
        spans.append((max(start - MARGIN, min(before, start)), min(end + MARGIN, max(after, end))))
    return spans


def cut_spans(blocks: Iterable[Wave], spans: Sequence[tuple[float, float]]) -> Iterator[Wave]:
    """Yield the samples of each span of a recording that comes in blocks (sample,), in order of their starts.

    Only the sound from the present span's start on is held. A span has at least one sample, also beyond the end.
    """
    source = iter(blocks)
    held, first = np.empty(0, np.float32), 0
    for start, end in spans:
        since, until = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
        while first + len(held) < until and (block := next(source, None)) is not None:
            drop = min(max(since - first, 0), len(held))
            held, first = np.concatenate([held[drop:], block]), first + drop
        samples = held[max(since - first, 0) : max(until - first, 0)]
        yield samples if len(samples) else np.zeros(1, np.float32)


def find_words(finder: WordFinder, path: Path, read: Reader) -> Speech:
    """Return the words of a recording, with their times.

    Args:
        finder: Of words.
        path: Of the recording, whose stem names its transcript.
        read: Reads the recording.

    Raises:
        AudioError: The recording can't be used, or has no words with times.
    """
    speech = finder.find(path, lambda: read([]), timed=True)
    if speech is None or speech.words is None:
        raise AudioError(
            f"{path}: found no words with times, expected {path.stem}.json of `emimic features --kind transcripts` in "
            "the folder of transcripts. Add it, or name a Whisper model (--transcriber)"
        )
    return speech


def predict_sentences(
    engine: Any,
    blocks: Iterable[Wave],
    words: Sequence[Word],
    *,
    prepare: Callable[[Wave, str], Any],
    batch_seconds: float,
    on_progress: Callable[[float], object] = lambda seconds: None,
) -> tuple[Sentence, ...]:
    """Predict each sentence of a recording.

    Args:
        engine: The model.
        blocks: The recording's samples at 16 kHz, (sample,) each.
        words: What is said, in order.
        prepare: Makes the engine's input of a sentence's samples and words.
        batch_seconds: Maximum seconds of audio per forward pass.
        on_progress: Called with the seconds done.

    Raises:
        ModelError: The model predicts NaN.
    """
    parts = split_words(words, engine.spec.max_seconds)
    waves = cut_spans(blocks, list_spans(parts))
    sentences: list[Sentence] = []
    for rows in batching.split(range(len(parts))):
        sounds = [next(waves) for _ in rows]
        texts = [join_words(parts[row]) for row in rows]
        clips = [prepare(sound, text) for sound, text in zip(sounds, texts, strict=True)]
        predictions = engine.predict(clips, batch_seconds=batch_seconds)
        for row, sound, text, prediction in zip(rows, sounds, texts, predictions, strict=True):
            vad = None if prediction.vad is None else prediction.vad.mean(axis=0)
            intensities = prediction.intensities
            if is_silent(sound):
                intensities = np.full_like(intensities, np.nan)
                vad = None if vad is None else np.full_like(vad, np.nan)
            start, end = parts[row][0].start, parts[row][-1].end
            sentences.append(Sentence(text, start, end, intensities, vad))
        on_progress(sentences[-1].end)
    return tuple(sentences)
