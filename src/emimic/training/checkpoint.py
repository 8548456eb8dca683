"""Files of a run: the best model as a model folder, and one file with everything that resuming needs.

`config.json` and `model.safetensors` are the best model so far; `last.safetensors` holds weights, optimizer moments,
averaged weights and the counters. Each is written atomically; no pickle is written or read.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from emimic.files import read_json, replace_atomically, write_atomically
from emimic.model.model import WEIGHTS, EmiModel
from emimic.task import ModelError
from emimic.training.learner import Learner
from emimic.training.settings import FILE, TrainSettings

LAST: Final = "last.safetensors"
SETTINGS: Final = FILE
SETTINGS_SCHEMA: Final = "emimic/train/1"
HISTORY: Final = "history.json"
HISTORY_SCHEMA: Final = "emimic/history/1"
LOCK: Final = ".train.lock"
FROZEN: Final = "frozen"
PROJECTION: Final = "projection"
"""Name of a student's layer that is trained with it and isn't part of the finished model, see `setup.Run`."""


@dataclass
class Progress:
    """Progress of a run, without times or machines, so that equal runs write equal files.

    Attributes:
        corpus: fingerprint of the run's clips and labels.
        recordings: fingerprint of the clips' files.
        epoch: number of finished epochs.
        step: optimizer steps done in this epoch.
        total_steps: optimizer steps done.
        loss_sum: over the clips of this epoch so far.
        loss_clips: number of these clips.
        best_score: Pearson of the best epoch, see `validation.validate`.
        best_epoch: its number, from 1.
        finished: no step is left.
        history: one dict per epoch.
    """

    corpus: str = ""
    recordings: str = ""
    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    loss_sum: float = 0.0
    loss_clips: int = 0
    best_score: float | None = None
    best_epoch: int | None = None
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


def sweep(folder: Path, *others: str) -> None:
    """Remove temporary files of writes of weights, and of files with other names, that were killed."""
    for name in (WEIGHTS, LAST, *others):
        stem, suffix = Path(name).stem, Path(name).suffix
        for stale in folder.glob(f".{stem}.*{suffix}"):
            stale.unlink(missing_ok=True)


def write_model(folder: Path, model: Learner, weights: dict[str, Tensor] | None = None) -> None:
    """Write a model, with the given weights instead of its own, as a folder for `EmiModel.from_pretrained`."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if weights is not None:
        state.update({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{PROJECTION}.")}
    with replace_atomically(folder / WEIGHTS) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    if isinstance(model, EmiModel):
        model.config.architectures = [type(model).__name__]
    write_atomically(folder / "config.json", model.config.to_json_string())


@dataclass(frozen=True)
class State:
    """All that a resumed run needs, as it was at one step: copies on the host, which no later step changes.

    Attributes:
        folder: of the run.
        tensors: of model, optimizer and averaged weights.
        progress: as JSON.
        history: as JSON.
    """

    folder: Path
    tensors: dict[str, Tensor]
    progress: str
    history: str


def copy_state(
    folder: Path,
    progress: Progress,
    model: Learner,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor] | None,
) -> State:
    """Return a copy of all that a resumed run needs."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for parameter, moments in optimizer.state.items():
        for kind, tensor in moments.items():
            tensors[f"optimizer.{names[parameter]}.{kind}"] = tensor
    for name, tensor in (average or {}).items():
        tensors[f"average.{name}"] = tensor
    cpu = torch.device("cpu")
    tensors = {name: tensor.detach().to(cpu, copy=True).contiguous() for name, tensor in tensors.items()}
    history = {"schema": HISTORY_SCHEMA, "epochs": progress.history}
    return State(
        folder,
        tensors,
        json.dumps(asdict(progress), sort_keys=True),
        json.dumps(history, indent=1) + "\n",
    )


def write_state(state: State) -> None:
    """Write all that a resumed run needs into one file (safetensors, with the counters as JSON in its header)."""
    # First: after a kill between the two, a resumed run writes it again.
    write_atomically(state.folder / HISTORY, state.history)
    with replace_atomically(state.folder / LAST) as temporary:
        save_file(state.tensors, temporary, metadata={"progress": state.progress})


def read_last(
    folder: Path, model: Learner, optimizer: torch.optim.Optimizer
) -> tuple[Progress, dict[str, Tensor] | None]:
    """Load what `write_state` wrote into a model and its optimizer.

    Returns:
        Progress, and averaged weights by name or None.

    Raises:
        ModelError: if the file is damaged or doesn't fit the model.
    """
    file = folder / LAST
    try:
        with safe_open(file, "pt", device=str(model.device)) as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
        progress = Progress(**json.loads(metadata["progress"]))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"{file} can't be resumed from ({error}); start the run again in another folder"
        ) from error
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "average": {}}
    parameters = dict(model.named_parameters())
    try:
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        model.load_state_dict(parts["model"], strict=True)
        for name, tensor in parts["optimizer"].items():
            owner, _, kind = name.rpartition(".")
            # AdamW's step counter is on the CPU for every device.
            optimizer.state[parameters[owner]][kind] = tensor.cpu() if kind == "step" else tensor
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{file} doesn't fit this run's model ({reason}); have the encoder or the corpus changed since?"
        ) from error
    return progress, parts["average"] or None


def read_progress(folder: Path) -> Progress | None:
    """Return a run's progress without reading its weights; None before its first save. Raises ModelError if damaged."""
    file = folder / LAST
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as opened:
            return Progress(**json.loads((opened.metadata() or {})["progress"]))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{file} can't be read ({error}); start the run again in another folder") from error


def write_settings(folder: Path, settings: TrainSettings, facts: dict[str, Any]) -> None:
    """Write `train.json`: the settings, and facts (versions, corpus, device)."""
    content = {"schema": SETTINGS_SCHEMA, "settings": settings.model_dump(mode="json"), **facts}
    write_atomically(folder / SETTINGS, json.dumps(content, indent=1) + "\n")


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what a run's `train.json` holds beside the settings. Raises ModelError where `folder` is no run."""
    file = folder / SETTINGS
    try:
        return {name: value for name, value in read_json(file).items() if name != "settings"}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder} isn't a training run: {file.name} can't be read ({error})") from error


def read_stored(folder: Path) -> dict[str, Any]:
    """Return a run's settings as stored; nothing without `train.json`. Raises ModelError where that can't be read."""
    file = folder / SETTINGS
    try:
        return dict(read_json(file)["settings"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file} can't be read ({error}); expected the settings that emimic train wrote. "
            "Bring it back, or delete it to go without"
        ) from error


def read_settings(folder: Path) -> TrainSettings:
    """Return the settings that a run was started with. Raises ModelError where `folder` is no run."""
    file = folder / SETTINGS
    try:
        return TrainSettings(**read_json(file)["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} isn't a training run: {file.name} can't be read ({error})") from error
