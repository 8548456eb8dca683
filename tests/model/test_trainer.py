"""Hugging Face's Trainer drives the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from transformers import Trainer, TrainingArguments


def make_clips(count: int) -> list[dict[str, Any]]:
    """Tones, each with its loudness plus 1 as the first label; the second one is unknown."""
    rng = np.random.default_rng(0)
    levels = rng.uniform(0.1, 1.0, count)
    time = np.arange(3200) / 16000
    return [
        {
            "input_values": (level * np.sin(2 * np.pi * 300 * time)).astype(np.float32),
            "labels": np.array([level + 1.0, np.nan], np.float32),
        }
        for level in levels
    ]


def test_trainer_takes_ten_steps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tiny_models.model(targets=["Joy", "Amusement"], do_normalize=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    arguments = TrainingArguments(
        str(tmp_path), max_steps=10, per_device_train_batch_size=8, learning_rate=5e-3, logging_steps=1,
        save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, seed=0,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=make_clips(64))  # type: ignore[arg-type]
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert trainer.state.global_step == 10
    assert np.mean(losses[-3:]) < 0.5 * losses[0]
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert any(name.startswith("encoder.") for name in changed)
    assert any(name.startswith("head.") for name in changed)


def test_the_loss_leaves_out_unknown_labels() -> None:
    model = tiny_models.model(targets=["Joy", "Amusement"]).eval()
    values = torch.randn(3, 3200, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0.5, torch.nan], [torch.nan, torch.nan], [0.2, 0.9]])
    with torch.no_grad():
        output = model(values, labels=labels)
        tuple_output = model(values, labels=labels, return_dict=False)
        plain = model(values)
    y = output.intensities
    expected = ((y[0, 0] - 0.5) ** 2 + (y[2, 0] - 0.2) ** 2 + (y[2, 1] - 0.9) ** 2) / 3
    assert float(output.loss) == pytest.approx(float(expected), rel=1e-5)
    assert plain.loss is None
    assert torch.equal(tuple_output[0], output.loss)
    assert torch.equal(tuple_output[1], plain.intensities)
