"""The training loop against its formulas: schedule, gradients, stopping, averages, and what it puts back."""

import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from json_schema import keeps
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_models import predict_items
from tone_corpus import ENCODER, LENGTHS, STILL
from transformers import AutoConfig

from emimic.data import loader
from emimic.data.corpus import Item, load_corpus
from emimic.data.sampling import Pool, plan_steps
from emimic.model import encoders
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.task import EMOTIONS, CorpusError, EmimicError, SettingsError
from emimic.training import build, clips, validation
from emimic.training import loop as training
from emimic.training import setup as runs
from emimic.training import step as steps
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

Tiny = Callable[..., dict[str, Any]]
GROUP = STILL | {"feat_extract_norm": "group", "do_stable_layer_norm": False}


@pytest.fixture
def start(tones: Path, tiny: Tiny, open_run: Callable[..., runs.Run]) -> Callable[..., runs.Run]:
    """A run set up and not yet begun."""

    def setup(**given: Any) -> runs.Run:
        return open_run(tones, TrainSettings(**tiny(**given)))

    return setup


def test_l2_is_in_the_gradient_of_an_update(
    start: Callable[..., runs.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    for l2 in (0.0, 0.25):
        run = start(l2=l2, still=True)
        for parameter in run.model.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        monkeypatch.setattr(run.optimizer, "step", lambda: None)
        steps._update(run)
        for parameter in run.model.parameters():
            penalty = 2 * l2 * parameter.detach() if parameter.ndim > 1 else torch.zeros_like(parameter)
            torch.testing.assert_close(parameter.grad, 0.5 + penalty)


def at_each_step(patch: pytest.MonkeyPatch, look: Callable[[runs.Run, float], None]) -> None:
    """Call `look` after each optimizer step, with the run and the loss."""
    original = steps.take

    def step(run: runs.Run, *arguments: Any) -> float:
        loss = original(run, *arguments)
        look(run, loss)
        return loss

    patch.setattr(steps, "take", step)


def weights(run: runs.Run) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in run.model.named_parameters()}


def best(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def last(run: Path, kind: str = "model") -> dict[str, torch.Tensor]:
    """The weights (or their average) that a resumed run would start from."""
    tensors = load_file(run / "last.safetensors")
    return {name.partition(".")[2]: value for name, value in tensors.items() if name.startswith(f"{kind}.")}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- schedule and optimizer


@pytest.mark.parametrize(
    ("per_epoch", "epochs", "warmup"), [(7, 5, 1.0), (3, 4, 0.5), (5, 3, 0.0), (4, 2, 2.0), (1, 1, 1.0)]
)
def test_the_rate_warms_up_and_falls_as_a_cosine(
    per_epoch: int, epochs: int, warmup: float, tiny: Tiny
) -> None:
    settings = TrainSettings(**tiny(epochs=epochs, warmup_epochs=warmup))
    rates = [steps.compute_rate(step, per_epoch, settings) for step in range(epochs * per_epoch + 1)]
    warm, total = warmup * per_epoch, epochs * per_epoch
    for step, rate in enumerate(rates[:-1]):
        if step < warm:  # equal rises from 0 before the first step to the peak
            assert rate == pytest.approx((step + 1) / (warm + 1))
        else:
            assert rate == pytest.approx(math.cos(math.pi / 2 * (step - warm) / (total - warm)) ** 2)
    if warm < total:
        assert rates[-1] == pytest.approx(0.0, abs=1e-12)
        assert max(rates) == pytest.approx(rates[math.ceil(warm)])
    assert all(0 < rate <= 1 for rate in rates[:-1])


def test_a_run_follows_the_rate(
    tones: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[float]] = []
    at_each_step(
        monkeypatch, lambda run, _: seen.append([group["lr"] for group in run.optimizer.param_groups])
    )
    settings = TrainSettings(**tiny(lr=1e-3, encoder_lr=2e-5, epochs=2))
    train(tones, tmp_path / "run", settings, show=False)
    wanted = [1 / 4, 2 / 4, 3 / 4] + [0.5 + 0.5 * math.cos(math.pi * step / 3) for step in range(3)]
    np.testing.assert_allclose(seen, [[2e-5 * rate, 1e-3 * rate] for rate in wanted], rtol=1e-12)


def test_the_encoders_own_rate(start: Callable[..., runs.Run]) -> None:
    run = start(encoder_lr=1e-5, lr=1e-3, weight_decay=0.02)
    encoder, heads = run.optimizer.param_groups
    assert (encoder["peak"], heads["peak"]) == (1e-5, 1e-3)
    assert encoder["weight_decay"] == heads["weight_decay"] == 0.02
    assert len(encoder["params"]) == len(list(run.model.encoder.parameters()))
    assert {id(p) for p in run.model.vad.parameters()} <= {id(p) for p in heads["params"]}
    both = encoder["params"] + heads["params"]
    assert len(both) == len({id(p) for p in both}) == len(list(run.model.parameters()))
    assert [group["peak"] for group in start(lr=1e-3).optimizer.param_groups] == [1e-3]
    frozen = start(freeze_encoder=True, encoder_lr=1e-5, lr=1e-3).optimizer.param_groups
    assert [group["peak"] for group in frozen] == [1e-3]


@pytest.fixture
def checkpoint_folder(tmp_path: Path) -> Path:
    """An encoder with a VAD head in the layout of the paper's checkpoint."""
    folder = tmp_path / "encoder"
    settings = dict(STILL)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    config.save_pretrained(folder)
    torch.manual_seed(1)
    tensors = {f"wav2vec2.{name}": value for name, value in encoders.build(config).state_dict().items()}
    shapes = {
        "dense.weight": (16, 16),
        "dense.bias": (16,),
        "out_proj.weight": (3, 16),
        "out_proj.bias": (3,),
    }
    tensors |= {f"classifier.{name}": torch.randn(shape) / 4 for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_vad_head_that_came_along_learns_at_the_encoders_rate(
    start: Callable[..., runs.Run], checkpoint_folder: Path
) -> None:
    given = {"encoder": str(checkpoint_folder), "encoder_config": None, "encoder_layers": 1}
    run = start(**given, encoder_lr=1e-5)
    assert len(run.model.encoder.encoder.layers) == 1
    stored = load_file(checkpoint_folder / "model.safetensors")
    assert torch.equal(run.model.vad.dense.weight, stored["classifier.dense.weight"])
    assert {id(p) for p in run.model.vad.parameters()} <= {
        id(p) for p in run.optimizer.param_groups[0]["params"]
    }
    frozen = start(**given, freeze_encoder=True)
    assert not any(p.requires_grad for p in frozen.model.vad.parameters())


@pytest.mark.parametrize("clip_value", [None, 1e-3])
def test_gradients_are_clipped_by_value(clip_value: float | None, start: Callable[..., runs.Run]) -> None:
    run = start(clip_value=clip_value)
    steps.take(run, *step_of(run, range(4)))
    largest = max(float(p.grad.abs().max()) for p in run.model.parameters() if p.grad is not None)
    assert largest == pytest.approx(1e-3) if clip_value else largest > 1e-2


# --- one step


def step_of(run: runs.Run, rows: Any) -> tuple[list[int], list[int], list[Any]]:
    rows = list(rows)
    return rows, rows, [run.train.read(run.train.items[row], 0) for row in rows]


def formula(mix: dict[str, float], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The losses of (clip, target), written out with sums."""
    n = len(x)
    mx, my = x.sum(0) / n, y.sum(0) / n
    sxx, syy = ((x - mx) ** 2).sum(0) / n, ((y - my) ** 2).sum(0) / n
    sxy = ((x - mx) * (y - my)).sum(0) / n
    terms = {
        "mse": ((x - y) ** 2).sum() / x.numel(),
        "ccc": 1 - (2 * sxy / (sxx + syy + (mx - my) ** 2)).mean(),
        "pearson": 1 - (sxy / torch.sqrt(sxx * syy)).mean(),
    }
    return sum((weight * terms[name] for name, weight in mix.items()), torch.zeros(()))


@pytest.mark.parametrize("encoder", [STILL, GROUP], ids=["layer", "group"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(
    "mix", [{"mse": 1.0}, {"mse": 2.0}, {"pearson": 1.0}, {"ccc": 0.5, "pearson": 1.0, "mse": 0.3}], ids=str
)
def test_parts_add_up_to_the_whole_step(
    mix: dict[str, float], standardize: bool, encoder: dict[str, Any], start: Callable[..., runs.Run]
) -> None:
    """The gradient of a step in parts, padded or not, is that of the formula over its clips one by one."""
    rows = [8, 1, 10, 4, 6]
    values = {"still": True, "loss": mix, "standardize_targets": standardize, "clip_value": None}
    found = []
    for seconds in (60.0, 0.55, 1e-3):
        run = start(**values, encoder_config=encoder, batch_seconds=seconds)
        run.optimizer.step = lambda: None  # type: ignore[method-assign, assignment]
        run.model.train()
        parts = len(run.model.plan([np.empty(LENGTHS[row]) for row in rows], batch_seconds=seconds))
        assert parts == (4 if seconds > 0.5 and encoder is GROUP else {60.0: 1, 0.55: 3, 1e-3: 5}[seconds])
        loss = steps.take(run, *step_of(run, rows))
        found.append((loss, [p.grad.clone() for p in run.model.parameters() if p.grad is not None]))
    model = run.model
    model.zero_grad()
    clips = [torch.from_numpy(clip.values)[None] for clip in step_of(run, rows)[2]]
    predictions = torch.cat([model(clip).intensities for clip in clips])
    labels = torch.from_numpy(np.stack([run.train.items[row].labels for row in rows]))
    if standardize:
        every = np.stack([item.labels for item in run.train.items]).astype(np.float64)
        mean, std = (torch.from_numpy(part).float() for part in (every.mean(0), every.std(0)))
        predictions, labels = (predictions - mean) / std, (labels - mean) / std
    wanted = formula(mix, predictions, labels)
    wanted.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert max(float(g.abs().max()) for g in gradients) > 1e-2
    for loss, parts_gradients in found:
        assert loss == pytest.approx(float(wanted.detach()), rel=1e-5)
        assert len(parts_gradients) == len(gradients)
        for one, other in zip(parts_gradients, gradients, strict=True):
            scale = max(1.0, float(other.abs().max()))
            np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5 * scale, rtol=0)


def relabel(run: runs.Run, rows: list[int]) -> None:
    """Give the clips of a step labels of every kind, some of them missing: targets, VAD, classes."""
    rng = np.random.default_rng(5)
    items = list(run.train.items)
    for position, row in enumerate(rows):
        labels = items[row].labels.copy()
        labels[rng.random(6) < (0.4, 1.0, 0.2, 0.0, 0.5)[position]] = np.nan
        vad = rng.random(3).astype(np.float32)
        vad[1 if position == 2 else 3 :] = np.nan
        category = (None, "calm", "keen", None, "calm")[position]
        items[row] = dataclasses.replace(
            items[row], labels=labels, vad=None if position == 4 else vad, category=category
        )
    run.train = dataclasses.replace(run.train, items=items)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("mix", [{"mse": 2.0}, {"ccc": 0.5, "mse": 0.3}], ids=str)
def test_parts_add_up_whatever_labels_are_missing(
    mix: dict[str, float],
    checkpointing: bool,
    start: Callable[..., runs.Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Targets, VAD as the mean over a clip's frames, and classes: each a mean over its labels in the whole step."""
    rows = [8, 1, 10, 4, 6]
    make = build.build_model

    def with_classes(settings: TrainSettings, corpus: Any, items: Any, **options: Any) -> EmiModel:
        model = make(settings, corpus, items, **options)
        torch.manual_seed(3)
        values = model.config.to_dict() | {"categories": ["calm", "keen", "sad"]}
        return EmiModel(EmiConfig(**values))

    monkeypatch.setattr(build, "build_model", with_classes)
    values = {"still": True, "vad_head": True, "vad_dropout": 0.0, "loss": mix, "clip_value": None}
    values |= {"vad_weight": 0.7, "category_weight": 0.3, "gradient_checkpointing": checkpointing}
    found = []
    for seconds in (60.0, 0.55, 1e-3):
        run = start(**values, batch_seconds=seconds)
        relabel(run, rows)
        run.optimizer.step = lambda: None  # type: ignore[method-assign, assignment]
        run.model.train()
        loss = steps.take(run, *step_of(run, rows))
        gradients = {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}
        found.append((loss, gradients))
    model = run.model
    model.zero_grad()
    outputs = [model(torch.from_numpy(clip.values)[None]) for clip in step_of(run, rows)[2]]
    items = [run.train.items[row] for row in rows]
    wanted = torch.zeros(())
    predictions = torch.cat([output.intensities for output in outputs])
    labels = torch.from_numpy(np.stack([item.labels for item in items]))
    known = ~labels.isnan()
    assert 0 < known.sum() < labels.numel()
    assert not known[1].any()
    if "mse" in mix:
        wanted = wanted + mix["mse"] * (predictions - labels)[known].square().mean()
    if "ccc" in mix:
        columns = [(predictions[k, i][:, None], labels[k, i][:, None]) for i, k in enumerate(known.T)]
        assert all(len(x) > 1 for x, _ in columns)
        wanted = wanted + sum(formula({"ccc": mix["ccc"]}, *column) for column in columns) / 6
    means = torch.cat([output.vad.mean(dim=1) for output in outputs])
    vad = torch.from_numpy(np.stack([clips.get_vad(item) for item in items]))
    assert int((~vad.isnan()).sum()) == 10
    wanted = wanted + 0.7 * (means - vad)[~vad.isnan()].square().mean()
    classes = torch.cat([outputs[position].categories for position in (1, 2, 4)])
    wanted = wanted + 0.3 * torch.nn.functional.cross_entropy(classes, torch.tensor([0, 1, 0]))
    wanted.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert {"category.weight", "vad.dense.weight", "head.dense.weight"} < gradients.keys()
    for loss, parts in found:
        assert loss == pytest.approx(float(wanted.detach()), rel=1e-5)
        assert parts.keys() == gradients.keys()
        for name, gradient in gradients.items():
            scale = max(1.0, float(gradient.abs().max()))
            np.testing.assert_allclose(parts[name].numpy(), gradient.numpy(), atol=1e-5 * scale, rtol=0)


def test_a_step_without_labels_of_a_kind(start: Callable[..., runs.Run]) -> None:
    """No target known, then nothing at all: what has no label learns nothing, and nothing breaks."""
    for mix in ({"mse": 1.0}, {"pearson": 1.0}):
        run = start(still=True, vad_head=True, loss=mix)
        run.optimizer.step = lambda: None  # type: ignore[method-assign, assignment]
        nothing = np.full(6, np.nan, np.float32)
        bare = [dataclasses.replace(item, labels=nothing) for item in run.train.items]
        vad = [dataclasses.replace(item, vad=np.float32([0.9, 0.1, np.nan])) for item in bare]
        for items, learns in ((vad, True), (bare, False)):
            run.train = dataclasses.replace(run.train, items=items)
            loss = steps.take(run, *step_of(run, range(4)))
            assert bool(loss > 0) is learns
            gradients = {n: p.grad for n, p in run.model.named_parameters() if p.grad is not None}
            assert not any(g.any() for n, g in gradients.items() if n.startswith(("head.", "lstm.")))
            assert any(g.any() for g in gradients.values()) is learns


@pytest.mark.parametrize("mix", [{"pearson": 1.0}, {"ccc": 1.0}])
def test_a_step_of_one_clip_is_finite(mix: dict[str, float], start: Callable[..., runs.Run]) -> None:
    run = start(loss=mix)
    assert math.isfinite(steps.take(run, *step_of(run, [2])))
    assert all(torch.isfinite(p).all() for p in run.model.parameters())


def test_standardized_targets_stay_out_of_the_predictions(start: Callable[..., runs.Run]) -> None:
    """The loss is in standard deviations, the predictions are on the labels' scale."""
    run = start(still=True, standardize_targets=True)
    labels = np.stack([item.labels for item in run.train.items]).astype(np.float64)
    np.testing.assert_allclose(run.model.config.target_mean, labels.mean(axis=0))
    np.testing.assert_allclose(run.model.config.target_std, labels.std(axis=0))
    with torch.no_grad():
        run.model.head.out_proj.weight.zero_()
        run.model.head.out_proj.bias.zero_()
    run.model.train()
    predictions, _ = loader.predict_source(run.model, run.train)
    np.testing.assert_allclose(predictions, np.tile(labels.mean(axis=0), (11, 1)), atol=1e-6)
    # Predicting the mean costs one variance, which is 1 by construction.
    assert steps.take(run, *step_of(run, range(11))) == pytest.approx(1.0, rel=1e-5)


def test_a_constant_target_is_not_divided_by_zero(tiny: Tiny) -> None:
    items = [Item(str(i), Path("x"), np.float32([0.5, i]), None, 1.0) for i in range(3)]
    settings = TrainSettings(**tiny(standardize_targets=True))
    model = build.build_model(settings, SimpleNamespace(targets=("a", "b")), items)  # type: ignore[arg-type]
    np.testing.assert_allclose(model.config.target_std, [1.0, math.sqrt(2 / 3)])


def test_an_item_without_labels_is_named() -> None:
    with pytest.raises(CorpusError, match="clip 17 has no labels"):
        clips.get_labels(Item("17", Path("x"), None, None, 1.0))


def test_a_loss_that_is_not_finite_names_the_clips(tones: Path, tmp_path: Path, tiny: Tiny) -> None:
    settings = TrainSettings(**tiny(lr=1e30, still=True, warmup_epochs=0))
    with pytest.raises(EmimicError, match=r"the loss is (nan|inf) at step 2; lower lr") as caught:
        train(tones, tmp_path / "run", settings, show=False)
    order = plan_steps([Pool(range(11))], 4, seed=0, epoch=0)[1]
    assert str(caught.value).endswith("Clips: " + ", ".join(f"{row + 1:05d}" for row in order))


def test_gradients_are_summed_over_processes(start: Callable[..., runs.Run]) -> None:
    """What one process didn't use counts as zero there; what none used stays without a gradient."""
    run = start(still=True)
    head = [run.model.head.dense.weight, run.model.head.dense.bias, run.model.head.out_proj.weight]
    for parameter in run.model.parameters():
        parameter.grad = None
    head[0].grad = torch.full_like(head[0], 2.0)
    head[2].grad = torch.full_like(head[2], 3.0)
    trained = [p for p in run.model.parameters() if p.requires_grad]
    other = torch.cat([torch.full((p.numel(),), float(p is head[0] or p is head[1])) for p in trained])
    users = torch.tensor([float(p is head[0] or p is head[1]) for p in trained])

    def all_reduce(tensor: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        return tensor + torch.cat([other, users])

    run.fabric = SimpleNamespace(world_size=2, device="cpu", all_reduce=all_reduce)
    steps.add_gradients(run)
    found = [None if p.grad is None else set(p.grad.flatten().tolist()) for p in head]
    assert found == [{3.0}, {1.0}, {3.0}]
    assert sum(p.grad is not None for p in trained) == 3


# --- epochs


def scripted(patch: pytest.MonkeyPatch, scores: list[float | None]) -> list[dict[str, torch.Tensor]]:
    """Validation with predictions from a script; the weights at each validation."""
    seen: list[dict[str, torch.Tensor]] = []

    def validate(run: runs.Run, _: loader.Source) -> dict[str, Any]:
        seen.append(weights(run))
        score = scores[len(seen) - 1]
        return {"pearson": score, "watched": score, "targets": {}}

    patch.setattr(validation, "validate", validate)
    return seen


@pytest.mark.parametrize(
    ("scores", "patience", "ran", "best_epoch"),
    [
        ([0.1, 0.3, 0.2, 0.25, 0.9], 2, 4, 2),
        ([0.1, 0.3, 0.2, 0.31, 0.2, 0.1], 2, 6, 4),
        ([0.1, 0.3, 0.3, 0.9], 1, 3, 2),
        ([0.5, 0.4, 0.3, 0.2], None, 4, 1),
        ([-0.2, 0.0, -0.1], None, 3, 2),
        ([0.0, -0.1, 0.1], None, 3, 3),
        ([None, None, None], 1, 3, 3),  # nothing to compare by: the newest is kept
    ],
)
def test_stopping_early(
    scores: list[float | None], patience: int | None, ran: int, best_epoch: int, tones: Path, tmp_path: Path,
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen = scripted(monkeypatch, scores)
    settings = TrainSettings(**tiny(patience=patience, epochs=len(scores), batch_size=11))
    result = train(tones, tmp_path / "run", settings, show=False)
    assert [entry["pearson"] for entry in result.history] == scores[:ran]
    assert result.best_epoch == best_epoch
    assert same(best(tmp_path / "run"), seen[best_epoch - 1])
    assert same(last(tmp_path / "run"), seen[-1])
    assert not any(same(one, seen[0]) for one in seen[1:])
    resumed = train(tones, tmp_path / "run", resume=True, show=False)
    assert (resumed.history, resumed.best_epoch) == (result.history, best_epoch)


def test_train_and_valid_run_to_the_end(
    tones: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "validate", lambda *_: pytest.fail("nothing is left to watch"))
    rows: list[int] = []
    original = steps.take
    monkeypatch.setattr(
        steps, "take", lambda run, step, *rest: rows.extend(step) or original(run, step, *rest)
    )
    settings = TrainSettings(**tiny(train_on="train+valid", patience=1, epochs=3))
    result = train(tones, tmp_path / "run", settings, show=False)
    assert sorted(rows) == sorted(list(range(15)) * 3)
    assert [entry["epoch"] for entry in result.history] == [1, 2, 3]
    assert all("pearson" not in entry for entry in result.history)
    assert result.best_epoch == 3
    assert same(best(tmp_path / "run"), last(tmp_path / "run"))
    assert result.to_text().splitlines()[3].split()[2:] == ["-"] * 7 + ["*"]


def test_an_epochs_loss_is_the_mean_over_clips(
    tones: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    at_each_step(monkeypatch, lambda _, loss: losses.append(loss))
    result = train(tones, tmp_path / "run", TrainSettings(**tiny(epochs=2)), show=False)
    for epoch, entry in enumerate(result.history):
        a, b, c = losses[3 * epoch : 3 * epoch + 3]
        assert entry["loss"] == pytest.approx((4 * a + 4 * b + 3 * c) / 11)
        assert entry["steps"] == 3 * (epoch + 1)
    written = json.loads((tmp_path / "run" / "history.json").read_text())
    keeps("training/history_schema.json", written)
    assert written["epochs"] == list(result.history)


def test_the_programs_random_numbers_stay_its_own(tones: Path, tmp_path: Path, tiny: Tiny) -> None:
    state, numpys = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    train(tones, tmp_path / "run", TrainSettings(**tiny(epochs=1)), show=False)
    EmiModel.open_run(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpys)  # noqa: NPY002


def test_validation_is_the_papers_score(tones: Path, tmp_path: Path, tiny: Tiny) -> None:
    """Section 3.1: Pearson of each emotion, then their mean, of the model that was kept."""
    result = train(tones, tmp_path / "run", TrainSettings(**tiny()), show=False)
    entry = result.history[(result.best_epoch or 0) - 1]
    items = load_corpus(tones, splits=["valid"], workers=1).splits["valid"].items
    predictions, vad = predict_items(EmiModel.from_pretrained(tmp_path / "run"), items)
    assert np.isnan(vad).all()
    predictions, labels = predictions.astype(np.float64), np.stack([item.labels for item in items])
    rho = [np.corrcoef(predictions[:, i], labels[:, i])[0, 1] for i in range(6)]
    assert list(entry["targets"]) == list(EMOTIONS)
    np.testing.assert_allclose(list(entry["targets"].values()), rho, atol=1e-4)
    assert entry["pearson"] == pytest.approx(np.mean(rho), abs=1e-4)
    assert entry["pearson"] == max(one["pearson"] for one in result.history)


def test_an_undefined_pearson_does_not_end_training(
    tones: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loader.predict_source

    def constant(*arguments: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        predictions, vad = original(*arguments, **options)
        predictions[:, 2] = 0.25
        return predictions, vad

    monkeypatch.setattr(loader, "predict_source", constant)
    result = train(tones, tmp_path / "run", TrainSettings(**tiny(epochs=2)), show=False)
    assert len(result.history) == 2
    for entry in result.history:
        assert entry["pearson"] is None
        assert [name for name, rho in entry["targets"].items() if rho is None] == ["Determination"]
    assert "NaN" not in (tmp_path / "run" / "history.json").read_text()
    row = result.to_text().splitlines()[1].split()
    assert (row[2], row[5]) == ("undef.", "undef.")
    assert result.to_text().splitlines()[0].split()[:3] == ["epoch", "loss", "mean"]
    assert f"the model of epoch 1 is in {tmp_path / 'run'}" in result.to_text()


def test_averaged_weights(tones: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """average <- decay x average + (1 - decay) x weights after every step; it is what is scored and kept."""
    start: list[dict[str, torch.Tensor]] = []
    path: list[dict[str, torch.Tensor]] = []
    original = runs.open_run

    def setup(*arguments: Any, **options: Any) -> runs.Run:
        run = original(*arguments, **options)
        start.append(weights(run))
        return run

    monkeypatch.setattr(runs, "open_run", setup)
    at_each_step(monkeypatch, lambda run, _: path.append(weights(run)))
    train(tones, tmp_path / "run", TrainSettings(**tiny(ema=0.7, train_on="train+valid")), show=False)
    wanted = {name: value.double() for name, value in start[0].items()}
    for number, step in enumerate(path):
        decay = min(0.7, (1 + number) / (10 + number))
        wanted = {name: decay * value + (1 - decay) * step[name].double() for name, value in wanted.items()}
    found = last(tmp_path / "run", "average")
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name].numpy(), value.numpy(), atol=1e-5)
    assert same(best(tmp_path / "run"), found)
    assert same(last(tmp_path / "run"), path[-1])
    assert not same(found, path[-1])


def test_the_average_is_scored_and_the_weights_come_back(start: Callable[..., runs.Run]) -> None:
    run = start(ema=0.5)
    assert run.average is not None
    assert run.valid is not None
    before = weights(run)
    plain = validation.validate(run, run.valid)
    for tensor in run.average.values():
        tensor.mul_(0.5).add_(0.01)
    averaged = {name: tensor.clone() for name, tensor in run.average.items()}
    assert validation.validate(run, run.valid)["pearson"] != plain["pearson"]
    assert same(weights(run), before)
    with validation.use_average(run):
        assert same(weights(run), averaged)
    assert same(weights(run), before)
    with contextlib.suppress(ZeroDivisionError), validation.use_average(run):
        raise ZeroDivisionError
    assert same(weights(run), before)
    run.average = None
    with validation.use_average(run):
        assert same(weights(run), before)


# --- what is trained, and how


def test_only_what_is_learned_from_is_changed(start: Callable[..., runs.Run]) -> None:
    run, plain = start(augment=1.0), start()
    assert run.valid is not None
    assert plain.valid is not None
    for item in run.valid.items:
        np.testing.assert_array_equal(run.valid.read(item, 1).values, plain.valid.read(item, 0).values)
    train = [(run.train.read(item, 1).values, plain.train.read(item, 1).values) for item in run.train.items]
    assert sum(not np.array_equal(*pair) for pair in train) > len(train) / 2


@pytest.mark.parametrize(
    ("given", "frozen"),
    [
        ({}, ()),
        ({"freeze_convolutions": True}, ("encoder.feature_extractor.",)),
        ({"freeze_encoder": True}, ("encoder.",)),
    ],
    ids=["all", "convolutions", "encoder"],
)
def test_only_what_is_not_frozen_moves(
    given: dict[str, Any], frozen: tuple[str, ...], tones: Path, tmp_path: Path, tiny: Tiny,
    start: Callable[..., runs.Run],
) -> None:  # fmt: skip
    values = {**given, "epochs": 2, "encoder_config": STILL}
    before = weights(start(**values))
    train(tones, tmp_path / "run", TrainSettings(**tiny(**values)), show=False)
    after = last(tmp_path / "run")
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {name for name in before if frozen and name.startswith(frozen)}


def test_the_seed_decides_the_run(tones: Path, tmp_path: Path, tiny: Tiny) -> None:
    ends = []
    for run, seed in (("one", 0), ("again", 0), ("other", 1)):
        torch.manual_seed(99)
        np.random.seed(len(ends))  # noqa: NPY002 - neither may matter
        train(tones, tmp_path / run, TrainSettings(**tiny(seed=seed, epochs=1)), show=False)
        ends.append(last(tmp_path / run))
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_the_order_of_batches_and_the_workers_do_not_matter(tones: Path, tmp_path: Path, tiny: Tiny) -> None:
    for run, given in (("one", {"workers": 1}), ("three", {"workers": 3, "checkpoint_steps": 1})):
        train(tones, tmp_path / run, TrainSettings(**tiny(epochs=2, **given)), show=False)
    assert same(last(tmp_path / "one"), last(tmp_path / "three"))


def test_bf16_mixed(tones: Path, tmp_path: Path, tiny: Tiny) -> None:
    narrow = tiny(still=True, epochs=1, batch_size=11)
    with pytest.raises(SettingsError, match="8 channels a group"):
        train(tones, tmp_path / "narrow", TrainSettings(**narrow, precision="bf16-mixed"), show=False)
    wide = {**narrow, "encoder_config": {**narrow["encoder_config"], "num_conv_pos_embedding_groups": 1}}
    losses = [
        train(
            tones, tmp_path / precision,
            TrainSettings(**wide, precision=precision), show=False,
        ).history[0]["loss"]
        for precision in ("32-true", "bf16-mixed")
    ]  # fmt: skip
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert {tensor.dtype for tensor in last(tmp_path / "bf16-mixed").values()} == {torch.float32}


def test_gradient_checkpointing_changes_nothing_but_memory(
    tones: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {True: 0, False: 0}
    original = torch.nn.functional.scaled_dot_product_attention
    on = False

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:
        if torch.is_grad_enabled():
            calls[on] += 1
        return original(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    encoder = ENCODER | {"layerdrop": 0.0}
    ends = []
    for on in (False, True):
        settings = TrainSettings(**tiny(gradient_checkpointing=on, encoder_config=encoder, epochs=1))
        ends.append(train(tones, tmp_path / str(on), settings, show=False).history)
    assert calls[True] == 2 * calls[False] > 0  # every layer ran again on the way back
    assert ends[0][0]["loss"] == pytest.approx(ends[1][0]["loss"], rel=1e-6)
    assert ends[0][0]["pearson"] == pytest.approx(ends[1][0]["pearson"], abs=1e-4)


# --- around the loop


def flushed() -> bool:
    return sys.float_info.min / 2 == 0.0


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("threads", [None, 3])
def test_what_belongs_to_the_process_is_put_back(
    threads: int | None, flush: bool, fails: bool, tones: Path, tmp_path: Path, tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before = torch.get_num_threads()
    seen: list[tuple[int, bool]] = []

    def look(*_: Any) -> None:
        seen.append((torch.get_num_threads(), flushed()))
        if fails:
            raise ZeroDivisionError

    at_each_step(monkeypatch, look)
    torch.set_flush_denormal(flush)
    try:
        with pytest.raises(ZeroDivisionError) if fails else contextlib.nullcontext():
            settings = TrainSettings(**tiny(threads=threads, epochs=1, batch_size=11))
            train(tones, tmp_path / "run", settings, show=False)
        assert seen == [(threads or before, True)]
        assert flushed() == flush
        assert torch.get_num_threads() == before
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }  # fmt: skip


def test_tensorboard_shows_what_happened(
    tones: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    at_each_step(monkeypatch, lambda _, loss: losses.append(loss))
    result = train(tones, tmp_path / "run", TrainSettings(**tiny(epochs=2)), show=False)
    found = scalars(tmp_path / "run")
    assert set(found) == {
        "loss/step",
        "loss/epoch",
        "pearson/mean",
        *(f"pearson/{name}" for name in EMOTIONS),
    }
    assert found["loss/step"] == [(i + 1, pytest.approx(loss)) for i, loss in enumerate(losses)]
    assert found["loss/epoch"] == [(e["epoch"], pytest.approx(e["loss"])) for e in result.history]
    assert found["pearson/Joy"] == [(e["epoch"], pytest.approx(e["targets"]["Joy"])) for e in result.history]


def test_tensorboard_has_each_step_once_after_a_crash(
    tones: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved at step 8, dead in step 11, before 10 was logged: 1 to 8 stay, 9 counts as the resumed run did it."""
    settings = TrainSettings(**tiny(checkpoint_steps=4, batch_size=2))

    def crash(run: runs.Run, _: float) -> None:
        if run.progress.total_steps == 10:
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        at_each_step(patch, crash)
        with pytest.raises(ZeroDivisionError):
            train(tones, tmp_path / "run", settings, show=False)
    assert [step for step, _ in scalars(tmp_path / "run")["loss/step"]] == [*range(1, 10)]
    train(tones, tmp_path / "run", resume=True, show=False)
    train(tones, tmp_path / "whole", settings, show=False)
    assert scalars(tmp_path / "run") == scalars(tmp_path / "whole")


def test_the_run_says_what_it_is(
    tones: Path, tmp_path: Path, tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tones, tmp_path / "run", TrainSettings(**tiny(epochs=1, freeze_encoder=True)), show=True)
    assert f"Corpus {tones}" in capsys.readouterr().out
    facts = json.loads((tmp_path / "run" / "train.json").read_text())
    keeps("training/train_schema.json", facts)
    tensors = best(tmp_path / "run")
    heads = sum(value.numel() for name, value in tensors.items() if not name.startswith("encoder."))
    assert facts["parameters"] == {"all": sum(value.numel() for value in tensors.values()), "trained": heads}
    assert (facts["device"], facts["processes"]) == ("cpu", 1)
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["corpus"]["folder"] == str(tones)
    assert facts["corpus"]["splits"]["train"]["usable"] == 11


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": {"mae": 1.0}}, "unknown loss 'mae'"),
        ({"loss": {"mse": 0.0}}, "above 0"),
        ({"accelerator": "abacus"}, "'abacus'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_made(
    given: dict[str, Any], message: str, tones: Path, tmp_path: Path, tiny: Tiny
) -> None:
    with pytest.raises(SettingsError, match=message):
        train(tones, tmp_path / "run", TrainSettings(**tiny(**given)), show=False)
    assert not (tmp_path / "run").exists()


def test_a_path_that_is_no_text_is_refused(tones: Path, tmp_path: Path, tiny: Tiny) -> None:
    with pytest.raises(SettingsError, match=r"not UTF-8.*Name another folder"):
        train(tones, tmp_path / "b\udce4r", TrainSettings(**tiny()), show=False)
    assert not (tmp_path / "b\udce4r").exists()


def test_a_folder_that_is_no_corpus_leaves_nothing(tmp_path: Path, tiny: Tiny) -> None:
    with pytest.raises(CorpusError):
        train(tmp_path, tmp_path / "run", TrainSettings(**tiny()), show=False)
    assert not (tmp_path / "run").exists()


def test_epochs_are_compared_over_the_targets_whose_labels_vary(
    start: Callable[..., runs.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target with constant labels is left out, one with constant predictions counts as 0."""
    run = start()
    items = run.valid.items
    truth = np.random.default_rng(0).random((len(items), len(run.model.config.targets))).astype(np.float32)
    truth[:, 0] = 0.5
    for item, row in zip(items, truth, strict=True):
        item.labels[:] = row
    guesses = truth.copy()
    guesses[:, 1] = 0.25
    monkeypatch.setattr(loader, "predict_source", lambda *_, **__: (guesses, None))
    entry = validation.validate(run, run.valid)
    count = truth.shape[1]
    assert entry["pearson"] is None
    assert entry["watched"] == pytest.approx((count - 2) / (count - 1))
    assert list(entry["targets"].values())[:2] == [None, None]
    for item in items:
        item.labels[:] = 0.5
    truth[:] = 0.5
    assert validation.validate(run, run.valid)["watched"] is None


def test_unknown_labels_are_left_out_of_validation(
    start: Callable[..., runs.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start()
    items = run.valid.items
    rng = np.random.default_rng(0)
    truth = rng.random((len(items), 6)).astype(np.float32)
    guesses = rng.random(truth.shape).astype(np.float32)
    truth[0, 0], truth[:, 1], truth[1:, 2] = np.nan, np.nan, np.nan
    for item, row in zip(items, truth, strict=True):
        item.labels[:] = row
    monkeypatch.setattr(loader, "predict_source", lambda *_, **__: (guesses, None))
    entry = validation.validate(run, run.valid)
    found = list(entry["targets"].values())
    assert found[0] == pytest.approx(np.corrcoef(guesses[1:, 0], truth[1:, 0])[0, 1], abs=1e-5)
    assert found[1:3] == [None, None]
    assert entry["pearson"] is None
    assert entry["watched"] == pytest.approx(np.mean([found[0], *found[3:]]))


def test_the_table_says_what_was_left_out_and_undefined() -> None:
    history = ({"epoch": 1, "loss": 0.1, "pearson": None, "targets": {"Joy": None}},)
    text = training.Result(Path("run"), ("Joy",), history, 1, left_out=("train: 7: missing",)).to_text()
    assert "undef." in text
    assert "1 listed clips were left out:\ntrain: 7: missing" in text
    text = training.Result(Path("run"), ("Joy",), ({"epoch": 1, "loss": 0.1},), 1).to_text()
    assert "no validation" in text
    assert "undef" not in text
