"""Linear layers on frozen frames, solved before the first step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from synth_speech import make_voices

from emimic.data.loader import make_waveform_source
from emimic.model.model import EmiModel
from emimic.task import CorpusError, SettingsError
from emimic.training import probes
from emimic.training.corpora import load_corpora
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

Tiny = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("clips", [9, 40])
def test_ridge_is_the_minimum_of_its_penalty(clips: int) -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(clips, 12)) * rng.uniform(0.1, 9, 12) + 3, rng.uniform(0.2, 2, clips)
    y = rng.normal(size=clips)
    slope, intercept = probes.fit_ridge(x, y, weights, 5.0)
    mean = np.average(x, axis=0, weights=weights)
    std = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights)) + 1e-6

    def cost(change: np.ndarray, shift: float) -> float:
        residual = y - (intercept + shift) - x @ (slope + change)
        return float(weights @ residual**2 + 5.0 * np.square((slope + change) * std).sum())

    for _ in range(50):
        assert cost(1e-3 * rng.normal(size=12) / std, 1e-3 * rng.normal()) >= cost(np.zeros(12), 0.0)


def make_rated_voices(folder: Path, **given: Any) -> Path:
    """Voices whose pitch is their arousal, too."""
    make_voices(folder, **given)
    for name in ("train", "valid"):
        table = folder / f"{name}_split.csv"
        lines = table.read_text(encoding="utf-8").split()
        rated = [f"{line},{line.split(',')[1]},0.5,0.25" for line in lines[1:]]
        table.write_text(
            "\n".join([f"{lines[0]},Arousal,Dominance,Valence", *rated]) + "\n", encoding="utf-8"
        )
    return folder


@pytest.mark.parametrize("bounded", [False, True])
def test_a_run_begins_with_the_solution_and_keeps_it(tmp_path: Path, tiny: Tiny, bounded: bool) -> None:
    folders = [
        make_rated_voices(tmp_path / n, rough=n == "rough", seed=i) for i, n in enumerate(("clean", "rough"))
    ]
    values = tiny(
        standardize_frames=True, hidden_layers=[1, 2], probe_layers=[1], frozen_layers=1, frozen_copies=2,
        lstm=False, global_std=True, epochs=2, batch_size=16, augment=0.9, lengths=0.5, feature_dtype="float32",
        domain_targets={"rough": ["Joy"]}, domain_ridge=3.0, vad_ridge=2.0, vad_units=0, vad_bounded=bounded,
        bounded=bounded, corpora={"rough": {"ridge_weight": 0.5, "vad_weight": 4.0}},
        encoder_config=tiny_models.encoder("whisper"),
    )  # fmt: skip
    settings = TrainSettings(**values)
    train(folders, tmp_path / "run", settings, show=False)
    model = EmiModel.open_run(tmp_path / "run")
    members = load_corpora(folders, settings, progress=False)
    items = [item for member in members for item in member.list_training(both=False)]
    source = make_waveform_source(items, model.clip_format)
    means = []
    for item in items:
        hidden, _ = model.encode(torch.from_numpy(source.read(item, 0).values)[None])
        frames = ((hidden - model.frame_mean) / model.frame_std)[0, :, :16]
        means.append(frames.mean(dim=0).detach().numpy().astype(float))
    x = probes.compute_means(model, items, settings)
    np.testing.assert_allclose(x, means, rtol=1e-4, atol=1e-5)

    def invert(labels: list[float]) -> np.ndarray:
        y = np.array(labels, np.float64)
        return np.log((y := np.clip(y, 0.02, 0.98)) / (1 - y)) if bounded else y

    rough = np.array([item.corpus == "rough" for item in items])
    joy = invert([float(item.labels[0]) for item in items])  # type: ignore[index]
    slope, intercept = probes.fit_ridge(x[rough], joy[rough], np.full(rough.sum(), 0.5), 3.0)
    layer: Any = model.domains.own["rough"]
    np.testing.assert_allclose(layer.weight[0].detach().numpy(), slope, rtol=1e-3, atol=1e-4)
    assert float(layer.bias[0].detach()) == pytest.approx(intercept, abs=1e-3)
    arousal = invert([float(item.vad[0]) for item in items])  # type: ignore[index]
    slope, intercept = probes.fit_ridge(x, arousal, np.where(rough, 4.0, 1.0), 2.0)
    np.testing.assert_allclose(model.vad.out_proj.weight[0].detach().numpy(), slope, rtol=1e-3, atol=1e-4)
    assert float(model.vad.out_proj.bias[0].detach()) == pytest.approx(intercept, abs=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"vad_ridge": 1.0, "hidden_layers": [1, 2], "probe_layers": [2], "frozen_layers": 1},
            r"found probe_layers \[2\]",
        ),
        ({"domain_ridge": 1.0}, "layers of domain_targets"),
        ({"vad_ridge": 1.0, "vad_units": 0}, "found probe_layers None and frozen_layers 0"),
        ({"vad_ridge": 1.0, "hidden_layers": [1], "probe_layers": [1], "frozen_layers": 1}, "vad_units: 0, too"),
    ],
)  # fmt: skip
def test_a_ridge_on_what_steps_change_is_refused(given: dict[str, Any], message: str, tiny: Tiny) -> None:
    with pytest.raises(SettingsError, match=message):
        TrainSettings(**tiny(**given))


def test_a_ridge_without_any_label_names_it(tmp_path: Path, tiny: Tiny) -> None:
    folders = [
        make_voices(tmp_path / n, rough=n == "rough", seed=i) for i, n in enumerate(("clean", "rough"))
    ]
    values = tiny(
        hidden_layers=[1, 2], probe_layers=[1], frozen_layers=1, lstm=False, epochs=1, domain_ridge=1.0,
        domain_targets={"rough": ["Joy"]}, corpora={"rough": {"ridge_weight": 0.0}},
        encoder_config=tiny_models.encoder("whisper"),
    )  # fmt: skip
    with pytest.raises(CorpusError, match="could learn Joy from"):
        train(folders, tmp_path / "run", TrainSettings(**values), show=False)


def test_a_ridge_without_any_clip_says_so(tmp_path: Path, tiny: Tiny) -> None:
    folder = make_voices(tmp_path / "clean", rough=False, seed=0)
    values = tiny(
        hidden_layers=[1, 2], probe_layers=[1], frozen_layers=1, lstm=False, epochs=1, vad_ridge=1.0, vad_units=0,
        encoder_config=tiny_models.encoder("whisper"),
    )  # fmt: skip
    with pytest.raises(CorpusError, match="no training clip has a label that"):
        train(folder, tmp_path / "run", TrainSettings(**values), show=False)
