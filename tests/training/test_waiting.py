"""A training step waits for its device nowhere: counted on torch's device "meta", which holds no values to wait for."""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from emimic.data import loader
from emimic.data.items import Item
from emimic.model.transfer import get_host_mask, move_mask
from emimic.training import checkpoint, setup, step
from emimic.training.losses import Mix
from emimic.training.settings import TrainSettings

Tiny = Callable[..., dict[str, Any]]
META = torch.device("meta")
LENGTHS = (2400, 4000, 3100, 4000)
READING = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "nonzero")


class Waits(TorchDispatchMode):
    """Places where a GPU would make the program wait: values that are read, and copies that block."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.found: list[str] = []
        for name in READING:
            self._watch(patch, torch.Tensor, name)

    def _watch(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
            if tensor.device.type == "meta":
                self.found.append(name)
                if name == "__bool__":
                    return True
                tensor = torch.ones(tensor.shape, dtype=tensor.dtype)
            return original(tensor, *arguments, **options)

        patch.setattr(owner, name, watched)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        if name == "_to_copy" and args[0].device.type == "cpu" and kwargs.get("device") == META:
            self.found += [] if kwargs.get("non_blocking") else [f"{name} {tuple(args[0].shape)}"]
        elif name == "copy_" and {t.device.type for t in tensors} == {"cpu", "meta"}:
            self.found += [] if kwargs.get("non_blocking") else [name]
        elif (
            name in ("index", "index_put", "index_put_", "_index_put_impl_") and args[0].device.type == "meta"
        ):
            places = [place for place in args[1] if place is not None]
            self.found += [
                name for place in places if place.dtype == torch.bool or place.device.type == "cpu"
            ]
        elif name in ("masked_select", "nonzero", "equal", "is_nonzero", "unique", "_unique2"):
            self.found += [name for tensor in tensors if tensor.device.type == "meta"]
        return func(*args, **kwargs)


def make_run(values: dict[str, Any], model: Any) -> Any:
    settings = TrainSettings(**values)
    rng = np.random.default_rng(0)
    items = [
        Item(f"{i}", None, rng.random(6, dtype=np.float32), None, 1.0, vad=rng.random(3, dtype=np.float32))  # type: ignore[arg-type]
        for i in range(len(LENGTHS))
    ]
    items[1].labels[2] = np.nan  # type: ignore[index]
    model = model.to(META).train()
    fabric = SimpleNamespace(device=META, world_size=1, global_rank=0, autocast=contextlib.nullcontext)
    return setup.Run(
        folder=None, settings=settings, fabric=fabric, model=model, optimizer=setup.make_optimizer(model, settings),  # type: ignore[arg-type]
        loss=Mix(settings.loss), train=loader.Source(items, None), valid=None, progress=checkpoint.Progress(),  # type: ignore[arg-type]
        average={n: p.detach().clone() for n, p in model.named_parameters()}, show=False,
    )  # fmt: skip


def count_waits(run: Any, patch: pytest.MonkeyPatch) -> list[str]:
    rows = list(range(len(LENGTHS)))
    clips = [loader.ModelInput(tiny_models.clip(n, seed=n)) for n in LENGTHS]
    with patch.context() as inner, Waits(inner) as waits:
        inner.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # there is none on "meta"
        loss = step.take(run, rows, rows, clips)
    assert loss.device == META
    assert all(p.grad is not None for n, p in run.model.named_parameters() if n.startswith("head"))
    return waits.found


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "paper": ("wav2vec2-layer", {}, {}),
    "parts": ("wav2vec2-layer", {}, {"batch_seconds": 0.3}),
    "correlation": ("wav2vec2-layer", {}, {"loss": {"pearson": 1.0}, "ema": 0.9, "l2": 0.1}),
    "z-scored": (
        "wav2vec2-layer",
        {"target_mean": [0.5] * 6, "target_std": [0.2] * 6},
        {"standardize_targets": True},
    ),
    "hubert": ("hubert", {}, {}),
    "whisper": ("whisper", {}, {}),
    "layers": ("wav2vec2-layer", {"hidden_layers": [1, 2], "attentive": True, "global_std": True}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_waits_for_its_device_nowhere(case: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    family, config, values = CASES[case]
    model = tiny_models.model(family, **config)
    run = make_run({**tiny(), **values}, model)
    assert count_waits(run, monkeypatch) == []


def test_a_value_that_is_read_is_counted(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tiny(), tiny_models.model())
    take = step._compute_part_loss

    def reading(*arguments: Any) -> Any:
        loss = take(*arguments)
        assert loss.item() == 1.0
        loss.new_ones(3)[torch.ones(3, dtype=torch.bool)].copy_(torch.ones(3))
        return loss

    monkeypatch.setattr(step, "_compute_part_loss", reading)
    assert {"item", "index"} <= set(count_waits(run, monkeypatch))


def test_a_mask_is_known_on_the_host() -> None:
    mask = torch.tensor([[True, False]])
    assert get_host_mask(mask) is mask
    assert move_mask(mask, torch.device("cpu")) is mask
    moved = move_mask(mask, META)
    assert moved.device == META
    assert get_host_mask(moved.bool()) is mask
