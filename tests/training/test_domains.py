"""Training over kinds of recordings: domains distinguished, each with layers of its own; frames measured once."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_models
import torch
from safetensors.torch import load_file
from synth_speech import make_voices
from tone_corpus import make_corpus

from emimic.data import sampling
from emimic.model.model import EmiModel
from emimic.task import SettingsError
from emimic.training import setup as runs
from emimic.training import standardize
from emimic.training import step as steps
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

Tiny = Callable[..., dict[str, Any]]


def test_a_sound_that_means_the_opposite_in_another_domain(tmp_path: Path, tiny: Tiny) -> None:
    folders = [
        make_voices(tmp_path / n, rough=n == "rough", seed=i) for i, n in enumerate(("clean", "rough"))
    ]
    values = tiny(
        still=True, freeze_encoder=True, feature_dtype="float32", standardize_frames=True, hidden_layers=[1, 2],
        lstm=False, global_std=True, head_units=8, domain_targets={"rough": ["Joy"]}, domain_weight=1.0,
        epochs=30, batch_size=16, lr=0.01, encoder_config=tiny_models.encoder("whisper"), train_on="train+valid",
    )  # fmt: skip
    train(folders, tmp_path / "run", TrainSettings(**values), show=False)
    model = EmiModel.open_run(tmp_path / "run")
    assert model.config.domains == ["clean", "rough"]
    recognized, learned = [], []
    for number, domain in enumerate(("clean", "rough")):
        folder = make_voices(tmp_path / "others" / domain, rough=domain == "rough", seed=10 + number)
        lines = (folder / "valid_split.csv").read_text().split()[1:]
        labels, found = [], []
        for line in lines:
            name, label = line.split(",")
            wave, _ = soundfile.read(folder / "audio" / f"{name}.wav", dtype="float32")
            wave = (wave - wave.mean()) / wave.std()  # as in training
            with torch.no_grad():
                output = model(torch.from_numpy(wave)[None])
            labels.append(float(label))
            found.append(float(output.intensities[0, 0]))
            recognized.append(int(output.domains.argmax()) == number)
        learned.append(np.corrcoef(labels, found)[0, 1])
    assert np.mean(recognized) > 0.9
    assert min(learned) > 0.8, learned


# --- settings


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    base = tmp_path_factory.mktemp("corpora")
    return [make_corpus(base / name, train=(1280, 2000, 900, 1600), seed=i) for i, name in enumerate("ab")]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"domain_targets": {"c": ["Joy"]}}, "domain_targets names c; the corpora's domains are a, b"),
        ({"domain_targets": {"a": ["Joy"]}, "corpora": {"b": {"domain": "a"}}}, "domains are a: expected"),
    ],
)  # fmt: skip
def test_domains_that_no_corpus_has(
    given: dict[str, Any], found: str, folders: list[Path], tmp_path: Path, tiny: Tiny
) -> None:
    with pytest.raises(SettingsError, match=found):
        train(folders, tmp_path / "run", TrainSettings(**tiny(**given)), show=False)


# --- standardized frames


def test_frames_are_measured_on_the_first_clips_and_once(
    folders: list[Path], tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standardize, "CLIPS", 5)
    settings = TrainSettings(
        **tiny(
            standardize_frames=True,
            hidden_layers=[1, 2],
            domain_targets={"b": ["Joy"]},
            batch_size=3,
            epochs=2,
        )
    )
    run = runs.open_run(folders, tmp_path / "run", settings, resume=False, show=False)
    order = [row for rows in sampling.plan_steps(run.pools, 3, seed=0, epoch=0) for row in rows][:5]
    fresh: Any = run.model.eval()
    frames = []
    for row in order:
        clip = torch.from_numpy(run.train.read(run.train.items[row], 0).values)[None]
        frames.append(fresh.encode(clip)[0][0].detach().double().numpy())
    assert run.log is not None
    run.log.close()
    together = np.concatenate(frames)
    means, stds = together.mean(axis=0), np.maximum(together.std(axis=0), 1e-4)
    np.testing.assert_allclose(fresh.frame_mean, means, atol=1e-5 * np.abs(means).max(), rtol=1e-5)
    np.testing.assert_allclose(fresh.frame_std, stds, rtol=1e-3)

    take = steps.take

    def stopped(run: runs.Run, *arguments: Any) -> float:
        loss = take(run, *arguments)
        if run.progress.total_steps + 1 == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    out = tmp_path / "run2"
    with monkeypatch.context() as patch:
        patch.setattr(steps, "take", stopped)
        assert train(folders, out, settings, show=False).signal == signal.SIGTERM
    monkeypatch.setattr(standardize, "CLIPS", 2)  # what a second measuring would use
    train(folders, out, resume=True, show=False)
    for file in ("last.safetensors", "model.safetensors"):
        found = load_file(out / file)
        prefix = "model." if file.startswith("last") else ""
        assert torch.equal(found[f"{prefix}frame_mean"], fresh.frame_mean)
        assert torch.equal(found[f"{prefix}frame_std"], fresh.frame_std)
