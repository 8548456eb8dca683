"""A student and its teacher: cached predictions, targets at the student's frames, mixed labels, the loss by formula."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_models
import torch
from json_schema import keeps
from safetensors import safe_open

from emimic.cli import app
from emimic.data.augment import Augment, TimeMap
from emimic.data.corpus import load_corpus
from emimic.export import export
from emimic.files import read_json
from emimic.inference.engine import open_engine
from emimic.media import decode
from emimic.media.waveform import ClipFormat
from emimic.model.model import EmiModel
from emimic.task import EMOTIONS, CorpusError, ModelError, SettingsError
from emimic.training import distill_corpus, teacher_cache
from emimic.training import setup as runs
from emimic.training import step as steps
from emimic.training.distill_targets import TeacherTargets, interpolate
from emimic.training.losses import compute_frame_error
from emimic.training.settings import TrainSettings
from emimic.training.teacher import predict_recordings

Tiny = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper run: frames every 20 ms from 0 on, where the student's are centerd elsewhere."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    tiny_models.model("whisper", do_normalize=False, vad_learned=True, max_seconds=0.2).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def engine(teacher: Path) -> Path:
    """The same teacher as an exported model."""
    export.export(teacher, teacher.parent / "engine")
    return teacher.parent / "engine"


@pytest.fixture
def settings(tones: Path, teacher: Path, tmp_path: Path, tiny: Tiny) -> Callable[..., TrainSettings]:
    """A student's settings, its teacher having predicted every clip of `tones`."""

    def make(**given: Any) -> TrainSettings:
        done = predict_recordings(teacher, sorted((tones / "audio").iterdir()), tmp_path / "cache")
        values = {"teacher": done.teacher.key, "teacher_cache": str(tmp_path / "cache")}
        return TrainSettings(**tiny(**values | given))

    return make


# Losses


def test_framewise_is_the_mean_of_each_clips_known_frames_summed() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 4, 7, 3))
    known = rng.random((4, 7)) < 0.6
    known[2] = False
    x[~known] = np.nan  # what isn't known may be anything
    expected = 0.0
    for clip in range(4):
        errors = [((x[clip, t] - y[clip, t]) ** 2).sum() / 3 for t in range(7) if known[clip, t]]
        expected += sum(errors) / len(errors) if errors else 0.0
    found = compute_frame_error(*map(torch.from_numpy, (x, y, known)))
    assert found.item() == pytest.approx(expected, rel=1e-6)


# Times and targets


def test_an_augmented_clips_offset_says_where_its_recording_lies() -> None:
    click = np.zeros(16_000, np.float32)
    at = 9_000
    click[at] = 1.0
    augment, changed = Augment(1.0, 3), 0
    for epoch in range(60):
        decoded, time_map = augment.apply(click, "clip", epoch)
        peak = np.argmax(np.abs(decoded)) / 16_000
        if time_map != TimeMap():
            changed += 1
            # The loudest sample may be the click's echo or noise only where these were drawn loud.
            assert abs(float(time_map.to_recording(np.float64(peak))) - at / 16_000) < 0.002
        assert len(decoded) / 16_000 == pytest.approx(time_map.start + 1 / time_map.rate, abs=1e-4)
    assert changed > 20


def test_each_feature_is_interpolated() -> None:
    rng = np.random.default_rng(1)
    times = 0.0125 + 0.02 * np.arange(9)
    values = rng.standard_normal((9, 5)).astype(np.float32)
    wanted = np.sort(rng.uniform(-0.1, 0.3, 40))
    expected = np.stack([np.interp(wanted, times, values[:, j]) for j in range(5)], axis=1)
    np.testing.assert_allclose(interpolate(times, values, wanted), expected, atol=1e-6)
    np.testing.assert_array_equal(
        interpolate(times[:1], values[:1], wanted), np.repeat(values[:1], 40, axis=0)
    )


def test_targets_are_at_the_students_frames(
    tones: Path, settings: Callable[..., TrainSettings], tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / str(settings().teacher)
    targets = TeacherTargets(folder)
    items = load_corpus(tones, scan=False).splits["train"].items
    targets.measure(items)
    states = np.concatenate([targets.read(item, hidden=True).hidden for item in items])
    time_maps = [TimeMap(), TimeMap(0.05, 0.9)]
    times = 0.0125 + 0.02 * np.arange(12)
    found = targets.align([(items[0], time_maps[0]), (items[1], time_maps[1])], times, [3, 12], hidden=True)
    assert found.vad is not None
    assert found.hidden is not None
    for row, count in enumerate((3, 12)):
        predicted = targets.read(items[row], hidden=True)
        at = (times[:count] - time_maps[row].start) * time_maps[row].rate
        decoded = (at >= -0.01) & (
            at <= predicted.times[-1] + 0.01
        )  # a frame stands for 10 ms around its center
        np.testing.assert_array_equal(found.mask[row], np.pad(decoded, (0, 12 - count)))
        for j in range(3):
            np.testing.assert_allclose(
                found.vad[row, :count, j], np.interp(at, predicted.times, predicted.vad[:, j]), atol=1e-6
            )
        for j in range(16):
            plain = np.interp(at, predicted.times, predicted.hidden[:, j])
            standard = (plain - states[:, j].mean()) / states[:, j].std()
            np.testing.assert_allclose(found.hidden[row, :count, j], standard, atol=1e-4)
        assert not found.hidden[row, count:].any()
    assert found.mask[1].any()
    assert not found.mask[1].all()
    assert targets.align([(items[0], TimeMap())], times, [3], hidden=False).hidden is None


# The teacher's predictions


@pytest.mark.parametrize("kind", ["run", "engine"])
def test_predictions_are_the_teachers(
    kind: str, teacher: Path, engine: Path, tones: Path, tmp_path: Path
) -> None:
    folder = teacher if kind == "run" else engine
    files = sorted((tones / "audio").iterdir())
    done = predict_recordings(folder, files, tmp_path)
    assert (done.cached, done.predicted, done.failures) == (15, 15, ())
    assert done.teacher.targets == EMOTIONS
    assert teacher_cache.read_teacher(tmp_path / done.teacher.key) == done.teacher
    file = tmp_path / done.teacher.key / teacher_cache.DESCRIPTION
    written = read_json(file)
    keeps("training/teacher_schema.json", written)
    file.write_text(json.dumps({name: value for name, value in written.items() if name != "schema"}))
    assert teacher_cache.read_teacher(file.parent) == done.teacher  # of an earlier version
    targets = TeacherTargets(tmp_path / done.teacher.key)
    model = EmiModel.open_run(teacher)
    for item in load_corpus(tones, scan=False).splits["train"].items:
        samples, _ = soundfile.read(item.path, dtype="float32")
        samples = np.pad(samples[:3200], (0, max(0, 400 - len(samples))))
        (truth,) = model.predict([samples], hidden=True)
        found = targets.read(item, hidden=True)
        np.testing.assert_allclose(found.intensities, truth.intensities, atol=1e-5)
        np.testing.assert_allclose(found.vad, truth.vad, atol=1e-5)
        np.testing.assert_allclose(found.hidden, truth.hidden, atol=2e-3)  # float16 on disk
        np.testing.assert_array_equal(found.times, truth.times)
    again = predict_recordings(folder, files, tmp_path)
    assert (again.cached, again.predicted) == (15, 0)


def test_a_stale_prediction_is_never_used(tones: Path, teacher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    shutil.copytree(tones / "audio", folder)
    files = sorted(folder.iterdir())
    first = predict_recordings(teacher, files, tmp_path / "cache")
    targets = TeacherTargets(tmp_path / "cache" / first.teacher.key)
    (item,) = [
        one for one in load_corpus(tones, scan=False).splits["train"].items if one.path.name == files[0].name
    ]
    assert targets.has(item)
    # The recording changes under its name.
    soundfile.write(files[0], 0.1 * tiny_models.clip(3000, seed=9), 16_000)
    moved = distill_corpus._list_recordings(folder)[0]
    assert not TeacherTargets(targets.folder).has(moved)
    assert predict_recordings(teacher, files, tmp_path / "cache").predicted == 1
    assert TeacherTargets(targets.folder).has(moved)
    # A prediction is damaged.
    damaged = next(targets.folder.glob("*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(ModelError, match="delete it and run emimic distill again"):
        teacher_cache.read(damaged)
    assert predict_recordings(teacher, files, tmp_path / "cache").predicted == 1
    # Another teacher.
    other = tmp_path / "other"
    tiny_models.model("whisper", seed=1, do_normalize=False, max_seconds=0.2).save_pretrained(other)
    new = predict_recordings(other, files, tmp_path / "cache")
    assert new.predicted == 15
    assert new.teacher.key != first.teacher.key
    assert not new.teacher.vad


def test_broken_recordings_are_named_and_cost_themselves_only(
    tones: Path, teacher: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    files = [tmp_path / "broken.wav", tmp_path / "gone.wav", *sorted((tones / "audio").iterdir())[:2]]
    done = predict_recordings(teacher, files, tmp_path / "cache")
    assert (done.cached, done.predicted) == (2, 2)
    assert {one.path.name for one in done.failures} == {"broken.wav", "gone.wav"}
    assert all(str(one.path) in one.reason for one in done.failures)
    assert all(one.reason in done.to_text() for one in done.failures)
    # It isn't predicted the next time either, and named again.
    assert len(predict_recordings(teacher, files, tmp_path / "cache").failures) == 2


def test_a_teacher_of_vad_alone_is_refused(tmp_path: Path) -> None:
    tiny_models.model("whisper", targets=[], vad_learned=True).save_pretrained(tmp_path / "vad")
    with pytest.raises(ModelError, match="a teacher with intensities"):
        predict_recordings(tmp_path / "vad", [], tmp_path / "cache")


def test_predictions_of_nobody_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="doesn't describe the teacher"):
        TeacherTargets(tmp_path)


# What a corpus becomes


def relabel(corpus: Path, to: Path, **columns: Any) -> Path:
    """A copy of a corpus whose tables have other fields: name of a split -> function of (row, line)."""
    shutil.copytree(corpus, to)
    for name, change in columns.items():
        file = to / f"{name}_split.csv"
        head, *rows = file.read_text().splitlines()
        if change is None:
            file.unlink()
        else:
            file.write_text(
                "\n".join([head, *(change(row.split(","), i) for i, row in enumerate(rows))]) + "\n"
            )
    return to


def student_corpus(folder: Path, settings: TrainSettings) -> tuple[Any, TeacherTargets]:
    targets = TeacherTargets(Path(str(settings.teacher_cache)) / str(settings.teacher))
    return distill_corpus.load_student_corpus(folder, settings, targets), targets


def test_labels_and_predictions_are_mixed(
    tones: Path, tmp_path: Path, settings: Callable[..., TrainSettings]
) -> None:
    def holes(fields: list[str], line: int) -> str:
        fields = [fields[0], *[""] * 6] if line == 0 else fields
        return ",".join([*fields[:2], "", *fields[3:]] if line == 1 else fields)

    folder = relabel(tones, tmp_path / "holes", train=holes)
    corpus, targets = student_corpus(folder, settings(teacher_fraction=0.3))
    plain = load_corpus(tones, scan=False)
    assert corpus.targets == EMOTIONS
    assert [i.id for i in corpus.splits["train"].items] == [i.id for i in plain.splits["train"].items]
    for row, (found, item) in enumerate(
        zip(corpus.splits["train"].items, plain.splits["train"].items, strict=True)
    ):
        predicted = np.clip(targets.read(item).intensities, 0, 1)
        expected = 0.3 * predicted + 0.7 * item.labels
        if row == 0:
            expected = predicted
        if row == 1:
            expected[1] = predicted[1]
        np.testing.assert_allclose(found.labels, expected, atol=1e-6)
    for found, item in zip(corpus.splits["valid"].items, plain.splits["valid"].items, strict=True):
        np.testing.assert_array_equal(found.labels, item.labels)
    both, _ = student_corpus(folder, settings(teacher_fraction=0.3, train_on="train+valid"))
    for found, item in zip(both.splits["valid"].items, plain.splits["valid"].items, strict=True):
        predicted = np.clip(targets.read(item).intensities, 0, 1)
        np.testing.assert_allclose(found.labels, 0.3 * predicted + 0.7 * item.labels, atol=1e-6)


def test_without_labels_the_teacher_speaks_alone(
    tones: Path, tmp_path: Path, settings: Callable[..., TrainSettings]
) -> None:
    def bare(fields: list[str], line: int) -> str:
        return ",".join([fields[0], *[""] * 6])

    folder = relabel(tones, tmp_path / "bare", train=bare, valid=bare)
    corpus, targets = student_corpus(folder, settings())
    for name, clip in (("train", True), ("valid", False)):
        for item in corpus.splits[name].items:
            predicted = targets.read(item)
            expected = np.clip(predicted.intensities, 0, 1) if clip else predicted.intensities
            np.testing.assert_allclose(item.labels, expected, atol=1e-6)
    np.testing.assert_allclose(item.vad, predicted.vad.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("speakers", [False, True])
def test_a_tenth_is_held_out_where_no_split_is(
    speakers: bool, tones: Path, tmp_path: Path, settings: Callable[..., TrainSettings]
) -> None:
    folder = relabel(tones, tmp_path / "one", valid=None)
    if speakers:
        file = folder / "train_split.csv"
        head, *rows = file.read_text().splitlines()
        rows = [f"{row},s{i // 2}" for i, row in enumerate(rows)]
        file.write_text("\n".join([f"{head},Speaker", *rows]) + "\n")
    corpus, _ = student_corpus(folder, settings())
    train_on, valid = corpus.splits["train"].items, corpus.splits["valid"].items
    assert len(train_on) + len(valid) == 11
    assert not {i.id for i in train_on} & {i.id for i in valid}
    if speakers:
        assert len({i.speaker for i in valid}) == 1
        assert not {i.speaker for i in train_on} & {i.speaker for i in valid}
    else:
        assert len(valid) == 1
    assert [i.id for i in student_corpus(folder, settings())[0].splits["valid"].items] == [
        i.id for i in valid
    ]


def test_unlabeled_folders_are_learned_recursively_but_for_what_is_judged(
    tones: Path, tmp_path: Path, teacher: Path, settings: Callable[..., TrainSettings]
) -> None:
    more = tmp_path / "more"
    (more / "deep").mkdir(parents=True)
    soundfile.write(more / "deep" / "new.wav", 0.1 * tiny_models.clip(3000, seed=4), 16_000)
    (more / "broken.wav").write_bytes(b"RIFF")
    (more / ".hidden.wav").write_bytes(b"RIFF")
    valid = load_corpus(tones, scan=False).splits["valid"].items[0]
    shutil.copy(valid.path, more / "under another name.wav")
    folder = relabel(tones, tmp_path / "tested")
    soundfile.write(folder / "audio" / "00099.wav", 0.1 * tiny_models.clip(2500, seed=5), 16_000)
    shutil.copy(folder / "audio" / "00099.wav", more / "tested.wav")
    (folder / "test_split.csv").write_text("Filename\n00099\n")
    values = settings(unlabeled=(str(more),))
    task = distill_corpus.plan(folder, tmp_path / "run", None, values.model_dump())
    names = {path.name for path in task.recordings}
    assert {"new.wav", "broken.wav", "under another name.wav", "00001.wav"} <= names
    assert not {".hidden.wav", "00099.wav"} & names
    predict_recordings(teacher, task.recordings, tmp_path / "cache")
    corpus, targets = student_corpus(folder, values)
    learned = corpus.splits["train"]
    assert len(learned.items) == 12
    new = learned.items[-1]
    assert new.id == "deep/new.wav"
    np.testing.assert_allclose(new.labels, np.clip(targets.read(new).intensities, 0, 1))
    assert [one.id for one in learned.left_out] == ["broken.wav"]


def test_a_folder_of_recordings_is_a_corpus(
    tones: Path, tmp_path: Path, settings: Callable[..., TrainSettings]
) -> None:
    corpus, _ = student_corpus(tones / "audio", settings())
    assert [len(corpus.splits[name].items) for name in ("train", "valid")] == [13, 2]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="holds no audio"):
        distill_corpus.plan(tmp_path / "empty", tmp_path / "run")
    with pytest.raises(CorpusError, match="no folder"):
        distill_corpus.plan(tmp_path / "nowhere", tmp_path / "run")
    shutil.copytree(tones / "audio", tmp_path / "changed")
    for file in (tmp_path / "changed").iterdir():
        file.write_bytes(b"RIFF" + file.name.encode())
    with pytest.raises(CorpusError, match="0 recordings are left"):
        student_corpus(tmp_path / "changed", settings())


# One step


@pytest.fixture
def opened(settings: Callable[..., TrainSettings], tones: Path, open_run: Callable[..., runs.Run]) -> Any:
    """A student's run set up and not yet begun, nothing random in it."""

    def make(**given: Any) -> runs.Run:
        return open_run(tones, settings(still=True, **{"vad_head": True, "vad_dropout": 0.0, **given}))

    return make


@pytest.mark.parametrize("seconds", [60.0, 0.3], ids=["one part", "parts"])
@pytest.mark.parametrize("augment", [0.0, 1.0])
@pytest.mark.parametrize("loss", [{"mse": 1.0}, {"mse": 1.0, "pearson": 0.5}], ids=["mse", "mix"])
def test_a_step_minimizes_the_formula(
    seconds: float, augment: float, loss: dict[str, float], opened: Callable[..., runs.Run]
) -> None:
    run = opened(
        batch_seconds=seconds, teacher_vad_weight=0.7, teacher_frame_weight=0.3, augment=augment, loss=loss
    )
    rows = [2, 5, 0, 7, 9]
    items = [run.train.items[row] for row in rows]
    decoded = [run.train.read(item, 1) for item in items]
    states = np.concatenate([run.teacher.read(item, hidden=True).hidden for item in run.train.items])
    center, std = states.mean(axis=0), states.std(axis=0)
    run.model.eval()
    intensities, apart = [], 0.0
    for item, clip in zip(items, decoded, strict=True):  # each clip alone: padding can't have counted
        with torch.no_grad():
            hidden, mask = run.model.encode(torch.from_numpy(clip.values)[None])
            output = run.model.regress(hidden, mask)
        projected = run.model.projection(hidden).detach()[0].numpy()
        vad = output.vad.detach()[0].numpy()
        intensities.append(output.intensities[0])
        predicted = run.teacher.read(item, hidden=True)
        frames = []
        for t in range(len(vad)):
            at = (0.0125 - 0.5 / 16_000 + 0.02 * t - clip.time_map.start) * clip.time_map.rate
            if len(predicted.times) > 1 and not -0.01 <= at <= predicted.times[-1] + 0.01:
                continue
            truth = [np.interp(at, predicted.times, column) for column in predicted.vad.T]
            state = np.array([np.interp(at, predicted.times, column) for column in predicted.hidden.T])
            frames.append(
                0.7 * np.mean((vad[t] - truth) ** 2)
                + 0.3 * np.mean((projected[t] - (state - center) / std) ** 2)
            )
        apart += float(np.mean(frames)) if frames else 0.0
    x = torch.stack(intensities)
    y = torch.from_numpy(np.stack([item.labels for item in items]))
    expected = ((x - y) ** 2).mean() + apart / len(rows)
    if "pearson" in loss:
        u, v = x - x.mean(0), y - y.mean(0)
        rho = (u * v).sum(0) / torch.sqrt((u**2).sum(0) * (v**2).sum(0))
        expected = expected + 0.5 * (1 - rho).mean()
    run.model.train()
    assert steps.take(run, rows, rows, decoded) == pytest.approx(float(expected), rel=2e-3)


def test_parts_give_the_gradient_of_the_whole_step(opened: Callable[..., runs.Run]) -> None:
    gradients = []
    for seconds in (60.0, 0.3):
        run = opened(batch_seconds=seconds, clip_value=None, teacher_frame_weight=0.5)
        rows = list(range(8))
        steps.take(run, rows, rows, [run.train.read(run.train.items[row], 0) for row in rows])
        gradients.append({name: p.grad for name, p in run.model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert {"projection.weight", "vad.out_proj.weight"} <= gradients[0].keys()
    for name, one in gradients[0].items():
        torch.testing.assert_close(one, gradients[1][name], rtol=1e-3, atol=1e-6)


def test_weights_of_zero_leave_their_part_out(opened: Callable[..., runs.Run]) -> None:
    run = opened(teacher_vad_weight=0.0, teacher_frame_weight=0.0)
    assert not hasattr(run.model, "projection")
    assert not run.model.config.vad_learned
    rows = [0, 1, 2]
    found = steps.take(run, rows, rows, [run.train.read(run.train.items[row], 0) for row in rows])
    again = opened(teacher_vad_weight=0.0, teacher_frame_weight=0.0)
    again.teacher = None
    assert (
        steps.take(again, rows, rows, [again.train.read(again.train.items[row], 0) for row in rows]) == found
    )


# The verb


def words(teacher: Path, folder: Path, out: Path, values: dict[str, Any], *more: str) -> list[str]:
    config = out.with_suffix(".yaml")
    config.write_text(json.dumps(values))  # JSON is YAML
    return [
        "distill",
        str(teacher),
        str(folder),
        "--out",
        str(out),
        "--config",
        str(config),
        "--quiet",
        *more,
    ]


def test_a_student_from_scratch_is_an_ordinary_run(
    undrawn: None,
    tones: Path,
    teacher: Path,
    engine: Path,
    tmp_path: Path,
    tiny: Tiny,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "student"
    more = tmp_path / "more"
    more.mkdir()
    (more / "broken.wav").write_bytes(b"RIFF")
    values = tiny(ema=0.9)
    del values["encoder"]
    app(words(engine, tones, out, values, "--unlabeled", str(more), "--epochs", "2"), standalone_mode=False)
    message = capsys.readouterr().out
    assert str(more / "broken.wav") in message
    with safe_open(out / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if name.startswith("projection")]  # noqa: SIM118
    facts = json.loads((out / "train.json").read_text())
    model = EmiModel.open_run(out)
    assert facts["parameters"]["all"] == sum(p.numel() for p in model.parameters())
    assert facts["settings"]["global_std"]  # the student's own defaults, under what the file says
    assert facts["settings"]["epochs"] == 2
    assert model.config.predicts_vad
    app(["evaluate", str(out), str(tones), "--bootstrap", "10", "--quiet"], standalone_mode=False)
    export.export(out, tmp_path / "exported")
    clip = ClipFormat().prepare(decode.load(tones / "audio" / "00001.wav")).samples
    (one,), (other,) = (open_engine(folder).predict([clip]) for folder in (out, tmp_path / "exported"))
    np.testing.assert_allclose(one.intensities, other.intensities, atol=1e-5)


def test_a_folder_with_a_run_is_refused_before_the_teacher_predicts(
    tones: Path, engine: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "student"
    out.mkdir()
    (out / "train.json").write_text("{}")
    monkeypatch.setattr(
        "emimic.training.teacher.predict_recordings", lambda *_, **__: pytest.fail("the teacher predicts")
    )
    with pytest.raises(SettingsError, match="already holds a run"):
        app(words(engine, tones, out, tiny()), standalone_mode=False)


def test_stopped_and_resumed_is_uninterrupted_and_its_teacher_stays(
    tones: Path, teacher: Path, engine: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tiny(augment=0.8, teacher_cache=str(tmp_path / "cache"))
    app(words(teacher, tones, tmp_path / "whole", values), standalone_mode=False)
    original = steps.take

    def stopping(run: runs.Run, *rest: Any) -> float:
        if run.progress.total_steps == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(run, *rest)

    monkeypatch.setattr(steps, "take", stopping)
    part = tmp_path / "part"
    assert app(words(teacher, tones, part, values), standalone_mode=False) == 128 + signal.SIGTERM
    monkeypatch.undo()
    resume = ["distill", str(teacher), str(tones), "--out", str(part), "--resume", "--quiet"]
    with pytest.raises(SettingsError, match="predictions of another teacher"):
        app([*resume[:1], str(engine), *resume[2:]], standalone_mode=False)
    app(resume, standalone_mode=False)
    assert (part / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()
    histories = [json.loads((run / "history.json").read_text()) for run in (part, tmp_path / "whole")]
    assert histories[0] == histories[1]


def test_a_student_has_its_teachers_targets(tiny: Tiny) -> None:
    with pytest.raises(SettingsError, match="leave targets out"):
        TrainSettings(**tiny(teacher="00", targets=["Joy"]))
