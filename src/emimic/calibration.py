"""Calibration of intensities, and the novelty score of a clip. NumPy only.

FOLDER/calibration.json holds one map per target. FOLDER/novelty.npz holds the arrays of the novelty score, which is
optional. `emimic calibrate` writes both into a run folder; `emimic export` copies them into the exported model.
"""

import io
import json
import os
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic.files import fingerprint, read_json, write_atomically
from emimic.prediction import Prediction
from emimic.task import EmimicWarning, ModelError

FILE: Final = "calibration.json"
ARRAYS: Final = "novelty.npz"
SCHEMA: Final = "emimic/calibration/1"

SLOPE: Final = 0.002
"""Weight of a strictly rising function, added to each map: it keeps ranks where the map is flat, and moves no value
by more than this."""

_FLOOR: Final = 1e-4  # added to a mean square, in units of the training data's variance, before the logarithm

Array = NDArray[np.float64]
Single = NDArray[np.float32]


def _are_knots(x: Array, y: Array) -> bool:
    """Return True if these are finite values of one or more knots, with increasing x."""
    return len(x) == len(y) > 0 and bool(np.isfinite([x, y]).all() and (np.diff(x) > 0).all())


@dataclass(frozen=True, slots=True)
class Map:
    """A strictly increasing map from any real number into (0, 1): linear between knots, nearly flat beyond them.

    x: raw values of the knots, increasing. y: calibrated values of the knots, in [0, 1], not decreasing.

    Raises:
        ValueError: x or y is not as described.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = np.array(self.x, dtype=float), np.array(self.y, dtype=float)
        if not (_are_knots(x, y) and (np.diff(y) >= 0).all() and ((y >= 0) & (y <= 1)).all()):
            raise ValueError("expected knots with increasing x, and y in [0, 1] that doesn't decrease")

    def __call__(self, values: ArrayLike) -> Array:
        """Return calibrated values in (0, 1), in the shape of the raw values; NaN stays NaN."""
        raw = np.asarray(values, dtype=np.float64)
        offset = 2 * raw - 1
        rising = 0.5 + 0.5 * offset / (1 + np.abs(offset))
        mapped: Array = (1 - SLOPE) * np.interp(raw, self.x, self.y) + SLOPE * rising
        return mapped


@dataclass(frozen=True, slots=True, eq=False)
class Novelty:
    """Distance of a clip's pooled frames to the nearest of several groups of training clips.

    A clip's coordinates are its first principal components and the logarithm of the mean square of the residual. Its
    distance to a group is the Mahalanobis distance to the group's mean. It is divided by the 99th percentile of the
    distances of held-out clips of that group.

    names: of the groups. shift, scale (feature,): bring each pooled feature to mean 0 and variance 1. basis (feature,
    component). means (group, component + 1). factors (group, component + 1, component + 1): the distance is the length
    of factor @ (coordinates - mean). All arrays are float32.

    Source: Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples", with the residual
    as one more coordinate (as Wang et al. 2022, "ViM").
    """

    names: tuple[str, ...]
    shift: Single
    scale: Single
    basis: Single
    means: Single
    factors: Single

    def __post_init__(self) -> None:
        features, size, groups = len(self.shift), self.basis.shape[-1] + 1, len(self.names)
        shapes = {
            "scale": (features,),
            "basis": (features, size - 1),
            "means": (groups, size),
            "factors": (groups, size, size),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"{name} is {array.dtype} {array.shape}, expected finite float32 {shape}")

    def compute_coordinates(self, pooled: ArrayLike) -> Array:
        """Return the coordinates (clip, component + 1) of pooled frames (clip, feature)."""
        normed = (np.asarray(pooled, dtype=np.float64) - self.shift) / self.scale
        components = normed @ self.basis
        residual = np.square(normed - components @ self.basis.T).mean(axis=1)
        return np.column_stack([components, np.log(residual + _FLOOR)])

    def compute_distances(self, pooled: ArrayLike) -> Array:
        """Return the distances (clip, group) of pooled frames (clip, feature); 1: the group's 99th percentile."""
        differences = self.compute_coordinates(pooled)[:, None] - self.means
        whitened = np.einsum("gij,cgj->cgi", self.factors.astype(np.float64), differences)
        lengths: Array = np.sqrt(np.square(whitened).sum(axis=-1))
        return lengths

    def __call__(self, pooled: ArrayLike) -> float:
        """Return one clip's distance to the nearest group from its pooled frames (feature,)."""
        return float(self.compute_distances(np.asarray(pooled)[None]).min())


@dataclass(frozen=True, slots=True)
class HalfWidth:
    """Half the width of a prediction interval by the predicted value: linear between knots, constant beyond them.

    x: values of the knots, increasing. y: half-widths, 0 or more.

    Raises:
        ValueError: x or y is not as described.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = np.array(self.x, dtype=float), np.array(self.y, dtype=float)
        if not _are_knots(x, y) or (y < 0).any():
            raise ValueError("expected knots with increasing x, and y of 0 or more")

    def __call__(self, values: ArrayLike) -> Array:
        """Return intervals (..., 2), low and high within [0, 1], of values (...) in [0, 1]; NaN of NaN."""
        value = np.asarray(values, dtype=np.float64)
        half = np.interp(value, self.x, self.y)
        return np.stack([value - half, value + half], axis=-1).clip(0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Intervals:
    """Prediction intervals of intensities and V/A/D, from the errors on speakers that the model has not learned from.

    level: fraction of labels that lie within. widths: by name of a target or of V/A/D. coverage: by name, the fraction
    that lies within on speakers whose clips fitted no interval.
    """

    level: float
    widths: dict[str, HalfWidth]
    coverage: dict[str, float]

    def compute(self, names: Sequence[str], values: ArrayLike) -> Array:
        """Return intervals (..., name, 2) of values (..., name); NaN for names without one."""
        columns = np.asarray(values, dtype=np.float64)
        unknown = np.full((*columns.shape[:-1], 2), np.nan)
        parts = [
            self.widths[name](columns[..., i]) if name in self.widths else unknown
            for i, name in enumerate(names)
        ]
        return np.stack(parts, axis=-2)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        widths = {name: {"x": width.x, "y": width.y} for name, width in self.widths.items()}
        return {"level": self.level, "widths": widths, "coverage": self.coverage}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Return what `to_dict` gave; raise ValueError, KeyError or TypeError otherwise."""
        widths = {name: HalfWidth(tuple(w["x"]), tuple(w["y"])) for name, w in content["widths"].items()}
        return cls(float(content["level"]), widths, dict(content["coverage"]))


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of a model's raw predictions.

    targets, maps: one map per intensity, in the model's order. novelty: None without a score. facts: a description of
    the fit, for the user; "weights" is the fingerprint of the run's weights. intervals: None without any.
    """

    targets: tuple[str, ...]
    maps: tuple[Map, ...]
    novelty: Novelty | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    intervals: Intervals | None = None

    def calibrate_intensities(self, raw: ArrayLike) -> Single:
        """Return calibrated intensities in [0, 1] for raw ones (..., target)."""
        values = np.asarray(raw, dtype=np.float64)
        columns = [fit(values[..., i]) for i, fit in enumerate(self.maps)]
        return np.stack(columns, axis=-1).astype(np.float32)

    def apply(self, prediction: Prediction) -> Prediction:
        """Return a prediction with calibrated intensities and with V/A/D clipped to [0, 1].

        Where there are pooled frames, they are replaced by the novelty score.

        Raises:
            ModelError: the novelty score was fitted to pooled frames of another size.
        """
        pooled, novelty = prediction.pooled, None
        if self.novelty is not None and pooled is not None:
            if len(pooled) != len(self.novelty.shift):
                raise ModelError(
                    f"{FILE} is for a model with {len(self.novelty.shift)} pooled features, this has {len(pooled)}; "
                    "fit one to this model (emimic calibrate)"
                )
            novelty = self.novelty(pooled)
        return replace(
            prediction,
            intensities=self.calibrate_intensities(prediction.intensities),
            vad=None if prediction.vad is None else prediction.vad.clip(0.0, 1.0),
            pooled=None,
            novelty=novelty,
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write calibration.json and, with a novelty score, novelty.npz into an existing folder."""
        path = Path(folder)
        described = None
        if (score := self.novelty) is not None:
            data = io.BytesIO()
            np.savez(data, allow_pickle=False, **{name: getattr(score, name) for name in _ARRAYS})
            write_atomically(path / ARRAYS, data.getvalue())
            described = {"groups": score.names, "sha256": sha256(data.getvalue()).hexdigest()}
        maps = {name: {"x": m.x, "y": m.y} for name, m in zip(self.targets, self.maps, strict=True)}
        content = {"schema": SCHEMA, "maps": maps, "novelty": described, "fitted": self.facts}
        content |= {} if self.intervals is None else {"intervals": self.intervals.to_dict()}
        write_atomically(path / FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")
        if described is None:
            (path / ARRAYS).unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read the files of `save`.

        Raises:
            ModelError: calibration.json is missing or damaged, or novelty.npz isn't the one written with it.
        """
        file = Path(folder) / FILE
        try:
            content = read_json(file)
            if content["schema"] != SCHEMA:
                raise ValueError(f"its schema is {content['schema']!r}, expected {SCHEMA!r}")
            maps = tuple(Map(tuple(knots["x"]), tuple(knots["y"])) for knots in content["maps"].values())
            described = content["novelty"]
            novelty = None if described is None else _read_novelty(file.with_name(ARRAYS), described)
            stored = content.get("intervals")
            intervals = None if stored is None else Intervals.from_dict(stored)
            return cls(tuple(content["maps"]), maps, novelty, dict(content["fitted"]), intervals)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise ModelError(
                f"{file} can't be used ({error}); expected a file written by emimic calibrate. Copy the folder again, "
                "or run emimic calibrate"
            ) from error

    @classmethod
    def find(cls, folder: str | os.PathLike[str], targets: Sequence[str]) -> Self | None:
        """Return the calibration in a folder; None without one.

        Raises:
            ModelError: see `load`; or the calibration is for a model with other targets.
        """
        if not (Path(folder) / FILE).exists():
            return None
        calibration = cls.load(folder)
        if calibration.targets != tuple(targets):
            raise ModelError(
                f"{Path(folder) / FILE} is for {', '.join(calibration.targets)}, the model predicts "
                f"{', '.join(targets)}: run emimic calibrate for this model"
            )
        return calibration

    @classmethod
    def find_in_run(cls, folder: str | os.PathLike[str], targets: Sequence[str]) -> Self | None:
        """Return the calibration in a run folder, as `find`; warn (EmimicWarning) if it was fitted to other weights."""
        calibration, run = cls.find(folder, targets), Path(folder)
        if calibration is not None and calibration.facts.get("weights") != fingerprint(
            run / "model.safetensors"
        ):
            warnings.warn(
                f"{run / FILE} was fitted to other weights than this run's: run emimic calibrate again",
                EmimicWarning,
                stacklevel=2,
            )
        return calibration


def finish_predictions(raw: Sequence[Prediction], calibration: Calibration | None) -> list[Prediction]:
    """Return an engine's final predictions: calibrated if there is a calibration, without pooled frames."""
    return [replace(p, pooled=None) if calibration is None else calibration.apply(p) for p in raw]


_ARRAYS: Final = ("shift", "scale", "basis", "means", "factors")


def _read_novelty(file: Path, described: dict[str, Any]) -> Novelty:
    """Read novelty.npz; raise ValueError unless it is the file that calibration.json describes."""
    data = file.read_bytes()
    if sha256(data).hexdigest() != described["sha256"]:
        raise ValueError(f"{file.name} is not the one written with it")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return Novelty(tuple(described["groups"]), **{name: arrays[name] for name in _ARRAYS})
