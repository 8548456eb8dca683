"""Third-party models: ONNX networks over images, and the license of any model."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emimic.files import fingerprint
from emimic.task import ModelError

UNKNOWN: Final = "unknown, look it up"
_ON_HUB: Final = re.compile(r"([\w.-]+/[\w.-]+)/(.+\.onnx)")


def find(source: str) -> Path:
    """Return the file of an ONNX model: a path, or OWNER/REPOSITORY/FILE.onnx on the hub, downloaded once.

    Raises:
        ModelError: if it is neither.
    """
    if Path(source).is_file():
        return Path(source)
    name = _ON_HUB.fullmatch(source)
    if not name:
        raise ModelError(
            f"there is no file {source}; expected an ONNX file, or OWNER/REPOSITORY/FILE.onnx on the hub"
        )
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(name[1], name[2]))
    except Exception as error:  # its errors and those of the network have no common base
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{source} is no file here and can't be fetched from the hub: {reason}") from error


def read_license(source: str) -> str:
    """Return the license on the model's card, else UNKNOWN, and the card: README.md beside it, or on the hub."""
    import huggingface_hub

    path = Path(source)
    card: str | Path
    if path.exists():
        card = (path if path.is_dir() else path.parent) / "README.md"
        if not card.is_file():
            return f"{UNKNOWN} (there is no {card})"
    else:
        card = "/".join(source.split("/")[:2])
    try:
        data = huggingface_hub.ModelCard.load(card, ignore_metadata_errors=True).data
        name = str(data.get("license_name") or data.get("license") or UNKNOWN)
    except Exception:  # noqa: BLE001  no card, no network, or an invalid card
        name = UNKNOWN
    return f"{name} (looked in {card})"


def make_clip_error(source: str, error: Exception) -> ModelError:
    """Return the error of a model that fails on a clip; it doesn't name the clip, so that equal errors are equal."""
    return ModelError(f"{source} fails: {' '.join(str(error).split())[:200]}")


class Network:
    """An ONNX model whose only input is a batch of images; `predict` is thread-safe.

    Attributes:
        source: the model's path or name on the hub.
        weights: the fingerprint of its file.
        outputs: the names of its outputs.
        height: of the input in pixels; None where any is accepted.
        width: the same.
        channels: 1 or 3.
    """

    def __init__(self, source: str) -> None:
        import onnxruntime

        self.source, file = source, find(source)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # clips are processed in parallel
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            inputs = self._session.get_inputs()
        except Exception as error:  # its errors have no other common base
            raise ModelError(
                f"{source} can't be opened as ONNX: {' '.join(str(error).split())[:200]}"
            ) from error
        self.weights = fingerprint(file)
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        self._input = inputs[0].name
        shape = [size if isinstance(size, int) and size > 0 else None for size in inputs[0].shape]
        self._last = len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)
        self.channels = (shape[3 if self._last else 1] or 3) if len(shape) == 4 else 0
        kind = inputs[0].type
        if len(inputs) != 1 or self.channels not in (1, 3) or kind not in ("tensor(float)", "tensor(uint8)"):
            shapes = ", ".join(f"{value.name} {value.shape} {value.type}" for value in inputs)
            raise ModelError(
                f"{source} takes {shapes}; expected one batch of images (batch, 3, height, width)"
            )
        self.height, self.width = shape[1:3] if self._last else shape[2:4]
        self._batch = shape[0]
        self._type = np.uint8 if "uint8" in kind else np.float32

    def predict(self, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name, each (batch, ...), for images (batch, height, width, channel).

        Raises:
            ModelError: if the network fails.
        """
        batch = images if self._last else images.transpose(0, 3, 1, 2)
        step = self._batch or len(batch)
        # A network with a fixed batch size gets padded batches.
        batch = np.concatenate([batch, np.repeat(batch[:1], -len(batch) % step, axis=0)]).astype(self._type)
        try:
            parts = [
                self._session.run(None, {self._input: batch[start : start + step]})
                for start in range(0, len(batch), step)
            ]
        except Exception as error:  # its errors have no other common base
            raise make_clip_error(self.source, error) from error
        columns = zip(*parts, strict=True)
        return {
            name: np.concatenate(part)[: len(images)]
            for name, part in zip(self.outputs, columns, strict=True)
        }


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return an image (height, width, channel) uint8 in another size, with antialiasing."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def select_outputs(
    outputs: dict[str, NDArray[Any]], names: Sequence[str] | None, source: str
) -> dict[str, NDArray[Any]]:
    """Return the named outputs in that order; all for None.

    Raises:
        ModelError: if `source` has no output of a name.
    """
    missing = [name for name in names or () if name not in outputs]
    if missing:
        raise ModelError(f"{source} has no output {', '.join(missing)}; it has {', '.join(outputs)}")
    return {name: outputs[name] for name in names or outputs}
