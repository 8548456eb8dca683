"""Validation of a run after each epoch, and the search of a baseline's fusion weights at its end."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emimic import metrics
from emimic.baselines import fusion
from emimic.baselines.model import BaselineModel
from emimic.data import loader
from emimic.data.corpus import Item
from emimic.files import write_atomically
from emimic.task import VAD
from emimic.training import step
from emimic.training.clips import get_labels, get_vad
from emimic.training.setup import Run

Array = NDArray[np.float32]


class StopValidationError(BaseException):
    """A signal during validation; nothing is lost, as the epoch's last step was saved before."""


def validate(run: Run, source: loader.Source) -> dict[str, Any]:
    """Return Pearson on validation, of the averaged weights where there are any; undefined ones are None.

    `watched` compares epochs. It is the mean over the targets whose labels vary (of a model without targets, over
    V/A/D); constant predictions count as 0. It is None without any such target. Of several corpora, it is the mean of
    each one's.
    """
    with use_average(run), _make_interruptible(run):
        predictions, vad = _predict(run, source)
    corpora = list(dict.fromkeys(item.corpus for item in source.items))
    if corpora == [""]:
        return _score_corpus(run, source.items, predictions, vad)
    entries = {}
    for name in corpora:
        rows = [row for row, item in enumerate(source.items) if item.corpus == name]
        items = [source.items[row] for row in rows]
        entries[name] = _score_corpus(run, items, predictions[rows], vad[rows])
    return _join(entries)


def list_scores(entry: dict[str, Any]) -> dict[str, float | None]:
    """Return all correlations of an epoch by the name under which they are logged."""
    scores: dict[str, float | None] = {"mean": entry.get("pearson")}
    scores |= entry.get("targets", {}) | entry.get("vad_targets", {})
    for corpus, inner in entry.get("corpora", {}).items():
        scores |= {f"{corpus}/{name}": value for name, value in list_scores(inner).items()}
    return scores


def _predict(run: Run, source: loader.Source) -> tuple[Array, Array]:
    """Return intensities (clip, target) and V/A/D (clip, 3); each process predicts its part of the clips."""
    fabric = run.fabric
    mine = slice(fabric.global_rank, None, fabric.world_size)
    options = loader.BatchOptions(run.settings.seconds_in_batch, run.settings.workers, run.show)
    with fabric.autocast():
        predictions = loader.predict_source(
            run.model, replace(source, items=source.items[mine]), options, label="validating"
        )
    if fabric.world_size == 1:
        return predictions
    gathered = []
    for part in predictions:
        rows = torch.zeros(len(source.items), part.shape[1], device=fabric.device)
        rows[mine] = torch.from_numpy(part).to(fabric.device)
        gathered.append(step.add_up(fabric, rows).cpu().numpy())
    return gathered[0], gathered[1]


def _join(entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the means over the corpora that have a value; a corpus without scored targets is watched by V/A/D."""
    for entry in entries.values():
        entry["watched"] = entry.get("vad_watched") if entry["watched"] is None else entry["watched"]
    targets = {
        name: _average([entry["targets"].get(name) for entry in entries.values()])
        for entry in entries.values()
        for name in entry["targets"]
    }
    watched = _average([entry["watched"] for entry in entries.values()])
    return {"pearson": watched, "watched": watched, "targets": targets, "corpora": entries}


def _average(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def _score_corpus(run: Run, items: Sequence[Item], predictions: Array, vad: Array) -> dict[str, Any]:
    """Return the scores of one corpus's clips."""
    entry: dict[str, Any] = {}
    if run.model.config.predicts_vad:
        truth = np.stack([get_vad(item) for item in items])
        if np.isfinite(truth).any():
            entry = {"vad_" + name: value for name, value in _score(vad, truth, VAD).items()}
    targets = run.model.config.targets
    if not targets:
        empty: dict[str, Any] = {"pearson": None, "watched": None, "targets": {}}
        return empty | {name.removeprefix("vad_"): value for name, value in entry.items()}
    labels = np.stack([get_labels(item) for item in items])
    return entry | _score(predictions, labels, targets)


def _score(predictions: Array, labels: Array, names: Sequence[str]) -> dict[str, Any]:
    """Return Pearson of each target over the clips with a label (not NaN)."""
    rho = metrics.compute_pearson(predictions, labels)
    labeled = np.isfinite(labels)
    lowest = labels.min(axis=0, where=labeled, initial=np.inf)
    varied = lowest < labels.max(axis=0, where=labeled, initial=-np.inf)
    watched = float(np.nan_to_num(rho[varied]).mean()) if varied.any() else None
    named = {name: None if math.isnan(r) else float(r) for name, r in zip(names, rho, strict=True)}
    mean = float(np.mean(rho))
    return {"pearson": None if math.isnan(mean) else mean, "watched": watched, "targets": named}


@contextlib.contextmanager
def _make_interruptible(run: Run) -> Iterator[None]:
    """Let a signal end this block at once; several processes stop together after the next step instead."""
    run.interruptible = run.fabric.world_size == 1
    try:
        if run.interruptible and run.signalled is not None:
            raise StopValidationError
        yield
    finally:
        run.interruptible = False


@contextlib.contextmanager
def use_average(run: Run) -> Iterator[None]:
    """Replace the model's weights by the averaged ones in this block."""
    if run.average is None:
        yield
        return
    parameters = dict(run.model.named_parameters())
    saved = {name: parameters[name].detach().clone() for name in run.average}
    with torch.no_grad():
        for name, tensor in run.average.items():
            parameters[name].copy_(tensor)
        try:
            yield
        finally:
            for name, tensor in saved.items():
                parameters[name].copy_(tensor)


def search_fusion(run: Run, source: loader.Source) -> str:
    """Search the fusion weights of a finished baseline on validation and save them with its best model.

    Returns:
        The weights and their score as text; empty where the model has no weights to search.
    """
    if not isinstance(run.model, BaselineModel) or run.model.options.fusion == "mean":
        return ""
    best = BaselineModel.open_run(run.folder)
    shape = len(source.items), len(best.branches), len(best.config.targets)
    predictions, usable = np.empty(shape, np.float32), np.empty(shape[:2], np.bool_)
    options = loader.BatchOptions(run.settings.seconds_in_batch, run.settings.workers)
    for batch, values in loader.read_batches(best, source, range(shape[0]), options):
        predictions[batch], usable[batch] = best.predict_branches(
            values, batch_seconds=options.batch_seconds, encoded=source.encoded
        )
    labels = np.stack([get_labels(item) for item in source.items])
    rows = fusion.search(predictions, usable, labels, each=run.model.options.fusion == "emotion")
    weights = {name: row.tolist() for name, row in zip(best.branches, rows, strict=True)}
    config = best.config.model_copy(update={"weights": weights})
    write_atomically(run.folder / "config.json", config.to_json_string())
    rho = metrics.compute_pearson(fusion.join_all(predictions, usable, rows), labels)
    text = "; ".join(f"{name} {', '.join(f'{value:.1f}' for value in row)}" for name, row in weights.items())
    return (
        f"the epochs were compared with equal weights; those found on validation ({', '.join(best.config.targets)}): "
        f"{text}; with them its mean Pearson is {np.mean(rho):.4f}"
    )
