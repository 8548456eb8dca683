"""Zero-padding without masks (paper section 6.2) is what it says, wherever a clip is predicted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_models
from huggingface_hub.errors import StrictDataclassFieldValidationError

import emimic
from emimic.data import loader
from emimic.data.corpus import Item, load_corpus
from emimic.features import encoder_cache
from emimic.model.model import EmiModel
from emimic.task import SettingsError
from emimic.training import step
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

SECONDS = 0.3  # 4,800 samples, 14 frames
EXACT = {"atol": 2e-5, "rtol": 0}


def prepared(path: Path) -> Any:
    samples, _ = soundfile.read(path)
    wave = samples[: round(SECONDS * 16_000)]
    return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)


def items(corpus: Path) -> list[Item]:
    return list(load_corpus(corpus, splits=["valid"]).splits["valid"].items)


@pytest.mark.parametrize("family", ["wav2vec2-layer", "wav2vec2-group", "whisper"])
def test_zeros_are_processed_as_silence_up_to_the_longest_clip(tones: Path, family: str) -> None:
    model = tiny_models.model(family, padding="zeros", max_seconds=SECONDS, vad_pretrained=True)
    inner: Any = model.config.encoder_config
    weights = tiny_models.weights(model)
    actual, vad = tiny_models.predict_items(model, clips := items(tones), batch_seconds=0.7)
    masked = tiny_models.model(family, max_seconds=SECONDS)
    other, _ = tiny_models.predict_items(masked, clips, batch_seconds=0.7)
    for row, item in enumerate(clips):
        wave = prepared(item.path)
        silent = np.concatenate([wave, np.zeros(round(SECONDS * 16_000) - len(wave))])
        formula = tiny_models.FORMULAS[family]
        hidden = formula(tiny_models.under(weights, "encoder."), inner.to_dict(), silent)
        expected, vad_frames = tiny_models.heads(weights, hidden)
        np.testing.assert_allclose(actual[row], expected, **EXACT)
        assert vad_frames is not None
        np.testing.assert_allclose(vad[row], vad_frames.mean(axis=0), **EXACT)
        assert np.abs(actual[row] - other[row]).max() > 1e-3  # and a mask predictions otherwise


def test_features_of_the_two_paddings_lie_apart(tones: Path, tmp_path: Path) -> None:
    clips = items(tones)
    folders = {}
    for padding in ("masked", "zeros"):
        model = tiny_models.model(padding=padding, max_seconds=SECONDS, freeze_encoder=True)
        source = encoder_cache.compute(model, clips, tmp_path)
        lengths = {len(source.read(item, 0).values) for item in clips}
        assert (len(lengths) == 1) == (padding == "zeros")
        predictions, _ = loader.predict_source(model, source)
        direct, _ = tiny_models.predict_items(model, clips)
        np.testing.assert_allclose(predictions, direct, atol=2e-3)
        folders[padding] = encoder_cache.compute_key(model, "float16")
    assert folders["masked"] != folders["zeros"]
    assert {folder.name for folder in tmp_path.iterdir()} == set(folders.values())


def test_a_finished_run_predicts_as_it_was_validated(tones: Path, tmp_path: Path, tiny: Any) -> None:
    settings = TrainSettings(**tiny(still=True, padding="zeros", max_seconds=SECONDS, epochs=1))
    result = train(tones, tmp_path / "run", settings, show=False)
    model = EmiModel.open_run(tmp_path / "run")
    assert model.config.padding == "zeros"
    clips = items(tones)
    predictions, _ = tiny_models.predict_items(model, clips)
    labels = np.stack([item.labels for item in clips if item.labels is not None])
    rho = [np.corrcoef(predictions[:, i], labels[:, i])[0, 1] for i in range(6)]
    assert result.history[0]["pearson"] == pytest.approx(np.mean(rho), abs=1e-4)
    predicted = emimic.load(tmp_path / "run")(clips[0].path)
    np.testing.assert_allclose(predicted.prediction.intensities, predictions[0], **EXACT)


def test_another_padding_is_refused() -> None:
    with pytest.raises(StrictDataclassFieldValidationError, match="padding"):
        tiny_models.model(padding="reflect")


def test_a_batch_is_filled_up_to_its_own_longest_clip() -> None:
    clips = [loader.ModelInput(np.full(count, 0.5, np.float32)) for count in (400, 900, 650)]
    model = tiny_models.model(padding="zeros-batch", max_seconds=SECONDS)
    filled = [clip.values for clip in step.pad_to_longest(clips)]
    values, mask = model.collate(filled)
    assert values.shape == (3, 900)
    assert mask.all()  # nothing says where the silence is
    assert (values != 0).sum(dim=1).tolist() == [400, 900, 650]
    assert step.pad_to_longest([]) == []
    # A clip alone isn't filled up.
    assert model.clip_format == tiny_models.model(max_seconds=SECONDS).clip_format


@pytest.mark.parametrize("frozen", [{"freeze_encoder": True}, {"frozen_layers": 1}])
def test_what_is_computed_once_has_no_batch(frozen: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="zeros-batch changes from step to step"):
        TrainSettings(padding="zeros-batch", **frozen)
