"""Published encoder checkpoints: reading them (safetensors only) and fitting their names to today's modules."""

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
from emimic.task import VAD, ModelError

# Where each family keeps its encoder inside a task model; a bare encoder has no prefix.
_PREFIXES: Final = {
    "wav2vec2": ("wav2vec2.",),
    "wavlm": ("wavlm.",),
    "hubert": ("hubert.",),
    "data2vec-audio": ("data2vec_audio.",),
    "whisper": ("model.encoder.", "encoder."),
}
# Weights of pre-training and of other tasks that may lie beside the encoder and aren't wanted here.
_OTHER_TASKS: Final = (
    "quantizer.", "project_q.", "project_hid.", "lm_head.", "proj_out.", "decoder.", "model.decoder.",
    "projector.", "classifier.weight", "classifier.bias", "final_proj.", "label_embs_concat",
)  # fmt: skip
# The two spellings of weight norm: torch's older and newer names.
_WEIGHT_NORM: Final = (
    (".weight_g", ".parametrizations.weight.original0"),
    (".weight_v", ".parametrizations.weight.original1"),
)


# The model type of a finished run of emimic.
_RUN: Final = "emimic"
# What SpecAugment puts in place of masked frames: checkpoints lack it (wav2vec2-base-960h) or carry it needlessly.
_MASKED: Final = "masked_spec_embed"
# A transformer layer (data2vec numbers the layers of its positional convolution, too).
_LAYER: Final = re.compile(r"(?:encoder\.)?layers\.(\d+)\.")


@dataclass(frozen=True)
class Encoder:
    """A checkpoint from disk: its configuration, the encoder's tensors, the VAD head's (or None), normalization."""

    config: Any
    encoder: dict[str, Tensor]
    vad: dict[str, Tensor] | None
    do_normalize: bool


def read_encoder(source: str | os.PathLike[str], *, layers: int | None, local_files_only: bool) -> Encoder:
    """Read an encoder from a folder or the hub; `layers` keeps the first ones only. Raises ModelError.

    A finished emimic run gives its encoder, and its VAD head if that has learned VAD from the last hidden states.
    """
    if str(source).startswith(("/", ".", "~")) and not Path(source).is_dir():
        raise ModelError(f"the encoder {source} can't be read: there is no such folder")
    try:
        # Without the refusal transformers asks at the terminal whether it may run a checkpoint's own code.
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
        tensors = _from_run(tensors, run)
    config = type(config).from_dict({**config.to_dict(), "dtype": None})
    encoder, vad = _sort(tensors, config, source, layers)
    if layers is not None:
        if not 1 <= layers <= config.num_hidden_layers:
            raise ModelError(f"layers is {layers}, the encoder {source} has 1 to {config.num_hidden_layers}")
        config.num_hidden_layers = layers
    if run is not None:
        return Encoder(config, encoder, vad, run.do_normalize)
    preprocessor = _find(source, "preprocessor_config.json", local_files_only)
    settings = _read_object(preprocessor) if preprocessor else {}
    # Absent, the extractors' own defaults hold: wav2vec 2.0's normalizes, Whisper's doesn't.
    do_normalize = bool(settings.get("do_normalize", config.model_type != "whisper"))
    return Encoder(config, encoder, vad, do_normalize)


def _from_run(tensors: dict[str, Tensor], run: Any) -> dict[str, Tensor]:
    """A run's tensors under the names of a published checkpoint; its LSTM and regression head stay behind."""
    vad = {"vad.": "classifier."} if run.predicts_vad and run.published_vad_head else {}
    prefixes = {"encoder.": _PREFIXES[run.encoder_config.model_type][0], **vad}
    return {
        new + name.removeprefix(old): tensor
        for name, tensor in tensors.items()
        for old, new in prefixes.items()
        if name.startswith(old)
    }


def fill(module: nn.Module, tensors: dict[str, Tensor], source: str | os.PathLike[str]) -> None:
    """Load tensors into a module under either spelling of weight norm; ModelError on any missing or left-over name."""
    start = module.state_dict()
    wanted = set(start)
    renamed = {}
    for name, tensor in tensors.items():
        for old, new in _WEIGHT_NORM:
            for ours, theirs in ((old, new), (new, old)):
                if name not in wanted and name.endswith(ours):
                    name = name.removesuffix(ours) + theirs
        renamed[name] = tensor
    if _MASKED in wanted:
        renamed.setdefault(_MASKED, start[_MASKED])
    else:
        renamed.pop(_MASKED, None)
    missing, left_over = sorted(wanted - set(renamed)), sorted(set(renamed) - wanted)
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
        found = cached_file(
            str(source), name, local_files_only=local_files_only, _raise_exceptions_for_missing_entries=False
        )
    except OSError as error:
        raise ModelError(
            f"the encoder {source} can't be read: {str(error).strip().splitlines()[0]}"
        ) from error
    return Path(found) if found else None


def _read_object(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
    except ValueError as error:
        raise ModelError(f"{file} isn't JSON ({error}); download it again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds a JSON {type(found).__name__}, expected an object; download it again")
    return found


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
        files = [found for name in names if (found := _find(source, name, local_files_only))]
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors.update(load_file(file))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} isn't a whole safetensors file ({error}); download it again") from error
    return tensors


def _sort(
    tensors: dict[str, Tensor], config: Any, source: str | os.PathLike[str], layers: int | None
) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Part a checkpoint's tensors into the encoder's and the VAD head's; other tasks' heads are left aside."""
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
            found = _LAYER.match(short)
            if layers is not None and found and int(found[1]) >= layers:
                continue
            encoder[short] = tensor
        else:
            raise ModelError(f"the encoder {source} holds a weight of no known use: {name}")
    outputs = vad.get("out_proj.weight")
    # Without outputs the rest is kept, so that `fill` names them; three are a VAD head, others some classifier.
    other = outputs is not None and len(outputs) != len(VAD)
    return encoder, vad if vad and not other else None
