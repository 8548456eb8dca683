"""A run on several corpora: targets, masks, weights, orders of classes; in parts of a step; stopped and resumed."""

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from json_schema import keeps
from make_corpora import refused
from safetensors.torch import load_file
from tone_corpus import STILL, make_corpus

from emimic.data import loader
from emimic.data.corpus import load_corpus
from emimic.task import EMOTIONS, VAD, CorpusError, SettingsError
from emimic.training import setup as runs
from emimic.training import step as steps
from emimic.training import validation
from emimic.training.corpora import load_corpora
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

Tiny = Callable[..., dict[str, Any]]
MOODS = ("rage", "calm", "sob")
ORDER = {"Arousal": [["rage"], ["calm"], ["sob"]], "Joy": [["calm"], ["rage", "sob"]]}
RANKS = {"column": "Mood", "by": "Speaker", "order": ORDER, "temperature": 0.2}


def make_moods(folder: Path, valid: bool = False) -> Path:
    """Sentences with a Mood, of two speakers; Joy is known of calm and rage, V/A/D of none."""
    (folder / "audio").mkdir(parents=True)
    rng = np.random.default_rng(7)
    names = ["train", *(["valid"] if valid else [])]
    for number, name in enumerate(names):
        lines = ["Filename,Mood,Speaker"]
        for i in range(9):
            clip = f"{number * 100 + i + 1:05d}"  # the ids of the other corpus
            wave = 0.3 * rng.standard_normal(1500 + 100 * i)
            soundfile.write(folder / "audio" / f"{clip}.wav", wave.astype(np.float32), 16_000)
            lines.append(f"{clip},{MOODS[i % 3]},{name}{i // 5}")
        (folder / f"{name}_split.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "targets.csv").write_text("Mood,Joy,Amusement\nrage,0,\ncalm,.4,\nsob,,0\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("corpora")
    return make_corpus(base / "tones"), make_moods(base / "moods")


@pytest.fixture
def start(
    folders: tuple[Path, Path], tiny: Tiny, open_run: Callable[..., runs.Run]
) -> Callable[..., runs.Run]:
    def setup(**given: Any) -> runs.Run:
        run = open_run(folders, TrainSettings(**tiny(**given)))
        run.optimizer.step = lambda: None  # type: ignore[method-assign, assignment]
        return run

    return setup


def take(run: runs.Run, rows: list[int]) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradients of a step."""
    run.model.train()
    loss = steps.take(run, rows, rows, [run.train.read(run.train.items[row], 0) for row in rows])
    return loss, {n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None}


def outputs(run: runs.Run, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Intensities and mean V/A/D of clips, one by one."""
    run.model.zero_grad()
    clips = [torch.from_numpy(run.train.read(run.train.items[row], 0).values)[None] for row in rows]
    found = [run.model(clip) for clip in clips]
    vad = None if found[0].vad is None else torch.cat([one.vad.mean(dim=1) for one in found])
    return torch.cat([one.intensities for one in found]), vad


def close(run: runs.Run, loss: float, gradients: dict[str, torch.Tensor], wanted: torch.Tensor) -> None:
    assert loss == pytest.approx(float(wanted.detach()), rel=1e-5)
    wanted.backward()
    found = {n: p.grad for n, p in run.model.named_parameters() if p.grad is not None}
    assert gradients.keys() == found.keys()
    assert max(float(g.abs().max()) for g in found.values()) > 1e-3
    for name, gradient in found.items():
        scale = max(1.0, float(gradient.abs().max()))
        np.testing.assert_allclose(gradients[name], gradient, atol=1e-5 * scale, rtol=0, err_msg=name)


# --- what is read


def test_targets_masks_and_names(folders: tuple[Path, Path], tiny: Tiny) -> None:
    corpora = {
        "moods": {"domain": "speech", "weight": 0.5, "vad_weight": 2.0, "trim": True, "together": "Speaker"}
    }
    settings = TrainSettings(**tiny(corpora=corpora, category="Mood"))
    tones, moods = load_corpora(folders, settings, progress=False)
    assert (tones.name, moods.name) == ("tones", "moods")
    assert tones.corpus.targets == moods.corpus.targets == EMOTIONS
    assert [len(one.list_training(both=False)) for one in (tones, moods)] == [11, 9]
    assert [len(one.list_validation(both=False)) for one in (tones, moods)] == [4, 0]
    assert len(tones.list_training(both=True)) == 15
    first, other = tones.list_training(both=False)[0], moods.list_training(both=False)[:3]
    assert (first.corpus, first.domain, first.weight, first.trim, first.category) == (
        "tones",
        "tones",
        1,
        False,
        None,
    )
    assert first.id == other[0].id
    assert (first.key, other[0].key) == ("tones/00001", "moods/00001")
    assert [(item.domain, item.weight, item.vad_weight, item.trim) for item in other] == [
        ("speech", 0.5, 2.0, True)
    ] * 3
    assert [item.category for item in other] == ["moods/rage", "moods/calm", "moods/sob"]
    assert dict(other[0].columns) == {"Speaker": "train0"}
    nan = np.nan
    np.testing.assert_array_equal(
        [i.labels for i in other], np.float32([[nan] * 5 + [0], [nan] * 5 + [0.4], [nan, 0] + [nan] * 4])
    )


def test_one_corpus_is_what_it_was(folders: tuple[Path, Path], tiny: Tiny) -> None:
    (member,) = load_corpora(folders[:1], TrainSettings(**tiny()), progress=False)
    plain = load_corpus(folders[0], splits=["train", "valid"], workers=1)
    for name, split in plain.splits.items():
        assert [item.key for item in member.corpus.splits[name].items] == [item.id for item in split.items]
    items = [*plain.splits["train"].items], [*plain.splits["valid"].items]
    marked = member.list_training(both=False), member.list_validation(both=False)
    assert runs.fingerprint(*items) == runs.fingerprint(*marked)


def test_the_union_of_targets(tmp_path: Path, tiny: Tiny) -> None:
    made = []
    for name, header in (
        ("a", "Filename,Joy,Calm"),
        ("b", "Filename,Amusement,Joy"),
        ("c", f"Filename,{','.join(VAD)}"),
    ):
        folder = tmp_path / name
        (folder / "audio").mkdir(parents=True)
        for number, split in enumerate(("train", "valid")):
            fields = ",".join(["0.5"] * header.count(","))
            (folder / f"{split}_split.csv").write_text(f"{header}\n{number},{fields}\n")
            soundfile.write(folder / "audio" / f"{number}.wav", np.full(800, 0.1, np.float32), 16_000)
        made.append(folder)

    def targets(*chosen: int, **given: Any) -> tuple[str, ...]:
        settings = TrainSettings(**tiny(**given))
        return load_corpora([made[i] for i in chosen], settings, progress=False)[0].corpus.targets

    assert targets(0, 1) == ("Joy", "Calm", "Amusement")
    assert targets(1, 2) == ("Amusement", "Joy")  # in the paper's order
    assert targets(2, 1) == ("Amusement", "Joy")
    assert targets(0, 2, targets=["Calm"]) == ("Calm",)
    with pytest.raises(CorpusError, match="no corpus has a column Anger; found Amusement, "):
        targets(0, 1, targets=["Anger"])


def test_what_makes_no_sense_is_refused(folders: tuple[Path, Path], tmp_path: Path, tiny: Tiny) -> None:
    def message(error: type[Exception], text: str, *given: Path, **values: Any) -> None:
        with pytest.raises(error, match=text):
            train(given or folders, tmp_path / "run", TrainSettings(**tiny(**values)), show=False)
        assert not (tmp_path / "run").exists()

    message(CorpusError, "expected folders with different names", folders[0], folders[0])
    message(CorpusError, "has no valid_split.csv", folders[1], folders[0])
    message(
        SettingsError, "settings for mood; the corpora of this run are tones, moods", corpora={"mood": {}}
    )
    message(
        SettingsError,
        "fractions given come to 1.1.*tones 0.6, moods 0.5",
        corpora={"tones": {"fraction": 0.6}, "moods": {"fraction": 0.5}},
    )
    message(CorpusError, "has no column Spaeker", corpora={"moods": {"together": "Spaeker"}})
    message(CorpusError, "no corpus has a column Emotion", category="Emotion")
    ranks = {
        "corpora": {"moods": {"ranks": RANKS | {"order": {"Fear": [["rage"], ["sob"]]}}}},
        "rank_weight": 1,
    }
    message(SettingsError, "corpora.moods.ranks.order is of 'Fear', expected some of Admiration", **ranks)
    ranks["corpora"] = {"moods": {"ranks": RANKS | {"order": {"Joy": [["joy"], ["sob"]]}}}}
    message(CorpusError, "no training clip has joy in the column 'Mood'.*found calm, rage, sob", **ranks)
    for values, text in (
        ({"rank_weight": 1.0}, "no corpus has ranks"),
        (
            {"corpora": {"moods": {"ranks": RANKS | {"order": {"Joy": [["a"], ["a"]]}}}}},
            "each class in one of them",
        ),
        ({"corpora": {"moods": {}}, "teacher": "0" * 16}, "a student can't have corpora"),
        ({"corpora": {"moods": {"wieght": 1}}}, "corpora.moods.wieght: .*known names: fraction, weight"),
    ):
        with pytest.raises(SettingsError, match=text):
            TrainSettings.read(overrides=values)
    with pytest.raises(SettingsError, match="a baseline learns from one corpus, found 2"):
        train(folders, tmp_path / "run", TrainSettings.read(overrides={"baseline": "savchenko"}), show=False)
    refused(folders[1], "Mood, Speaker", splits=["train"], columns=["Age"])


# --- what is learned


@pytest.mark.parametrize("mix", [{"mse": 2.0}, {"ccc": 1.0}], ids=str)
def test_weights_change_gradients_as_stated(mix: dict[str, float], start: Callable[..., runs.Run]) -> None:
    """A clip's error counts `weight` times, its mean V/A/D's `vad_weight` times; a repeated clip counts twice."""
    own = {"weight": 0.25, "vad_weight": 3.0}
    run = start(
        still=True, vad_head=True, vad_dropout=0.0, loss=mix, clip_value=None, batch_seconds=0.3, rank_weight=1e-9,
        corpora={"moods": own | {"ranks": RANKS}},
    )  # fmt: skip
    rows = [1, 12, 11, 4, 12]  # of tones: 1 and 4
    for row in rows:
        object.__setattr__(run.train.items[row], "vad", np.float32([0.2, np.nan, 0.9]))
    loss, gradients = take(run, rows)
    items = [run.train.items[row] for row in rows]
    x, vad = outputs(run, rows)
    y = torch.from_numpy(np.stack([item.labels for item in items]))
    known, w = ~y.isnan(), torch.tensor([1, 0.25, 0.25, 1, 0.25])
    assert known.sum(dim=0).tolist() == [2, 2, 2, 2, 2, 5]
    if "mse" in mix:
        wanted = 2.0 * (w[:, None] * (x - y.nan_to_num()).square())[known].sum() / known.sum()
    else:
        terms = []
        for i, k in enumerate(known.T):
            a, b, p = x[k, i], y[k, i], w[k] / w[k].sum()
            am, bm = (p * a).sum(), (p * b).sum()
            top = 2 * (p * (a - am) * (b - bm)).sum()
            terms.append(1 - top / ((p * (a - am) ** 2).sum() + (p * (b - bm) ** 2).sum() + (am - bm) ** 2))
        wanted = torch.stack(terms).mean()
    assert vad is not None
    v = torch.tensor([1, 3.0, 3.0, 1, 3.0])[:, None]
    wanted = wanted + (v * (vad[:, [0, 2]] - torch.tensor([0.2, 0.9])).square()).sum() / 10
    close(run, loss, gradients, wanted)


@pytest.mark.parametrize("mix", [{"mse": 1.0}, {"pearson": 1.0, "mse": 0.5}], ids=str)
def test_the_rank_loss_is_over_the_whole_step(mix: dict[str, float], start: Callable[..., runs.Run]) -> None:
    """Pairs of one speaker, also across the parts of a step: written out, over intensities and mean V/A/D."""
    rows = [12, 2, 11, 13, 16, 18, 17, 14]
    for seconds in (60.0, 0.3, 1e-3):
        run = start(
            still=True, vad_head=True, vad_dropout=0.0, loss=mix, clip_value=None, batch_seconds=seconds,
            rank_weight=0.7, corpora={"moods": {"ranks": RANKS}},
        )  # fmt: skip
        assert run.model.config.predicts_vad
        loss, gradients = take(run, rows)
        x, vad = outputs(run, rows)
        assert vad is not None
        items = [run.train.items[row] for row in rows]
        terms = []
        for name, groups in ORDER.items():
            values = vad[:, VAD.index(name)] if name in VAD else x[:, EMOTIONS.index(name)]
            height = {mood: -i for i, group in enumerate(groups) for mood in group}
            for i, a in enumerate(items):
                for j, b in enumerate(items):
                    mine = a.corpus == b.corpus == "moods" and a.columns["Speaker"] == b.columns["Speaker"]
                    if mine and height[a.columns["Mood"]] > height[b.columns["Mood"]]:
                        terms.append(torch.log1p(torch.exp(-(values[i] - values[j]) / 0.2)))
        assert len(terms) == 13
        y = torch.from_numpy(np.stack([item.labels for item in items]))
        known = ~y.isnan()
        wanted = 0.7 * torch.stack(terms).mean()
        wanted = wanted + mix["mse"] * (x - y.nan_to_num()).square()[known].mean()
        if "pearson" in mix:
            rho = [
                torch.corrcoef(torch.stack([x[k, i], y[k, i]]))[0, 1]
                for i, k in enumerate(known.T)
                if k.sum() > 1 and y[k, i].std() > 0
            ]
            count = int(known.any(dim=0).sum())
            wanted = wanted + (count - torch.stack(rho).sum()) / count
        close(run, loss, gradients, wanted)


def test_a_step_without_pairs(start: Callable[..., runs.Run]) -> None:
    run = start(
        still=True, rank_weight=1.0, corpora={"moods": {"ranks": RANKS | {"order": {"Joy": ORDER["Joy"]}}}}
    )
    loss, gradients = take(run, [0, 11, 3])
    assert math.isfinite(loss)
    assert any(g.any() for g in gradients.values())


# --- a run


GIVEN: dict[str, Any] = {
    "epochs": 3,
    "ema": 0.9,
    "checkpoint_steps": 1,
    "category": "Mood",
    "vad_head": True,
    "rank_weight": 0.3,
    "corpora": {
        "tones": {"fraction": 0.6},
        "moods": {"weight": 0.5, "together": "Speaker", "balance": "Mood", "ranks": RANKS},
    },
}


def test_a_run_goes_on_to_the_same_bits(
    folders: tuple[Path, Path], tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainSettings(**tiny(**GIVEN))
    seen: list[list[str]] = []
    original = steps.take

    def watching(run: runs.Run, rows: list[int], *rest: Any) -> float:
        seen.append([run.train.items[row].key for row in rows])
        if stopping and run.progress.total_steps == 6:
            signal.raise_signal(signal.SIGTERM)
        return original(run, rows, *rest)

    monkeypatch.setattr(steps, "take", watching)
    stopping = False
    whole = train(folders, tmp_path / "whole", settings, show=False)
    # 11 of tones and 7 of moods an epoch, in steps of 4.
    assert [len(step) for step in seen] == [4, 4, 4, 4, 2] * 3
    firsts = [key for step in seen[:5] for key in step]
    assert sorted(key for key in firsts if key.startswith("tones")) == [
        f"tones/{i + 1:05d}" for i in range(11)
    ]
    assert sum(key.startswith("moods") for key in firsts) == 7
    stopping, before = True, list(seen)
    seen.clear()
    assert train(folders, tmp_path / "parts", settings, show=False).signal == signal.SIGTERM
    stopping = False
    train(folders, tmp_path / "parts", resume=True, show=False)
    assert seen == before
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    histories = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("whole", "parts")]
    assert histories[0] == histories[1]
    keeps("training/history_schema.json", histories[0])
    keeps("training/train_schema.json", json.loads((tmp_path / "whole" / "train.json").read_text()))
    assert "category.weight" in load_file(tmp_path / "whole" / "model.safetensors")
    assert "tones" in whole.to_text().splitlines()[0]
    with pytest.raises(SettingsError, match="has settings for moods; the corpora of this run are tones"):
        train(folders[:1], tmp_path / "whole", resume=True, show=False)
    with pytest.raises(CorpusError, match="isn't the corpus that"):
        train(
            (folders[0], make_moods(tmp_path / "moods", valid=True)),
            tmp_path / "whole",
            resume=True,
            show=False,
        )


@pytest.mark.parametrize("given", [{"freeze_encoder": True}, {"train_on": "train+valid"}], ids=str)
def test_other_ways_to_learn(
    given: dict[str, Any], folders: tuple[Path, Path], tmp_path: Path, tiny: Tiny
) -> None:
    settings = TrainSettings(**tiny(epochs=1, corpora={"moods": {"trim": True}}, **given))
    result = train(folders, tmp_path / "run", settings, show=False)
    assert ("corpora" in result.history[0]) is ("freeze_encoder" in given)
    assert math.isfinite(result.history[0]["loss"])


def test_each_corpus_is_scored_by_itself(
    folders: tuple[Path, Path], tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    moods = make_moods(tmp_path / "both", valid=True)
    settings = TrainSettings(**tiny(still=True))
    run = runs.open_run((folders[0], moods), tmp_path / "run", settings, resume=False, show=False)
    assert run.log is not None
    run.log.close()
    assert run.valid is not None
    labels = np.stack([item.labels for item in run.valid.items])
    assert len(labels) == 4 + 9
    guesses = np.random.default_rng(1).random((13, 6)).astype(np.float32)
    guesses[:4, 2] = 0.5  # constant predictions count as 0
    monkeypatch.setattr(
        loader, "predict_source", lambda *_, **__: (guesses, np.full((13, 3), np.nan, np.float32))
    )
    entry = validation.validate(run, run.valid)

    def rho(rows: slice, i: int) -> float:
        x, y = guesses[rows, i], labels[rows, i]
        known = np.isfinite(y)
        return float(np.corrcoef(x[known].astype(float), y[known].astype(float))[0, 1])

    first = [0.0 if i == 2 else rho(slice(4), i) for i in range(6)]
    second = rho(slice(4, None), 5)  # Amusement is always 0 there
    own = entry["corpora"]
    assert own["tones"]["watched"] == pytest.approx(np.mean(first), rel=1e-5)
    assert own["both"]["watched"] == pytest.approx(second, rel=1e-5)
    assert entry["watched"] == pytest.approx((np.mean(first) + second) / 2, rel=1e-5)
    assert entry["targets"]["Joy"] == pytest.approx((first[5] + second) / 2, rel=1e-5)
    logged = validation.list_scores(entry)
    assert logged["both/Joy"] == own["both"]["targets"]["Joy"]
    assert {"mean", "Joy", "tones/mean", "tones/Joy", "both/mean"} <= logged.keys()


# --- silence in the files


def test_digital_silence_is_left_out(tmp_path: Path, tiny: Tiny) -> None:
    samples = np.concatenate([np.zeros(90), [5e-5, 0.3, 0, 0, -0.2], np.zeros(700)]).astype(np.float32)
    np.testing.assert_array_equal(loader.trim_silence(samples), np.float32([0.3, 0, 0, -0.2]))
    np.testing.assert_array_equal(loader.trim_silence(samples[:80]), samples[:80])
    folder = make_corpus(tmp_path / "padded")
    for file in (folder / "audio").iterdir():
        wave, rate = soundfile.read(file, dtype="float32")
        soundfile.write(
            file, np.concatenate([np.zeros(2000, np.float32), wave, np.zeros(900, np.float32)]), rate
        )
    found = []
    for trim in (True, False):
        settings = TrainSettings(**tiny(encoder_config=STILL, corpora={"padded": {"trim": trim}}))
        run = runs.open_run(folder, tmp_path / f"run{trim}", settings, resume=False, show=False)
        assert run.log is not None
        run.log.close()
        assert run.valid is not None
        found.append([len(source.read(source.items[1], 0).values) for source in (run.train, run.valid)])
    assert [long - short for short, long in zip(*found, strict=True)] == [2900, 2900]
