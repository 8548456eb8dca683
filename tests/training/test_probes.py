"""Linear layers on frozen frames, solved before the first step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from numpy.lib.stride_tricks import sliding_window_view
from synth_speech import make_voices

from emimic.data import sampling
from emimic.model.model import EmiModel
from emimic.task import CorpusError, SettingsError
from emimic.training import probes
from emimic.training import setup as runs
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


@pytest.mark.parametrize(("copies", "piece"), [(0, None), (2, 0.06)])
def test_a_run_begins_with_the_solution_and_keeps_it(
    tmp_path: Path, tiny: Tiny, copies: int, piece: float | None
) -> None:
    folders = [
        make_rated_voices(tmp_path / n, rough=n == "rough", seed=i) for i, n in enumerate(("clean", "rough"))
    ]
    values = tiny(
        standardize_frames=True, hidden_layers=[1, 2], probe_layers=[1], frozen_layers=1, frozen_copies=copies,
        lstm=False, global_std=True, epochs=2, batch_size=16, augment=0.9, lengths=0.5, feature_dtype="float32",
        domain_targets={"rough": ["Joy"]}, domain_ridge=3.0, vad_ridge=2.0, vad_units=0, vad_bounded=True,
        ridge_piece=piece, corpora={"rough": {"ridge_weight": 0.5, "vad_weight": 4.0}},
        encoder_config=tiny_models.encoder("whisper"),
    )  # fmt: skip
    settings = TrainSettings(**values)
    train(folders, tmp_path / "run", settings, show=False)
    model = EmiModel.open_run(tmp_path / "run")
    members = load_corpora(folders, settings, progress=False)
    items = [item for member in members for item in member.list_training(both=False)]
    source = runs.source_of(
        model,
        items,
        tmp_path,
        settings.model_copy(update={"frozen_copies": 0}),
        None,
        False,
        [sampling.Pool(range(80))],
    )
    rows = [(row, epoch) for epoch in range(copies or 1) for row in range(80)]
    pooled = []
    for row, epoch in rows:
        hidden, mask = model.encode(torch.from_numpy(source.read(items[row], epoch).values)[None])
        frames = ((hidden - model.frame_mean) / model.frame_std)[0, :, :16].detach().numpy().astype(float)
        assert mask.all()
        parts = (
            [frames]
            if piece is None
            else [frames, *sliding_window_view(frames, 3, axis=0).transpose(0, 2, 1)]
        )
        pooled.append(
            np.array(
                [np.concatenate([part.mean(axis=0), np.sqrt(part.var(axis=0) + 1e-5)]) for part in parts]
            )
        )
    rough = np.array([items[row].corpus == "rough" for row, _ in rows])
    y = np.array([float(items[row].labels[0]) for row, _ in rows])  # type: ignore[index]
    x = probes.compute_moments(model, source, [range(80)] * (copies or 1), settings)
    np.testing.assert_allclose(x[: len(rows)], [one[0] for one in pooled], rtol=1e-4, atol=1e-5)
    starts = []
    for one, choices in zip(x[len(rows) :], pooled, strict=piece is not None):
        apart = np.abs(choices[1:] - one).max(axis=1)
        assert apart.min() < 1e-4
        starts.append(int(apart.argmin()))
    assert piece is None or len(set(starts)) > 3
    again = 1 if piece is None else 2
    rough, y = np.tile(rough, again), np.tile(y, again)
    slope, intercept = probes.fit_ridge(x[rough], y[rough], np.full(rough.sum(), 0.5), 3.0)
    layer: Any = model.domains.own["rough"]
    np.testing.assert_allclose(layer.weight[0].detach().numpy(), slope, rtol=1e-3, atol=1e-5)
    assert float(layer.bias[0].detach()) == pytest.approx(intercept, abs=1e-4)
    arousal = np.clip([float(items[row].vad[0]) for row, _ in rows], 0.02, 0.98)  # type: ignore[index]
    logit = np.tile(np.log(arousal / (1 - arousal)), again)
    slope, intercept = probes.fit_ridge(x[:, :16], logit, np.where(rough, 4.0, 1.0), 2.0)
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
