"""The vision branch: every encoder as transformers computes it, images as its processor makes them, exact batches."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from image_corpus import BACKBONES, SIDE
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

from emimic.model import vision
from emimic.model.config import EmiConfig
from emimic.model.images import Preprocessing
from emimic.model.inputs import Inputs
from emimic.model.model import EmiModel
from emimic.model.settings import VisionSettings
from emimic.task import ModelError

PROCESSORS: dict[str, dict[str, Any]] = {
    "convnext": {
        "image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.875,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3,
    },
    "convnext-large": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
    "vit": {"feature_extractor_type": "ViTFeatureExtractor", "size": 32, "image_mean": [0.5] * 3, "resample": 2},
    "dinov2": {
        "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 36}, "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32}, "resample": 3,
    },
    "dinov2-small": {
        "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 20}, "do_center_crop": True,
        "crop_size": {"height": 33, "width": 32},
    },
    "efficientnet": {
        "image_processor_type": "EfficientNetImageProcessor", "size": {"height": 32, "width": 40},
        "rescale_offset": True, "include_top": True, "image_std": [0.4, 0.5, 0.6],
    },
}  # fmt: skip


def make_model(backbone: str = "convnext", *, audio: bool = True, **given: Any) -> EmiModel:
    settings = VisionSettings(encoder_config=BACKBONES[backbone], **given)
    encoder = tiny_models.encoder("wav2vec2-layer") if audio else None
    torch.manual_seed(0)
    model = EmiModel(EmiConfig(encoder_config=encoder, vision=vision.make_config(settings), audio=audio))
    tiny_models.scramble(model)
    return model.eval()


def make_clips(counts: tuple[int, ...], *, audio: bool) -> list[Inputs]:
    rng = np.random.default_rng(0)
    return [
        Inputs(
            tiny_models.clip(2000 + 700 * seed, seed) if audio else np.zeros(0, np.float32),
            {"vision": rng.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)},
        )
        for seed, count in enumerate(counts)
    ]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_batch_changes_no_prediction_and_a_saved_model_gives_the_same(
    backbone: str, tmp_path: Path
) -> None:
    audio = backbone in ("convnext", "vit")
    model = make_model(backbone, audio=audio, attentive=True, global_std=True)
    clips = make_clips((3, 1, 0, 6), audio=audio)
    together = [prediction.intensities for prediction in model.predict(clips)]
    alone = [model.predict([clip])[0].intensities for clip in clips]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    small = make_model(backbone, audio=audio, attentive=True, global_std=True, batch_frames=2)
    np.testing.assert_allclose([p.intensities for p in small.predict(clips)], together, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = EmiModel.open_run(tmp_path, device="cpu")
    np.testing.assert_array_equal([p.intensities for p in loaded.predict(clips)], together)
    assert np.abs(np.diff(together, axis=0)).max(axis=1).min() > 1e-3


@pytest.mark.parametrize("backbone", ["convnext", "dinov2", "vit", "resnet"])
def test_a_published_encoder_gives_its_own_features(backbone: str, tmp_path: Path) -> None:
    values = dict(BACKBONES[backbone])
    torch.manual_seed(1)
    config = AutoConfig.for_model(values.pop("model_type"), num_labels=7, **values)
    classifier = AutoModelForImageClassification.from_config(config).eval()
    tiny_models.scramble(classifier)
    classifier.save_pretrained(tmp_path)
    processor = PROCESSORS.get(backbone, PROCESSORS["convnext"])
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    settings = VisionSettings(encoder=str(tmp_path))
    branch = vision.build(vision.make_config(settings)).eval()
    branch.fill(settings)
    image = np.random.default_rng(0).integers(0, 256, (50, 50, 3)).astype(np.uint8)
    pixels = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")(image, return_tensors="pt")
    with torch.inference_mode():
        output = classifier.base_model(**pixels)
        wanted = (
            output.last_hidden_state[:, 0]
            if backbone in ("dinov2", "vit")
            else output.pooler_output.flatten(1)
        )
        actual = branch.encode_frames(torch.from_numpy(branch.preprocessing.prepare(image))[None])
    torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=1e-5)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="image processor"):
        vision.make_config(settings)


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("shape", [(50, 50), (41, 67), (90, 45)])
def test_images_are_those_of_the_processor(name: str, shape: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[name]))
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    own = Preprocessing.of_processor(processor)
    assert Preprocessing.of_dict(json.loads(json.dumps(vars(own)))) == own
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    wanted = processor(image, return_tensors="np")["pixel_values"][0]
    actual = own.prepare(image) * np.array(own.scale) + np.array(own.shift)
    assert actual.shape[:2] == own.shape
    np.testing.assert_allclose(actual.transpose(2, 0, 1), wanted, atol=1e-5)


def compute_gradients(model: EmiModel, clips: list[Inputs]) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    model.train()
    model.zero_grad()
    hidden, mask = model.encode(*model.collate(clips))
    model.regress(hidden, mask, further=model.collate_further(clips)).intensities.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_frames_that_are_computed_again_give_the_same_gradients() -> None:
    clips = make_clips((3, 5), audio=False)
    given = {"audio": False, "lstm_dropout": 0.0}
    plain = compute_gradients(make_model("resnet", **given), clips)
    again = compute_gradients(make_model("resnet", checkpoint_frames=2, **given), clips)
    assert plain.keys() == again.keys()
    assert any(".backbone." in name for name in plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-6, rtol=1e-4)


def test_batch_norms_keep_their_statistics_and_a_frozen_encoder_has_no_gradient() -> None:
    model = make_model("resnet", audio=False, freeze=True).train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    gradients = compute_gradients(model, make_clips((3, 5), audio=False))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert not any(".backbone." in name for name in gradients)
    assert any(name.startswith("branches.vision.lstm") for name in gradients)
    trained = compute_gradients(make_model("resnet", audio=False), make_clips((3, 5), audio=False))
    assert any(".backbone." in name for name in trained)


def test_a_missing_input_has_a_learned_vector() -> None:
    model = make_model(audio=False, dropout=0.5)
    clips = make_clips((0, 0, 4), audio=False)
    first, second, third = (prediction.intensities for prediction in model.predict(clips))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - third).max() > 1e-3
    branch: Any = model.branches["vision"]
    torch.manual_seed(0)
    values, mask = branch.collate([clips[2].further["vision"]] * 40)
    vectors = branch.train()(values, mask)
    dropped = (vectors == branch.missing).all(dim=1)
    assert 8 < int(dropped.sum()) < 32


def test_what_is_no_image_encoder_is_refused() -> None:
    for encoder in ({"model_type": "bert"}, {"model_type": "nothing"}):
        with pytest.raises(ModelError, match="image encoder"):
            vision.make_config(VisionSettings(encoder_config=encoder))
    with pytest.raises(ModelError, match="no other branch"):
        EmiConfig(audio=False)
