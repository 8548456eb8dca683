"""Training clips encoded side by side (`context`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from synth_speech import make_voices

from emimic.data.loader import make_waveform_source
from emimic.model import packing
from emimic.model.model import EmiModel
from emimic.task import SettingsError
from emimic.training import probes
from emimic.training.corpora import load_corpora
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

Tiny = Callable[..., dict[str, Any]]

CONTEXT = {"fraction": 1.0, "seconds": 3.0}
GIVEN: dict[str, Any] = {
    "hidden_layers": [1, 2], "probe_layers": [1], "frozen_layers": 1, "lstm": False, "epochs": 1, "batch_size": 16,
    "vad_ridge": 2.0, "vad_units": 0, "attention_seconds": 0.2, "encoder_config": tiny_models.encoder("whisper"),
}  # fmt: skip


def make_corpus(folder: Path) -> Path:
    """Voices whose labels are their arousal, too."""
    make_voices(folder, rough=False, seed=0)
    for name in ("train", "valid"):
        table = folder / f"{name}_split.csv"
        head, *lines = table.read_text(encoding="utf-8").split()
        rated = [f"{line},{line.split(',')[1]},0.5,0.25" for line in lines]
        table.write_text("\n".join([f"{head},Arousal,Dominance,Valence", *rated]) + "\n", encoding="utf-8")
    return folder


def test_layers_are_solved_on_clips_alone_and_side_by_side(tmp_path: Path, tiny: Tiny) -> None:
    folder = make_corpus(tmp_path / "corpus")
    settings = TrainSettings(**tiny(**GIVEN, context=CONTEXT))
    train(folder, tmp_path / "run", settings, show=False)
    model = EmiModel.open_run(tmp_path / "run")
    items = load_corpora([folder], settings, progress=False)[0].list_training(both=False)
    alone = probes.compute_means(model, items, settings)
    beside = probes.compute_means(model, items, settings, context=3.0)
    assert np.abs(alone - beside).max() > 1e-3
    arousal = np.array([float(item.vad[0]) for item in items])  # type: ignore[index]
    weights = np.full(2 * len(items), 0.5)
    slope, _ = probes.fit_ridge(np.concatenate([alone, beside]), np.tile(arousal, 2), weights, 2.0)
    np.testing.assert_allclose(model.vad.out_proj.weight[0].detach().numpy(), slope, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("copies", [0, 1])
def test_a_step_learns_from_clips_side_by_side(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    folder = make_corpus(tmp_path / "corpus")
    seen: list[float] = []
    encode = packing.encode_in_context

    def spy(model: Any, values: torch.Tensor, mask: torch.Tensor, seconds: float, **given: Any) -> Any:
        assert given == {"started": bool(copies)}
        seen.append(seconds)
        return encode(model, values, mask, seconds, **given)

    values = {**tiny(**GIVEN), "vad_ridge": None, "frozen_copies": copies}
    train(folder, tmp_path / "alone", TrainSettings(**values), show=False)
    monkeypatch.setattr(packing, "encode_in_context", spy)
    for name in ("first", "second"):
        train(folder, tmp_path / name, TrainSettings(**values, context=CONTEXT), show=False)
    assert set(seen) == {3.0}
    alone, first, second = (
        EmiModel.open_run(tmp_path / name).vad.out_proj.weight for name in ("alone", "first", "second")
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, alone)


def test_it_needs_frames_of_constant_length(tmp_path: Path, tiny: Tiny) -> None:
    folder = make_corpus(tmp_path / "corpus")
    with pytest.raises(SettingsError, match="found a wav2vec2 encoder, expected whisper: leave context out"):
        train(folder, tmp_path / "run", TrainSettings(**tiny(context=CONTEXT, epochs=1)), show=False)


def test_clips_are_not_joined_in_validation(tmp_path: Path, tiny: Tiny) -> None:
    """A source predicts each clip alone, whatever the settings of the run."""
    folder = make_corpus(tmp_path / "corpus")
    settings = TrainSettings(**tiny(**GIVEN))
    items = load_corpora([folder], settings, progress=False)[0].list_training(both=False)[:2]
    model = tiny_models.model("whisper", attention_seconds=0.2).eval()
    source = make_waveform_source(items, model.clip_format)
    values, mask = model.collate([source.read(item, 0).values for item in items])
    with torch.no_grad():
        hidden, _ = source.compute_hidden(model, values, mask)
        expected, _ = model.encode(values, mask)
    assert torch.equal(hidden, expected)
