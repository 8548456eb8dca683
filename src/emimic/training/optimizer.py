"""AdamW with the learning rate of each part of a model."""

import torch
from torch import Tensor

from emimic.task import SettingsError
from emimic.training.learner import Learner
from emimic.training.settings import TrainSettings


def make_optimizer(model: Learner, settings: TrainSettings) -> torch.optim.AdamW:
    """Return AdamW over the trained parameters.

    The encoders and the V/A/D head that came with one have the rate `encoder_lr`, parameters that `rates` names have
    theirs.
    """
    pretrained = ("encoder.", "vad.") if getattr(model.config, "vad_pretrained", False) else ("encoder.",)
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_pretrained = name.startswith(pretrained) or ".backbone." in name
            rate = settings.encoder_lr or settings.lr if is_pretrained else settings.lr
            rate = next((value for part, value in settings.rates.items() if part in name.split(".")), rate)
            groups.setdefault(rate, []).append(parameter)
    _check_rates(model, settings)
    parts = [{"params": group, "peak": rate} for rate, group in groups.items()]
    if not parts:
        raise SettingsError(
            "nothing is left to train: freeze_encoder also freezes the V/A/D head that came with the encoder, and "
            "without targets there is no other part. Set freeze_encoder to false, or add targets"
        )
    # The same formula in one pass over memory, which torch chooses by default nowhere; None: its choice.
    fused = True if model.device.type in ("cpu", "cuda", "mps") else None
    return torch.optim.AdamW(
        parts, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=fused
    )


def _check_rates(model: Learner, settings: TrainSettings) -> None:
    names = {
        part for name, _ in model.named_parameters() for part in name.split(".")
    } | settings.modalities.keys()
    if unknown := [part for part in settings.rates if part not in names | set(settings.roles)]:
        raise SettingsError(
            f"rates names {', '.join(unknown)}, and no parameter has such a part in its name; parts are "
            f"{', '.join(sorted(name for name in names if not name.isdigit()))}"
        )
