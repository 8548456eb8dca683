"""Frozen encoder features: computed once, kept on disk, read back while only the heads are trained.

A clip's file is named by the hash of its audio file, its folder by everything else that decides the features
(encoder, weights, preparation, type), so that a stale feature can't be read.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emimic import batching
from emimic.data import loader
from emimic.data.corpus import Item
from emimic.features import store
from emimic.files import make_folder, sha256
from emimic.media.waveform import ClipFormat
from emimic.model.model import EmiModel
from emimic.progress import shown

FRONT_ENDS: Final = 0
"""Raise it when an encoder's own front end changes; `ClipFormat.version` covers the steps before it."""


def key(model: EmiModel, dtype: str) -> str:
    """16 hex digits that name the encoder's configuration and weights, the preparation of clips, and the type."""
    digest = hashlib.sha256()
    config = model.config
    settings = {
        **config.encoder_config.to_dict(),
        "_name_or_path": "",
        "dtype": None,
    }  # as before a run is written
    settings.pop("transformers_version", None)
    preparation = [ClipFormat.version + FRONT_ENDS, config.max_seconds, config.do_normalize, dtype]
    if config.padding != "masked":  # as before there was another
        preparation.append(config.padding)
    if config.hidden_layers is not None:
        preparation.append(config.hidden_layers)
    digest.update(json.dumps([settings, preparation], sort_keys=True, default=str).encode())
    return _with_weights(digest, model.encoder)


def weights(module: torch.nn.Module) -> str:
    """16 hex digits that name the weights of a module."""
    return _with_weights(hashlib.sha256(), module)


def _with_weights(digest: "hashlib._Hash", module: torch.nn.Module) -> str:
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def compute(
    model: EmiModel,
    items: Sequence[Item],
    folder: Path,
    *,
    dtype: str = "float16",
    batch_seconds: float = 60.0,
    workers: int = 2,
    progress: bool = False,
) -> loader.Source:
    """Hidden states of every item's clip, (frame, feature), written under `folder` where they aren't there yet.

    Interrupted, it goes on where it stopped; a file that isn't whole is computed again. Returns the source that reads
    them.
    """
    place = folder / key(model, dtype)
    make_folder(place)
    files = {
        item.key: place / f"{sha256(item.path)}{'-trimmed' if item.trim else ''}{store.SUFFIX}"
        for item in items
    }
    missing = [item for item in items if store.clip_of(files[item.key]) is None]
    for item, frames in encode(
        model, missing, dtype=dtype, batch_seconds=batch_seconds, workers=workers, progress=progress
    ):
        # The same recording has the same features in any corpus, so its hash is its id here.
        store.write(files[item.key], files[item.key].stem, frames)

    def read(item: Item, _: int) -> loader.Heard:
        return loader.Heard(store.read(files[item.key], files[item.key].stem).values)

    return loader.Source(items, read, encoded=True)


def encode(
    model: EmiModel,
    items: Sequence[Item],
    *,
    dtype: str = "float16",
    batch_seconds: float = 60.0,
    workers: int = 2,
    progress: bool = False,
) -> Iterator[tuple[Item, store.Sequence]]:
    """Every item with the hidden states of its clip, as they come; clips of similar length go together."""
    source = loader.waveforms(items, model.config, model.min_samples)
    states = _states(
        model,
        source,
        range(len(items)),
        model.encode,
        batch_seconds=batch_seconds,
        workers=workers,
        progress=progress,
    )
    for row, hidden in states:
        yield items[row], store.Sequence.whole(hidden.astype(dtype), model.frame_times(len(hidden)))


def compute_frozen(
    model: EmiModel,
    source: loader.Source,
    copies: Sequence[Sequence[int]],
    folder: Path,
    *,
    share: tuple[int, int] = (0, 1),
    dtype: str = "float16",
    batch_seconds: float = 60.0,
    workers: int = 2,
    progress: bool = False,
) -> loader.Source:
    """The outputs of an encoder's frozen layers, written under `folder` where they aren't there yet.

    source: of waveforms. copies: for each copy the rows of the source that are wanted; copy n is a clip as it is
    in epoch n. share: this process of so many; each computes its own part. Interrupted, it goes on where it stopped.
    Returns the source that reads them: in epoch n copy n modulo their number.
    """
    make_folder(folder)

    def file(row: int, copy: int) -> Path:
        return folder / f"{row}-{copy}{store.SUFFIX}"

    number, of = share
    for copy, rows in enumerate(copies):
        missing = [row for row in rows[number::of] if store.clip_of(file(row, copy)) is None]
        states = _states(
            model,
            source,
            missing,
            model.encode_frozen,
            epoch=copy,
            batch_seconds=batch_seconds,
            workers=workers,
            progress=progress,
        )
        for row, values in states:
            frames = store.Sequence.whole(values.astype(dtype), model.frame_times(len(values)))
            store.write(file(row, copy), source.items[row].id, frames)
    places = {id(item): row for row, item in enumerate(source.items)}

    def read(item: Item, epoch: int) -> loader.Heard:
        return loader.Heard(store.read(file(places[id(item)], epoch % len(copies)), item.id).values)

    def labelled(item: Item, epoch: int) -> Item:
        return source.labelled(item, epoch % len(copies))

    return loader.Source(source.items, read, labelled=labelled, started=True)


def _states(
    model: EmiModel,
    source: loader.Source,
    rows: Sequence[int],
    encode: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    *,
    batch_seconds: float,
    workers: int,
    progress: bool,
    epoch: int = 0,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Rows of a source with what `encode` gives for their clips; clips of similar length go together."""
    groups = [[rows[i] for i in group] for group in batching.chunks(len(rows))]
    decoded = loader.decoded(source, groups, workers=workers, epoch=epoch)
    for group, clips in zip(
        groups, shown(decoded, "features", total=len(groups), show=progress), strict=True
    ):
        for part in source.plan(model, clips, batch_seconds=batch_seconds):
            found = _encode(model, encode, [clips[i].values for i in part])
            yield from zip((group[i] for i in part), found, strict=True)


@torch.inference_mode()
def _encode(
    model: EmiModel,
    encode: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    clips: Sequence[NDArray[Any]],
) -> list[NDArray[np.float32]]:
    training = model.training
    model.eval()
    hidden, mask = encode(*model.collate(clips))
    model.train(training)
    return [
        row[:count].float().cpu().numpy() for row, count in zip(hidden, mask.sum(dim=1).tolist(), strict=True)
    ]
