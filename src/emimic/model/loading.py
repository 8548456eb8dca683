"""Checks of a model folder before transformers loads it, and of what it loaded."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file
from torch import nn

from emimic.files import read_json
from emimic.model.config import EmiConfig
from emimic.task import ModelError

WEIGHTS: Final = "model.safetensors"


def check_folder(source: str | os.PathLike[str]) -> None:
    """Raise ModelError where a local folder holds no finished model; a name on the hub passes."""
    folder = Path(source)
    if not folder.exists():
        return  # a name on the hub; transformers reports a missing one
    if not folder.is_dir():
        raise ModelError(f"{folder} is a file; expected a model folder with config.json and {WEIGHTS}")
    for name in ("config.json", WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder} has no {name}; expected a model folder written by emimic train")
    try:
        kind = read_json(folder / "config.json").get("model_type")
    except (ValueError, AttributeError) as error:
        raise ModelError(
            f"{folder / 'config.json'} isn't a JSON object ({error}); the folder is damaged"
        ) from error
    if kind == "emimic-baseline":
        raise ModelError(
            f"{folder} holds a baseline, which predicts from features: use emimic evaluate or emimic submit"
        )
    if kind != EmiConfig.model_type:
        raise ModelError(
            f"{folder} holds a model of type {kind!r}, expected {EmiConfig.model_type!r}: "
            "a bare encoder starts a training run (encoder=...), it isn't a finished model"
        )


def check_attention(implementation: Any) -> None:
    """Raise ModelError for an attention that EmiModel can't compute exactly; None: transformers chooses one."""
    if implementation not in (None, "sdpa", "eager"):
        raise ModelError(
            f"attn_implementation is {implementation!r}, expected sdpa or eager: leave it out. Padded clips' masks "
            "need one of these, and torch's sdpa takes a GPU's flash kernels where there is no mask"
        )


def fill_heads(model: nn.Module, run: str | os.PathLike[str]) -> None:
    """Copy all weights but the encoder's from a finished run; what the run has none of stays as it is.

    Args:
        model: an EmiModel, changed in place.
        run: the run's folder.

    Raises:
        ModelError: if it is no finished run, or a weight has another shape there.
    """
    if not Path(run).is_dir():
        raise ModelError(f"found no folder {run}, expected a finished run: start_heads needs one as encoder")
    check_folder(run)
    tensors, state = load_file(Path(run) / WEIGHTS), model.state_dict()
    names = [name for name in state if name in tensors and not name.startswith("encoder.")]
    if wrong := [name for name in names if tensors[name].shape != state[name].shape]:
        name = wrong[0]
        raise ModelError(
            f"{run}: {name} has the shape {tuple(tensors[name].shape)}, expected {tuple(state[name].shape)}: give the "
            "run's own settings and targets, or set start_heads=false"
        )
    model.load_state_dict({name: tensors[name] for name in names}, strict=False)


def check_loaded(source: str | os.PathLike[str], info: Mapping[str, Any]) -> None:
    """Raise ModelError where transformers' loading info has a missing, surplus or mismatched weight."""
    wrong = {kind: sorted(map(str, names)) for kind, names in info.items() if kind != "error_msgs" and names}
    if wrong:
        raise ModelError(f"{source} doesn't fit its own config.json: {wrong}; train or download it again")
