"""Face detectors: ONNX networks with one of two published layouts.

- YuNet (Wu et al. 2023; as in OpenCV's zoo, `face_detection_yunet_2023mar.onnx`): BGR, 0-255; for each stride of 8, 16
  and 32 the outputs `cls_S`, `obj_S` (anchor, 1) and `bbox_S` (anchor, 4): offsets of a box's center from its anchor,
  and logarithms of its size, in strides. The score is the root of cls x obj.
- Boxes and scores (UltraFace, `version-RFB-320.onnx`, and similar exports): RGB, (x - 127) / 128; an output (box, 4)
  with left, top, right, bottom, as fractions of the image or in pixels of the input, and one (box, class) or (box,)
  with scores; the last class is the face.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.features.networks import Network, resize
from emimic.task import ModelError

STRIDES: Final = (8, 16, 32)
SIZE: Final = 320
"""Longer side of the image for a detector that accepts any size, in pixels."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the frame."""


class Detector:
    """A face detector."""

    def __init__(self, source: str) -> None:
        self.network = Network(source)
        names = set(self.network.outputs)
        self.yunet = {f"{part}_{stride}" for part in ("cls", "obj", "bbox") for stride in STRIDES} <= names
        if not self.yunet and len(names) < 2:
            raise ModelError(
                f"{source} gives {', '.join(names)}; expected a face detector with outputs as YuNet's (cls_8, obj_8, "
                "bbox_8, ...), or boxes and scores"
            )

    def detect(self, image: NDArray[np.uint8], threshold: float) -> tuple[Box, float] | None:
        """Return the box of the largest face, and its score; None without a face.

        A clip of the corpus shows one person, so small faces are in the background.

        Args:
            image: (height, width, 3), RGB.
            threshold: the minimum score of a face.
        """
        height, width = self._compute_input_size(image)
        scale = min(height / image.shape[0], width / image.shape[1])
        inner = [max(1, round(side * scale)) for side in image.shape[:2]]
        canvas = np.zeros((1, height, width, 3), np.float32)
        small = resize(image, inner[0], inner[1]).astype(np.float32)
        canvas[0, : inner[0], : inner[1]] = small[..., ::-1] if self.yunet else (small - 127) / 128
        outputs = self.network.predict(canvas)
        boxes, scores = (
            _decode_yunet(outputs, width) if self.yunet else self._decode_boxes(outputs, height, width)
        )
        good = np.isfinite(boxes).all(axis=1) & (scores >= threshold)
        if not good.any():
            return None
        # Candidates for one face overlap; the score decides between those of nearly the same size.
        sizes = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
        best = np.argmax(np.where(good, sizes * scores**2, -1))
        left, top, right, bottom = (boxes[best] / scale).tolist()
        return (left, top, right, bottom), float(scores[best])

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


def _decode_yunet(
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
