"""The benchmarks: operations against torch's own counter, the mix of clips, and a smallest measurement."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from json_schema import keeps
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import (
    bench,
    bench_worker,
    mix,
    results,
    solve_layers,
    speed_tables,
    tables,
    training,
)
from benchmarks.arithmetic import operations, per_second
from emimic.features import encoder_cache
from emimic.inference.engine import DEFAULT, GraphEngine, open_engine
from emimic.model.config import EmiConfig
from emimic.task import ModelError
from emimic.training import probes

MODULES = sorted(path.stem for path in (results.ROOT / "benchmarks").glob("*.py"))

FAMILIES = ("wav2vec2-layer", "wav2vec2-group", "hubert", "data2vec")


@pytest.mark.parametrize("name", MODULES)
def test_every_benchmark_imports(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("samples", [16_000, 4_321])
def test_operations_are_those_torch_counts(family: str, samples: int) -> None:
    model = tiny_models.model(family, lstm=False, global_std=True)
    model.encoder.set_attn_implementation("eager")  # its counter knows no fused attention on a CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, samples))
    assert sum(operations(model.config, samples).values()) == counter.get_total_flops()


HEADS: dict[str, Any] = {
    "hidden_layers": [1, 2], "probe_layers": [2], "attentive": True, "head_units": 7, "vad_units": 0,
    "vad_seconds": 0.1, "domains": ["a", "b", "c"], "domain_targets": {"a": ["Joy"], "c": ["Joy", "Amusement"]},
}  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [{}, HEADS, {"attentive": True, "vad_units": 5, "hidden_layers": [1, 2], "regression_head": False}],
)
def test_whispers_operations(config: dict[str, Any]) -> None:
    model = tiny_models.model("whisper", lstm=False, **config)
    model.encoder.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 16_000))
    mel = 2 * 20 * 201 * 103  # bins, frequencies, frames: the filters, which are left out
    assert sum(operations(model.config, 16_000).values()) == counter.get_total_flops() - mel


def test_the_lstms_operations() -> None:
    config = EmiConfig(encoder_config=tiny_models.encoder("wav2vec2-layer"), lstm_units=5, lstm_layers=2)
    frames = 49  # of a second
    gates = 4 * 5 * ((16 + 3 + 5) + (5 + 5))
    assert operations(config, 16_000)["lstm"] == 2 * frames * gates


def test_the_papers_model() -> None:
    parts = {name: value / 6.9e9 for name, value in operations(EmiConfig(), int(6.9 * 16_000)).items()}
    assert sum(parts.values()) == pytest.approx(23.4, abs=0.3)
    assert parts["feed_forward"] == pytest.approx(10.0, abs=0.1)
    assert per_second(EmiConfig(), [6.9]) == pytest.approx(sum(parts.values()) * 1e9, rel=1e-3)


@pytest.mark.parametrize("count", [4, 8, 24, 1000])
def test_the_mix_is_the_papers(count: int) -> None:
    lengths = mix.seconds(count)
    assert lengths.mean() == pytest.approx(6.9, abs=0.1)
    assert lengths.max() <= 12
    assert (lengths < 12).mean() >= 0.95 - 1 / count
    clips = mix.clips(4, seed=count)
    assert sorted(map(len, clips)) == (mix.seconds(4) * 16_000).astype(int).tolist()
    assert all(np.abs(clip).max() > 0.01 for clip in clips)


def test_a_run_computes_what_its_shapes_say(tmp_path: Path) -> None:
    model = tiny_models.model(max_seconds=2.0)
    model.save_pretrained(tmp_path)
    assert [one.runtime for one in bench.subjects_of(tmp_path)] == ["torch"]
    work = bench_worker._model(tmp_path, threads=1, count=3)
    alone, batched = work({"batch_seconds": None}), work({"batch_seconds": 30.0})
    assert batched["mean"] == pytest.approx(alone["mean"], abs=1e-5)
    assert batched["operations"] == per_second(model.config, mix.seconds(3).tolist())


def test_the_model_in_the_package_is_measured() -> None:
    report = bench.measure(fast=True, threads=1)
    actual: dict[str, Any] = json.loads(json.dumps(report.to_dict()))
    keeps(str(Path(bench.__file__).with_name("bench_schema.json")), actual)
    assert [(row.model, row.batch_seconds) for row in report.rows] == [
        ("default, onnx int8", batch) for batch in bench.BATCHES
    ]
    assert all(row.clips_per_second > 0 and row.peak_mb > 20 and row.ratio is None for row in report.rows)
    assert report.peak[1] > 1
    assert all(one.cpu > 0.1 and one.peak_mb > 20 for one in report.starts)
    assert "| default, onnx int8 | 1 | one clip |" in speed_tables.make_bench_of(actual)


def test_the_model_in_the_package_predicts_its_check_clips() -> None:
    engine = open_engine(DEFAULT)
    assert isinstance(engine, GraphEngine)
    assert engine.check() < 0.01  # the same graph, at most another processor


def test_a_layer_is_fitted_to_labels_and_to_the_same_values_both_ways() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    steady, clear = truth + rng.normal(size=400), truth + 0.3 * rng.normal(size=400)
    alone = np.stack([steady, clear], axis=1)
    both = solve_layers.Both(alone, np.stack([steady, clear + rng.normal(size=400)], axis=1))
    weights = np.ones(400)

    def fit(agreement: float, x: solve_layers.Both = both) -> tuple[np.ndarray[Any, Any], float]:
        penalties = solve_layers.Penalties(1.0, agreement)
        slopes, intercepts = solve_layers.fit(x, truth[:, None], weights, x, weights, penalties)
        assert slopes.shape == (1, 2)
        return slopes[0], float(intercepts[0])

    same = solve_layers.Both(alone, alone)
    slope, intercept = probes.fit_ridge(alone, truth, weights, 1.0)
    for agreement in (0.0, 100.0):  # without a difference, ridge regression
        np.testing.assert_allclose(fit(agreement, same)[0], slope, rtol=1e-3)
        assert fit(agreement, same)[1] == pytest.approx(intercept, abs=1e-3)
    apart = [
        float(np.abs((both.within - alone) @ fit(agreement)[0]).mean()) for agreement in (0.0, 1.0, 10.0)
    ]
    assert apart[0] > 1.5 * apart[1] > 3 * apart[2]
    assert np.corrcoef(alone @ fit(10.0)[0], truth)[0, 1] > 0.65


def test_a_row_of_a_layer_is_set_and_the_others_stay() -> None:
    layer = torch.nn.Linear(4, 3)
    before = layer.weight.detach().clone()
    solve_layers.set_layer(layer, np.array([[5.0, 6.0]]), np.array([7.0]), np.array([0, 2]), slice(1, 2))
    assert layer.weight[1].tolist() == [5.0, 0.0, 6.0, 0.0]
    assert layer.bias[1] == 7.0
    torch.testing.assert_close(layer.weight[[0, 2]], before[[0, 2]])


def test_the_inputs_of_layers_are_read_both_ways(tmp_path: Path) -> None:
    model = tiny_models.model(
        "whisper",
        attentive=True,
        lstm=False,
        domains=["bursts", "speech"],
        domain_targets={"speech": ["Joy"]},
    )
    model.save_pretrained(tmp_path)
    reader = solve_layers.Reader(tmp_path)
    rng = np.random.default_rng(0)
    clips = [(0.1 * rng.normal(size=size)).astype(np.float32) for size in (16_000, 49_321, 64_000)]
    sound = solve_layers.join(clips, 0)
    for clip, (start, end) in zip(clips, sound.clips, strict=True):
        np.testing.assert_array_equal(sound.wave[start:end], clip)
    moments, vectors = reader.read(sound.wave, sound.clips)
    assert vectors.alone.shape == vectors.within.shape == (3, reader.engine.model.head.dense.in_features)
    assert moments.alone.shape == moments.within.shape
    whole, _ = reader.read(clips[0], np.array([[0, len(clips[0])]]))  # one block, no more than the clip
    np.testing.assert_allclose(whole.alone, whole.within, atol=0.02)
    np.testing.assert_allclose(whole.alone[0], moments.alone[0], atol=1e-3)
    assert np.abs(moments.alone[1] - moments.within[1]).max() > 1e-3  # neighbors


def row(name: str, speed: float, memory: int, batch: float | None = 30.0) -> bench.Row:
    return bench.Row(name, 2, batch, speed, speed * 6.9, 0.1, None, None, None, memory)


def test_advice() -> None:
    few, many = row("small", 9.8, 100), row("large", 10.0, 900)
    assert bench.advice([few, many])[0].startswith("many clips: small, --threads 2 --batch-seconds 30: 9.8")
    message = bench.advice([row("small", 5.0, 100), many, row("slow", 1.0, 300)])
    assert message[0].startswith("many clips: large")
    assert message[1] == "little memory: small, 100 MB"


def test_what_is_no_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither engine\.json nor config\.json"):
        bench.measure([tmp_path])


def test_the_ways_of_training_that_are_compared_do_the_same_step(tmp_path: Path) -> None:
    clips = training.items(tmp_path, 5)
    model = tiny_models.model(freeze_encoder=True, **training.STILL)
    live = training.set_up(model, clips, freeze_encoder=True)
    cached = encoder_cache.compute(model, clips, tmp_path / "features", dtype="float32")
    disk = training.set_up(model, clips, cached, freeze_encoder=True)
    start, losses, after = training.trained(model), [], []
    (rows,) = training.plan_steps(5)
    for way in (
        lambda: training.head_packed(live, rows, training.encoded_alone(live, rows)),
        lambda: training.epoch(live)[0],
        lambda: training.epoch(disk)[0],
    ):
        with training.again(disk, start), training.again(live, start):
            losses.append(way())
        after.append(torch.cat([tensor.flatten() for tensor in training.trained(model).values()]))
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    begun = torch.cat([tensor.flatten() for tensor in start.values()])
    assert (after[0] - begun).abs().mean() > 5e-5  # AdamW's first step is the rate, 1e-4
    for one in after[1:]:
        assert (one - after[0]).abs().mean() < 2e-6


def test_tables_hold_the_figures() -> None:
    for name in ("bench", "training"):
        made = tables.TABLES[name]()
        actual = json.loads((results.RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        assert str(actual["machine"]["cpu"]) in made
    assert made.count("\n| ") >= 9
