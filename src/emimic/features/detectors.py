"""Where the face is: ONNX detectors of two published layouts.

- YuNet (Wu et al. 2023; as in OpenCV's zoo, `face_detection_yunet_2023mar.onnx`): BGR, 0-255; for each stride of 8, 16
  and 32 the outputs `cls_S`, `obj_S` (cell, 1) and `bbox_S` (cell, 4): offsets of a box's center from its cell and
  logarithms of its size, in strides. The score is the root of cls x obj.
- Boxes and scores (UltraFace, `version-RFB-320.onnx`, and what is exported with the boxes spelt out): RGB,
  (x - 127) / 128; an output (box, 4) with left, top, right, bottom, as shares of the picture or in pixels of the input,
  and one (box, class) or (box,) with scores, of which the last class is the face.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.features.networks import Network, resized
from emimic.task import ModelError

STRIDES: Final = (8, 16, 32)
SIZE: Final = 320
"""Longer side of a picture for a detector that takes any, in pixels."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the frame."""


class Detector:
    """A network of one of the layouts."""

    def __init__(self, source: str) -> None:
        self.network = Network(source)
        names = set(self.network.outputs)
        self.yunet = {f"{part}_{stride}" for part in ("cls", "obj", "bbox") for stride in STRIDES} <= names
        if not self.yunet and len(names) < 2:
            raise ModelError(
                f"{source} gives {', '.join(names)}; expected a face detector with outputs as YuNet's (cls_8, obj_8, "
                "bbox_8, ...), or boxes and scores"
            )

    def face(self, picture: NDArray[np.uint8], least: float) -> tuple[Box, float] | None:
        """(height, width, 3) RGB -> the box of the largest face with a score of at least `least`, and the score; None
        without one. A clip of the corpus shows one person, so small faces are of pictures on the wall."""
        height, width = self._input_size(picture)
        scale = min(height / picture.shape[0], width / picture.shape[1])
        inner = [max(1, round(side * scale)) for side in picture.shape[:2]]
        canvas = np.zeros((1, height, width, 3), np.float32)
        small = resized(picture, inner[0], inner[1]).astype(np.float32)
        canvas[0, : inner[0], : inner[1]] = small[..., ::-1] if self.yunet else (small - 127) / 128
        outputs = self.network.run(canvas)
        boxes, scores = _yunet(outputs, width) if self.yunet else self._spelt_out(outputs, height, width)
        good = np.isfinite(boxes).all(axis=1) & (scores >= least)
        if not good.any():
            return None
        # Candidates for one face overlap; the score decides between those of nearly the same size.
        sizes = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
        best = np.argmax(np.where(good, sizes * scores**2, -1))
        left, top, right, bottom = (boxes[best] / scale).tolist()
        return (left, top, right, bottom), float(scores[best])

    def _input_size(self, picture: NDArray[np.uint8]) -> tuple[int, int]:
        """Height and width the network wants, of the picture's proportions where it takes any."""
        longer = max(picture.shape[:2])
        free = [-(-round(side * SIZE / longer) // 32) * 32 for side in picture.shape[:2]]
        return self.network.height or max(32, free[0]), self.network.width or max(32, free[1])

    def _spelt_out(
        self, outputs: Mapping[str, NDArray[Any]], height: int, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes (box, 4) in pixels of the input, scores (box,)."""
        named = {name: values[0] for name, values in outputs.items()}
        boxes = next(
            (v for n, v in named.items() if v.ndim == 2 and v.shape[1] == 4 and "score" not in n), None
        )
        rest = [v for v in named.values() if boxes is not None and v is not boxes and len(v) == len(boxes)]
        scores = next((v for v in rest if v.ndim == 1 or v.shape[1] <= 2), None)
        if boxes is None or scores is None:
            found = ", ".join(f"{name} {values.shape}" for name, values in outputs.items())
            raise ModelError(
                f"{self.network.source} gives {found}; expected boxes (1, box, 4) and scores (1, box, class)"
            )
        if not len(boxes) or boxes.max() <= 2:  # shares: a face may lie a little outside
            boxes = boxes * np.array([width, height, width, height], np.float32)
        return boxes, scores if scores.ndim == 1 else scores[:, -1]


def _yunet(
    outputs: Mapping[str, NDArray[Any]], width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    boxes, scores = [], []
    for stride in STRIDES:
        cls, obj, box = (outputs[f"{part}_{stride}"][0] for part in ("cls", "obj", "bbox"))
        scores.append(np.sqrt(np.clip(cls, 0, 1) * np.clip(obj, 0, 1)).reshape(-1))
        row, column = np.divmod(np.arange(len(box)), width // stride)
        center = (np.stack([column, row], axis=1) + box[:, :2]) * stride
        half = np.exp(np.minimum(box[:, 2:], 10)) * stride / 2
        boxes.append(np.concatenate([center - half, center + half], axis=1))
    return np.concatenate(boxes), np.concatenate(scores)
