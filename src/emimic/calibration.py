"""Calibrated intensities, and how unlike the training data a clip is (NumPy only).

FOLDER/calibration.json holds a map for each target; FOLDER/novelty.npz beside it the arrays of the novelty score, which
a calibration may lack. `emimic calibrate` writes both into a run folder, `emimic export` copies them into an engine
folder.
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

from emimic.files import fingerprint, read_json, write_atomic
from emimic.prediction import Prediction
from emimic.task import EmimicWarning, ModelError

FILE: Final = "calibration.json"
ARRAYS: Final = "novelty.npz"
SCHEMA: Final = "emimic/calibration/1"

SLOPE: Final = 0.002
"""Weight of a curve that rises everywhere, beside the map's own: ranks are kept where the map is flat, and no value
moves by more than this."""

_FLOOR: Final = 1e-4  # of a mean square in units of the training data's variance, before its logarithm

Array = NDArray[np.float64]
Single = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Map:
    """A strictly increasing map from any real number into (0, 1): linear between knots, nearly flat beyond them.

    x: knots' raw values, increasing. y: what each becomes, in [0, 1], not decreasing.

    Raises:
        ValueError: the knots are not such.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = np.array(self.x, dtype=float), np.array(self.y, dtype=float)
        if not (
            len(x) == len(y) > 0
            and np.isfinite(x).all()
            and (np.diff(x) > 0).all()
            and (np.diff(y) >= 0).all()
            and ((y >= 0) & (y <= 1)).all()
        ):
            raise ValueError("expected knots with increasing x, and y in [0, 1] that doesn't decrease")

    def __call__(self, values: ArrayLike) -> Array:
        """Return calibrated values in (0, 1), in the shape of the raw ones; NaN stays NaN."""
        raw = np.asarray(values, dtype=np.float64)
        offset = 2 * raw - 1
        rising = 0.5 + 0.5 * offset / (1 + np.abs(offset))
        mapped: Array = (1 - SLOPE) * np.interp(raw, self.x, self.y) + SLOPE * rising
        return mapped


@dataclass(frozen=True, slots=True, eq=False)
class Novelty:
    """Distance of a clip's pooled frames to the nearest of several groups of training clips.

    A clip's coordinates are its first principal components and the logarithm of what they leave out. Its distance to
    a group is the Mahalanobis distance to the group's mean, divided by the 99th percentile of such distances of
    held-out clips of that group.

    names: of the groups. shift, scale (feature,): bring each pooled feature to mean 0 and variance 1. basis (feature,
    component). means (group, component + 1). factors (group, component + 1, component + 1): the distance is the length
    of factor @ (coordinates - mean). All float32.

    Source: Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples", with what the
    components leave out as a further coordinate (as Wang et al. 2022, "ViM").
    """

    names: tuple[str, ...]
    shift: Single
    scale: Single
    basis: Single
    means: Single
    factors: Single

    def __post_init__(self) -> None:
        features, size, groups = len(self.shift), self.basis.shape[-1] + 1, len(self.names)
        wanted = {
            "scale": (features,),
            "basis": (features, size - 1),
            "means": (groups, size),
            "factors": (groups, size, size),
        }
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"{name} is {array.dtype} {array.shape}, expected finite float32 {shape}")

    def coordinates(self, pooled: ArrayLike) -> Array:
        """Pooled frames (clip, feature) -> (clip, component + 1)."""
        normed = (np.asarray(pooled, dtype=np.float64) - self.shift) / self.scale
        components = normed @ self.basis
        left = np.square(normed - components @ self.basis.T).mean(axis=1)
        return np.column_stack([components, np.log(left + _FLOOR)])

    def distances(self, pooled: ArrayLike) -> Array:
        """Pooled frames (clip, feature) -> distances (clip, group), 1 at the 99th percentile of the group's own."""
        apart = self.coordinates(pooled)[:, None] - self.means
        whitened = np.einsum("gij,cgj->cgi", self.factors.astype(np.float64), apart)
        lengths: Array = np.sqrt(np.square(whitened).sum(axis=-1))
        return lengths

    def __call__(self, pooled: ArrayLike) -> float:
        """Return one clip's distance to the nearest group from its pooled frames (feature,)."""
        return float(self.distances(np.asarray(pooled)[None]).min())


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is done to a model's raw predictions.

    targets, maps: a map for each of the model's intensities, in the model's order. novelty: None without a score.
    facts: how it was fitted, for people; "weights" is the fingerprint of the run's.
    """

    targets: tuple[str, ...]
    maps: tuple[Map, ...]
    novelty: Novelty | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def intensities(self, raw: ArrayLike) -> Single:
        """Raw intensities (..., target) -> calibrated ones, in [0, 1]."""
        values = np.asarray(raw, dtype=np.float64)
        columns = [fit(values[..., i]) for i, fit in enumerate(self.maps)]
        return np.stack(columns, axis=-1).astype(np.float32)

    def apply(self, prediction: Prediction) -> Prediction:
        """Return a raw prediction with calibrated intensities, V/A/D clipped to [0, 1], and its novelty where the
        prediction has pooled frames, which it then no longer has.

        Raises:
            ModelError: the pooled frames have another size than those that the novelty score was fitted to.
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
            intensities=self.intensities(prediction.intensities),
            vad=None if prediction.vad is None else prediction.vad.clip(0.0, 1.0),
            pooled=None,
            novelty=novelty,
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write calibration.json and, with a novelty score, novelty.npz into a folder that is there."""
        place = Path(folder)
        described = None
        if (score := self.novelty) is not None:
            data = io.BytesIO()
            np.savez(data, allow_pickle=False, **{name: getattr(score, name) for name in _ARRAYS})
            write_atomic(place / ARRAYS, data.getvalue())
            described = {"groups": score.names, "sha256": sha256(data.getvalue()).hexdigest()}
        maps = {name: {"x": one.x, "y": one.y} for name, one in zip(self.targets, self.maps, strict=True)}
        whole = {"schema": SCHEMA, "maps": maps, "novelty": described, "fitted": self.facts}
        write_atomic(place / FILE, json.dumps(whole, indent=1, allow_nan=False) + "\n")
        if described is None:
            (place / ARRAYS).unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: calibration.json is missing or damaged, or novelty.npz isn't the one written with it.
        """
        file = Path(folder) / FILE
        try:
            found = read_json(file)
            if found["schema"] != SCHEMA:
                raise ValueError(f"its schema is {found['schema']!r}, expected {SCHEMA!r}")
            maps = tuple(Map(tuple(one["x"]), tuple(one["y"])) for one in found["maps"].values())
            score = (
                None if found["novelty"] is None else _read_novelty(file.with_name(ARRAYS), found["novelty"])
            )
            return cls(tuple(found["maps"]), maps, score, dict(found["fitted"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise ModelError(
                f"{file} can't be used ({error}); expected what emimic calibrate writes. Copy the folder again, or run "
                "emimic calibrate"
            ) from error

    @classmethod
    def find(cls, folder: str | os.PathLike[str], targets: Sequence[str]) -> Self | None:
        """Return the calibration in a folder, None without one.

        Raises:
            ModelError: as `load`; or it is for a model with other targets.
        """
        if not (Path(folder) / FILE).exists():
            return None
        found = cls.load(folder)
        if found.targets != tuple(targets):
            raise ModelError(
                f"{Path(folder) / FILE} is for {', '.join(found.targets)}, the model predicts {', '.join(targets)}: "
                "run emimic calibrate for this model"
            )
        return found

    @classmethod
    def of_run(cls, folder: str | os.PathLike[str], targets: Sequence[str]) -> Self | None:
        """As `find`, of a run folder; warns (EmimicWarning) when it was fitted to other weights."""
        found, run = cls.find(folder, targets), Path(folder)
        if found is not None and found.facts.get("weights") != fingerprint(run / "model.safetensors"):
            warnings.warn(
                f"{run / FILE} was fitted to other weights than this run's: run emimic calibrate again",
                EmimicWarning,
                stacklevel=2,
            )
        return found


def finished(raw: Sequence[Prediction], calibration: Calibration | None) -> list[Prediction]:
    """Return what an engine gives for raw predictions: calibrated where it can be, without pooled frames."""
    return [replace(one, pooled=None) if calibration is None else calibration.apply(one) for one in raw]


_ARRAYS: Final = ("shift", "scale", "basis", "means", "factors")


def _read_novelty(file: Path, described: dict[str, Any]) -> Novelty:
    data = file.read_bytes()
    if sha256(data).hexdigest() != described["sha256"]:
        raise ValueError(f"{file.name} is not the one written with it")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return Novelty(tuple(described["groups"]), **{name: arrays[name] for name in _ARRAYS})
