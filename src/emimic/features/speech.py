"""Frames of a frozen speech encoder: any that emimic can fine-tune, with the same preparation of clips."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from emimic.data.corpus import Item
from emimic.data.loader import BatchOptions
from emimic.features import encoder_cache, store
from emimic.features.extractor import (
    Clip,
    Job,
    Options,
    Outcome,
    Work,
    collect_facts,
    list_clips,
    process_each,
    write_clip,
)
from emimic.features.networks import read_license
from emimic.media import decode
from emimic.model.model import EmiModel
from emimic.task import ModelError


class Settings(Options):
    """Settings of speech features."""

    layers: int | None = Field(None, ge=1, description="only the encoder's first layers; null: all")
    vad: bool = Field(False, description="V/A/D of the encoder's own head beside each frame (section 4)")
    dtype: Literal["float16", "float32"] = Field("float16", description="of the features on disk")
    batch_seconds: float = Field(60.0, gt=0, exclude=True, description="maximum audio of one forward pass")


def plan(job: Job, settings: Settings) -> list[Work]:
    """Return the work for one folder of frames."""
    source = job.require_model("facebook/wav2vec2-base-960h")
    model = EmiModel.from_encoder(
        source, layers=settings.layers, max_seconds=settings.max_seconds or decode.CEILING_SECONDS,
        vad_head=settings.vad, lstm=False, regression_head=False,
    )  # fmt: skip
    if settings.vad and not model.config.vad_pretrained:
        raise ModelError(
            f"{source} has no V/A/D head, expected one in the audeering layout: set vad=false, or take another encoder"
        )
    model = model.eval().to(job.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder = job.get_folder()

    def make(clips: Sequence[Clip]) -> Iterator[Outcome]:
        # Batches hold several clips, so unreadable ones must be excluded first.
        check = process_each(lambda clip: _check(clip, settings.max_seconds, job.notes), job.workers)
        checked = list(check(clips))
        yield from ((clip, reason) for clip, reason in checked if reason is not None)
        by_id = {clip.id: clip for clip, reason in checked if reason is None}
        items = [Item(clip.id, clip.path, None, None, float("nan")) for clip in by_id.values()]
        options = BatchOptions(settings.batch_seconds, job.workers)
        for item, frames in encoder_cache.encode(model, items, options, dtype=settings.dtype):
            if settings.vad:
                frames = _add_vad(model, frames)
            write_clip(folder, by_id[item.id], frames)
            yield by_id[item.id], None

    facts = collect_facts(
        job,
        settings,
        "torch",
        "transformers",
        weights=encoder_cache.compute_key(model, settings.dtype)
        + (encoder_cache.digest_weights(model.vad) if settings.vad else ""),
        license=read_license(source),
    )
    return [Work(folder, facts, list_clips(job.folder), make, notes=job.notes)]


@torch.inference_mode()
def _add_vad(model: EmiModel, frames: store.Sequence) -> store.Sequence:
    """Return frames (frame, feature) with the V/A/D of each, (frame, feature + 3)."""
    hidden = torch.from_numpy(frames.values).to(model.device).float()
    vad = model.vad(hidden).cpu().numpy().astype(frames.values.dtype)
    return store.Sequence(np.concatenate([frames.values, vad], axis=1), frames.times, frames.present)


def _check(clip: Clip, max_seconds: float | None, notes: list[str]) -> None:
    decode.load(clip.path, max_seconds=max_seconds, notes=notes)
