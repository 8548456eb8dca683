"""A Whisper encoder whose frames don't depend on where a clip begins."""

import numpy as np
import pytest
import torch

from emimic.export.onnx_graph import to_onnx
from emimic.inference.graph_engine import predict_clips
from emimic.inference.runtimes import open_runtime
from emimic.inference.spec import Spec
from emimic.model import encoders
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.task import ModelError
from tests import tiny_models

HOP = 320


def make(**config):
    config.setdefault("vad_learned", True)
    return tiny_models.model("whisper", encoder=tiny_models.RELATIVE, **config)


def test_it_equals_its_formula():
    """Clips of a frame or two, of one chunk of 64 frames exactly, and of three."""
    model = make().double()
    w = tiny_models.weights(model)
    clips = [tiny_models.clip(n, seed=n) for n in (400, 45_000, 20_480, 1999)]
    values = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(c).double() for c in clips], True)
    mask = torch.arange(values.shape[1])[None] < torch.tensor([[len(c)] for c in clips])
    with torch.no_grad():
        output = model(values, mask)
    config = tiny_models.encoder("whisper", **tiny_models.RELATIVE)
    for row, clip in enumerate(clips):
        hidden = tiny_models.whisper(tiny_models.under(w, "encoder."), config, clip)
        intensities, vad = tiny_models.heads(w, hidden)
        np.testing.assert_allclose(output.intensities[row], intensities, rtol=0, atol=1e-12)
        np.testing.assert_allclose(output.vad[row, : len(hidden)], vad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("frozen", [0, 1])
def test_frames_are_the_same_wherever_a_clip_begins(frozen):
    """Two layers of 3 frames and 3 frames of convolutions: beyond 9 frames of a cut nothing changes, however loud."""
    model = make(frozen_layers=frozen).double()
    whole = torch.from_numpy(tiny_models.clip(60 * HOP)).double()[None]
    whole[0, 3 * HOP] = 100.0  # would set Whisper's floor
    with torch.no_grad():
        hidden, _ = model.encode(whole)
        part, _ = model.encode(whole[:, 20 * HOP :])
        if frozen:
            hidden = model.encode_rest(*model.encode_frozen(whole, torch.ones_like(whole)))
    torch.testing.assert_close(part[:, 9:], hidden[:, 29:], rtol=0, atol=1e-12)
    assert (part[:, :3] - hidden[:, 20:23]).abs().max() > 1e-3


def test_the_exported_graph_predicts_the_same():
    model = make(max_seconds=2.0, hidden_layers=[1, 2])
    runtime = open_runtime("onnx", to_onnx(model))
    spec = Spec(tuple(model.config.targets), 2.0, False, 400, HOP, 0.0, vad=True)
    clips = [tiny_models.clip(n, seed=n) for n in (500, 32_000, 3000)]
    for one, own in zip(predict_clips(runtime, spec, clips), model.predict(clips), strict=True):
        np.testing.assert_allclose(one.intensities, own.intensities, rtol=0, atol=1e-5)
        np.testing.assert_allclose(one.vad, own.vad, rtol=0, atol=1e-5)


def test_it_is_saved_and_read(tmp_path):
    model = make(max_seconds=60.0)  # no position ends it at 30 s
    model.save_pretrained(tmp_path)
    loaded = EmiModel.from_pretrained(tmp_path).eval()
    assert loaded.config.encoder_config.relative_frames == 3
    assert loaded.config.encoder_config.mel_floor == -3.0
    assert encoders.compute_max_samples(loaded.config.encoder_config) is None
    clip = tiny_models.clip(5000)
    np.testing.assert_array_equal(loaded.predict([clip])[0].intensities, model.predict([clip])[0].intensities)


def test_another_training_starts_from_its_first_layer(tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    started = EmiModel.from_encoder(tmp_path, layers=1).encoder.relative_bias
    assert torch.equal(started, model.encoder.relative_bias[:1])


def test_the_biases_learn():
    model = make(head_dropout=0.0).train()
    model(torch.from_numpy(tiny_models.clip(6000))[None], labels=torch.ones(1, 6)).loss.backward()
    assert (model.encoder.relative_bias.grad != 0).all()


@pytest.mark.parametrize("fields", [{"relative_frames": 0}, {"relative_frames": 2.5}, {"mel_floor": "low"}])
def test_wrong_fields_are_refused(fields):
    with pytest.raises(ModelError, match=next(iter(fields))):
        EmiConfig(encoder_config=tiny_models.encoder("whisper", **fields))
