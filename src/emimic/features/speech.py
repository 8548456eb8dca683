"""Frames of a speech encoder: any that emimic can fine-tune, frozen, as a clip is heard in training."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field

from emimic.data.corpus import Item
from emimic.features import encoder_cache
from emimic.features.extractor import Clip, Job, Options, Outcome, Work, clips, each_written, facts, write
from emimic.features.networks import licence
from emimic.media import decode
from emimic.model.model import EmiModel


class Settings(Options):
    """Which layer, and how frames are kept."""

    layers: int | None = Field(None, ge=1, description="only the encoder's first layers; null: all")
    dtype: Literal["float16", "float32"] = Field("float16", description="of the features on disk")
    batch_seconds: float = Field(60.0, gt=0, exclude=True, description="most audio of one forward pass")


def plan(job: Job, settings: Settings) -> list[Work]:
    """One folder of frames."""
    source = job.need_model("facebook/wav2vec2-base-960h")
    model = EmiModel.from_encoder(
        source, layers=settings.layers, max_seconds=settings.max_seconds or decode.CEILING_SECONDS, vad_head=False,
        lstm=False, regression_head=False,
    )  # fmt: skip
    model = model.eval().to(job.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    place = job.place()

    def make(chosen: Sequence[Clip]) -> Iterator[Outcome]:
        # Clips share batches, so one that can't be read must be known before.
        scanned = list(
            each_written(lambda clip: _check(clip, settings.max_seconds, job.notes), job.workers)(chosen)
        )
        yield from ((clip, reason) for clip, reason in scanned if reason is not None)
        by_id = {clip.id: clip for clip, reason in scanned if reason is None}
        items = [Item(clip.id, clip.path, None, None, float("nan")) for clip in by_id.values()]
        for item, frames in encoder_cache.encode(
            model, items, dtype=settings.dtype, batch_seconds=settings.batch_seconds, workers=job.workers
        ):
            write(place, by_id[item.id], frames)
            yield by_id[item.id], None

    known = facts(
        job,
        settings,
        "torch",
        "transformers",
        weights=encoder_cache.key(model, settings.dtype),
        licence=licence(source),
    )
    return [Work(place, known, clips(job.folder), make, notes=job.notes)]


def _check(clip: Clip, max_seconds: float | None, notes: list[str]) -> None:
    decode.load(clip.path, max_seconds=max_seconds, notes=notes)
