"""Transcripts by Whisper with the times of the words: `features/transcripts/<id>.json`."""

from pydantic import Field

from emimic.data.transcripts import Transcript, read_all, write
from emimic.features.extractor import Clip, Job, Options, Work, collect_facts, list_clips, process_each
from emimic.features.networks import make_clip_error, read_license
from emimic.features.transcriber import Transcriber
from emimic.media import decode


class Settings(Options):
    """Settings of transcripts."""

    language: str | None = Field(None, description="spoken language, such as en; null: Whisper detects it")


def plan(job: Job, settings: Settings) -> list[Work]:
    """Return the work for one file per clip."""
    source = job.require_model("openai/whisper-base")
    clips = list_clips(job.folder)
    transcriber = Transcriber(source, language=settings.language, device=job.device)
    folder = job.get_folder()

    def make(clip: Clip) -> None:
        samples = decode.load(clip.path, max_seconds=settings.max_seconds, notes=job.notes)
        try:
            transcript = Transcript(clip.id, tuple(transcriber.transcribe(samples)))
        except (RuntimeError, ValueError, IndexError) as error:  # one clip must not stop all others
            raise make_clip_error(source, error) from error
        write(folder / f"{clip.id}.json", transcript)

    facts = collect_facts(
        job, settings, "transformers", weights=transcriber.weights, license=read_license(source)
    )
    # One clip after the other: the model uses all cores by itself.
    return [Work(folder, facts, clips, process_each(make, 1), lambda path: list(read_all(path)), job.notes)]
