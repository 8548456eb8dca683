"""Published encoder checkpoints: their tensors (safetensors only) under the names of today's modules."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig
from transformers.utils import cached_file

from emimic.files import read_json
from emimic.model import encoders
from emimic.model.settings import check_source
from emimic.task import VAD, ModelError

# Prefixes of an encoder's weights inside a task model of each family; a bare encoder has none.
_PREFIXES: Final = {
    "wav2vec2": ("wav2vec2.",),
    "wavlm": ("wavlm.",),
    "hubert": ("hubert.",),
    "data2vec-audio": ("data2vec_audio.",),
    "whisper": ("model.encoder.", "encoder."),
}
# Prefixes of weights of pre-training and of other tasks, which are skipped.
_OTHER_TASKS: Final = (
    "quantizer.", "project_q.", "project_hid.", "lm_head.", "proj_out.", "decoder.", "model.decoder.",
    "projector.", "classifier.weight", "classifier.bias", "final_proj.", "label_embs_concat",
)  # fmt: skip
# Weight norm under torch's older and newer names.
_WEIGHT_NORM: Final = (
    (".weight_g", ".parametrizations.weight.original0"),
    (".weight_v", ".parametrizations.weight.original1"),
)

# The model type of a finished run of emimic.
_RUN: Final = "emimic"
# SpecAugment's vector for masked frames: missing in some checkpoints (wav2vec2-base-960h), unused in others.
_MASKED: Final = "masked_spec_embed"
# A transformer layer's number (data2vec also numbers the layers of its positional convolution).
_LAYER: Final = re.compile(r"(?:encoder\.)?layers\.(\d+)\.")


@dataclass(frozen=True)
class Encoder:
    """Checkpoint of an encoder.

    Attributes:
        config: transformers' configuration.
        encoder: the encoder's tensors.
        vad: the V/A/D head's tensors, or None.
        do_normalize: clips are scaled to zero mean and unit variance.
    """

    config: Any
    encoder: dict[str, Tensor]
    vad: dict[str, Tensor] | None
    do_normalize: bool


def read_encoder(source: str | os.PathLike[str], *, layers: int | None, local_files_only: bool) -> Encoder:
    """Read an encoder from a folder, a finished run's too, or from the hub.

    A run's V/A/D head is included if it was trained on V/A/D and has the layout of published ones.

    Args:
        source: folder, or name on the hub.
        layers: number of first layers to keep; None: all.
        local_files_only: don't download.

    Raises:
        ModelError: if it can't be read.
    """
    check_source(source)
    try:
        # Else transformers asks at the terminal whether it may run a checkpoint's own code.
        config = AutoConfig.from_pretrained(
            source, local_files_only=local_files_only, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"the encoder {source} can't be read: {reason}") from error
    run = config if config.model_type == _RUN else None
    config = config if run is None else run.encoder_config
    encoders.check_family(config.model_type)
    tensors = _read_tensors(source, local_files_only)
    if run is not None:
        tensors = _rename_run_tensors(tensors, run)
    config = type(config).from_dict({**config.to_dict(), "dtype": None})
    encoder, vad = _split_tensors(tensors, config, source, layers)
    if layers is not None:
        if not 1 <= layers <= config.num_hidden_layers:
            raise ModelError(f"layers is {layers}, the encoder {source} has 1 to {config.num_hidden_layers}")
        config.num_hidden_layers = layers
    if run is not None:
        return Encoder(config, encoder, vad, run.do_normalize)
    preprocessor = _find(source, "preprocessor_config.json", local_files_only)
    settings = _read_object(preprocessor) if preprocessor else {}
    # The extractors' defaults: wav2vec 2.0's normalizes, Whisper's doesn't.
    do_normalize = bool(settings.get("do_normalize", config.model_type != "whisper"))
    return Encoder(config, encoder, vad, do_normalize)


def _rename_run_tensors(tensors: dict[str, Tensor], run: Any) -> dict[str, Tensor]:
    """Return a run's tensors under the names of a published checkpoint, without its LSTM and regression head."""
    vad = {"vad.": "classifier."} if run.predicts_vad and run.published_vad_head else {}
    prefixes = {"encoder.": _PREFIXES[run.encoder_config.model_type][0], **vad}
    return {
        new + name.removeprefix(old): tensor
        for name, tensor in tensors.items()
        for old, new in prefixes.items()
        if name.startswith(old)
    }


def fill(module: nn.Module, tensors: dict[str, Tensor], source: str | os.PathLike[str]) -> None:
    """Load tensors into a module, with weight norm under either of torch's names.

    Raises:
        ModelError: if a weight is missing, left over, or of another shape.
    """
    initial = module.state_dict()
    names = set(initial)
    renamed = {}
    for name, tensor in tensors.items():
        for old, new in _WEIGHT_NORM:
            for suffix, other in ((old, new), (new, old)):
                if name not in names and name.endswith(suffix):
                    name = name.removesuffix(suffix) + other
        renamed[name] = tensor
    if _MASKED in names:
        renamed.setdefault(_MASKED, initial[_MASKED])
    else:
        renamed.pop(_MASKED, None)
    missing, left_over = sorted(names - set(renamed)), sorted(set(renamed) - names)
    if missing or left_over:
        raise ModelError(
            f"the encoder {source} doesn't fit its config.json: "
            f"missing {missing or 'nothing'}, left over {left_over or 'nothing'}"
        )
    try:
        module.load_state_dict(renamed, strict=True)
    except RuntimeError as error:
        raise ModelError(f"the encoder {source} doesn't fit its config.json: {error}") from error


def _find(source: str | os.PathLike[str], name: str, local_files_only: bool) -> Path | None:
    try:
        path = cached_file(
            str(source), name, local_files_only=local_files_only, _raise_exceptions_for_missing_entries=False
        )
    except OSError as error:
        raise ModelError(
            f"the encoder {source} can't be read: {str(error).strip().splitlines()[0]}"
        ) from error
    return Path(path) if path else None


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except ValueError as error:
        raise ModelError(f"{file} isn't JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise ModelError(
            f"{file} holds a JSON {type(content).__name__}, expected an object; download it again"
        )
    return content


def _read_tensors(source: str | os.PathLike[str], local_files_only: bool) -> dict[str, Tensor]:
    single = _find(source, "model.safetensors", local_files_only)
    if single:
        files = [single]
    else:
        index = _find(source, "model.safetensors.index.json", local_files_only)
        if not index:
            raise ModelError(
                f"the encoder {source} has no model.safetensors: pickled weights aren't read; load it once with "
                "transformers and save_pretrained() it"
            )
        names = sorted(set(_read_object(index).get("weight_map", {}).values()))
        files = [path for name in names if (path := _find(source, name, local_files_only))]
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors.update(load_file(file))
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{file} isn't a complete safetensors file ({error}); download it again"
            ) from error
    return tensors


def _split_tensors(
    tensors: dict[str, Tensor], config: Any, source: str | os.PathLike[str], layers: int | None
) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Return the encoder's tensors of a checkpoint, and the V/A/D head's or None; other tasks' heads are skipped."""
    prefix = next(
        (p for p in _PREFIXES[config.model_type] if any(name.startswith(p) for name in tensors)), ""
    )
    encoder: dict[str, Tensor] = {}
    vad: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(("classifier.dense.", "classifier.out_proj.")):
            vad[name.removeprefix("classifier.")] = tensor
        elif name.startswith(_OTHER_TASKS) and not (prefix and name.startswith(prefix)):
            continue
        elif name.startswith(prefix):
            short = name.removeprefix(prefix)
            number = _LAYER.match(short)
            if layers is not None and number and int(number[1]) >= layers:
                continue
            encoder[short] = tensor[:layers].clone() if short == "relative_bias" else tensor
        else:
            raise ModelError(f"the encoder {source} holds a weight of no known use: {name}")
    outputs = vad.get("out_proj.weight")
    # Three outputs are a V/A/D head, others a classifier. Without any, `fill` names what is missing.
    classifier = outputs is not None and len(outputs) != len(VAD)
    return encoder, vad if vad and not classifier else None
