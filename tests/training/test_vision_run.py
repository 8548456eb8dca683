"""Trainings with a vision branch: it learns what only the picture shows, and the voice what only it has."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from picture_corpus import BACKBONES, make_pictures, paint
from safetensors.torch import load_file
from synth_video import film
from tone_corpus import STILL

from emimic.evaluation.evaluate import evaluate
from emimic.export.export import export
from emimic.inference.predictor import Predictor
from emimic.task import EMOTIONS, ModelError, SettingsError
from emimic.training.calibrate import calibrate
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

VISION = {"encoder_config": BACKBONES["convnext"], "frames": "face_images", "lstm": False}
VISIBLE, AUDIBLE = EMOTIONS[:3], EMOTIONS[3:]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("pictures") / "corpus")


def settings(**given: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "encoder": None, "encoder_config": STILL, "vision": VISION, "lstm": False, "vad_head": False, "lr": 5e-3,
        "epochs": 8, "batch_size": 8, "patience": None, "accelerator": "cpu", "threads": 1, "workers": 1,
    }  # fmt: skip
    return TrainSettings(**{**values, **given})


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of the picture alone, of the voice alone, and of both."""
    out = tmp_path_factory.mktemp("runs")
    given: dict[str, dict[str, Any]] = {"vision": {"audio": False}, "audio": {"vision": None}, "both": {}}
    for name, values in given.items():
        train(corpus, out / name, settings(**values), show=False)
    return {name: out / name for name in given}


def score(run: Path, corpus: Path) -> dict[str, float]:
    report = evaluate(run, corpus, progress=False, draw=False, n_bootstrap=2)
    return {name: score.value for name, score in report.metrics["pearson"].targets.items()}


def test_each_branch_learns_its_own_signal_and_together_they_learn_all(
    corpus: Path, runs: dict[str, Path]
) -> None:
    vision, audio, both = (score(runs[name], corpus) for name in ("vision", "audio", "both"))
    assert min(vision[name] for name in VISIBLE) >= 0.8
    assert max(abs(vision[name]) for name in AUDIBLE) < 0.6
    assert min(audio[name] for name in AUDIBLE) >= 0.8
    assert max(abs(audio[name]) for name in VISIBLE) < 0.6
    assert min(both.values()) >= 0.8


def read_predictions(run: Path, out: Path, corpus: Path) -> dict[str, list[str]]:
    evaluate(run, corpus, out=out, progress=False, draw=False, n_bootstrap=2)
    with (out / "predictions.csv").open(encoding="utf-8") as file:
        return {row[0]: row[1:] for row in csv.reader(file)}


@pytest.mark.parametrize("name", ["vision", "both"])
def test_the_order_of_a_table_changes_nothing(
    corpus: Path, runs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    shuffled = tmp_path / "corpus"
    shutil.copytree(corpus, shuffled)
    table = shuffled / "valid_split.csv"
    head, *rows = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([head, *reversed(rows)]) + "\n", encoding="utf-8")
    before = read_predictions(runs[name], tmp_path / "a", corpus)
    after = read_predictions(runs[name], tmp_path / "b", shuffled)
    assert list(before) != list(after)
    assert before.keys() == after.keys()
    for clip in before.keys() - {"Filename"}:
        np.testing.assert_allclose(np.float64(before[clip]), np.float64(after[clip]), atol=2e-6)


def test_a_frozen_backbone_keeps_its_weights_and_a_clip_without_frames_is_used(
    corpus: Path, tmp_path: Path
) -> None:
    partial = tmp_path / "corpus"
    shutil.copytree(corpus, partial)
    shutil.rmtree(partial / "face_images/00001")
    weights = []
    for epochs in (1, 2):
        run = tmp_path / f"run{epochs}"
        given = settings(vision={**VISION, "freeze": True, "dropout": 0.2}, epochs=epochs)
        train(partial, run, given, show=False)
        weights.append(load_file(run / "model.safetensors"))
    names = [name for name in weights[0] if name.startswith("branches.vision.")]
    frozen = [name for name in names if ".backbone." in name]
    assert frozen
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in frozen)
    assert not torch.equal(*(part["branches.vision.missing"] for part in weights))
    warnings = json.loads((tmp_path / "run1/train.json").read_text())["corpus"]["warnings"]
    assert any("00001" in note and "no frames" in note for note in warnings)


def test_a_run_with_vision_resumes_bit_by_bit(corpus: Path, tmp_path: Path) -> None:
    given = settings(audio=False, epochs=2, vision={**VISION, "dropout": 0.3, "lstm": True})
    whole = train(corpus, tmp_path / "whole", given, show=False)
    part = settings(
        audio=False, epochs=2, vision={**VISION, "dropout": 0.3, "lstm": True}, checkpoint_steps=2
    )

    import signal

    from emimic.training import step

    taken = step.take
    calls = []

    def stop(run: Any, *arguments: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return taken(run, *arguments)

    step.take = stop
    try:
        assert train(corpus, tmp_path / "part", part, show=False).signal is not None
    finally:
        step.take = taken
    resumed = train(corpus, tmp_path / "part", None, resume=True, show=False)
    assert resumed.history == whole.history
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_settings_that_pictures_cannot_follow_are_refused() -> None:
    for given in ({"lengths": 0.5}, {"audio": False, "augment": 0.5}, {"audio": False, "vision": None}):
        with pytest.raises(SettingsError, match="vision"):
            settings(**given)
    with pytest.raises(SettingsError, match="one of encoder"):
        settings(vision={"frames": "video"})


def make_film(path: Path, color: Any, *, sound: Any = None) -> Path:
    rng = np.random.default_rng(5)
    return film(path, [k / 6 for k in range(8)], lambda _: paint(color, rng), sound=sound)


def test_a_new_film_is_predicted_from_its_picture(runs: dict[str, Path], tmp_path: Path) -> None:
    """The runs took crops of the corpus; here whole pictures stand in for them, as nothing is drawn like a face."""
    tone = (0.3 * np.sin(2 * np.pi * 900 * np.arange(20_000) / 16_000)).astype(np.float32)
    values = {}
    for name in ("vision", "both"):
        run = tmp_path / name
        shutil.copytree(runs[name], run)
        config = json.loads((run / "config.json").read_text())
        config["vision"]["frames"] = "video"
        (run / "config.json").write_text(json.dumps(config))
        predictor = Predictor(run, device="cpu")
        for color in ((1, 0, 0), (0, 1, 0)):
            clip = make_film(tmp_path / f"{color[0]}.mp4", color, sound=tone)
            (result,) = predictor.predict_files(clip).clips
            np.testing.assert_array_equal(
                predictor(clip).prediction.intensities, result.prediction.intensities
            )
            values[name, color] = result.prediction.intensities
        red, green = values[name, (1, 0, 0)], values[name, (0, 1, 0)]
        assert red[0] > green[0] + 0.3
        assert green[1] > red[1] + 0.3
    both = Predictor(tmp_path / "both", device="cpu", without=["vision"])
    one, two = (both(tmp_path / f"{name}.mp4").prediction.intensities for name in (1, 0))
    np.testing.assert_array_equal(one, two)  # the same sound


def test_a_recording_without_a_picture_or_a_face(runs: dict[str, Path], tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    soundfile.write(sound, 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    both, alone = (Predictor(runs[name], device="cpu") for name in ("both", "vision"))
    (result,) = both.predict_files(sound).clips
    assert np.isfinite(result.prediction.intensities).all()
    assert any("The voice alone is used" in note for note in result.notes)
    (failure,) = alone.predict_files(sound).failed
    assert "video" in failure.reason
    black = make_film(tmp_path / "black.mp4", (0, 0, 0))
    (result,) = alone.predict_files(black).clips
    assert np.isnan(result.prediction.intensities).all()
    assert any("no face in 8 frames" in note for note in result.notes)
    with pytest.raises(ModelError, match="no voice"):
        alone.stream()
    with pytest.raises(SettingsError, match="one branch alone"):
        Predictor(runs["vision"], device="cpu", without=["vision"])


@pytest.mark.parametrize("verb", [lambda run: export(run), lambda run: calibrate(run, [run])])
def test_what_takes_voices_only_refuses_a_run_with_pictures(runs: dict[str, Path], verb: Any) -> None:
    with pytest.raises(ModelError, match="takes images"):
        verb(runs["both"])
