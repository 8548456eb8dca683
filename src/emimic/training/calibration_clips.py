"""Clips of a calibration: those with labels, and those of the novelty score, with a run's predictions of them."""

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from emimic.calibration import Array, Single
from emimic.data.corpus import Item, Split, load_corpus
from emimic.data.loader import BatchOptions, ModelInput, Source, read_batches
from emimic.data.transcripts import add_texts
from emimic.features import frames
from emimic.media import decode
from emimic.model.model import EmiModel
from emimic.task import SAMPLE_RATE, VAD, ModelError

SHORTEST: Final = 0.8
"""Minimum length of a crop of a clip for the novelty score, in seconds."""


def load_splits(
    model: EmiModel, folder: Path, split: str, scale: float | None, *, workers: int, progress: bool
) -> tuple[Split, Split | None]:
    """Return a corpus's training split, and the split that maps are fitted to or None, with words and images."""
    labeled = any((Path(folder) / f"{name}_split.csv").is_file() for name in _list_spellings(split))
    config = model.config
    options: dict[str, Any] = {
        "max_seconds": config.max_seconds, "workers": workers, "progress": progress,
    }  # fmt: skip
    corpus = load_corpus(
        folder,
        targets=tuple(config.targets),
        splits=["train", *([split] if labeled else [])],
        label_scale=scale,
        workers=workers,
        progress=progress,
        partial=True,
        clips=frames.list_clips(folder, config.vision, **options)
        if config.vision and not config.audio
        else None,
    )
    corpus = add_texts(corpus, required=False) if "text" in model.branches else corpus
    corpus = frames.add_frames(corpus, config.vision, **options) if config.vision else corpus
    train, *others = corpus.splits.values()
    return train, others[0] if others else None


def _list_spellings(split: str) -> tuple[str, ...]:
    return ("valid", "val") if split in ("valid", "val") else (split,)


def choose_reference(
    train: Sequence[Item], held: Sequence[Item] | None, clips: int, rng: np.random.Generator
) -> tuple[list[Item], list[Item]]:
    """Return the clips that the novelty score refers to, and those that scale it."""
    rows = rng.permutation(len(train))
    if held is None:
        count = max(1, min(len(rows), clips) // 5)
        return [train[i] for i in np.sort(rows[count:][:clips])], [train[i] for i in np.sort(rows[:count])]
    others = np.sort(rng.permutation(len(held))[:clips])
    return [train[i] for i in np.sort(rows[:clips])], [held[i] for i in others]


def vary_lengths(model: EmiModel, items: Sequence[Item], seed: int) -> Source:
    """Return clips of which a third each is unchanged, cropped, and joined with others, by the seed and a clip's id."""
    clip_format, longest = model.clip_format, round(model.config.max_seconds * SAMPLE_RATE)

    def load(item: Item) -> Single:
        return decode.load(item.path, max_seconds=clip_format.max_seconds, notes=[])

    def read(item: Item, epoch: int) -> ModelInput:
        rng = np.random.default_rng((seed, zlib.crc32(item.id.encode(errors="surrogateescape"))))
        samples, kind = load(item), rng.integers(3)
        if kind == 1 and len(samples) > SHORTEST * SAMPLE_RATE:
            size = round(math.exp(rng.uniform(math.log(SHORTEST * SAMPLE_RATE), math.log(len(samples)))))
            start = rng.integers(len(samples) - size + 1)
            samples = samples[start : start + size]
        elif kind == 2 and len(samples) < longest:
            size = rng.integers(len(samples), longest)
            joined = [samples]
            while (total := sum(map(len, joined))) < size and len(joined) < 100:
                joined.append(load(items[int(rng.integers(len(items)))])[: size - total])
            samples = np.concatenate(joined)
        return ModelInput(clip_format.prepare(samples).samples)

    return Source(items, read)


def predict(model: EmiModel, source: Source, name: str, options: BatchOptions) -> tuple[Array, Single, Array]:
    """Return raw intensities (clip, target), pooled frames (clip, feature), and V/A/D (clip, 3), NaN if not learned.

    A model without a voice has no frames to pool, so no feature.

    Raises:
        ModelError: the model predicts NaN or infinity.
    """
    count, config = len(source.items), model.config
    intensities = np.empty((count, len(config.targets)))
    pooled = np.empty((count, 2 * config.hidden_features if config.audio else 0), np.float32)
    vad = np.full((count, len(VAD)), np.nan)
    for rows, values in read_batches(model, source, range(count), options, label=name):
        predictions = model.predict(values, batch_seconds=options.batch_seconds)
        for row, prediction in zip(rows, predictions, strict=True):
            intensities[row] = prediction.intensities
            if config.audio:
                pooled[row] = prediction.pooled
            if prediction.vad is not None:
                vad[row] = prediction.vad.clip(0.0, 1.0).mean(axis=0)
    if not (np.isfinite(intensities).all() and np.isfinite(pooled).all()):
        raise ModelError(
            f"the model predicts NaN or infinity for clips of {name}; its weights are damaged: use another checkpoint"
        )
    return intensities, pooled, vad
