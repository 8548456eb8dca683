"""Images as an image encoder takes them: resized and cropped by its own processor's values, with Pillow.

Values come from `preprocessor_config.json`. Scaling to numbers is left to the model, so that an image stays 8-bit
until then.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Preprocessing:
    """Values of an image processor.

    Attributes:
        height: of the resized image in pixels; None with `edge`.
        width: of it.
        edge: shorter side of the resized image, which keeps its proportions.
        crop: (height, width) that is then cut from the middle; None: none.
        resample: number of Pillow's filter.
        scale: (channel,), multiplies the values 0 to 255.
        shift: (channel,), is then added.
    """

    height: int | None
    width: int | None
    edge: int | None
    crop: tuple[int, int] | None
    resample: int
    scale: tuple[float, float, float]
    shift: tuple[float, float, float]

    @classmethod
    def of_dict(cls, values: dict[str, Any]) -> "Preprocessing":
        """Return what `dataclasses.asdict` or JSON made of one."""
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list | tuple)}
        return cls(**{**values, **lists})

    @classmethod
    def of_size(cls, side: int) -> "Preprocessing":
        """Return a square of `side` pixels, with ImageNet's mean and standard deviation."""
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        return cls(side, side, None, None, 2, _three(1 / 255 / std), _three(-mean / std))

    @classmethod
    def of_processor(cls, processor: Any) -> "Preprocessing":
        """Return the values of a transformers image processor."""
        size, crop = dict(processor.size), None
        height, width, edge = (size.get(name) for name in ("height", "width", "shortest_edge"))
        crop_pct = getattr(processor, "crop_pct", None)
        if edge is not None and crop_pct is not None:  # ConvNeXT's
            if edge < 384:
                crop, edge = (edge, edge), int(edge / crop_pct)
            else:
                height, width, edge = edge, edge, None
        elif getattr(processor, "do_center_crop", None):
            sides = dict(processor.crop_size)
            crop = (int(sides["height"]), int(sides["width"]))
        mean, std = np.zeros(3), np.ones(3)
        if processor.do_normalize:
            mean, std = np.asarray(processor.image_mean, float), np.asarray(processor.image_std, float)
        scale = np.full(3, processor.rescale_factor if processor.do_rescale else 1.0)
        if getattr(processor, "rescale_offset", None):  # EfficientNet's
            mean = mean + 1
        shift = -mean / std
        scale = scale / std
        if getattr(processor, "include_top", None):  # EfficientNet's divides by std twice
            scale, shift = scale / processor.image_std, shift / processor.image_std
        return cls(height, width, edge, crop, int(processor.resample), _three(scale), _three(shift))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a prepared square image."""
        if self.crop is not None:
            return self.crop
        return self.height or self.edge or 0, self.width or self.edge or 0

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an image (height, width, 3) as (*shape, 3); other than squares are cropped to it."""
        from PIL import Image

        height, width = image.shape[:2]
        if self.edge is None:
            size = (self.width or 0, self.height or 0)
        else:
            longer = int(self.edge * max(height, width) / min(height, width))
            size = (self.edge, longer) if width <= height else (longer, self.edge)
        resized = np.array(Image.fromarray(image).resize(size, Image.Resampling(self.resample)))
        return _crop_middle(resized, *self.shape)


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = values.tolist()
    return red, green, blue


def _crop_middle(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return the middle of an image, with black where it is smaller."""
    missing = [max(0, want - have) for want, have in zip((height, width), image.shape[:2], strict=True)]
    if any(missing):
        sides = [((gap + 1) // 2, gap // 2) for gap in missing]
        image = np.pad(image, (*sides, (0, 0)))
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])
