"""Clips as models take them, and whose prediction is whose."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_models import predict_items
from tone_corpus import ENCODER

from emimic.data import loader
from emimic.data.augment import Augment
from emimic.data.corpus import Item, load_corpus
from emimic.media import decode
from emimic.media.waveform import ClipFormat
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.task import AudioError


@pytest.fixture
def model() -> EmiModel:
    torch.manual_seed(0)
    return EmiModel(EmiConfig(encoder_config=ENCODER, max_seconds=0.15))


def items(tones: Path) -> tuple[Item, ...]:
    corpus = load_corpus(tones, splits=["train", "valid"], workers=1)
    return corpus.splits["train"].items + corpus.splits["valid"].items


def test_clips_come_prepared(tones: Path, model: EmiModel) -> None:
    """Cut, then zero mean and unit variance, and padded to the encoder's smallest input (paper section 3.2 and 4)."""
    source = loader.make_waveform_source(items(tones), model.clip_format)
    seen = set()
    for item in source.items:
        wave = soundfile.read(item.path, dtype="float64")[0][:2400]
        wanted = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        wanted = np.pad(wanted, (0, max(0, 400 - len(wanted))))
        actual = source.read(item, 0).values
        assert actual.dtype == np.float32
        np.testing.assert_allclose(actual, wanted, atol=1e-5)
        seen.add(len(actual))
    assert {400, 2400} < seen
    assert not source.encoded


def test_only_augmented_clips_differ_from_epoch_to_epoch(tones: Path) -> None:
    clips = items(tones)[:6]
    clip_format = ClipFormat(max_seconds=0.7)
    plain = loader.make_waveform_source(clips, clip_format)
    augment = Augment(1.0, 5)
    changed = loader.make_waveform_source(clips, clip_format, augment)
    seen = set()
    for item in clips:
        np.testing.assert_array_equal(plain.read(item, 0).values, plain.read(item, 1).values)
        for epoch in range(3):
            actual = changed.read(item, epoch).values
            assert 400 <= len(actual) <= 11_200, "cut after it got longer, padded as any clip"
            waves = augment(decode.load(item.path), item.id, epoch)[:11_200]
            wanted = np.zeros_like(actual)
            wanted[: len(waves)] = (waves - waves.mean()) / np.sqrt(waves.var() + 1e-7)
            np.testing.assert_allclose(actual, wanted, atol=1e-4)
            seen.add(actual.tobytes())
    assert len(seen) == 18


def test_clips_can_stay_as_they_are(tones: Path) -> None:
    clip_format = ClipFormat(normalize=False)
    item = items(tones)[0]
    np.testing.assert_array_equal(
        loader.make_waveform_source([item], clip_format).read(item, 0).values, decode.load(item.path)
    )


@pytest.mark.parametrize("batch_seconds", [0.01, 0.3, 60.0])
def test_each_prediction_is_its_own_clips(batch_seconds: float, tones: Path, model: EmiModel) -> None:
    """Whatever else is in a batch, and over the border between two groups."""
    clips = items(tones)
    source = dataclasses.replace(loader.make_waveform_source(clips, model.clip_format), group=4)
    actual, vad = loader.predict_source(model, source, loader.BatchOptions(batch_seconds, workers=3))
    assert (actual.shape, vad.shape) == ((15, 6), (15, 3))
    assert actual.dtype == vad.dtype == np.float32
    assert np.isnan(vad).all(), "an untrained VAD head predicts nothing"
    model.eval()
    with torch.inference_mode():
        alone = [
            model(torch.from_numpy(source.read(item, 0).values)[None]).intensities[0].numpy()
            for item in clips
        ]
    np.testing.assert_allclose(actual, np.stack(alone), atol=2e-6)
    assert np.unique(actual.round(5), axis=0).shape == (15, 6)
    backwards, _ = predict_items(model, clips[::-1], batch_seconds=batch_seconds)
    np.testing.assert_allclose(backwards[::-1], actual, atol=2e-6)


def test_no_clips_give_no_predictions(model: EmiModel) -> None:
    actual, vad = predict_items(model, [])
    assert (actual.shape, vad.shape) == ((0, 6), (0, 3))


def test_groups_are_decoded_in_turn(tones: Path, model: EmiModel) -> None:
    def read(item: Item, epoch: int) -> loader.ModelInput:
        return loader.ModelInput(np.float32([float(item.id), epoch]))

    source = loader.Source(items(tones), read)
    groups = [[3, 1], [], [14], [0]]
    for epoch in (0, 7):
        actual = [
            [clip.values.tolist() for clip in group]
            for group in loader.decode_ahead(source, groups, workers=2, epoch=epoch)
        ]
        assert actual == [[[4.0, epoch], [2.0, epoch]], [], [[15.0, epoch]], [[1.0, epoch]]]


def test_the_number_of_workers_changes_neither_clips_nor_their_order(tones: Path, model: EmiModel) -> None:
    """Augmented clips, of which some take longer."""
    source = loader.make_waveform_source(items(tones), model.clip_format, Augment(0.9, seed=3, codec=0.3))

    def read(item: Item, epoch: int) -> loader.ModelInput:
        time.sleep(0.002 * (int(item.id) * 7 % 5))
        return source.read(item, epoch)

    slow = dataclasses.replace(source, read=read)
    groups = [[3, 1, 0], [14, 2], [5, 6, 7, 8]]
    actual = [
        [
            clip.values.tobytes()
            for group in loader.decode_ahead(slow, groups, workers=count, epoch=2)
            for clip in group
        ]
        for count in (1, 2, 4)
    ]
    assert actual[0] == [
        source.read(source.items[row], 2).values.tobytes() for group in groups for row in group
    ]
    assert actual[1] == actual[0]
    assert actual[2] == actual[0]
    assert len(set(actual[0])) > 5  # a lead of silence may fill such short clips


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_an_error_of_a_worker_names_the_file(
    tones: Path, model: EmiModel, tmp_path: Path, workers: int
) -> None:
    clips = [*items(tones)[:6]]
    clips[4] = dataclasses.replace(clips[4], path=tmp_path / "lost since the scan.wav")
    source = loader.make_waveform_source(clips, model.clip_format)
    decoded = loader.decode_ahead(source, [[0, 1], [2, 3], [4, 5]], workers=workers)
    assert [len(next(decoded)), len(next(decoded))] == [2, 2]
    with pytest.raises(AudioError, match=r"lost since the scan\.wav"):
        next(decoded)
