"""What the compared systems have in common: loop, reader, verbs; what each predicts is in test_systems.py."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import feature_corpora as made
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_baselines import ROLES, SMALL, Array, baseline, clip, drop, says
from typer.testing import CliRunner

import emimic.sample
from emimic import cli
from emimic.baselines import fusion, inputs
from emimic.baselines.inputs import Clip
from emimic.baselines.model import BaselineConfig, BaselineModel, get_fold, join
from emimic.baselines.system import NAMES
from emimic.data.corpus import load_corpus
from emimic.evaluation.evaluate import evaluate
from emimic.evaluation.submit import submit
from emimic.features import store
from emimic.task import CorpusError, ModelError, SettingsError
from emimic.training import checkpoint
from emimic.training.learner import Features, open_run
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("undrawn")


def learned(name: str, folder: Path, out: Path, **more: Any) -> Any:
    values = {"baseline": name, "epochs": 2, "workers": 1, "threads": 1, "accelerator": "cpu"} | more
    return train(folder, out, TrainSettings.read(overrides=values), show=False)


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_scores_and_submits_by_the_same_verbs(name: str, tmp_path: Path) -> None:
    roles = ROLES[name]
    without = {roles[0]: (2, 26, 38)} if len(roles) > 1 else {}
    folder = made.corpus(tmp_path / "corpus", roles, without=without)
    learned(
        name,
        folder,
        tmp_path / "run",
        modalities=made.modalities(*roles),
        baseline_options=SMALL[name],
        batch_size=8,
    )
    report = evaluate(tmp_path / "run", folder, n_bootstrap=10, progress=False)
    assert report.clips == 12
    assert np.isfinite(report.mean_pearson)
    actual = submit(tmp_path / "run", folder, out=tmp_path / "p.csv", progress=False)
    assert actual.rows == 6
    with (tmp_path / "p.csv").open(newline="") as file:
        assert [row["Filename"] for row in csv.DictReader(file)] == [str(n) for n in range(37, 43)]


@pytest.mark.parametrize("name", NAMES)
def test_a_finished_system_predicts_as_the_one_that_learned(name: str, tmp_path: Path) -> None:
    roles = ROLES[name]
    model, one = baseline(name, roles, **SMALL[name]), clip(1, roles)
    checkpoint.write_model(tmp_path, model, None)
    before = torch.get_rng_state()
    opened = open_run(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(opened, BaselineModel)
    says(opened, one, model.predict([one])[0].intensities)


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_without_a_modality_is_predicted_from_the_others(name: str) -> None:
    roles = ROLES[name]
    model = baseline(name, roles, **SMALL[name])
    for role in roles if len(roles) > 1 else ():
        one, other = clip(1, roles), clip(2, roles)
        actual = model.predict([drop(one, role), drop(other, role), one])
        assert np.isfinite([output.intensities for output in actual]).all()
        assert np.abs(actual[0].intensities - actual[1].intensities).max() > 1e-4
        assert np.abs(actual[0].intensities - actual[2].intensities).max() > 1e-4
        # Whatever stands in frames where nothing was found.
        rubbish, nowhere = other.parts[role], np.zeros_like(other.masks[role])
        unseen = Clip({**one.parts, role: rubbish}, {**one.masks, role: nowhere})
        says(model, unseen, actual[0].intensities)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus in the package, with log-mel features of its clips."""
    folder = tmp_path_factory.mktemp("sample") / "corpus"
    shutil.copytree(emimic.sample.get_folder(), folder, ignore=shutil.ignore_patterns("__*"))
    done = CliRunner().invoke(cli.app, ["features", str(folder), "--kind", "log-mel", "--quiet"])
    assert done.exit_code == 0, done.output
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_verbs_work_on_the_samples_features(name: str, sample: Path, tmp_path: Path) -> None:
    """Every modality gets the voice here, as the sample has no faces and no words."""
    words = [
        f"baseline={name}", f"modalities={json.dumps(dict.fromkeys(ROLES[name], 'log-mel'))}",
        f"baseline_options={json.dumps(SMALL[name])}", "threads=1", "workers=1", "accelerator=cpu",
    ]  # fmt: skip
    run, table = str(tmp_path / "run"), tmp_path / "p.csv"
    settings = [word for pair in words for word in ("--set", pair)]
    for verb in (
        ["train", str(sample), "--out", run, "--epochs", "1", "--quiet", *settings],
        ["evaluate", run, str(sample), "--split", "test", "--bootstrap", "10", "--quiet"],
        ["submit", run, str(sample), "--split", "test", "--out", str(table), "--quiet"],
    ):
        done = CliRunner().invoke(cli.app, verb)
        assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "run" / "evaluation" / "test" / "report.json").read_text())
    with table.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == report["clips"] == 28


@pytest.mark.parametrize("name", NAMES)
def test_predictions_follow_the_ids(name: str, tmp_path: Path) -> None:
    """Rows in another order, files under each other's names, numbers with and without zeros: the same predictions."""
    roles = ROLES[name]
    folder = made.corpus(tmp_path / "corpus", roles)
    learned(
        name, folder, tmp_path / "run", modalities=made.modalities(*roles), baseline_options=SMALL[name], batch_size=8,
        epochs=1,
    )  # fmt: skip
    submit(tmp_path / "run", folder, out=tmp_path / "before.csv", progress=False)
    rng = np.random.default_rng(0)
    table = folder / "test_split.csv"
    head, *rows = table.read_text().splitlines()
    order = rng.permutation(len(rows))
    table.write_text("\n".join([head, *("000" + rows[i] for i in order)]) + "\n")
    for role in roles:
        files = sorted((folder / "features" / role).glob("*.safetensors"))
        data = [file.read_bytes() for file in files]
        for file, number in zip(files, rng.permutation(len(files)), strict=True):
            file.write_bytes(data[number])
    submit(tmp_path / "run", folder, out=tmp_path / "after.csv", progress=False)
    before, after = ((tmp_path / f"{name}.csv").read_text().splitlines()[1:] for name in ("before", "after"))
    assert after == [before[i] for i in order]
    assert len({row.split(",", 1)[1] for row in before}) == len(before)


def test_the_loop_learns(tmp_path: Path) -> None:
    folder = made.corpus(tmp_path / "corpus", splits={"train": 60, "valid": 30})
    result = learned(
        "savchenko", folder, tmp_path / "run", modalities=made.modalities("face", "audio"), epochs=30, lr=1e-2,
        batch_size=16,
    )  # fmt: skip
    assert max(entry["pearson"] for entry in result.history) > 0.9


def test_weights_are_searched_stored_and_reported(tmp_path: Path) -> None:
    folder = made.corpus(tmp_path / "corpus")
    run = tmp_path / "run"
    learned("savchenko", folder, run, modalities=made.modalities("face", "audio"), batch_size=8)
    config = json.loads((run / "config.json").read_text())
    assert set(config["weights"]) == {"face", "audio"}
    assert np.allclose(np.sum(list(config["weights"].values()), axis=0), 1.0)
    report = evaluate(run, folder, n_bootstrap=10, progress=False)
    assert any("chose the epoch and the weights of the branches" in note for note in report.notes)
    model = open_run(run)
    assert isinstance(model, BaselineModel)
    source = Features.from_folder(folder, model.config.modalities)
    config["weights"] = {"face": [1.0] * 6, "audio": [0.0] * 6}
    (run / "config.json").write_text(json.dumps(config))
    worse = evaluate(run, folder, n_bootstrap=10, progress=False)
    assert report.mean_pearson >= worse.mean_pearson
    assert source.measure_sizes() == {"face": 10, "audio": 12}


@given(branches=st.integers(1, 3), clips=st.integers(2, 12), seed=st.integers(0, 999), each=st.booleans())
@settings(max_examples=20)
def test_no_tenths_are_better(branches: int, clips: int, seed: int, each: bool) -> None:
    rng = np.random.default_rng(seed)
    outputs = rng.random((clips, branches, 2)).astype(np.float32)
    labels = rng.random((clips, 2)).astype(np.float32)
    present = np.ones((clips, branches), np.bool_)
    actual = fusion.search(outputs, present, labels, each=each)
    np.testing.assert_allclose(actual.sum(axis=0), 1.0)

    def rho(w: Array) -> Array:
        joined = (outputs.astype(np.float64) * w[None]).sum(axis=1)
        both = [np.corrcoef(joined[:, t], labels[:, t])[0, 1] for t in range(2)]
        return np.nan_to_num(both)

    best = rho(actual)
    grid = [w for w in np.ndindex(*(11,) * branches) if sum(w) == 10]
    tried = np.stack([rho(np.repeat(np.array(w)[:, None] / 10, 2, axis=1)) for w in grid])
    wanted = tried.max(axis=0).mean() if each else tried.mean(axis=1).max()
    assert best.mean() == pytest.approx(wanted, abs=1e-6)


def test_joining_leaves_out_who_has_no_input() -> None:
    outputs = torch.tensor([[[1.0], [1.0], [1.0]], [[3.0], [3.0], [3.0]]])
    present = torch.tensor([[True, True, False], [True, False, True]])
    even, one = torch.ones(2, 1), torch.tensor([[1.0], [0.0]])
    assert join(outputs, present, even)[:, 0].tolist() == [2.0, 1.0, 3.0]
    # Who has no weight is still used where nobody else is.
    assert join(outputs, present, one)[:, 0].tolist() == [1.0, 1.0, 3.0]
    rows = outputs.permute(1, 0, 2).numpy()
    for w in ([1.0, 1.0], [1.0, 0.0], [0.3, 0.7]):
        np.testing.assert_allclose(
            fusion.join(rows, present.t().numpy(), np.array(w)),
            join(outputs, present, torch.tensor(w)[:, None]).numpy(),
            atol=1e-6,
        )


def test_folds_go_without_their_speakers(tmp_path: Path) -> None:
    folder = made.corpus(tmp_path / "corpus", speakers=9)
    learned(
        "savchenko", folder, tmp_path / "run", modalities={"audio": "audio"}, baseline_options={"folds": 3},
        batch_size=8, epochs=1,
    )  # fmt: skip
    model = open_run(tmp_path / "run")
    assert isinstance(model, BaselineModel)
    items = (
        load_corpus(folder, clips=Features.from_folder(folder, {"audio": "audio"}).clips)
        .splits["train"]
        .items
    )
    labels = torch.from_numpy(np.stack([item.labels for item in items if item.labels is not None]))
    wide = model.expand_targets(labels, items).reshape(len(items), 1, 3, 6)
    folds = {item.speaker: get_fold(item, 3) for item in items}
    assert len(set(folds.values())) == 3
    for i, item in enumerate(items):
        for fold in range(3):
            if fold == folds[item.speaker]:
                assert wide[i, 0, fold].isnan().all()
            else:
                assert torch.equal(wide[i, 0, fold], labels[i])
    one = clip(0, ("audio",))
    branches, _ = model.regress_branches(*model.collate([one]))
    assert branches.shape == (1, 3, 1, 6)
    np.testing.assert_allclose(
        model.predict([one])[0].intensities, branches.mean(dim=(0, 1))[0].detach().numpy(), atol=1e-6
    )


def test_folds_without_speakers_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made.corpus(tmp_path / "corpus", ("audio",))
    values = {
        "modalities": {"audio": "audio"},
        "baseline_options": {"folds": 3},
        "batch_size": 24,
        "epochs": 1,
    }
    chosen = TrainSettings.read(overrides={"baseline": "savchenko", "accelerator": "cpu", **values})
    train(folder, tmp_path / "known", chosen)
    assert "the 3 folds" not in capsys.readouterr().out
    for table in folder.glob("*_split.csv"):
        table.write_text("".join(line.rpartition(",")[0] + "\n" for line in table.read_text().splitlines()))
    train(folder, tmp_path / "unknown", chosen)
    assert "the 3 folds of savchenko are of clips where the table names no speaker" in capsys.readouterr().out
    assert "folds of savchenko" in (tmp_path / "unknown" / "train.json").read_text()


def test_a_resumed_baseline_is_the_uninterrupted_one(tmp_path: Path) -> None:
    from emimic.training import loop as training

    folder = made.corpus(tmp_path / "corpus")
    values = {
        "modalities": made.modalities("face", "audio"),
        "batch_size": 8,
        "checkpoint_steps": 1,
        "epochs": 3,
    }
    learned("savchenko", folder, tmp_path / "whole", **values)

    class StopError(Exception):
        pass

    take, taken = training.step.take, 0

    def dying(*args: Any) -> float:
        nonlocal taken
        taken += 1
        if taken == 5:
            raise StopError
        return take(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.step, "take", dying)
        with pytest.raises(StopError):
            learned("savchenko", folder, tmp_path / "cut", **values)
    train(folder, tmp_path / "cut", resume=True, show=False)
    for name in ("model.safetensors", "last.safetensors", "config.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_waveform_goes_through_an_encoder_that_learns(tones: Path, tiny: Any, tmp_path: Path) -> None:
    """In the place of a feature folder: the clip itself, the encoder trained with the rest. One clip has a face."""
    folder = tmp_path / "corpus"
    shutil.copytree(tones, folder)
    item = load_corpus(folder, splits=["train"]).splits["train"].items[0]
    (folder / "features" / "vision").mkdir(parents=True)
    face = made.sequence("vision", 2.0, np.random.default_rng(0), 0.5)
    store.write(folder / "features" / "vision" / f"{item.id}.safetensors", item.id, face)
    encoder = tiny()["encoder_config"]
    result = learned(
        "vision_lstm", folder, tmp_path / "run", modalities={"vision": "vision", "audio": "waveform"},
        encoder_config=encoder, batch_size=5,
    )  # fmt: skip
    assert np.isfinite(result.history[-1]["loss"])
    model = open_run(tmp_path / "run")
    assert isinstance(model, BaselineModel)
    assert model.config.sizes == {"vision": made.SIZES["vision"], "audio": encoder["hidden_size"]}
    torch.manual_seed(0)
    before = BaselineModel.create(model.config.model_copy(update={"encoder_config": None}), encoder=encoder)
    moved = {
        name.partition(".")[0]
        for (name, new), old in zip(model.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(new, old)
    }
    assert moved == {"encoder", "branches"}
    report = evaluate(tmp_path / "run", folder, n_bootstrap=10, progress=False)
    assert report.clips > 0


def test_features_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = made.corpus(tmp_path / "corpus", ("audio",))
    cache = folder / "features" / "audio"
    store.describe(cache, {"kind": "speech", "weights": "a", "settings": {}, "versions": {"emimic": "1"}})
    values = {"modalities": {"audio": "audio"}, "batch_size": 24, "epochs": 1}
    learned("savchenko", folder, tmp_path / "run", **values)
    store.describe(cache, {"kind": "speech", "weights": "a", "settings": {}, "versions": {"emimic": "2"}})
    evaluate(tmp_path / "run", folder, n_bootstrap=10, progress=False)  # versions decide nothing
    store.describe(cache, {"kind": "speech", "weights": "b", "settings": {}})
    with pytest.raises(
        CorpusError, match=r"features/audio was made by another model, or with other settings"
    ):
        evaluate(tmp_path / "run", folder, n_bootstrap=10, progress=False)
    with pytest.raises(CorpusError, match="made by another model"):
        submit(tmp_path / "run", folder, out=tmp_path / "p.csv", progress=False)
    with pytest.raises(CorpusError, match="made by another model"):
        train(folder, tmp_path / "run", resume=True, show=False)


def test_modalities_that_clips_miss_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made.corpus(tmp_path / "corpus", without={"audio": (3, 26)})
    cut = folder / "features" / "audio" / "00027.safetensors"
    cut.write_bytes(cut.read_bytes()[:100])
    chosen = {"modalities": made.modalities("face", "audio"), "batch_size": 24, "epochs": 1}
    settings = TrainSettings.read(overrides={"baseline": "savchenko", "accelerator": "cpu", **chosen})
    result = train(folder, tmp_path / "run", settings)
    message = capsys.readouterr().out
    assert "00027.safetensors is damaged" in message
    assert "train: 1 of 24 clips have no audio and are used without it: 3" in message
    assert "valid: 2 of 12 clips have no audio and are used without it: 26, 27" in message
    notes = evaluate(tmp_path / "run", folder, n_bootstrap=10, progress=False).notes
    assert any("used without it: 26, 27" in note for note in notes)
    assert "those found on validation" in result.to_text()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert f"audio {config['weights']['audio'][0]:.1f}" in result.to_text()


# What is read of a sequence


def frames(times: list[float]) -> store.Sequence:
    values = np.arange(len(times), dtype=np.float32)[:, None] + np.array([[0.0, 100.0]], np.float32)
    return store.Sequence(values, np.array(times, np.float64), np.ones(len(times), np.bool_))


def test_shortening() -> None:
    actual = frames([i / 10 for i in range(11)])
    assert inputs.take_every(5)(actual).values[:, 0].tolist() == [0, 5, 10]
    assert inputs.take_first(3)(actual).values[:, 0].tolist() == [0, 1, 2]
    assert inputs.take_evenly(3)(actual).values[:, 0].tolist() == [0, 5, 10]
    assert inputs.take_evenly(20)(actual) is actual
    nothing = frames([])
    for how in (inputs.take_every(2), inputs.take_first(2), inputs.take_evenly(2)):
        assert len(how(nothing).values) == 0


# What is refused


def test_errors(tmp_path: Path) -> None:
    folder = made.corpus(tmp_path / "corpus", ("audio",))
    with pytest.raises(SettingsError, match="baseline is 'nobody'; known are"):
        TrainSettings.read(overrides={"baseline": "nobody"})
    with pytest.raises(SettingsError, match="modalities are smell, expected some of"):
        TrainSettings.read(overrides={"baseline": "savchenko", "modalities": {"smell": "x"}})
    with pytest.raises(SettingsError, match=r"baseline_options.face_step: .* found 0; known names: "):
        TrainSettings.read(overrides={"baseline": "savchenko", "baseline_options.face_step": 0})
    with pytest.raises(SettingsError, match="uses 1 waveforms; expected one with encoder"):
        TrainSettings.read(overrides={"baseline": "savchenko", "modalities.audio": "waveform"})
    with pytest.raises(SettingsError, match="a baseline can't have augment"):
        TrainSettings.read(overrides={"baseline": "savchenko", "augment": 0.5})
    for name in ("lstm", "freeze_encoder", "padding", "features"):
        with pytest.raises(SettingsError, match=f"a baseline has no {name}: leave that out"):
            TrainSettings.read(overrides={"baseline": "savchenko", name: None})
    with pytest.raises(SettingsError, match="modalities: Input should be a valid dictionary, found 'vit'"):
        TrainSettings.read(overrides={"baseline": "savchenko", "modalities": "vit"})
    with pytest.raises(SettingsError, match="rates names bogus, and no parameter has such a part"):
        learned("savchenko", folder, tmp_path / "r", modalities={"audio": "audio"}, rates={"bogus": 1e-3})
    with pytest.raises(SettingsError, match="are a baseline's: set baseline"):
        TrainSettings.read(overrides={"modalities": {"audio": "wav2vec2"}})
    with pytest.raises(
        CorpusError, match=r"features/face-descriptors is not there; expected features made by"
    ):
        learned("savchenko", folder, tmp_path / "a")
    with pytest.raises(CorpusError, match=r"features/nothing is not there"):
        learned("savchenko", folder, tmp_path / "b", modalities={"audio": "nothing"})
    learned("savchenko", folder, tmp_path / "run", modalities={"audio": "audio"}, epochs=1)
    wrong = folder / "features" / "audio" / "00025.safetensors"
    store.write(wrong, "25", store.Sequence.from_frames(np.zeros((3, 5), np.float32), np.arange(3.0)))
    with pytest.raises(CorpusError, match=r"00025.safetensors has 5 features a frame, expected 12"):
        evaluate(tmp_path / "run", folder, progress=False)
    (tmp_path / "run" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match="can't be loaded as a baseline"):
        open_run(tmp_path / "run")
    with pytest.raises(ModelError, match="no branch of savchenko reads"):
        BaselineModel(
            BaselineConfig(baseline="savchenko", modalities={"x": "x"}, sizes={"x": 3}, targets=["Joy"])
        )
