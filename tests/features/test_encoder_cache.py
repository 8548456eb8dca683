"""Cached features are the encoder's, belong to that encoder alone, and survive interruption and damage."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tone_corpus import ENCODER

from emimic.data import loader
from emimic.data.corpus import Item, load_corpus
from emimic.features import encoder_cache, store
from emimic.inference.description import hash_model
from emimic.media.waveform import ClipFormat
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.training import setup as runs
from emimic.training.loop import train
from emimic.training.settings import TrainSettings


def build(seed: int = 0, encoder: dict[str, Any] | None = None, **config: Any) -> EmiModel:
    torch.manual_seed(seed)
    return EmiModel(EmiConfig(encoder_config=ENCODER | (encoder or {}), freeze_encoder=True, **config))


@pytest.fixture
def items(tones: Path) -> tuple[Item, ...]:
    corpus = load_corpus(tones, splits=["train"], workers=1)
    return corpus.splits["train"].items


def alone(model: EmiModel, items: tuple[Item, ...]) -> list[np.ndarray]:
    """Each clip through the encoder by itself."""
    source = loader.make_waveform_source(items, model.clip_format)
    model.eval()
    with torch.inference_mode():
        return [
            model.encode(torch.from_numpy(source.read(item, 0).values)[None])[0][0].numpy() for item in items
        ]


@pytest.mark.parametrize("encoder", [{}, {"feat_extract_norm": "group", "do_stable_layer_norm": False}])
def test_cached_is_recomputed(encoder: dict[str, Any], items: tuple[Item, ...], tmp_path: Path) -> None:
    model = build(encoder=encoder)
    model.train()
    wanted = alone(model, items)
    model.train()
    for dtype, error in (("float32", 2e-6), ("float16", 2e-3)):
        source = encoder_cache.compute(model, items, tmp_path, loader.BatchOptions(0.4), dtype=dtype)
        assert model.training
        assert source.encoded
        for item, hidden in zip(items, wanted, strict=True):
            actual = source.read(item, 0).values
            assert actual.dtype == dtype
            assert (
                actual.shape
                == hidden.shape
                == (model.count_frames(max(400, round(item.seconds * 16_000))), 16)
            )
            np.testing.assert_allclose(actual.astype(np.float32), hidden, atol=error)
    one = encoder_cache.compute(model, items, tmp_path / "one", loader.BatchOptions(1e-4), dtype="float32")
    for item, hidden in zip(items, wanted, strict=True):  # a batch of one is the same arithmetic
        np.testing.assert_array_equal(one.read(item, 0).values, hidden)


def test_the_key_is_what_decides_the_features() -> None:
    same = encoder_cache.compute_key(build(), "float16")
    assert same == encoder_cache.compute_key(build(), "float16")
    assert len(same) == 16
    assert int(same, 16) >= 0
    other_head = build(lstm_layers=1, vad_head=False, targets=["Joy"])
    other_head.encoder.load_state_dict(build().encoder.state_dict())
    assert encoder_cache.compute_key(other_head, "float16") == same
    one_weight = build()
    with torch.no_grad():
        one_weight.encoder.encoder.layers[0].attention.k_proj.bias[3] += 1e-7
    other_eps = build(encoder={"layer_norm_eps": 1e-4})
    other_eps.encoder.load_state_dict(build().encoder.state_dict())
    keys = [
        same,
        encoder_cache.compute_key(build(), "float32"),
        encoder_cache.compute_key(build(), "float16", "bf16-mixed"),
        encoder_cache.compute_key(build(seed=1), "float16"),
        encoder_cache.compute_key(build(max_seconds=3.0), "float16"),
        encoder_cache.compute_key(build(do_normalize=False), "float16"),
        encoder_cache.compute_key(one_weight, "float16"),
        encoder_cache.compute_key(other_eps, "float16"),
    ]
    assert len(set(keys)) == len(keys)


def test_features_of_another_precision_are_others(items: tuple[Item, ...], tmp_path: Path) -> None:
    """They are those of autocast, and each precision reads its own."""
    model = build(encoder={"num_conv_pos_embedding_groups": 1})
    found = {}
    for precision in ("32-true", "bf16-mixed", "32-true"):
        options = loader.BatchOptions(0.4, precision=precision)
        source = encoder_cache.compute(model, items, tmp_path, options, dtype="float32")
        values = np.concatenate([source.read(item, 0).values for item in items])
        np.testing.assert_array_equal(found.setdefault(precision, values), values)
    assert len(list(tmp_path.iterdir())) == 2
    wanted = np.concatenate(alone(model, items))
    error = {name: np.abs(values - wanted).max() for name, values in found.items()}
    assert error["32-true"] < 1e-4
    assert 1e-3 < error["bf16-mixed"] < 0.3


def test_keys_hold_the_version_of_the_clip_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    before = encoder_cache.compute_key(build(), "float16"), hash_model(tmp_path)
    monkeypatch.setattr(ClipFormat, "version", ClipFormat.version + 1)
    after = encoder_cache.compute_key(build(), "float16"), hash_model(tmp_path)
    assert not set(before) & set(after)


def test_the_key_ignores_where_the_encoder_came_from() -> None:
    moved = build()
    moved.config.encoder_config._name_or_path = "/somewhere/else"
    assert encoder_cache.compute_key(moved, "float16") == encoder_cache.compute_key(build(), "float16")


def cached(folder: Path) -> dict[Path, int]:
    """The cached features: named by a hash, unlike a run's own files."""
    collected = (path for path in folder.rglob("*.safetensors") if len(path.stem) == 64)
    return {path: path.stat().st_mtime_ns for path in collected}


@pytest.mark.parametrize("written", [0, 1, 5])
def test_interrupted_it_goes_on(
    written: int, items: tuple[Item, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, save, count = build(), store.save_file, 0

    def dying(tensors: dict[str, Any], file: Path, metadata: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > written:
            file.write_bytes(b"half of it")
            raise KeyboardInterrupt
        save(tensors, file, metadata=metadata)

    monkeypatch.setattr(store, "save_file", dying)
    with pytest.raises(KeyboardInterrupt):
        encoder_cache.compute(model, items, tmp_path, dtype="float32")
    monkeypatch.undo()
    before = cached(tmp_path)
    assert len(before) == written
    assert len(list(tmp_path.rglob("*.*"))) == written  # no temporary file either
    source = encoder_cache.compute(model, items, tmp_path, dtype="float32")
    after = cached(tmp_path)
    assert len(after) == len(items)
    assert {path: after[path] for path in before} == before
    for item, hidden in zip(items, alone(model, items), strict=True):
        np.testing.assert_allclose(source.read(item, 0).values, hidden, atol=2e-6)


def test_what_is_there_needs_no_encoder(
    items: tuple[Item, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build()
    first = encoder_cache.compute(model, items, tmp_path)
    before = cached(tmp_path)
    monkeypatch.setattr(EmiModel, "encode", lambda *_: pytest.fail("the encoder ran"))
    again = encoder_cache.compute(model, items, tmp_path)
    assert cached(tmp_path) == before
    np.testing.assert_array_equal(again.read(items[3], 0).values, first.read(items[3], 0).values)
    # Another name for the same sound, too; another sound, not.
    copy = tmp_path / "copy.wav"
    copy.write_bytes(items[3].path.read_bytes())
    renamed = dataclasses.replace(items[3], id="renamed", path=copy)
    np.testing.assert_array_equal(
        encoder_cache.compute(model, [renamed], tmp_path).read(renamed, 0).values,
        first.read(items[3], 0).values,
    )
    data = items[3].path.read_bytes()
    copy.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(pytest.fail.Exception, match="the encoder ran"):
        encoder_cache.compute(model, [renamed], tmp_path)


@pytest.mark.parametrize("damage", ["empty", "header", "cut", "rubbish"])
def test_a_damaged_file_is_computed_again(damage: str, items: tuple[Item, ...], tmp_path: Path) -> None:
    model = build()
    source = encoder_cache.compute(model, items, tmp_path, dtype="float32")
    wanted = [source.read(item, 0).values for item in items]
    before = cached(tmp_path)
    victim = sorted(before)[2]
    data = victim.read_bytes()
    if damage == "rubbish":
        victim.write_bytes(os.urandom(len(data)))
    else:
        victim.write_bytes(data[: {"empty": 0, "header": 20, "cut": len(data) - 4}.get(damage, len(data))])
    actual = encoder_cache.compute(model, items, tmp_path, dtype="float32")
    for item, hidden in zip(items, wanted, strict=True):
        np.testing.assert_allclose(actual.read(item, 0).values, hidden, atol=2e-6)
    after = cached(tmp_path)
    assert [path for path in before if after[path] != before[path]] == [victim]


def test_training_from_the_cache_is_training_with_the_encoder(
    tones: Path, tmp_path: Path, tiny: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tiny(still=True, freeze_encoder=True, feature_dtype="float32", epochs=3)
    from_cache = train(tones, tmp_path / "cache", TrainSettings(**values), show=False)
    assert len(cached(tmp_path / "cache")) == 15

    def each_time(model: EmiModel, part: Any, *_: Any, **__: Any) -> loader.Source:
        return loader.make_waveform_source(part, model.clip_format)

    monkeypatch.setattr(runs, "make_source", each_time)
    live = train(tones, tmp_path / "live", TrainSettings(**values), show=False)
    assert not cached(tmp_path / "live")
    for one, other in zip(from_cache.history, live.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert one["pearson"] == pytest.approx(other["pearson"], abs=1e-4)
    assert from_cache.history[0]["loss"] > from_cache.history[2]["loss"]


def test_runs_can_share_a_cache(
    tones: Path, tmp_path: Path, tiny: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = TrainSettings(
        **tiny(still=True, freeze_encoder=True, features=str(tmp_path / "shared"), epochs=1)
    )
    one = train(tones, tmp_path / "one", values, show=False)
    assert len(cached(tmp_path / "shared")) == 15
    assert not (tmp_path / "one" / "features").exists()
    monkeypatch.setattr(EmiModel, "encode", lambda *_: pytest.fail("the encoder ran"))
    assert train(tones, tmp_path / "two", values, show=False).history == one.history
