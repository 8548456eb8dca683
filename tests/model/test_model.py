"""EmiModel against the paper's formulas in NumPy, batches against single clips, training's edge cases."""

import math

import numpy as np
import pytest
import tiny_models
import torch

from emimic.model import encoders
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.prediction import Prediction
from emimic.task import EMOTIONS, VAD, ModelError

# transformers' WavLM gives torch a float and a boolean mask at once.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")

GV, HEAD, LSTM, BOTH = "global_vector", "regression_head", "lstm", "vad_head"
TABLE_2 = [
    ("wav2vec2-group", {"hidden_size": 20, "conv_dim": [6] * 7}, {GV}),  # W2V2-L
    ("wav2vec2-layer", {"hidden_size": 12, "num_hidden_layers": 3}, {GV}),  # W2V2-L XLSR
    ("wav2vec2-layer", {}, {GV}),  # from here: the encoder of the paper
    ("wav2vec2-layer", {}, {GV, HEAD}),
    ("wav2vec2-layer", {}, {HEAD, LSTM}),
    ("wav2vec2-layer", {}, {GV, HEAD, LSTM}),
    ("wav2vec2-layer", {}, {HEAD, LSTM, BOTH}),
    ("wav2vec2-layer", {}, {GV, HEAD, LSTM, BOTH}),
]


def switches(on):
    return {name: name in on for name in (GV, HEAD, LSTM, BOTH)}


def batch(*clips, dtype=torch.float64):
    values = torch.zeros(len(clips), max(map(len, clips)), dtype=dtype)
    mask = torch.zeros(values.shape, dtype=torch.long)
    for row, clip in enumerate(clips):
        values[row, : len(clip)] = torch.from_numpy(clip)
        mask[row, : len(clip)] = 1
    return values, mask


# Parity with the paper


@pytest.mark.parametrize(("family", "changes", "on"), TABLE_2)
def test_every_row_of_table_2_equals_its_formula(family, changes, on):
    model = tiny_models.model(family, encoder=changes, **switches(on)).double()
    w = tiny_models.weights(model)
    settings = tiny_models.encoder(family, **changes)
    clips = [tiny_models.clip(n, seed=n) for n in (400, 3300, 1999)]
    groups = [clips] if model.exact_under_padding else [[clip] for clip in clips]
    for group in groups:
        with torch.no_grad():
            output = model(*batch(*group))
        for row, clip in enumerate(group):
            hidden = tiny_models.FORMULAS[family](tiny_models.under(w, "encoder."), settings, clip)
            intensities, vad = tiny_models.heads(w, hidden)
            assert intensities.shape == (6,)
            np.testing.assert_allclose(output.intensities[row], intensities, rtol=0, atol=1e-12)
            assert output.frame_mask[row].sum() == len(hidden)
            if BOTH in on:
                np.testing.assert_allclose(output.vad[row, : len(hidden)], vad, rtol=0, atol=1e-12)
            else:
                assert vad is None
                assert output.vad is None


def test_the_full_model_on_whisper_equals_its_formula():
    model = tiny_models.model("whisper").double()
    w = tiny_models.weights(model)
    clips = [tiny_models.clip(n, seed=n) for n in (400, 3300, 1999)]
    with torch.no_grad():
        output = model(*batch(*clips))
    for row, clip in enumerate(clips):
        hidden = tiny_models.whisper(tiny_models.under(w, "encoder."), tiny_models.encoder("whisper"), clip)
        np.testing.assert_allclose(
            output.intensities[row], tiny_models.heads(w, hidden)[0], rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("layers", [1, 3])
def test_other_depths_of_the_lstm(layers):
    model = tiny_models.model(lstm_layers=layers, global_vector=False).double()
    w = tiny_models.weights(model)
    hidden = torch.randn(1, 7, 16, dtype=torch.float64)
    with torch.no_grad():
        actual = model.regress(hidden, torch.ones(1, 7, dtype=torch.bool)).intensities[0]
    frames = np.concatenate([hidden[0], tiny_models.tanh_head(w, "vad", hidden[0].numpy())], axis=1)
    own = tiny_models.tanh_head(
        w, "head", tiny_models.lstm(tiny_models.under(w, "lstm."), frames, layers)[-1]
    )
    np.testing.assert_allclose(actual, own, rtol=0, atol=1e-12)


@pytest.mark.parametrize("on", [{"lstm": False}, {"lstm": True}, {"lstm": True, "vad_head": False}])
def test_the_std_of_frames_stands_beside_their_mean(on):
    model = tiny_models.model(global_std=True, **on).double()
    w = tiny_models.weights(model)
    hidden = torch.randn(2, 9, 16, dtype=torch.float64)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    with torch.no_grad():
        actual = model.regress(hidden, mask).intensities
    for row, count in enumerate((9, 4)):
        frames = hidden[row, :count].numpy()
        if model.config.vad_head:
            frames = np.concatenate([frames, tiny_models.tanh_head(w, "vad", frames)], axis=1)
        std = np.sqrt(np.square(frames - frames.mean(axis=0)).mean(axis=0) + 1e-5)
        parts = [frames.mean(axis=0), std]
        if on["lstm"]:
            parts.append(tiny_models.lstm(tiny_models.under(w, "lstm."), frames)[-1])
        own = tiny_models.tanh_head(w, "head", np.concatenate(parts))
        np.testing.assert_allclose(actual[row], own, rtol=0, atol=1e-12)


def test_the_std_of_one_frame_has_a_gradient():
    model = tiny_models.model(global_std=True)
    model(*batch(tiny_models.clip(400), dtype=torch.float32)).intensities.sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("units", [5, 32])
def test_other_widths_of_the_lstm(units):
    model = tiny_models.model(lstm_units=units).double()
    w = tiny_models.weights(model)
    assert model.lstm.hidden_size == units
    assert model.head.dense.in_features == 19 + units
    hidden = np.random.default_rng(0).standard_normal((7, 16))
    with torch.no_grad():
        actual = model.regress(torch.from_numpy(hidden)[None], torch.ones(1, 7, dtype=torch.bool)).intensities
    frames = np.concatenate([hidden, tiny_models.tanh_head(w, "vad", hidden)], axis=1)
    steps, carry = np.zeros((2, units)), np.zeros((2, units))
    for step in frames:
        for layer in range(2):
            last = {name[: -len("_l0")]: value for name, value in w.items() if name.endswith(f"_l{layer}")}
            gates = last["lstm.weight_ih"] @ step + last["lstm.bias_ih"] + last["lstm.bias_hh"]
            gates += last["lstm.weight_hh"] @ steps[layer]
            let_in, forget, candidate, let_out = np.split(gates, 4)
            carry[layer] = tiny_models.sigmoid(forget) * carry[layer] + tiny_models.sigmoid(let_in) * np.tanh(
                candidate
            )
            steps[layer] = step = tiny_models.sigmoid(let_out) * np.tanh(carry[layer])
    own = tiny_models.tanh_head(w, "head", np.concatenate([frames.mean(axis=0), steps[1]]))
    np.testing.assert_allclose(actual[0], own, rtol=0, atol=1e-12)


@pytest.mark.parametrize("regression_head", [True, False])
def test_categories_are_for_training_and_change_no_prediction(regression_head):
    model = tiny_models.model(
        categories=["calm", "keen"], regression_head=regression_head, encoder=quiet("wav2vec2-layer")
    )
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.LSTM):
            setattr(module, "p" if isinstance(module, torch.nn.Dropout) else "dropout", 0.0)
    values, mask = batch(tiny_models.clip(900), tiny_models.clip(3300), dtype=torch.float32)
    still = model(values, mask)
    assert still.categories is None
    training = model.train()(values, mask)
    assert training.categories.shape == (2, 2)
    torch.testing.assert_close(training.intensities, still.intensities)
    training.categories.sum().backward()
    assert model.lstm.weight_ih_l0.grad.any(), "what is pooled learns from them too"
    assert not hasattr(tiny_models.model(), "category")


@pytest.mark.parametrize("learned", [False, True])
def test_the_vad_head_alone(learned):
    model = tiny_models.model(targets=[], vad_learned=learned)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"encoder", "vad"}
    clips = [tiny_models.clip(900), tiny_models.clip(3300)]
    for prediction, clip in zip(model.predict(clips), clips, strict=True):
        assert prediction.intensities.shape == (0,)
        if learned:
            hidden = tiny_models.wav2vec2(
                tiny_models.under(tiny_models.weights(model), "encoder."),
                tiny_models.encoder("wav2vec2-layer"),
                clip,
            )
            np.testing.assert_allclose(
                prediction.vad,
                tiny_models.tanh_head(tiny_models.weights(model), "vad", hidden),
                rtol=0,
                atol=1e-5,
            )
        else:
            assert prediction.vad is None


def test_the_sizes_of_the_paper():
    with torch.device("meta"):
        model = EmiModel(EmiConfig())

    def count(*modules):
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    assert count(model.encoder, model.vad) == 165_336_707
    assert count(model.lstm) == 16_892_096
    assert count(model.head) == 4_233_300
    assert count(model) == 165_336_707 + 16_892_096 + 4_233_300
    assert model.config.frame_features == 1027
    assert model.head.dense.in_features == model.head.dense.out_features == 2054
    assert model.head.out_proj.out_features == len(EMOTIONS)
    assert model.vad.out_proj.out_features == len(VAD)
    assert model.count_frames(192_000) == 599
    assert model.count_frames(400) == 1
    assert model.clip_format.min_samples == 400
    assert model.exact_under_padding
    assert model.config.max_seconds == 12.0
    assert model.lstm.dropout == 0.1


def test_heads_start_as_torch_starts_them():
    torch.manual_seed(0)
    model = EmiModel(EmiConfig(encoder_config=tiny_models.encoder("wav2vec2-layer", hidden_size=64)))
    for layer in (model.vad.dense, model.head.dense):
        bound = 1 / math.sqrt(layer.in_features)
        assert bound * 0.9 < layer.weight.abs().max() <= bound
        assert 0 < layer.bias.abs().max() <= bound
    bound = 1 / math.sqrt(model.lstm.hidden_size)
    for parameter in model.lstm.parameters():
        assert bound * 0.8 < parameter.abs().max() <= bound


def test_scaled_targets_come_back_to_the_labels_scale():
    plain = tiny_models.model(targets=["a", "b"]).double()
    scaled = tiny_models.model(targets=["a", "b"], target_mean=[0.5, -1.0], target_std=[2.0, 0.25]).double()
    values, mask = batch(tiny_models.clip(900), tiny_models.clip(3000))
    with torch.no_grad():
        before, after = (model(values, mask).intensities for model in (plain, scaled))
    np.testing.assert_allclose(after, before.numpy() * [2.0, 0.25] + [0.5, -1.0], rtol=0, atol=1e-12)


# Batches


@pytest.fixture(scope="module", params=tiny_models.FAMILIES)
def pool(request):
    """A tiny model of each family, 40 clips of 14 lengths, and each clip's own prediction."""
    model = tiny_models.model(request.param, vad_pretrained=True)
    rng = np.random.default_rng(0)
    lengths = [400, 4000, *rng.integers(401, 4000, size=12)]
    clips = [tiny_models.clip(int(lengths[i % len(lengths)]), seed=i) for i in range(40)]
    with torch.inference_mode():
        alone = [model(torch.from_numpy(clip)[None]) for clip in clips]
    return model, clips, alone


def drawn(rng, clips):
    size = int(rng.integers(2, 7))
    return rng.permutation(len(clips))[:size]


def agree(actual, rows, alone):
    """Every row equals its own clip's prediction and no other's."""
    predictions = np.concatenate([output.intensities.numpy() for output in alone])
    for row, values in zip(rows, actual, strict=True):
        distances = np.abs(predictions - values).max(axis=1)
        assert distances[row] <= 1e-5
        assert distances.argmin() == row


def test_clips_of_the_pool_differ(pool):
    _, _, alone = pool
    predictions = np.concatenate([output.intensities.numpy() for output in alone])
    apart = np.abs(predictions[:, None] - predictions[None]).max(axis=-1) + np.eye(len(predictions))
    assert apart.min() > 1e-4, "so a swapped row would be seen"


def test_random_batches_equal_single_clips(pool):
    model, clips, alone = pool
    rng = np.random.default_rng(1)
    for number in range(300):
        rows = drawn(rng, clips)
        seconds = 0.3 if number % 5 == 0 else 60.0  # in several batches, in as few as may be
        actual = model.predict([clips[i] for i in rows], batch_seconds=seconds)
        agree([prediction.intensities for prediction in actual], rows, alone)
        for row, prediction in zip(rows, actual, strict=True):
            own = alone[row].vad[0].numpy()
            assert prediction.vad.shape == own.shape == (len(prediction.times), 3)
            assert np.abs(prediction.vad - own).max() <= 1e-5


def test_random_masked_batches_equal_single_clips(pool):
    model, clips, alone = pool
    rng = np.random.default_rng(2)
    for _ in range(150 if model.exact_under_padding else 50):
        rows = drawn(rng, clips)
        values, mask = batch(*(clips[i] for i in rows), dtype=torch.float32)
        if not model.exact_under_padding:
            if len(set(mask.sum(dim=1).tolist())) > 1:
                with pytest.raises(ModelError, match="would be changed by padding"):
                    model(values, mask)
            continue
        with torch.inference_mode():
            output = model(values, mask)
        agree(output.intensities.numpy(), rows, alone)
        for position, row in enumerate(rows):
            count = alone[row].vad.shape[1]
            assert output.frame_mask[position].sum() == count
            assert (output.vad[position, :count] - alone[row].vad[0]).abs().max() <= 1e-5


def test_predict_pads_no_encoder_that_padding_would_change(pool, monkeypatch):
    model, clips, _ = pool
    seen = []

    def spy(encoder, samples, mask, *others):
        seen.append(bool(mask.all()))
        return run(encoder, samples, mask, *others)

    run = encoders.encode
    monkeypatch.setattr(encoders, "encode", spy)
    model.predict(clips)
    assert len(seen) < len(clips), "a batch holds several clips"
    assert all(seen) or model.exact_under_padding
    assert model.exact_under_padding == (not all(seen))


def test_hidden_states_stored_give_the_same_predictions(pool):
    model, clips, alone = pool
    with torch.inference_mode():
        hidden = [model.encode(torch.from_numpy(clip)[None])[0][0].numpy() for clip in clips[:8]]
    actual = model.predict(hidden, encoded=True)
    agree([prediction.intensities for prediction in actual], range(8), alone)


def test_what_lies_in_the_padding_changes_nothing():
    for family in ("wav2vec2-layer", "wavlm", "hubert", "whisper"):
        model = tiny_models.model(family)
        values, mask = batch(tiny_models.clip(1000), tiny_models.clip(4000), dtype=torch.float32)
        with torch.inference_mode():
            clean = model(values, mask).intensities
            values[0, 1000:] = 100 * torch.randn(3000) if family == "whisper" else 0
            assert torch.equal(model(values, mask).intensities, clean)
            # Hidden states past the end are cut off before anything is pooled.
            hidden, frames = model.encode(values, mask)
            dirty = hidden.masked_fill(~frames[..., None], 1e4)
            torch.testing.assert_close(model.regress(dirty, frames).intensities, clean)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_other_precisions(family, dtype, tolerance):
    # Positional convolutions of 8 channels a group are refused in bf16.
    groups = {} if family == "whisper" else {"num_conv_pos_embedding_groups": 1}
    exact = tiny_models.model(family, encoder=groups).double()
    clips = [tiny_models.clip(n, seed=n) for n in (400, 4000, 1234, 4000)]
    with torch.inference_mode():
        own = [exact(torch.from_numpy(clip)[None].double()).intensities[0].numpy() for clip in clips]
    model = tiny_models.model(family, encoder=groups).to(dtype)
    actual = model.predict(clips)
    assert actual[0].intensities.dtype == np.float32
    np.testing.assert_allclose([p.intensities for p in actual], own, rtol=0, atol=max(tolerance, 1e-6))
    if dtype == torch.float64 and model.exact_under_padding:
        with torch.inference_mode():
            together = model(*batch(*clips)).intensities
        np.testing.assert_allclose(together, own, rtol=0, atol=tolerance)


# predict


@pytest.mark.parametrize("training", [False, True])
def test_predict_turns_dropout_off_and_restores_the_mode(training):
    model = tiny_models.model().train(training)
    clips = [tiny_models.clip(3300), tiny_models.clip(700)]
    first, second = model.predict(clips), model.predict(clips)
    assert model.training == model.encoder.training == training
    still = tiny_models.model().predict(clips)
    for a, b, c in zip(first, second, still, strict=True):
        np.testing.assert_array_equal(a.intensities, b.intensities)
        np.testing.assert_array_equal(a.intensities, c.intensities)


def test_predict_restores_the_mode_after_an_error():
    model = tiny_models.model().train()
    with pytest.raises(ModelError, match="399 samples"):
        model.predict([tiny_models.clip(399)])
    assert model.training


def test_predict_of_nothing_is_nothing():
    assert tiny_models.model().predict([]) == []


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
@pytest.mark.parametrize("samples", [400, 720, 3999])
def test_one_clip_as_it_is(family, samples):
    model = tiny_models.model(family, vad_pretrained=True)
    (actual,) = model.predict([tiny_models.clip(samples)])
    frames = model.count_frames(samples)
    assert isinstance(actual, Prediction)
    assert actual.intensities.shape == (6,)
    assert actual.vad.shape == (frames, 3)
    np.testing.assert_array_equal(actual.times, model.compute_frame_times(frames))


def test_vad_that_was_never_learned_is_not_shown():
    for config in ({"vad_pretrained": False}, {"vad_head": False}):
        (actual,) = tiny_models.model(**config).predict([tiny_models.clip(800)])
        assert actual.vad is None


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_silence_gives_finite_predictions(family):
    model = tiny_models.model(family, vad_pretrained=True)
    for prediction in model.predict([np.zeros(n, np.float32) for n in (400, 4000)]):
        for values in (prediction.intensities, prediction.vad):
            assert np.isfinite(values).all()


# Training


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
@pytest.mark.parametrize("samples", [[400], [400, 560, 3300, 3280], [3300, 3300]])
def test_training_steps_on_short_clips(family, samples):
    """SpecAugment's spans of 10 frames are longer than clips under 3,280 samples: the released code stops there."""
    if family in tiny_models.INEXACT:
        samples = [samples[0]] * len(samples)
    model = tiny_models.model(family, encoder={"mask_time_prob": 0.5, "apply_spec_augment": True}).train()
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    values, mask = batch(*(tiny_models.clip(n, seed=i) for i, n in enumerate(samples)), dtype=torch.float32)
    before = [parameter.clone() for parameter in model.head.parameters()]
    for _ in range(2):
        loss = model(values, mask).intensities.square().mean()
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        for parameter in model.parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()
        optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, model.head.parameters(), strict=True))


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_gradients_reach_every_part(family):
    model = tiny_models.model(family)  # evaluation mode: no layer is dropped
    model(*batch(tiny_models.clip(3300), dtype=torch.float32)).intensities.sum().backward()
    silent = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert silent <= {"encoder.masked_spec_embed"}


def quiet(family):
    zero = ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop")
    return dict.fromkeys(() if family == "whisper" else (*zero, "mask_time_prob"), 0.0)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
@pytest.mark.parametrize("frozen", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(family, frozen):
    config = {
        "encoder": quiet(family),
        "lstm_dropout": 0.0,
        "vad_dropout": 0.0,
        "freeze_convolutions": frozen,
    }
    values, mask = batch(tiny_models.clip(3300), tiny_models.clip(3300, seed=1), dtype=torch.float32)
    gradients = []
    for checkpointing in (False, True):
        model = tiny_models.model(family, **config).train()
        if checkpointing:
            model.activation_checkpointing_enable()
            assert model.is_activation_checkpointing
        model(values, mask).intensities.square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    plain, recomputed = gradients
    assert plain.keys() == recomputed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-5, atol=1e-7)


def test_dropout_acts_in_training():
    for off, names in (
        ({"vad_dropout": 0.5, "lstm_dropout": 0.0}, "vad"),
        ({"vad_dropout": 0.0, "lstm_dropout": 0.5}, "intensities"),
        ({"vad_dropout": 0.0, "lstm_dropout": 0.0, "head_dropout": 0.5}, "intensities"),
    ):
        model = tiny_models.model(encoder=quiet("wav2vec2-layer"), **off).train()
        values, mask = batch(tiny_models.clip(3300), dtype=torch.float32)
        with torch.no_grad():
            one, other = (getattr(model(values, mask), names) for _ in range(2))
        assert not torch.equal(one, other)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
@pytest.mark.parametrize("vad_pretrained", [False, True])
def test_a_frozen_encoder_neither_learns_nor_drops(family, vad_pretrained):
    model = tiny_models.model(family, freeze_encoder=True, vad_pretrained=vad_pretrained, lstm_dropout=0.0)
    model.vad.dropout.p = 0.0 if not vad_pretrained else 0.5
    values, mask = batch(tiny_models.clip(3300), dtype=torch.float32)
    still = model(values, mask).intensities
    model.train()
    assert model.training
    assert model.lstm.training
    assert not any(module.training for module in model.encoder.modules())
    assert model.vad.training != vad_pretrained
    moving = model(values, mask)
    torch.testing.assert_close(moving.intensities, still)
    assert not model.encode(values, mask)[0].requires_grad
    moving.intensities.sum().backward()
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert learning == {"lstm", "head"} | (set() if vad_pretrained else {"vad"})
    frozen = {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"encoder"} | ({"vad"} if vad_pretrained else set())


def test_a_frozen_encoder_without_a_vad_head():
    model = tiny_models.model(freeze_encoder=True, vad_head=False, vad_pretrained=False).train()
    assert not model.encoder.training
    assert model.lstm.training


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_frozen_convolutions_do_not_learn(family):
    model = tiny_models.model(family, freeze_convolutions=True)
    values, mask = batch(tiny_models.clip(3300), dtype=torch.float32)
    model(values, mask).intensities.sum().backward()
    stems = ("encoder.conv1", "encoder.conv2") if family == "whisper" else ("encoder.feature_extractor",)
    for name, parameter in model.named_parameters():
        held = name.startswith(stems)
        if held:
            assert not parameter.requires_grad
            assert parameter.grad is None
        elif "masked_spec_embed" not in name and "embed_positions" not in name:
            assert parameter.grad is not None, name
    assert model.encoder.training is False
    assert model.train().encoder.training is True


# Configuration


@pytest.mark.parametrize("targets", [["Valence"], ["a", "b", "c"], tuple("abcdefghij")])
def test_other_targets(targets):
    model = tiny_models.model(targets=targets)
    assert model.config.targets == list(targets)
    (actual,) = model.predict([tiny_models.clip(900)])
    assert actual.intensities.shape == (len(targets),)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"targets": [], "vad_head": False},
            r"one or more different names, or none for the V/A/D head alone; found \[\]",
        ),
        ({"targets": ["Joy", "Joy"]}, r"found \['Joy', 'Joy'\]"),
        ({"global_vector": False, "lstm": False}, "global_vector, lstm and attentive are all off"),
        ({"global_vector": False, "global_std": True}, "global_std needs the mean"),
        ({"encoder_config": {"model_type": "bert"}}, "family 'bert'"),
        ({"encoder_config": {"hidden_size": 16}}, "has no model_type"),
        (
            {"encoder_config": tiny_models.encoder("whisper"), "max_seconds": 31.0},
            "max_seconds is 31, this encoder takes at most 30 s: lower it",
        ),
    ],
)
def test_configurations_that_make_no_sense(wrong, message):
    with pytest.raises(ModelError, match=message):
        EmiConfig(**wrong)


def test_a_configuration_takes_a_dict_or_an_object_and_keeps_neither_changed():
    settings = tiny_models.encoder("wavlm")
    before = dict(settings)
    first = EmiConfig(encoder_config=settings)
    assert settings == before
    second = EmiConfig(encoder_config=first.encoder_config)
    assert first.encoder_config.to_dict() == second.encoder_config.to_dict()
    assert EmiConfig(encoder_config=tiny_models.encoder("whisper"), max_seconds=30.0).max_seconds == 30


def test_the_default_is_the_papers_encoder():
    actual = EmiConfig().encoder_config
    for name, value in encoders.PAPER_ENCODER.items():
        assert getattr(actual, name) == value
    assert EmiConfig().targets == list(EMOTIONS)


def test_a_plan_keeps_to_its_budget():
    model = tiny_models.model()
    assert model.plan([np.empty(16_000)] * 5, batch_seconds=2.0) == [[0, 1], [2, 3], [4]]
    assert model.plan([np.empty(50)] * 5, batch_seconds=2.0, encoded=True) == [[0, 1], [2, 3], [4]]
    assert model.plan([np.empty(400), np.empty(500)], batch_seconds=0.0) == [[1], [0]]
    strict = tiny_models.model("wav2vec2-group")
    assert strict.plan([np.empty(n) for n in (400, 500, 400)], batch_seconds=60) == [[1], [0, 2]]
    assert strict.plan([np.empty(n) for n in (4, 5, 4)], batch_seconds=60, encoded=True) == [[1, 0, 2]], (
        "heads don't mind padding"
    )
