"""`emimic adapt`: a copy of a model whose timelines in one pass agree with windows that are predicted as clips."""

import errno
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_models
import torch
from json_schema import keeps
from typer.testing import CliRunner

from emimic import cli, files
from emimic.files import OutputError
from emimic.inference.engine import TorchEngine
from emimic.inference.grid import Grid, TimelineOptions
from emimic.inference.passes import FILE, LIVE, Blocks
from emimic.inference.stream import Stream
from emimic.task import CorpusError, ModelError, SettingsError
from emimic.training import adapt as module
from emimic.training import adapt_rows, setup
from emimic.training.adapt import adapt
from emimic.training.adapt_losses import LEAST
from emimic.training.adapt_rows import read_recordings
from emimic.training.adapt_settings import AdaptSettings
from emimic.training.settings import TrainSettings

SECONDS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of 1 to 4 s, a longer one in a folder within, and a file that is none."""
    made = tmp_path_factory.mktemp("recordings")
    tiny_models.write_clips(made, [16_000, 40_000, 64_000, 25_000])
    (made / "within").mkdir()
    soundfile.write(made / "within" / "long.wav", 0.1 * tiny_models.clip(160_000, seed=9), 16_000)
    (made / "broken.wav").write_bytes(b"RIFF")
    return made


def save(path: Path, family: str = "whisper", **config: Any) -> Path:
    model = tiny_models.model(family, **tiny_models.HEADS, vad_learned=True, **config)
    tiny_models.standardize(model)
    model.save_pretrained(path)
    return path


def make(**changes: Any) -> AdaptSettings:
    return AdaptSettings.read({"steps": 3, "rows": 2, "windows": 3, "seconds": SECONDS, **changes})


def open_state(run: Path, folder: Path, out: Path, settings: AdaptSettings) -> module._Adapting:
    out.mkdir()
    return module._Adapting(run, [folder], out, settings, show=False)


@pytest.mark.parametrize("family", ["whisper", "wav2vec2-group"])
@pytest.mark.parametrize("blocks", [FILE, LIVE])
def test_both_ways_are_those_of_a_timeline(folder: Path, tmp_path: Path, family: str, blocks: Blocks) -> None:
    run = save(tmp_path / "run", family)
    state = open_state(run, folder, tmp_path / "out", make())
    wave = tiny_models.clip(SECONDS * 16_000)
    grid = Grid(2.5, 0.5)
    edges = np.array([grid.get_window(step) for step in range(grid.count_steps(len(wave)))])
    whole = (edges[:, 0] >= 0) & (edges[:, 1] <= len(wave))
    edges = edges[whole]
    batch = module._Batch([wave], np.array([0]), np.zeros(len(edges), np.int64), edges)
    engine = TorchEngine(run, device="cpu")
    model = state.teacher
    for exact in (False, True):
        with torch.no_grad():
            if exact:
                values = state._regress(model, state._encode(model, state._cut(batch)))
            else:
                values = state._predict_once(model, batch, blocks)
        options = TimelineOptions(window=grid.window, hop=grid.hop, exact=exact)
        stream = Stream(engine, options, blocks=blocks, voice_segments=False)
        found = [*stream.push(wave), *stream.flush()]
        expected = np.array([[*step.intensities, *step.vad[0]] for step in found if step.vad is not None])
        # V/A/D of a window that ends less than half a second before its block's end are smoothed into the frames that
        # follow: those of the same block in a timeline, and of the next one here.
        late = -edges[:, 1] % round(blocks.advance * 16_000) < 8_000
        for chosen, difference in ((exact | ~late, 3e-5), (late, 3e-3)):
            np.testing.assert_allclose(
                values.numpy()[chosen], expected[whole][chosen], rtol=0, atol=difference
            )


@pytest.mark.parametrize("family", ["whisper", "wav2vec2-layer"])
def test_both_ways_of_the_adapted_model_agree_better(folder: Path, tmp_path: Path, family: str) -> None:
    run = save(tmp_path / "run", family)
    report = adapt(
        run, [folder], tmp_path / "out", make(steps=40, lr=1e-3, average=0.9, reach=0.2), show=False
    )
    assert report.after is not None
    assert report.signal is None
    names = [*tiny_models.model("whisper").config.targets, "Arousal", "Dominance", "Valence"]
    assert list(report.before.rms) == list(report.after.pearson) == names
    rms = [np.mean(list(part.rms.values())) for part in (report.before, report.after)]
    assert family != "whisper" or rms[1] < 0.8 * rms[0], "others have no positions to lose"
    assert [failure.path.name for failure in report.failures] == ["broken.wav"]
    assert report.to_text().startswith("1 recording left out:\n")
    assert report.to_text().count("\n") == 12
    before, after = (TorchEngine(path, device="cpu").model for path in (run, tmp_path / "out"))
    assert getattr(after.config.encoder_config, "relative_frames", None) == (
        10 if family == "whisper" else None
    )
    states = before.state_dict(), after.state_dict()
    changed = {name for name in states[0] if not torch.equal(states[0][name], states[1][name])}
    assert changed
    learned: tuple[str, ...] = ("encoder.layers.", "encoder.encoder.layers.", "attention.", "lstm.", "head.")
    if family == "whisper":
        learned = (*learned, "encoder.embed_positions.", "frame_mean", "domains.domain.")
    assert all(name.startswith(learned) for name in changed), "convolutions and V/A/D stay"


def test_the_loss_is_that_of_frames_moments_and_predictions_and_both_ways(
    folder: Path, tmp_path: Path
) -> None:
    state = open_state(save(tmp_path / "run"), folder, tmp_path / "out", make())
    state._start()
    scales = state.scales
    assert scales.values.shape == (2, 9)
    assert bool((scales.values >= LEAST).all())
    batch, before, after = state._draw(0), 7, 20
    prepare = state.teacher.clip_format.prepare
    expected = 0.0
    with torch.no_grad():
        for row, (start, end) in zip(batch.rows, batch.edges, strict=True):
            wave = batch.waves[row]
            cuts = [wave[start:end], wave[start:end], wave[start - 320 * before : end + 320 * after]]
            models, firsts = (state.teacher, state.student, state.student), (0, 0, before)
            values, moments, frames = [], [], []
            for model, cut, first in zip(models, cuts, firsts, strict=True):
                hidden, _ = model.encode(torch.from_numpy(prepare(cut).samples)[None])
                hidden = hidden[:, first : first + 125]
                output = model.regress(hidden, torch.ones(1, 125, dtype=torch.bool))
                values.append(torch.cat([output.intensities, output.vad.mean(dim=1)], dim=1)[0].numpy())
                own = (hidden - state.offsets if model is state.teacher else hidden)[0].double().numpy()
                moments.append(np.r_[own.mean(axis=0), np.sqrt(own.var(axis=0) + 1e-5)])
                frames.append(own)
            scale = scales.values[batch.kinds[row]].numpy()
            for one, other, *weights in (
                (0, 1, 0.5, 0.75, 0.15),
                (0, 2, 0.5, 0.75, 0.15),
                (1, 2, 0.0, 0.67, 0.67),
            ):
                z = np.abs(values[one] - values[other]) / scale
                apart = [
                    np.square((frames[one] - frames[other]) / scales.frames.numpy()).mean(),
                    np.square((moments[one] - moments[other]) / scales.moments.numpy()).mean(),
                    np.where(z < 1, z**2, 2 * z - 1).mean(),
                ]
                expected += float(np.dot(weights, apart))
        loss = float(state._compute_loss(batch, before, after))
    assert loss == pytest.approx(expected / len(batch.rows), rel=1e-3)
    names = {".".join(name.split(".")[:2]) for name in state.trained}
    assert {name for name in names if name.startswith("encoder.")} == {
        "encoder.layers",
        "encoder.relative_bias",
    }
    assert "head.dense" in names
    first = [name for name, part in state.trained.items() if ".layers.0." in name and part.ndim > 1]
    assert first == [f"encoder.layers.0.self_attn.{part}_proj.weight" for part in "kq"]
    assert not any(name.startswith(("vad.", "domains.")) for name in state.trained)


def test_a_stopped_run_resumes_bit_by_bit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, settings = save(tmp_path / "run"), make(steps=5)
    whole = adapt(run, [folder], tmp_path / "whole", settings, show=False)
    step = module._Adapting._step

    def stop(self: Any, *given: Any) -> float:
        if given[-1] == 2:
            signal.raise_signal(signal.SIGTERM)
        return step(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(module._Adapting, "_step", stop)
        report = adapt(run, [folder], tmp_path / "out", settings, show=False)
    assert (report.signal, report.after) == (signal.SIGTERM, None)
    with pytest.raises(SettingsError, match="already holds a run"):
        adapt(run, [folder], tmp_path / "out", settings, show=False)
    with pytest.raises(SettingsError, match=r"with other settings \(steps=5, not 6\): resume without"):
        adapt(run, [folder], tmp_path / "out", make(steps=6), resume=True, show=False)
    with pytest.raises(SettingsError, match=r"from another run than .*whole"):
        adapt(tmp_path / "whole", [folder], tmp_path / "out", resume=True, show=False)
    again = adapt(run, [folder], tmp_path / "out", resume=True, show=False)
    assert again.after == whole.after
    for name in ("model.safetensors", "last.safetensors", "config.json", "adapt.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_killed_between_its_last_two_files_writes_its_model_at_last(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out, settings = save(tmp_path / "run"), tmp_path / "out", make(steps=1)
    (run / "train.json").write_text("{}")
    written: list[str] = []

    def kill_at_the_second(name: str, write: Any) -> Any:
        def call(*given: Any) -> None:
            if written:
                raise InterruptedError
            write(*given)
            written.append(name)

        return call

    with monkeypatch.context() as patch:
        for name in ("write_state", "write_model"):
            patch.setattr(module.checkpoint, name, kill_at_the_second(name, getattr(module.checkpoint, name)))
        with pytest.raises(InterruptedError):
            adapt(run, [folder], out, settings, show=False)
    assert written
    assert (out / "train.json").exists(), "push reads the license there"
    assert adapt(run, [folder], out, resume=True, show=False).after is not None
    assert (out / "model.safetensors").exists()
    assert TorchEngine(out, device="cpu").model.config.targets


def test_a_signal_in_the_last_step_stops_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = module._Adapting._step

    def stop(self: Any, *given: Any) -> float:
        signal.raise_signal(signal.SIGTERM)
        return step(self, *given)

    monkeypatch.setattr(module._Adapting, "_step", stop)
    report = adapt(save(tmp_path / "run"), [folder], tmp_path / "out", make(steps=1), show=False)
    assert report.signal is None
    assert report.after is not None


def test_weights_that_are_no_numbers_are_not_saved(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Adapting, "_step", lambda *_: float("nan"))
    with pytest.raises(SettingsError, match=r"out: the loss is nan in step 1\. .* a lower lr than 0.01"):
        adapt(save(tmp_path / "run"), [folder], tmp_path / "out", make(steps=1, lr=0.01), show=False)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_rows_are_pieces_of_the_folders_recordings(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    tiny_models.write_clips(other, [30_000])
    recordings = read_recordings([folder, other, other], tmp_path, workers=2, show=False)
    assert [len(part) for part in recordings.folders] == [5, 1, 1]
    assert recordings.folders[1] == recordings.folders[2]
    lengths = np.diff(recordings.edges)
    assert sorted(lengths) == [16_000, 25_000, 30_000, 40_000, 64_000, 160_000]
    rng = np.random.default_rng(0)
    only = recordings.samples[recordings.edges[-2] :].astype(np.float32) / 32768
    for _ in range(8):
        row = recordings.draw(1, 96_000, rng)
        assert row.shape == (96_000,)
        assert row.dtype == np.float32
        start = next(i for i in range(0, 66_000, 50) if np.abs(row[i : i + 30_000]).max() > 0.1)
        piece = row[start + 1_000 : start + 2_000]
        match = np.correlate(only, piece) / np.square(piece).sum()
        assert match.max() == pytest.approx(1.0, abs=1e-3)
    again = read_recordings([folder, other, other], tmp_path, workers=2, show=False)
    assert again.failures == recordings.failures


def test_what_can_not_be_adapted_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save(tmp_path / "run")
    with pytest.raises(CorpusError, match="is not a folder"):
        adapt(run, [tmp_path / "missing"], tmp_path / "one", make(), show=False)
    (tmp_path / "empty").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(adapt_rows, "_read", None)  # nothing is decoded before
        with pytest.raises(CorpusError, match="empty holds no recording that can be read"):
            adapt(run, [folder, tmp_path / "empty"], tmp_path / "two", make(), show=False)
    (tmp_path / "empty" / "a.wav").touch()
    with pytest.raises(CorpusError, match=r"empty holds no recording that can be read\. .*a\.wav: is empty"):
        adapt(run, [folder, tmp_path / "empty"], tmp_path / "two", make(), show=False)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"unfinished has no model\.safetensors"):
        adapt(tmp_path / "unfinished", [folder], tmp_path / "four", make(), show=False)
    assert not (tmp_path / "four").exists()
    tiny_models.model("wav2vec2-layer", targets=[], vad_learned=True).save_pretrained(tmp_path / "vad")
    with pytest.raises(ModelError, match="predicts no timeline in one pass"):
        adapt(tmp_path / "vad", [folder], tmp_path / "three", make(), show=False)
    with pytest.raises(SettingsError, match="steps"):
        make(steps=0)
    with pytest.raises(SettingsError, match="stepz"):
        make(stepz=1)


def test_no_other_run_is_overwritten(folder: Path, tmp_path: Path) -> None:
    run = save(tmp_path / "run")
    before = (run / "model.safetensors").read_bytes()
    for resume in (False, True):
        with pytest.raises(SettingsError, match="adapt has not begun: name another folder"):
            adapt(run, [folder], run, make(), resume=resume, show=False)
    assert (run / "model.safetensors").read_bytes() == before
    assert not (run / "adapt.json").exists()
    (tmp_path / "adapted").mkdir()
    (tmp_path / "adapted" / "adapt.json").touch()
    settings = TrainSettings(encoder=None, encoder_config=tiny_models.encoder("whisper"))
    with pytest.raises(SettingsError, match="adapted is a run of emimic adapt: resume it with that"):
        setup.open_run(folder, tmp_path / "adapted", settings, resume=True, show=False)
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "engine.json").touch()
    with pytest.raises(SettingsError, match="exported holds a model that adapt has not begun"):
        adapt(run, [folder], exported, make(), show=False)


def test_a_start_that_failed_can_be_repeated_with_other_settings(folder: Path, tmp_path: Path) -> None:
    run, out = save(tmp_path / "run"), tmp_path / "out"
    (run / "train.json").write_text("{}")
    with pytest.raises(CorpusError, match="is not a folder"):
        adapt(run, [tmp_path / "missing"], out, make(), show=False)
    killed = [out / ".recordings.0a.npy", out / ".last.0a.safetensors"]
    for path in killed:
        path.touch()
    assert adapt(run, [folder], out, make(steps=1), show=False).after is not None
    assert not any(path.exists() for path in killed)
    assert (out / "train.json").read_text() == "{}"
    (out / "adapt.json").write_text("{")
    with pytest.raises(SettingsError, match=r"adapt\.json can't be read"):
        adapt(run, [folder], out, resume=True, show=False)


def test_short_recordings_are_named_and_damaged_samples_refused(tmp_path: Path) -> None:
    tiny_models.write_clips(tmp_path, [1_599, 1_600])
    recordings = read_recordings([tmp_path], tmp_path, workers=1, show=False)
    assert recordings.edges == (0, 1_600)
    assert [failure.path.name for failure in recordings.failures] == ["0.wav"]
    whole = (tmp_path / "recordings.npy").read_bytes()
    for damaged in (b"", whole[:200]):
        (tmp_path / "recordings.npy").write_bytes(damaged)
        with pytest.raises(CorpusError, match=r"recordings\.npy and .* start again in another folder"):
            read_recordings([tmp_path], tmp_path, workers=1, show=False)
    (tmp_path / "recordings.npy").write_bytes(whole)
    (tmp_path / "recordings.json").write_text("{}")
    with pytest.raises(CorpusError, match=r"recordings\.npy and"):
        read_recordings([tmp_path], tmp_path, workers=1, show=False)


def test_folders_that_can_not_be_listed_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = files.list_visible

    def refuse(path: Any) -> Any:
        if Path(path).name == "within":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(files, "list_visible", refuse)
    found = read_recordings([folder, folder], tmp_path, workers=1, show=False).failures
    assert [failure.path.name for failure in found] == ["within", "broken.wav"]
    assert found[0].reason == f"{folder / 'within'}: can't be listed (Permission denied)"
    with pytest.raises(
        CorpusError, match=r"within: can't be listed \(Permission denied\)\. Make it readable"
    ):
        read_recordings([folder / "within"], tmp_path / "other", workers=1, show=False)


def test_a_full_disk_is_named(folder: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"recordings\.npy can't be written \(File too large\)"):
            read_recordings([folder], tmp_path, workers=1, show=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


def test_windows_are_no_longer_than_the_models_longest_clip(folder: Path, tmp_path: Path) -> None:
    run = save(tmp_path / "run", max_seconds=0.5)
    state = open_state(run, folder, tmp_path / "out", make())
    assert np.diff(state._draw(0).edges).tolist() == [[8_000]] * 6
    assert adapt(run, [folder], tmp_path / "adapted", make(steps=1), show=False).after is not None
    adapted = TorchEngine(tmp_path / "adapted", device="cpu").model
    assert adapted.encoder.relative_bias.shape[-1] == 2 * 24 + 1, "no distances that a clip doesn't have"
    assert bool(adapted.encoder.relative_bias.isfinite().all())


def test_an_adapted_run_can_be_adapted_again(folder: Path, tmp_path: Path) -> None:
    tiny_models.model("whisper", vad_learned=True).save_pretrained(tmp_path / "run")
    for run, out in (("run", "once"), ("once", "twice")):
        assert adapt(tmp_path / run, [folder], tmp_path / out, make(steps=1), show=False).after is not None


def test_the_command_adapts_and_its_export_predicts(folder: Path, tmp_path: Path) -> None:
    run = save(tmp_path / "run")
    words = ["adapt", str(run), str(folder), "--out", str(tmp_path / "out"), "--steps", "2", "--quiet"]
    words += [word for pair in ("rows=2", "windows=2", "seconds=5") for word in ("--set", pair)]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert "broken.wav" in result.output
    assert f"the adapted model is in {tmp_path / 'out'}" in result.output.replace("\n", "")
    described = json.loads((tmp_path / "out" / "adapt.json").read_text())
    assert described["settings"]["steps"] == 2
    keeps("training/adapt_schema.json", described)
    result = CliRunner().invoke(cli.app, ["export", str(tmp_path / "out"), "--out", str(tmp_path / "onnx")])
    assert result.exit_code == 0, result.output
