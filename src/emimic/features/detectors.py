"""Face detectors: ONNX networks with one of three published layouts.

- BlazeFace (Bazarevsky et al. 2019; short range, included): RGB, -1 to 1, 128 x 128, the image in the middle; outputs
  `regressors` (anchor, 16): offsets of a box's center from its anchor, its size, and six points, all in pixels of the
  input; and `classificators` (anchor, 1), whose sigmoid is the score. There are two anchors at each point of a grid of
  16 x 16, then six at each of 8 x 8, row by row.
- YuNet (Wu et al. 2023; as in OpenCV's zoo, `face_detection_yunet_2023mar.onnx`): BGR, 0-255; for each stride of 8, 16
  and 32 the outputs `cls_S`, `obj_S` (anchor, 1) and `bbox_S` (anchor, 4): offsets of a box's center from its anchor,
  and logarithms of its size, in strides, and `kps_S` (anchor, 10): offsets of five points. The score is the root of
  cls x obj.
- Boxes and scores (UltraFace, `version-RFB-320.onnx`, and similar exports): RGB, (x - 127) / 128; an output (box, 4)
  with left, top, right, bottom, as fractions of the image or in pixels of the input, and one (box, class) or (box,)
  with scores; the last class is the face.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.features.networks import Network, resize
from emimic.task import ModelError

INCLUDED: Final = Path(__file__).parents[1] / "blazeface" / "blazeface_short.onnx"
"""BlazeFace, in the package."""

STRIDES: Final = (8, 16, 32)
SIZE: Final = 320
"""Longer side of the image for a detector that accepts any size, in pixels."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the frame."""


Points = NDArray[np.float64]
"""The eyes, (2, 2): left and right as they lie in the frame, x and y in pixels."""


@dataclass(frozen=True, eq=False, slots=True)
class Face:
    """A face in a frame.

    Attributes:
        box: of the face.
        score: of the detector, 0 to 1.
        eyes: None where the detector has no such points.
    """

    box: Box
    score: float
    eyes: Points | None


@dataclass(frozen=True, eq=False, slots=True)
class _Candidates:
    """Boxes (box, 4) in pixels of the input, scores (box,), eyes (box, 2, 2) or None."""

    boxes: NDArray[Any]
    scores: NDArray[Any]
    eyes: NDArray[Any] | None


class Detector:
    """A face detector; the included BlazeFace by default."""

    def __init__(self, source: str | None = None) -> None:
        self.network = Network(str(INCLUDED) if source is None else source)
        names = set(self.network.outputs)
        self.blazeface = {"regressors", "classificators"} <= names
        self.yunet = {f"{part}_{stride}" for part in ("cls", "obj", "bbox") for stride in STRIDES} <= names
        if not self.yunet and len(names) < 2:
            raise ModelError(
                f"{source} gives {', '.join(names)}; expected a face detector with outputs as YuNet's (cls_8, obj_8, "
                "bbox_8, ...), as BlazeFace's, or boxes and scores"
            )

    @property
    def has_eyes(self) -> bool:
        """True if the detector finds the eyes, by which a face can be aligned."""
        return self.blazeface or (self.yunet and {f"kps_{s}" for s in STRIDES} <= set(self.network.outputs))

    def detect(self, image: NDArray[np.uint8], threshold: float) -> Face | None:
        """Return the largest face; None without a face.

        A clip of the corpus shows one person, so small faces are in the background.

        Args:
            image: (height, width, 3), RGB.
            threshold: the minimum score of a face.
        """
        height, width = self._compute_input_size(image)
        scale = min(height / image.shape[0], width / image.shape[1])
        inner = [max(1, round(side * scale)) for side in image.shape[:2]]
        top, left = ((height - inner[0]) // 2, (width - inner[1]) // 2) if self.blazeface else (0, 0)
        canvas = np.full((1, height, width, 3), -1.0 if self.blazeface else 0.0, np.float32)
        small = resize(image, inner[0], inner[1]).astype(np.float32)
        canvas[0, top : top + inner[0], left : left + inner[1]] = self._scale(small)
        candidates = self._decode(self.network.predict(canvas), height, width)
        good = np.isfinite(candidates.boxes).all(axis=1) & (candidates.scores >= threshold)
        if not good.any():
            return None
        # Candidates for one face overlap; the score decides between those of nearly the same size.
        sizes = np.prod(np.maximum(candidates.boxes[:, 2:] - candidates.boxes[:, :2], 0), axis=1)
        best = int(np.argmax(np.where(good, sizes * candidates.scores**2, -1)))
        x0, y0, x1, y1 = ((candidates.boxes[best] - [left, top, left, top]) / scale).tolist()
        eyes = None if candidates.eyes is None else (candidates.eyes[best] - [left, top]) / scale
        return Face((x0, y0, x1, y1), float(candidates.scores[best]), eyes)

    def _scale(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return pixels (height, width, 3), 0 to 255 in RGB, as the network takes them."""
        if self.yunet:
            return pixels[..., ::-1]
        center, scale = (127.5, 127.5) if self.blazeface else (127, 128)
        return ((pixels - center) / scale).astype(np.float32)

    def _decode(self, outputs: Mapping[str, NDArray[Any]], height: int, width: int) -> _Candidates:
        if self.blazeface:
            return _decode_blazeface(outputs, width)
        if self.yunet:
            return _decode_yunet(outputs, width)
        return _Candidates(*self._decode_boxes(outputs, height, width), None)

    def _compute_input_size(self, image: NDArray[np.uint8]) -> tuple[int, int]:
        """Return the height and width of the input, with the image's aspect ratio where the network accepts any."""
        longer = max(image.shape[:2])
        free = [-(-round(side * SIZE / longer) // 32) * 32 for side in image.shape[:2]]
        return self.network.height or max(32, free[0]), self.network.width or max(32, free[1])

    def _decode_boxes(
        self, outputs: Mapping[str, NDArray[Any]], height: int, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return boxes (box, 4) in pixels of the input, and scores (box,)."""
        first = {name: values[0] for name, values in outputs.items()}
        boxes = next(
            (v for n, v in first.items() if v.ndim == 2 and v.shape[1] == 4 and "score" not in n), None
        )
        rest = [v for v in first.values() if boxes is not None and v is not boxes and len(v) == len(boxes)]
        scores = next((v for v in rest if v.ndim == 1 or v.shape[1] <= 2), None)
        if boxes is None or scores is None:
            shapes = ", ".join(f"{name} {values.shape}" for name, values in outputs.items())
            raise ModelError(
                f"{self.network.source} gives {shapes}; expected boxes (1, box, 4) and scores (1, box, class)"
            )
        if not len(boxes) or boxes.max() <= 2:  # fractions: a face may be partly outside
            boxes = boxes * np.array([width, height, width, height], np.float32)
        return boxes, scores if scores.ndim == 1 else scores[:, -1]


def _decode_blazeface(outputs: Mapping[str, NDArray[Any]], side: int) -> _Candidates:
    values = outputs["regressors"][0].astype(np.float64)
    anchors = _list_anchors() * side
    if values.shape != (len(anchors), 16):
        raise ModelError(
            f"the detector's regressors are {values.shape}; expected {(len(anchors), 16)}, as of BlazeFace, short range"
        )
    centers, half = anchors + values[:, :2], values[:, 2:4] / 2
    scores = 1 / (1 + np.exp(-np.clip(outputs["classificators"][0].reshape(-1), -50, 50)))
    # The person's right eye comes first, which lies on the left of the frame.
    eyes = anchors[:, None] + values[:, 4:8].reshape(-1, 2, 2)
    return _Candidates(np.concatenate([centers - half, centers + half], axis=1), scores, eyes)


def _list_anchors() -> NDArray[np.float64]:
    """Return the centers of BlazeFace's anchors, (896, 2), x and y as fractions of the input's side."""
    parts = []
    for points, anchors in ((16, 2), (8, 6)):
        row, column = np.divmod(np.arange(points * points), points)
        parts.append(np.repeat((np.stack([column, row], axis=1) + 0.5) / points, anchors, axis=0))
    return np.concatenate(parts)


def _decode_yunet(outputs: Mapping[str, NDArray[Any]], width: int) -> _Candidates:
    boxes, scores, eyes = [], [], []
    for stride in STRIDES:
        cls, obj, box = (outputs[f"{part}_{stride}"][0] for part in ("cls", "obj", "bbox"))
        scores.append(np.sqrt(np.clip(cls, 0, 1) * np.clip(obj, 0, 1)).reshape(-1))
        row, column = np.divmod(np.arange(len(box)), width // stride)
        corner = np.stack([column, row], axis=1)
        center = (corner + box[:, :2]) * stride
        half = np.exp(np.minimum(box[:, 2:], 10)) * stride / 2
        boxes.append(np.concatenate([center - half, center + half], axis=1))
        if f"kps_{stride}" in outputs:
            points = outputs[f"kps_{stride}"][0].reshape(-1, 5, 2)[:, :2]  # the eyes come first
            eyes.append((corner[:, None] + points) * stride)
    return _Candidates(
        np.concatenate(boxes), np.concatenate(scores), np.concatenate(eyes) if len(eyes) == 3 else None
    )
