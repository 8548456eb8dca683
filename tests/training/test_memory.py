"""`batch_seconds: auto`: seconds of audio from a device's memory."""

from types import SimpleNamespace
from typing import Any

import pytest
import tiny_models
import torch

from emimic.task import SettingsError
from emimic.training.memory import STATE, USED, measure_activations, plan_batch_seconds, resolve_batch_seconds
from emimic.training.settings import TrainSettings


def make_settings(**values: Any) -> TrainSettings:
    return TrainSettings.read(overrides={"batch_seconds": "auto", "max_seconds": 2.0, **values})


def test_activations_grow_with_the_clip_and_exclude_weights() -> None:
    model = tiny_models.model(lstm=False, encoder={"attention_dropout": 0.0})
    one, two = (measure_activations(model, seconds) for seconds in (1.0, 2.0))
    assert 1.6 < two / one < 2.4
    assert not model.training
    # The convolutions' outputs alone: 8 channels of float32 at these lengths.
    lengths = [3199, 1599, 799, 399, 199, 99, 49]
    assert one > 4 * 8 * sum(lengths)
    with torch.no_grad():
        assert measure_activations(model, 1.0) == 0


def test_seconds_are_what_the_memory_holds() -> None:
    model = tiny_models.model(head_units=3000)
    settings = make_settings()
    parameters = sum(p.numel() for p in model.parameters())
    per_second = measure_activations(model, 2.0) / 2
    total = (10 * per_second + STATE * parameters) / USED
    assert plan_batch_seconds(model, settings, round(total)) == pytest.approx(10, abs=0.1)
    assert plan_batch_seconds(model, make_settings(ema=0.9), round(total)) < 10
    assert plan_batch_seconds(model, settings, 1) == 2.0  # one clip of the longest
    assert plan_batch_seconds(model, settings, 10**15) == 2.0 * 32  # a whole step
    model.encoder.requires_grad_(False)
    assert plan_batch_seconds(model, settings, round(total)) > 10


def test_a_cpu_has_a_constant() -> None:
    settings, fabric = make_settings(), SimpleNamespace(device=torch.device("cpu"))
    assert resolve_batch_seconds(settings, tiny_models.model(), fabric) is settings
    assert settings.seconds_in_batch == 60.0
    assert make_settings(batch_seconds=7).seconds_in_batch == 7.0


def test_a_gpu_is_asked_for_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model, settings = tiny_models.model(), make_settings()
    fabric = SimpleNamespace(
        device=torch.device("cuda"), autocast=lambda: torch.autocast("cpu", enabled=False)
    )
    properties = SimpleNamespace(total_memory=10**15)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    with pytest.raises(SettingsError, match="batch_seconds"):
        make_settings(batch_seconds="most")
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: torch.enable_grad())
    resolved = resolve_batch_seconds(settings, model, fabric)
    assert resolved.batch_seconds == 64.0
    assert settings.batch_seconds == "auto"
