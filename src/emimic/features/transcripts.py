"""What is said, by Whisper on transformers, with the times of the words: `features/transcripts/<id>.json`."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import Field

from emimic.data.split_tables import clip_key
from emimic.features import encoder_cache, store
from emimic.features.extractor import Clip, Job, Options, Work, clips, each_written, facts
from emimic.features.networks import cannot_load, fails, licence, pretrained
from emimic.files import need_file, read_json, write_atomic
from emimic.media import decode
from emimic.media.waveform import Wave
from emimic.task import SAMPLE_RATE, CorpusError, ModelError

SCHEMA: Final = "emimic/transcript/1"


class Settings(Options):
    """In which language."""

    language: str | None = Field(
        None, description="spoken language, such as en; null: Whisper listens for it"
    )


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
        """All words."""
        return "".join(word.word for word in self.words)


_Recognizer = Callable[[Wave], list[Word]]


def plan(job: Job, settings: Settings) -> list[Work]:
    """One file a clip."""
    source = job.need_model("openai/whisper-base")
    chosen = clips(job.folder)
    hear, known = _recognizer(source, job, settings)
    place = job.place()

    def make(clip: Clip) -> None:
        samples = decode.load(clip.path, max_seconds=settings.max_seconds, notes=job.notes)
        try:
            transcript = Transcript(clip.id, tuple(hear(samples)))
        except (RuntimeError, ValueError, IndexError) as error:  # one clip must not cost the corpus
            raise fails(source, error) from error
        said = {"schema": SCHEMA, **asdict(transcript), "text": transcript.text}
        write_atomic(place / f"{clip.id}.json", json.dumps(said, ensure_ascii=False) + "\n")

    told = facts(job, settings, "transformers", weights=known, licence=licence(source))
    # One clip after the other: the model takes all cores by itself.
    work = each_written(make, 1)
    return [Work(place, told, chosen, work, lambda place: list(read_all(place)), job.notes)]


def read_all(place: Path) -> dict[str, Transcript]:
    """Transcripts of a folder by clip key. Raises CorpusError."""
    found: dict[str, Transcript] = {}
    for file in sorted(place.glob("[!.]*.json")):
        if file.name == store.FACTS:
            continue
        try:
            need_file(file)
            said = read_json(file)
            words = tuple(
                Word(str(word["word"]), float(word["start"]), float(word["end"])) for word in said["words"]
            )
            one = Transcript(str(said["id"]), words)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{file} can't be read ({error}); delete it and make it again") from error
        if found.setdefault(clip_key(one.id), one) is not one:
            raise CorpusError(f"{file} holds clip {one.id!r}, as another file there does; delete one of them")
    return found


def _recognizer(source: str, job: Job, settings: Settings) -> tuple[_Recognizer, str]:
    from transformers import AutoProcessor, WhisperForConditionalGeneration, pipeline

    model = pretrained(WhisperForConditionalGeneration, source, "a Whisper model")
    try:
        processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # JSON and hub errors share no other base
        raise cannot_load(source, "a Whisper model", error) from error
    if not processor.tokenizer.vocab_size:  # transformers makes an empty one where there is none
        raise ModelError(
            f"{source} has no tokenizer; expected Whisper's tokenizer.json, or vocab.json and merges.txt, beside the "
            "weights"
        )
    recognize = pipeline(
        "automatic-speech-recognition", model=model.eval(), tokenizer=processor.tokenizer,
        feature_extractor=processor.feature_extractor,
        device=job.device or ("cuda" if torch.cuda.is_available() else "cpu"),
    )  # fmt: skip
    given = {"language": settings.language, "task": "transcribe"} if settings.language else {}

    def hear(samples: Wave) -> list[Word]:
        heard: Any = recognize(
            {"raw": samples, "sampling_rate": SAMPLE_RATE},
            return_timestamps="word",
            generate_kwargs=dict(given),
        )
        end = len(samples) / SAMPLE_RATE
        return list(_words(heard["chunks"], end))

    return hear, encoder_cache.weights(model)


def _words(chunks: Sequence[Any], end: float) -> Iterator[Word]:
    """The pipeline's words; the last one may lack its end, and times may lie in the silence it pads with."""
    for chunk in chunks:
        start, stop = chunk["timestamp"]
        start = min(start or 0.0, end)
        yield Word(chunk["text"], start, max(start, min(end if stop is None else stop, end)))
