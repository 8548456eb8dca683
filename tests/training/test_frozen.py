"""Training from the outputs of frozen layers that are kept on disk."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from safetensors.torch import load_file
from tone_corpus import make_corpus

from emimic.model.model import EmiModel
from emimic.task import SettingsError
from emimic.training import step as steps
from emimic.training.loop import train
from emimic.training.settings import TrainSettings
from emimic.training.setup import Run

Tiny = Callable[..., dict[str, Any]]


def test_training_goes_on_from_kept_outputs_of_frozen_layers(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    given = tiny(
        encoder_config=tiny_models.encoder("whisper", encoder_layers=3), frozen_layers=2, hidden_layers=[1, 3],
        lstm=False, standardize_frames=True, augment=0.5, codec=0.3, lengths=0.3, epochs=3, feature_dtype="float32",
    )  # fmt: skip
    runs = {
        copies: train(
            corpus, tmp_path / str(copies), TrainSettings(**given, frozen_copies=copies), show=False
        )
        for copies in (0, 2, 3)
    }
    losses = {copies: [entry["loss"] for entry in run.history] for copies, run in runs.items()}
    np.testing.assert_allclose(losses[3], losses[0], rtol=1e-5)
    np.testing.assert_allclose(losses[2][:2], losses[0][:2], rtol=1e-5)
    assert losses[2][2] != pytest.approx(losses[0][2], rel=1e-5)  # the first copy once more
    assert not (tmp_path / "3" / "frozen").exists()

    # Stopped and resumed, it takes what is there.
    original = steps.take

    def stopping(run: Run, *rest: Any) -> float:
        if run.progress.total_steps == 1:
            signal.raise_signal(signal.SIGTERM)
        return original(run, *rest)

    settings_of = TrainSettings(**given, frozen_copies=3)
    monkeypatch.setattr(steps, "take", stopping)
    train(corpus, tmp_path / "parts", settings_of, show=False)
    monkeypatch.setattr(steps, "take", original)
    kept = sorted((tmp_path / "parts" / "frozen").iterdir())
    assert len(kept) == 3 * 11
    monkeypatch.setattr(EmiModel, "encode_frozen", None)
    train(corpus, tmp_path / "parts", resume=True, show=False)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("3", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frozen_copies": 1}, "set frozen_layers, too"),
        ({"loss": {"bce": 1.0}}, "set bounded, too"),
        ({"bounded": True, "standardize_targets": True}, "bounded intensities can't be of z-scored targets"),
    ],
)
def test_settings_that_do_not_go_together(given: dict[str, Any], message: str, tiny: Tiny) -> None:
    with pytest.raises(SettingsError, match=message):
        TrainSettings(**tiny(**given))
