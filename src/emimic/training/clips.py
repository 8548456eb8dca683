"""Clips of a run: their labels, where they are read from, and fingerprints of both."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emimic.data import loader, sampling
from emimic.data.augment import Augment
from emimic.data.corpus import Item
from emimic.data.joins import Joins
from emimic.data.parallel import run_in_parallel
from emimic.features import encoder_cache, image_cache
from emimic.files import fingerprint as sample_content
from emimic.model.model import EmiModel
from emimic.task import VAD, CorpusError
from emimic.training import checkpoint
from emimic.training.learner import make_audio_source, make_readers
from emimic.training.settings import TrainSettings


def get_labels(item: Item) -> NDArray[np.float32]:
    """Return a clip's labels, (target,), NaN where missing. Raises CorpusError where it has none at all."""
    if item.labels is None:
        raise CorpusError(f"clip {item.id} has no labels; training needs them")
    return item.labels


def get_vad(item: Item) -> NDArray[np.float32]:
    """Return a clip's V/A/D labels, (3,), NaN where missing."""
    return np.full(len(VAD), np.nan, np.float32) if item.vad is None else item.vad


def make_source(
    model: EmiModel,
    items: Sequence[Item],
    out: Path,
    settings: TrainSettings,
    fabric: Any,
    show: bool,
    drawn: Sequence[sampling.Pool] = (),
) -> loader.Source:
    """Return what clips are read from: media files, augmented while training, or cached features.

    Args:
        model: that reads them.
        items: the clips.
        out: run folder, of the default caches.
        settings: of the run.
        fabric: its processes, which fill a cache together.
        show: show progress bars.
        drawn: for training clips, how they are drawn.
    """
    source = _make_audio_source(model, items, out, settings, fabric, show, drawn)
    readers = make_readers(model)
    if settings.vision is not None and settings.vision.freeze:
        readers["vision"] = _cache_images(model, items, out, settings, fabric, show)
    return loader.add_branches(source, readers)


def _make_audio_source(
    model: EmiModel,
    items: Sequence[Item],
    out: Path,
    settings: TrainSettings,
    fabric: Any,
    show: bool,
    drawn: Sequence[sampling.Pool],
) -> loader.Source:
    """Return what the clips' audio is read from; arguments as in `make_source`."""
    if settings.freeze_encoder and settings.audio:
        return _cache_features(model, items, out, settings, fabric, show)
    if not drawn or not settings.audio:
        return make_audio_source(model, items)
    changed = settings.augment or settings.codec
    augment = Augment(settings.augment, settings.seed, settings.codec) if changed else None
    source = loader.make_waveform_source(items, model.clip_format, augment, _make_joins(items, settings))
    if not settings.frozen_copies:
        return source
    source = encoder_cache.compute_frozen(
        model,
        source,
        plan_copies(drawn, settings),
        out / checkpoint.FROZEN,
        _make_options(settings, show),
        part=(fabric.global_rank, fabric.world_size),
        dtype=settings.feature_dtype,
    )
    fabric.barrier()
    return source


def _cache_features(
    model: EmiModel, items: Sequence[Item], out: Path, settings: TrainSettings, fabric: Any, show: bool
) -> loader.Source:
    folder, options = _get_cache(out, settings), _make_options(settings, show)
    # Each process computes its part, then all of them find every clip in the cache.
    for part in (items[fabric.global_rank :: fabric.world_size], items):
        source = encoder_cache.compute(model, part, folder, options, dtype=settings.feature_dtype)
        fabric.barrier()
    return source


def _cache_images(
    model: EmiModel, items: Sequence[Item], out: Path, settings: TrainSettings, fabric: Any, show: bool
) -> loader.Reader:
    folder, options = _get_cache(out, settings), _make_options(settings, show)
    if fabric.world_size > 1:  # each process computes its part, then all of them find every clip
        part = items[fabric.global_rank :: fabric.world_size]
        image_cache.compute(model, part, folder, options, dtype=settings.feature_dtype)
        fabric.barrier()
    return image_cache.compute(model, items, folder, options, dtype=settings.feature_dtype)


def _get_cache(out: Path, settings: TrainSettings) -> Path:
    """Return the folder of frozen encoders' features."""
    return Path(settings.features) if settings.features else out / "features"


def _make_options(settings: TrainSettings, show: bool) -> loader.BatchOptions:
    return loader.BatchOptions(settings.seconds_in_batch, settings.workers, show, settings.precision)


def plan_copies(drawn: Sequence[sampling.Pool], settings: TrainSettings) -> list[list[int]]:
    """Return the rows of each copy whose frozen outputs are cached; without a cache, those of the first epoch."""
    copies = min(settings.frozen_copies, settings.epochs)
    epochs = settings.epochs if copies else 1
    return sampling.list_copy_rows(drawn, copies or 1, seed=settings.seed, epochs=epochs)


def _make_joins(items: Sequence[Item], settings: TrainSettings) -> Joins | None:
    """Return what joins and crops training clips; None where settings ask for neither."""
    mixtures = settings.mixtures
    if mixtures is None and not settings.lengths:
        return None
    return Joins.from_items(
        items,
        seed=settings.seed,
        max_seconds=settings.max_seconds,
        lengths=settings.lengths,
        mixed=0.0 if mixtures is None else mixtures.fraction,
        corpora=() if mixtures is None else mixtures.corpora,
    )


def fingerprint(*splits: Sequence[Item]) -> str:
    """Return 16 hex digits that change with the splits' clips, their order or their labels of any kind."""
    digest = hashlib.sha256()
    for items in splits:
        for item in items:
            key = item.key.encode(errors="surrogateescape")  # a file's name may not be UTF-8
            digest.update(key + b"\0" + (b"" if item.labels is None else item.labels.tobytes()))
            digest.update((item.text or "").encode())
            digest.update((b"" if item.vad is None else item.vad.tobytes()) + (item.category or "").encode())
            digest.update(
                "".join(f"\0{name}\0{value}" for name, value in sorted(item.columns.items())).encode()
            )
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def fingerprint_recordings(fabric: Any, items: Sequence[Item], settings: TrainSettings) -> str:
    """Return 16 hex digits that change with the sizes of the clips' files and samples of their content."""

    def sample(item: Item) -> str:
        try:
            return sample_content(item.path, blocks=8)
        except OSError:  # reported when the clip is read; features need no recording
            return ""

    digest = ""
    if fabric.is_global_zero:
        parts = run_in_parallel(sample, items, workers=settings.workers)
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return str(fabric.broadcast(digest)) if fabric.world_size > 1 else digest
