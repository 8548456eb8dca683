"""Seconds of audio that fit in one forward and backward pass, from a device's memory (`batch_seconds: auto`)."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor

from emimic.model.model import EmiModel
from emimic.task import SAMPLE_RATE
from emimic.training.learner import Learner
from emimic.training.settings import TrainSettings

USED: Final = 0.7
"""Fraction of the memory that a run plans with: kernels need work space, and the allocator leaves gaps."""

STATE: Final = 16
"""Bytes of a trained parameter: weight, gradient and AdamW's two averages in float32."""


def resolve_batch_seconds(settings: TrainSettings, model: Learner, fabric: Any) -> TrainSettings:
    """Return settings with a number for `batch_seconds: auto`; only CUDA's memory is asked for one."""
    device = fabric.device
    if settings.batch_seconds != "auto" or device.type != "cuda" or not isinstance(model, EmiModel):
        return settings
    total = torch.cuda.get_device_properties(device).total_memory
    with torch.random.fork_rng([device]), fabric.autocast():
        seconds = plan_batch_seconds(model, settings, total)
    return settings.model_copy(update={"batch_seconds": seconds})


def plan_batch_seconds(model: EmiModel, settings: TrainSettings, total: int) -> float:
    """Return the seconds of audio whose activations fit beside the model's state, between a clip's and a step's.

    Args:
        model: in the mode in which it is trained.
        settings: of the run.
        total: the device's memory in bytes.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    averaged = 4 * trained if settings.ema is not None else 0
    state = STATE * trained + 4 * frozen + averaged
    longest = settings.max_seconds
    per_second = measure_activations(model, longest) / longest
    fitting = (USED * total - state) / max(per_second, 1.0)
    return float(round(min(max(fitting, longest), settings.batch_size * longest), 1))


@contextlib.contextmanager
def _keep_layers(model: EmiModel) -> Iterator[None]:
    """Let LayerDrop skip no layer of the encoder in this block."""
    encoder: Any = getattr(model, "encoder", None)
    parts: list[Any] = [encoder, getattr(encoder, "config", None)]
    places = [part for part in parts if hasattr(part, "layerdrop")]
    before = [place.layerdrop for place in places]
    for place in places:
        place.layerdrop = 0.0
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.layerdrop = value


def measure_activations(model: EmiModel, seconds: float) -> int:
    """Return the bytes that a forward pass of one clip keeps for its backward pass, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes(), tensor  # held, so that no other gets its address
        return tensor

    training = model.training
    model.train()
    samples = torch.zeros(1, round(seconds * SAMPLE_RATE), device=model.device)
    try:
        with _keep_layers(model), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(samples)
    finally:
        model.train(training)
    return sum(size for size, _ in kept.values())
