"""`emimic train --dry-run`: the cost of a training, from a few of its steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from synth_speech import make_voices

from emimic.task import SettingsError
from emimic.training.dry_run import Estimate, estimate
from emimic.training.settings import TrainSettings

Tiny = Callable[..., dict[str, Any]]


def test_a_dry_run_counts_and_times_steps(
    tmp_path: Path, tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "corpus"
    make_voices(folder, rough=False, seed=0)
    rows = len((folder / "train_split.csv").read_text(encoding="utf-8").split()) - 1
    before = sorted(tmp_path.rglob("*"))
    settings = {**tiny(encoder_config=tiny_models.encoder("whisper")), "batch_size": 5, "epochs": 7}
    result = estimate(folder, TrainSettings(**settings), show=False)
    assert sorted(tmp_path.rglob("*")) == before
    assert (result.clips, result.steps, result.epochs) == (rows, -(-rows // 5), 7)
    assert 0 < result.trained <= result.parameters
    assert result.memory > 2**20
    assert result.step_seconds > 0
    double = estimate(folder, TrainSettings(**settings | {"batch_size": 10}), show=False)
    assert 1.5 < double.flop / result.flop < 2.5
    assert capsys.readouterr().out == ""


def test_the_text_multiplies_steps_and_epochs() -> None:
    text = Estimate(
        device="cpu", precision="32-true", parameters=2000, trained=1000, clips=320, steps=10, epochs=36,
        flop=3e12, step_seconds=6.0, decode_seconds=0.25, memory=3 * 2**30,
    ).to_text()  # fmt: skip
    assert "parameters 2,000, trained 1,000" in text
    assert "3 TFLOP, 6 s (500 GFLOP/s)" in text
    assert "memory 3.00 GiB" in text
    assert "an epoch: 1.0 min, all epochs: 0.60 h" in text


def test_features_that_are_computed_once_are_no_steps(tmp_path: Path, tiny: Tiny) -> None:
    with pytest.raises(SettingsError, match="freeze_encoder computes features once"):
        estimate(tmp_path, TrainSettings(**tiny(freeze_encoder=True)))
