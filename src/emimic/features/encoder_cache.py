"""Features of frozen encoders: computed once, stored on disk, and read while only the heads are trained.

A clip's file is named by the hash of its audio file, its folder by everything else that determines the features
(encoder, weights, preparation, type), so that a stale feature can't be read.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from emimic.data.corpus import Item
from emimic.data.loader import DEFAULT, BatchOptions, ModelInput, Source, make_waveform_source, read_batches
from emimic.features import store
from emimic.files import compute_sha256, make_folder
from emimic.media.waveform import ClipFormat
from emimic.model.model import EmiModel
from emimic.model.transfer import get_host_mask

FRONT_ENDS: Final = 0
"""Raise it when an encoder's own front end changes; `ClipFormat.version` covers the steps before it."""


def compute_key(model: EmiModel, dtype: str, precision: str = DEFAULT.precision) -> str:
    """Return 16 hex digits for the encoder's configuration and weights, preparation of clips, type, precision."""
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
    if precision != DEFAULT.precision:
        preparation.append(precision)
    digest.update(json.dumps([settings, preparation], sort_keys=True, default=str).encode())
    return _add_weights(digest, model.encoder)


def digest_weights(module: torch.nn.Module) -> str:
    """Return 16 hex digits for the weights of a module."""
    return _add_weights(hashlib.sha256(), module)


def _add_weights(digest: "hashlib._Hash", module: torch.nn.Module) -> str:
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def compute(
    model: EmiModel,
    items: Sequence[Item],
    folder: Path,
    options: BatchOptions = DEFAULT,
    *,
    dtype: str = "float16",
) -> Source:
    """Compute the hidden states (frame, feature) of every item's clip, where `folder` doesn't have them yet.

    An interrupted run resumes; an incomplete file is computed again.

    Args:
        model: the model with the frozen encoder.
        items: the clips.
        folder: of all features.
        options: how clips are read.
        dtype: of the stored features.

    Returns:
        The source that reads the hidden states.
    """
    cache = folder / compute_key(model, dtype, options.precision)
    make_folder(cache)
    files = {
        item.key: cache / f"{compute_sha256(item.path)}{'-trimmed' if item.trim else ''}{store.SUFFIX}"
        for item in items
    }
    missing = [item for item in items if store.read_clip_id(files[item.key]) is None]
    for item, frames in encode(model, missing, options, dtype=dtype):
        # The same recording has the same features in any corpus, so its hash is its id here.
        store.write(files[item.key], files[item.key].stem, frames)

    def read(item: Item, _: int) -> ModelInput:
        return ModelInput(store.read(files[item.key], files[item.key].stem).values)

    return Source(items, read, encoded=True)


def encode(
    model: EmiModel, items: Sequence[Item], options: BatchOptions, *, dtype: str
) -> Iterator[tuple[Item, store.Sequence]]:
    """Yield every item with the hidden states of its clip, in any order; clips of similar length share a batch."""
    source = make_waveform_source(items, model.clip_format)
    for row, frames in _encode_rows(model, source, range(len(items)), model.encode, options, dtype):
        yield items[row], frames


def compute_frozen(
    model: EmiModel,
    source: Source,
    copies: Sequence[Sequence[int]],
    folder: Path,
    options: BatchOptions = DEFAULT,
    *,
    part: tuple[int, int] = (0, 1),
    dtype: str = "float16",
) -> Source:
    """Compute the outputs of an encoder's frozen layers, where `folder` doesn't have them yet.

    An interrupted run resumes.

    Args:
        model: the model with the frozen layers.
        source: of waveforms.
        copies: for each copy, the rows of the source; copy n is a clip as in epoch n.
        folder: of the outputs.
        options: how clips are read.
        part: the rank of this process and the number of processes; each computes its part.
        dtype: of the stored outputs.

    Returns:
        The source that reads the outputs: in epoch n, copy n modulo the number of copies.
    """
    make_folder(folder)

    def get_file(row: int, copy: int) -> Path:
        return folder / f"{row}-{copy}{store.SUFFIX}"

    rank, processes = part
    for copy, rows in enumerate(copies):
        missing = [row for row in rows[rank::processes] if store.read_clip_id(get_file(row, copy)) is None]
        for row, frames in _encode_rows(model, source, missing, model.encode_frozen, options, dtype, copy):
            store.write(get_file(row, copy), source.items[row].id, frames)
    row_of = {id(item): row for row, item in enumerate(source.items)}

    def read(item: Item, epoch: int) -> ModelInput:
        return ModelInput(store.read(get_file(row_of[id(item)], epoch % len(copies)), item.id).values)

    def label(item: Item, epoch: int) -> Item:
        return source.relabel(item, epoch % len(copies))

    return Source(source.items, read, relabel=label, started=True)


@torch.inference_mode()
def _encode_rows(
    model: EmiModel,
    source: Source,
    rows: Sequence[int],
    encode: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    options: BatchOptions,
    dtype: str,
    epoch: int = 0,
) -> Iterator[tuple[int, store.Sequence]]:
    """Yield rows of a source, in any order, with the outputs of `encode`, of which padding is cut off."""
    training = model.training
    for batch, values in read_batches(model, source, rows, options, label="features", epoch=epoch):
        model.eval()
        with options.autocast(model.device):
            hidden, mask = encode(*model.collate(values))
        model.train(training)
        for position, states, count in zip(
            batch, hidden, get_host_mask(mask).sum(dim=1).tolist(), strict=True
        ):
            frames = states[:count].float().cpu().numpy().astype(dtype)
            yield rows[position], store.Sequence.from_frames(frames, model.compute_frame_times(count))
