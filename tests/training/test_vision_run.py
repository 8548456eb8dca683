"""Trainings with several branches: each learns what only the image, the words or the voice hold, together all."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from image_corpus import AUDIBLE, BACKBONES, SPOKEN, VISIBLE, make_image_corpus, paint, sing
from safetensors.torch import load_file
from synth_video import film
from tiny_transcribers import bert
from tone_corpus import STILL

from emimic.calibration import Calibration
from emimic.cli import predict_request
from emimic.cli.predict_request import Request
from emimic.data.corpus import load_corpus
from emimic.data.loader import BatchOptions
from emimic.evaluation.evaluate import evaluate
from emimic.export.export import export
from emimic.features import frames, image_cache
from emimic.inference.predictor import Predictor
from emimic.inference.words import WordSource
from emimic.model.inputs import Inputs
from emimic.model.model import EmiModel
from emimic.model.vision import VisionBranch
from emimic.task import EMOTIONS, ModelError, SettingsError
from emimic.training.calibrate import calibrate
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

VISION = {"encoder_config": BACKBONES["convnext"], "frames": "face_images", "lstm": False}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_corpus(tmp_path_factory.mktemp("images") / "corpus")


def settings(**given: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "encoder": None, "encoder_config": STILL, "vision": VISION, "lstm": False, "vad_head": False, "lr": 5e-3,
        "epochs": 10, "batch_size": 8, "patience": None, "accelerator": "cpu", "threads": 1, "workers": 1,
    }  # fmt: skip
    return TrainSettings(**{**values, **given})


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of the image, the words and the voice alone, and of all three."""
    out = tmp_path_factory.mktemp("runs")
    text = {"encoder": str(bert(out / "bert"))}
    given: dict[str, dict[str, Any]] = {
        "vision": {"audio": False},
        "text": {"audio": False, "vision": None, "text": text, "epochs": 14},
        "audio": {"vision": None, "epochs": 5},
        "all": {"text": text},
    }
    for name, values in given.items():
        train(corpus, out / name, settings(**values), show=False)
    return {name: out / name for name in given}


def score(run: Path, corpus: Path) -> dict[str, float]:
    report = evaluate(run, corpus, progress=False, draw=False, n_bootstrap=2)
    return {name: score.value for name, score in report.metrics["pearson"].targets.items()}


def test_each_branch_learns_its_own_signal_and_together_they_learn_all(
    corpus: Path, runs: dict[str, Path]
) -> None:
    for branch, own in (("vision", VISIBLE), ("text", SPOKEN), ("audio", AUDIBLE)):
        found = score(runs[branch], corpus)
        assert min(found[name] for name in own) >= 0.8, branch
        assert max(abs(found[name]) for name in EMOTIONS if name not in own) < 0.6, branch
    assert min(score(runs["all"], corpus).values()) >= 0.8


def read_predictions(run: Path, out: Path, corpus: Path) -> dict[str, list[str]]:
    evaluate(run, corpus, out=out, progress=False, draw=False, n_bootstrap=2)
    with (out / "predictions.csv").open(encoding="utf-8") as file:
        return {row[0]: row[1:] for row in csv.reader(file)}


@pytest.mark.parametrize("name", ["vision", "text", "all"])
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


def test_settings_that_images_cannot_follow_are_refused() -> None:
    for given in ({"lengths": 0.5}, {"audio": False, "augment": 0.5}, {"audio": False, "vision": None}):
        with pytest.raises(SettingsError, match="vision"):
            settings(**given)
    with pytest.raises(SettingsError, match="one of encoder"):
        settings(vision={"frames": "video"})


def make_film(path: Path, color: Any, *, sound: Any = None, images: int = 8) -> Path:
    rng = np.random.default_rng(5)
    return film(path, [k / 6 for k in range(images)], lambda _: paint(color, rng), sound=sound)


def test_a_new_film_is_predicted_from_its_image(runs: dict[str, Path], tmp_path: Path) -> None:
    """The runs took crops of the corpus; here whole images stand in for them, as nothing is drawn like a face."""
    tone = (0.3 * np.sin(2 * np.pi * 900 * np.arange(20_000) / 16_000)).astype(np.float32)
    values = {}
    words = WordSource(make_transcripts(tmp_path, {}))
    for name in ("vision", "all"):
        run = take_whole_images(runs[name], tmp_path / name)
        predictor = Predictor(run, device="cpu", words=words if name == "all" else None)
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
    both = Predictor(tmp_path / "all", device="cpu", without=["vision", "text"])
    one, two = (both(tmp_path / f"{name}.mp4").prediction.intensities for name in (1, 0))
    np.testing.assert_array_equal(one, two)  # the same sound


def take_whole_images(run: Path, out: Path) -> Path:
    """Copy a run such that it takes whole images of a film."""
    shutil.copytree(run, out)
    config = json.loads((out / "config.json").read_text())
    config["vision"]["frames"] = "video"
    (out / "config.json").write_text(json.dumps(config))
    return out


def make_transcripts(folder: Path, words: dict[str, str]) -> Path:
    """Write words by the name of their recording."""
    (folder / "transcripts").mkdir()
    for name, word in words.items():
        (folder / f"transcripts/{name}.txt").write_text(word, encoding="utf-8")
    return folder / "transcripts"


def test_a_film_of_five_seconds_is_predicted_from_voice_words_and_image(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each film differs from the first in one of the three, and so do the labels that follow from it."""
    films = {
        "first": ((1, 0, 0), "well", 0.1), "image": ((0, 1, 0), "well", 0.1),
        "words": ((1, 0, 0), "wow", 0.1), "voice": ((1, 0, 0), "well", 0.9),
    }  # fmt: skip
    for name, (color, _, high) in films.items():
        make_film(tmp_path / f"{name}.mp4", color, sound=sing(high, 80_000), images=30)
    transcripts = make_transcripts(tmp_path, {name: word for name, (_, word, _) in films.items()})
    request = Request(
        files=tuple(str(tmp_path / f"{name}.mp4") for name in films),
        model=take_whole_images(runs["all"], tmp_path / "run"), form="json", words=WordSource(transcripts), threads=1,
        streams=1,
    )  # fmt: skip
    predict_request.run(request, lambda _: None)
    clips = dict(zip(films, json.loads(capsys.readouterr().out)["clips"], strict=True))
    for name, (_, word, _) in films.items():
        assert clips[name]["seconds"] == pytest.approx(5, abs=0.1)
        assert clips[name]["words"]["text"] == word
    others = {"image": (*SPOKEN, *AUDIBLE), "words": (*VISIBLE, *AUDIBLE), "voice": (*VISIBLE, *SPOKEN)}
    for changed, own in (("image", VISIBLE), ("words", SPOKEN[:1]), ("voice", AUDIBLE)):
        difference = {
            emotion: abs(clips[changed]["intensities"][emotion] - clips["first"]["intensities"][emotion])
            for emotion in EMOTIONS
        }
        smallest = min(difference[emotion] for emotion in own)
        assert smallest > 0.3, (changed, difference)
        assert max(difference[emotion] for emotion in others[changed]) < smallest, (changed, difference)


def test_words_alone_are_predicted(corpus: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("well", "wow"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(16_000), 16_000)
    transcripts = make_transcripts(tmp_path, {"well": "well", "wow": "wow"})
    predictor = Predictor(runs["text"], device="cpu", words=WordSource(transcripts))
    well, wow = (predictor(tmp_path / f"{name}.wav") for name in ("well", "wow"))  # whatever the sound
    assert wow.speech is not None
    assert wow.speech.text == "wow"
    assert wow.intensities[SPOKEN[0]] > well.intensities[SPOKEN[0]] + 0.4
    (result,) = predictor.predict_files(corpus / "audio/00001.wav").clips
    assert np.isnan(result.prediction.intensities).all()
    assert any("no words were found" in note for note in result.notes)
    rows = read_predictions(runs["text"], tmp_path / "scores", corpus)
    found = Predictor(runs["text"], device="cpu", words=WordSource(corpus / "transcripts"))
    expected = np.float64(rows["00088"])
    np.testing.assert_allclose(found(corpus / "audio/00088.wav").prediction.intensities, expected, atol=2e-6)
    with pytest.raises(ModelError, match="no voice"):
        predictor.predict_timeline(tmp_path / "wow.wav")
    with pytest.raises(ModelError, match="or no voice"):
        export(runs["text"])


def test_a_recording_without_an_image_or_a_face(runs: dict[str, Path], tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    soundfile.write(sound, 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    both = Predictor(runs["all"], device="cpu", without=["text"])
    alone = Predictor(runs["vision"], device="cpu")
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


def test_what_takes_voices_only_refuses_a_run_with_images(runs: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="takes images"):
        export(runs["all"])


def test_a_run_with_images_is_calibrated(corpus: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    raw, fitted = {}, {}
    for name in ("vision", "text", "all"):
        run = tmp_path / name
        shutil.copytree(runs[name], run)
        raw[name] = read_predictions(run, tmp_path / f"{name}-raw", corpus)
        report = calibrate(run, [corpus], progress=False)
        assert list(report.error) == list(EMOTIONS)
        stored = Calibration.find_in_run(run, EMOTIONS)
        assert stored is not None
        assert (stored.novelty is None) is (name != "all")  # it is of the voice
        fitted[name] = read_predictions(run, tmp_path / f"{name}-fitted", corpus)
        clip = "00088"
        expected = stored.calibrate_intensities(np.float64(raw[name][clip]))
        np.testing.assert_allclose(np.float64(fitted[name][clip]), expected, atol=2e-5)
        assert expected.min() > 0
        assert expected.max() < 1
        assert raw[name][clip] != fitted[name][clip]


def test_a_frozen_backbone_encodes_each_clip_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    encode = VisionBranch.encode_frames

    def count(branch: VisionBranch, images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return encode(branch, images)

    monkeypatch.setattr(VisionBranch, "encode_frames", count)
    changed = tmp_path / "corpus"
    shutil.copytree(corpus, changed)
    given = settings(
        audio=False, vision={**VISION, "freeze": True}, epochs=2, features=str(tmp_path / "features"),
        feature_dtype="float32",
    )  # fmt: skip
    train(changed, tmp_path / "a", given, show=False)
    assert len(calls) == 88
    train(changed, tmp_path / "b", given, show=False)
    assert len(calls) == 88
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)
    # What is stored gives the predictions of the frames, and a changed image is encoded again.
    shutil.copy(changed / "face_images/00002/00000.jpg", changed / "face_images/00001/00000.jpg")
    model = EmiModel.open_run(tmp_path / "a", device="cpu")
    values = model.config.vision
    items = frames.add_frames(
        load_corpus(changed, clips=frames.list_clips(changed, values, 12.0)), values, 12.0
    ).splits["train"].items  # fmt: skip
    stored = image_cache.compute(
        model, items, tmp_path / "features", BatchOptions(workers=1), dtype="float32"
    )
    assert len(calls) == 89
    read = frames.make_reader(values, 12.0)
    sound = np.zeros(0, np.float32)
    one, other = (
        model.predict([Inputs(sound, {"vision": reader(item)}) for item in items[:3]])
        for reader in (stored, read)
    )
    for found, expected in zip(one, other, strict=True):
        np.testing.assert_allclose(found.intensities, expected.intensities, atol=1e-6)
