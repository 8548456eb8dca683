"""Transcripts by Whisper with the times of the words: `features/transcripts/<id>.json`."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import Field

from emimic.data.split_tables import get_clip_key
from emimic.features import encoder_cache, store
from emimic.features.extractor import Clip, Job, Options, Work, collect_facts, list_clips, process_each
from emimic.features.networks import load_pretrained, make_clip_error, make_load_error, read_license
from emimic.files import check_file, read_json, write_atomically
from emimic.media import decode
from emimic.media.waveform import Wave
from emimic.task import SAMPLE_RATE, CorpusError, ModelError

SCHEMA: Final = "emimic/transcript/1"


class Settings(Options):
    """Settings of transcripts."""

    language: str | None = Field(None, description="spoken language, such as en; null: Whisper detects it")


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


_Recognizer = Callable[[Wave], list[Word]]


def plan(job: Job, settings: Settings) -> list[Work]:
    """Return the work for one file per clip."""
    source = job.require_model("openai/whisper-base")
    clips = list_clips(job.folder)
    recognize, weights = _load_recognizer(source, job, settings)
    folder = job.get_folder()

    def make(clip: Clip) -> None:
        samples = decode.load(clip.path, max_seconds=settings.max_seconds, notes=job.notes)
        try:
            transcript = Transcript(clip.id, tuple(recognize(samples)))
        except (RuntimeError, ValueError, IndexError) as error:  # one clip must not stop all others
            raise make_clip_error(source, error) from error
        values = {"schema": SCHEMA, **asdict(transcript), "text": transcript.text}
        write_atomically(folder / f"{clip.id}.json", json.dumps(values, ensure_ascii=False) + "\n")

    facts = collect_facts(job, settings, "transformers", weights=weights, license=read_license(source))
    # One clip after the other: the model uses all cores by itself.
    return [Work(folder, facts, clips, process_each(make, 1), lambda path: list(read_all(path)), job.notes)]


def read_all(folder: Path) -> dict[str, Transcript]:
    """Return the transcripts of a folder by clip key.

    Raises:
        CorpusError: if a file can't be read, or two are of one clip.
    """
    transcripts: dict[str, Transcript] = {}
    for file in sorted(folder.glob("[!.]*.json")):
        if file.name == store.FACTS:
            continue
        try:
            check_file(file)
            values = read_json(file)
            words = tuple(
                Word(str(word["word"]), float(word["start"]), float(word["end"])) for word in values["words"]
            )
            transcript = Transcript(str(values["id"]), words)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{file} can't be read ({error}); delete it and make it again") from error
        if transcripts.setdefault(get_clip_key(transcript.id), transcript) is not transcript:
            raise CorpusError(
                f"{file} holds clip {transcript.id!r}, as another file there does; delete one of them"
            )
    return transcripts


def _load_recognizer(source: str, job: Job, settings: Settings) -> tuple[_Recognizer, str]:
    """Return a function samples (sample,) -> words, and the digest of the model's weights."""
    from transformers import AutoProcessor, WhisperForConditionalGeneration, pipeline

    model = load_pretrained(WhisperForConditionalGeneration, source, "a Whisper model")
    try:
        processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # JSON and hub errors have no other common base
        raise make_load_error(source, "a Whisper model", error) from error
    if not processor.tokenizer.vocab_size:  # transformers makes an empty one where there is none
        raise ModelError(
            f"{source} has no tokenizer; expected Whisper's tokenizer.json, or vocab.json and merges.txt, beside the "
            "weights"
        )
    run_whisper = pipeline(
        "automatic-speech-recognition", model=model.eval(), tokenizer=processor.tokenizer,
        feature_extractor=processor.feature_extractor,
        device=job.device or ("cuda" if torch.cuda.is_available() else "cpu"),
    )  # fmt: skip
    options = {"language": settings.language, "task": "transcribe"} if settings.language else {}

    def recognize(samples: Wave) -> list[Word]:
        output: Any = run_whisper(
            {"raw": samples, "sampling_rate": SAMPLE_RATE},
            return_timestamps="word",
            generate_kwargs=dict(options),
        )
        return list(_parse_words(output["chunks"], len(samples) / SAMPLE_RATE))

    return recognize, encoder_cache.digest_weights(model)


def _parse_words(chunks: Sequence[Any], end: float) -> Iterator[Word]:
    """Yield the pipeline's words, clipped to the clip's end in seconds: times may be missing, or in the padding."""
    for chunk in chunks:
        start, stop = chunk["timestamp"]
        start = min(start or 0.0, end)
        yield Word(chunk["text"], start, max(start, min(end if stop is None else stop, end)))
