"""Models of others: an ONNX network over pictures, by path or by name on the hub, and the licence of any model."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emimic.data.split_tables import some
from emimic.files import fingerprint
from emimic.task import ModelError

UNKNOWN: Final = "unknown, look it up"
_ON_HUB: Final = re.compile(r"([\w.-]+/[\w.-]+)/(.+\.onnx)")


def find(source: str) -> Path:
    """The file of an ONNX model: a path, or OWNER/REPOSITORY/FILE.onnx on the hub, fetched once. Raises ModelError."""
    if Path(source).is_file():
        return Path(source)
    named = _ON_HUB.fullmatch(source)
    if not named:
        raise ModelError(
            f"there is no file {source}; expected an ONNX file, or OWNER/REPOSITORY/FILE.onnx on the hub"
        )
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(named[1], named[2]))
    except Exception as error:  # its errors share no base with those of the network beneath
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{source} is no file here and can't be fetched from the hub: {reason}") from error


def licence(source: str) -> str:
    """What the model's card says, the README.md beside it or that of its repository on the hub, else UNKNOWN; and which
    card that is."""
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
        found = huggingface_hub.ModelCard.load(card, ignore_metadata_errors=True).data
        stated = str(found.get("license_name") or found.get("license") or UNKNOWN)
    except Exception:  # noqa: BLE001  no card, no network, or not the form of one: nothing is known then
        stated = UNKNOWN
    return f"{stated} (looked in {card})"


def pretrained(kind: Any, source: str, what: str) -> Any:
    """A model of transformers with every weight that is used read from `source`: what is missing there, transformers
    draws at random. kind: its class. what: the words for it. Raises ModelError."""
    try:
        model, told = kind.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    except Exception as error:  # safetensors, JSON and hub errors share no other base
        raise cannot_load(source, what, error) from error
    missing = set(told["missing_keys"])
    if poolers := {key for key in missing if key.startswith("pooler.")}:
        model.pooler = None  # what it gives is not used, and its weights would be others at each start
        missing -= poolers
    if model.config.is_encoder_decoder:
        # Of a bare pair only the encoder is used. Whisper's decoder, which is, is called model.decoder.
        missing = {key for key in missing if not key.startswith("decoder.")}
    wrong = [
        *sorted(missing),
        *(
            f"{key} {(*found,)} instead of {(*wanted,)}"
            for key, found, wanted in sorted(told["mismatched_keys"])
        ),
    ]
    if wrong:
        raise ModelError(
            f"{source} lacks weights of {what}, or has them in another shape: {some(wrong, 6)}; take a whole "
            "checkpoint"
        )
    return model


def cannot_load(source: str, what: str, error: Exception) -> ModelError:
    """What is told of a model that its library can't load."""
    return ModelError(f"{source} can't be loaded as {what}: {' '.join(str(error).split())[:300]}")


def fails(source: str, error: Exception) -> ModelError:
    """What is told of a model that fails on a clip; it doesn't name the clip, so that one can see the same again."""
    return ModelError(f"{source} fails: {' '.join(str(error).split())[:200]}")


class Network:
    """An ONNX model whose one input is a batch of pictures; run it from as many threads as you like.

    outputs: their names. height, width: of the input, None where any will do. channels: 1 or 3.
    """

    def __init__(self, source: str) -> None:
        import onnxruntime

        self.source, file = source, find(source)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # clips go side by side
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            inputs = self._session.get_inputs()
        except Exception as error:  # it has its own
            raise ModelError(
                f"{source} can't be opened as ONNX: {' '.join(str(error).split())[:200]}"
            ) from error
        self.weights = fingerprint(file)
        self.outputs = tuple(one.name for one in self._session.get_outputs())
        self._input = inputs[0].name
        shape = [size if isinstance(size, int) and size > 0 else None for size in inputs[0].shape]
        self._last = len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)
        self.channels = (shape[3 if self._last else 1] or 3) if len(shape) == 4 else 0
        kind = inputs[0].type
        if len(inputs) != 1 or self.channels not in (1, 3) or kind not in ("tensor(float)", "tensor(uint8)"):
            found = ", ".join(f"{one.name} {one.shape} {one.type}" for one in inputs)
            raise ModelError(
                f"{source} takes {found}; expected one batch of pictures (batch, 3, height, width)"
            )
        self.height, self.width = shape[1:3] if self._last else shape[2:4]
        self._batch = shape[0]
        self._type = np.uint8 if "uint8" in kind else np.float32

    def run(self, pictures: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """(batch, height, width, channel) -> outputs by name, each (batch, ...). Raises ModelError."""
        batch = pictures if self._last else pictures.transpose(0, 3, 1, 2)
        step = self._batch or len(batch)
        # A network exported for a batch of so many gets so many, the last ones only to fill it.
        batch = np.concatenate([batch, np.repeat(batch[:1], -len(batch) % step, axis=0)]).astype(self._type)
        try:
            parts = [
                self._session.run(None, {self._input: batch[start : start + step]})
                for start in range(0, len(batch), step)
            ]
        except Exception as error:  # it has its own
            raise fails(self.source, error) from error
        columns = zip(*parts, strict=True)
        return {
            name: np.concatenate(part)[: len(pictures)]
            for name, part in zip(self.outputs, columns, strict=True)
        }


def resized(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(height, width, channel) uint8 in another size; smoothed where it shrinks."""
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def pick(
    outputs: dict[str, NDArray[Any]], names: Sequence[str] | None, source: str
) -> dict[str, NDArray[Any]]:
    """The named outputs in that order, all without names. Raises ModelError."""
    missing = [name for name in names or () if name not in outputs]
    if missing:
        raise ModelError(f"{source} has no output {', '.join(missing)}; it has {', '.join(outputs)}")
    return {name: outputs[name] for name in names or outputs}
