"""Linear layers of a domain, solved when training ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny as tiny_models
from test_domains import make_voices

from emimic.model import EmiModel
from emimic.study import probes
from emimic.study.corpus import load_corpus
from emimic.study.settings import TrainSettings
from emimic.study.train import train

Tiny = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("clips", [9, 40])
def test_ridge_is_the_minimum_of_its_penalty(clips: int) -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(clips, 12)) * rng.uniform(0.1, 9, 12) + 3, rng.uniform(0.2, 2, clips)
    y = rng.normal(size=clips)
    slope, intercept = probes.ridge(x, y, weights, 5.0)
    mean = np.average(x, axis=0, weights=weights)
    std = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights)) + 1e-6

    def cost(change: np.ndarray, shift: float) -> float:
        residual = y - (intercept + shift) - x @ (slope + change)
        return float(weights @ residual**2 + 5.0 * np.square((slope + change) * std).sum())

    for _ in range(50):
        assert cost(1e-3 * rng.normal(size=12) / std, 1e-3 * rng.normal()) >= cost(np.zeros(12), 0.0)


def test_a_run_ends_with_the_solution(tmp_path: Path, tiny: Tiny) -> None:
    folders = [
        make_voices(tmp_path / n, rough=n == "rough", seed=i) for i, n in enumerate(("clean", "rough"))
    ]
    values = tiny(
        standardize_frames=True, hidden_layers=[1, 2], lstm=False, global_spread=True, epochs=1, batch_size=16,
        domain_targets={"rough": ["Joy"]}, domain_ridge=3.0, corpora={"rough": {"ridge_weight": 0.5}},
        encoder_config=tiny_models.encoder("whisper"), train_on="train",
    )  # fmt: skip
    train(folders, tmp_path / "run", TrainSettings(**values), show=False)
    model = EmiModel.open_run(tmp_path / "run")
    items = load_corpus(folders[1], splits=["train"]).splits["train"].items
    x = probes.moments(model, items, batch_seconds=60, workers=1, progress=False)
    y = np.array([float(item.labels[0]) for item in items])  # type: ignore[index]
    slope, intercept = probes.ridge(x, y, np.full(len(y), 0.5), 3.0)
    layer: Any = model.domains.own["rough"]
    np.testing.assert_allclose(layer.weight[0].detach().numpy(), slope, rtol=1e-3, atol=1e-5)
    assert float(layer.bias[0].detach()) == pytest.approx(intercept, abs=1e-4)
