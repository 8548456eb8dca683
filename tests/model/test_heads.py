"""Frames of several layers, poolings, smoothed V/A/D and heads of domains: formulas in NumPy, padding, freezing."""

from pathlib import Path
from typing import Any

import layer_formulas
import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from emimic.features import encoder_cache
from emimic.model import encoders, pooling
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.task import EMOTIONS, ModelError

# transformers' WavLM gives torch a float and a boolean mask at once.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")

Array = tiny_models.Array
EXACT: Any = {"rtol": 0, "atol": 1e-12}


# --- the outputs of layers


def encoder(family: str, layers: int = 2, **changes: Any) -> Any:
    name = "encoder_layers" if family == "whisper" else "num_hidden_layers"
    settings = tiny_models.encoder(family, **{name: layers}, **changes)
    torch.manual_seed(0)
    made = encoders.build(AutoConfig.for_model(settings.pop("model_type"), **settings))
    tiny_models.scramble(made)
    return made.eval().double()


def outputs(module: Any, clip: Array, layers: list[int]) -> Array:
    samples = torch.from_numpy(clip).double()[None]
    with torch.no_grad():
        hidden, _ = encoders.encode(module, samples, torch.ones(1, len(clip), dtype=torch.bool), layers)
    collected: Array = hidden[0].numpy()
    return collected


@pytest.mark.parametrize("family", tiny_models.FORMULAS)
def test_outputs_of_layers_equal_their_formula(family: str) -> None:
    module, clip = encoder(family), tiny_models.clip(2345)
    actual = outputs(module, clip, [1, 2])
    for layer in (1, 2):
        name = "encoder_layers" if family == "whisper" else "num_hidden_layers"
        settings = tiny_models.encoder(family, **{name: layer})
        own: Any = tiny_models.FORMULAS[family]
        np.testing.assert_allclose(
            actual[:, 16 * (layer - 1) : 16 * layer],
            own(tiny_models.weights(module), settings, clip, bare=True),
            **EXACT,
        )


@pytest.mark.parametrize("family", ["wavlm", "hubert", "data2vec"])
def test_the_outputs_of_a_layer_are_those_of_the_encoder_cut_there(family: str) -> None:
    whole, clip = encoder(family, layers=3), tiny_models.clip(2345)
    for layer in (1, 2, 3):
        cut = encoder(family, layers=layer)
        cut.load_state_dict({name: whole.state_dict()[name] for name in cut.state_dict()})
        actual = outputs(whole, clip, [layer])
        if family != "data2vec":
            actual = tiny_models.norm(tiny_models.weights(whole), "encoder.layer_norm", actual)
        samples = torch.from_numpy(clip).double()[None]
        with torch.no_grad():
            last, _ = encoders.encode(cut, samples, torch.ones(samples.shape, dtype=torch.bool))
        np.testing.assert_allclose(actual, last[0], **EXACT)


@pytest.mark.parametrize("drop", [0.5, 1.0])
def test_a_dropped_layer_puts_out_its_input(drop: float) -> None:
    module = encoder("wav2vec2-layer", layers=3, layerdrop=drop, mask_time_prob=0.0, mask_feature_prob=0.0)
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    module.config.attention_dropout = 0.0
    still = outputs(module, tiny_models.clip(900), [1, 2, 3])
    module.train()
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        actual = np.split(outputs(module, tiny_models.clip(900), [1, 2, 3]), 3, axis=1)
        seen.add((np.array_equal(actual[0], actual[1]), np.array_equal(actual[1], actual[2])))
        if not any(seen):
            np.testing.assert_allclose(actual[0], still[:, :16], **EXACT)
    assert seen == {(True, True)} if drop == 1 else len(seen) > 1


def test_gradient_checkpointing_keeps_the_gradients_of_layers() -> None:
    off = dict.fromkeys(
        ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"), 0.0
    )
    gradients = []
    for checkpointing in (False, True):
        model = tiny_models.model(
            encoder=off | {"layerdrop": 0.0, "mask_time_prob": 0.0},
            **tiny_models.HEADS | {"lstm": False},
            vad_dropout=0.0,
        ).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(*model.collate([tiny_models.clip(3300)])).intensities.square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-7)


def test_cached_features_are_distinguished_by_their_layers() -> None:
    keys = {
        encoder_cache.compute_key(tiny_models.model(hidden_layers=layers), "float16")
        for layers in (None, [1], [2], [1, 2])
    }
    assert len(keys) == 4


# --- poolings


@pytest.mark.parametrize(
    "pool",
    [
        pooling.Mean(5),
        pooling.MeanStd(5),
        pooling.AttentiveStatistics(5, 3),
        pooling.LastOutput(torch.nn.LSTM(5, 7, batch_first=True)),
    ],
    ids=lambda pool: type(pool).__name__,
)
def test_a_pooling_has_its_width_and_ignores_padding(pool: pooling.Pooling) -> None:
    frames = torch.randn(2, 6, 5)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    pooled = pool(frames, mask)
    assert pooled.shape == (2, pool.width)
    torch.testing.assert_close(pooled[1:], pool(frames[1:, :4], mask[1:, :4]))


@given(
    st.lists(st.booleans(), min_size=1, max_size=12).filter(any),
    st.sampled_from([1, 3, 5, 31]),
    st.integers(0, 99),
)
def test_smooth_is_the_mean_of_real_neighbors(real: list[bool], width: int, seed: int) -> None:
    frames = np.random.default_rng(seed).standard_normal((len(real), 3))
    (actual,) = pooling.smooth(torch.from_numpy(frames)[None], torch.tensor(real)[None], width).numpy()
    for i, row in enumerate(actual):
        near = [k for k in range(len(real)) if abs(k - i) <= width // 2 and real[k]]
        wanted = frames[near].mean(axis=0) if real[i] else np.zeros(3)
        np.testing.assert_allclose(row, wanted, **EXACT)


# --- the heads


def head(w: tiny_models.Weights, name: str, x: Array) -> Array:
    return (
        tiny_models.tanh_head(w, name, x)
        if f"{name}.dense.weight" in w
        else tiny_models.linear(w, f"{name}.out_proj", x)
    )


def formula(model: EmiModel, hidden: Array, domain: int) -> tuple[Array, Array, Array | None]:
    """(frame, feature) -> intensities (target,), V/A/D (frame, 3), the domains' logits."""
    config, w = model.config, tiny_models.weights(model)
    x = (hidden - w["frame_mean"]) / w["frame_std"] if config.standardize_frames else hidden
    layers = config.hidden_layers or [0]
    blocks = dict(zip(layers, np.split(x, len(layers), axis=1), strict=True))
    probed = np.concatenate(
        [blocks[layer] for layer in layers if layer in (config.probe_layers or layers)], axis=1
    )
    raw = head(w, "vad", probed)
    half = round(config.vad_seconds * 50 / 2)
    vad = np.stack([raw[max(0, i - half) : i + half + 1].mean(axis=0) for i in range(len(raw))])
    vad = tiny_models.sigmoid(vad) if config.vad_bounded else vad
    frames = np.concatenate([x, vad], axis=1)
    parts = [frames.mean(axis=0)] if config.global_vector else []
    if config.global_std:
        parts.append(np.sqrt(frames.var(axis=0) + 1e-5))
    if config.attentive:
        parts.append(layer_formulas.attentive_statistics(frames, tiny_models.under(w, "attention.")))
    if config.lstm:
        parts.append(tiny_models.lstm(tiny_models.under(w, "lstm."), frames)[-1])
    intensities = head(w, "head", np.concatenate(parts))
    intensities = tiny_models.sigmoid(intensities) if config.bounded else intensities
    if not config.domains:
        return intensities, vad, None
    moments = np.concatenate([probed.mean(axis=0), np.sqrt(probed.var(axis=0) + 1e-5)])
    logits = tiny_models.linear(w, "domains.domain", moments)
    weights = np.exp(logits) / np.exp(logits).sum() if domain < 0 else np.eye(len(logits))[domain]
    common = intensities.copy()
    for name, targets in config.domain_targets.items():
        own = tiny_models.linear(w, f"domains.own.{name}", probed.mean(axis=0))
        own = tiny_models.sigmoid(own) if config.bounded else own
        for target, value in zip(targets, own, strict=True):
            position, weight = config.targets.index(target), weights[config.domains.index(name)]
            intensities[position] += weight * (value - common[position])
    if config.target_std is not None:
        intensities = intensities * config.target_std + config.target_mean
    return intensities, vad, logits


SOME: list[dict[str, Any]] = [
    tiny_models.HEADS,
    tiny_models.HEADS
    | {
        "lstm": False,
        "target_mean": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        "target_std": [2.0, 1.0, 1.0, 1.0, 3.0, 4.0],
    },
    {"attentive": True, "global_vector": False, "lstm": False, "vad_units": 5, "hidden_layers": [2]},
    {"head_units": 0, "vad_seconds": 9.0, "standardize_frames": True},
    {"vad_bounded": True, "hidden_layers": [1, 2], "probe_layers": [2], "domains": ["a", "b"]},
    tiny_models.HEADS | {"bounded": True},
]


@pytest.mark.parametrize("config", SOME, ids=range(len(SOME)))
def test_the_heads_equal_their_formula_whatever_lies_in_the_padding(config: dict[str, Any]) -> None:
    model = tiny_models.model("whisper", **config).double()
    tiny_models.standardize(model)
    counts, domains = (9, 1, 4, 30), (-1, 2 if len(model.config.domains) > 2 else 0, -1, 1)
    hidden = torch.randn(4, 30, model.config.hidden_features, dtype=torch.float64) * 2
    mask = torch.arange(30) < torch.tensor(counts)[:, None]
    with torch.no_grad():
        named = model.regress(hidden, mask, torch.tensor(domains))
        guessed = model.regress(hidden.masked_fill(~mask[..., None], 1e3), mask)
    for output, known in ((named, domains), (guessed, (-1,) * 4)):
        for row, (count, domain) in enumerate(zip(counts, known, strict=True)):
            intensities, vad, logits = formula(model, hidden[row, :count].numpy(), domain)
            np.testing.assert_allclose(output.intensities[row], intensities, **EXACT)
            np.testing.assert_allclose(output.vad[row, :count], vad, **EXACT)
            if logits is None:
                assert output.domains is None
            else:
                np.testing.assert_allclose(output.domains[row], logits, **EXACT)
            if model.config.vad_bounded:
                assert ((output.vad >= 0) & (output.vad <= 1)).all()


@pytest.mark.parametrize("family", ["wav2vec2-layer", "wavlm", "whisper"])
def test_clips_in_a_batch_equal_clips_alone(family: str) -> None:
    model = tiny_models.model(family, vad_learned=True, **tiny_models.HEADS)
    tiny_models.standardize(model)
    clips = [tiny_models.clip(n, seed=n) for n in (400, 4000, 1234, 8000, 719)]
    together = model.predict(clips)
    for actual, clip in zip(together, clips, strict=True):
        (own,) = model.predict([clip])
        np.testing.assert_allclose(actual.intensities, own.intensities, rtol=0, atol=1e-5)
        np.testing.assert_allclose(actual.vad, own.vad, rtol=0, atol=1e-5)
        np.testing.assert_allclose(actual.pooled, own.pooled, rtol=0, atol=1e-4)
    assert np.ptp([one.intensities for one in together], axis=0).max() > 1e-3


def test_all_of_it_is_saved(tmp_path: Path) -> None:
    model = tiny_models.model("whisper", vad_learned=True, frozen_layers=1, **tiny_models.HEADS)
    tiny_models.standardize(model)
    model.save_pretrained(tmp_path)
    loaded = EmiModel.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    clip = tiny_models.clip(3300)
    np.testing.assert_array_equal(loaded.predict([clip])[0].intensities, model.predict([clip])[0].intensities)
    assert not loaded.encoder.layers[0].fc1.weight.requires_grad
    assert loaded.encoder.layers[1].fc1.weight.requires_grad


# --- frozen layers


def test_frozen_layers_neither_learn_nor_drop_while_the_others_do() -> None:
    shaky = {"dropout": 0.5, "attention_dropout": 0.5, "activation_dropout": 0.5}
    model = tiny_models.model(
        "whisper",
        frozen_layers=1,
        hidden_layers=[1, 2],
        encoder=shaky | {"apply_spec_augment": True, "mask_time_prob": 0.5, "mask_time_length": 2},
    )
    values, mask = model.collate([tiny_models.clip(8000), tiny_models.clip(5000)])
    still, real = model.encode(values, mask)
    model.train()
    moving, _ = model.encode(values, mask)
    assert torch.equal(moving[..., :16], still[..., :16])
    assert not torch.equal(moving[..., 16:][real], still[..., 16:][real])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        model(values, mask).intensities.square().sum().backward()
        optimizer.step()
    frozen = ("encoder.conv", "encoder.embed_positions", "encoder.layers.0.")
    for name, parameter in model.named_parameters():
        if name.startswith(frozen):
            assert parameter.grad is None, name
            assert torch.equal(parameter, before[name]), name
        elif not name.startswith("encoder.layer_norm"):  # nothing reads it
            assert not torch.equal(parameter, before[name]), name


# --- settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden_layers": []}, r"hidden_layers are \[\]; expected some of 1 to 2, in order"),
        ({"hidden_layers": [2, 1]}, r"hidden_layers are \[2, 1\]; expected some of 1 to 2, in order"),
        ({"hidden_layers": [0]}, r"hidden_layers are \[0\]"),
        ({"hidden_layers": [1, 3]}, r"hidden_layers are \[1, 3\]"),
        ({"probe_layers": [1]}, r"probe_layers are \[1\]; expected some of hidden_layers, which are not set"),
        ({"probe_layers": [1], "hidden_layers": [2]}, r"expected some of hidden_layers, \[2\]"),
        (
            {"frozen_layers": 2},
            r"frozen_layers is 2 with a whisper encoder of 2 layers; expected 0, or 1 to 1 with",
        ),
        ({"frozen_layers": -1}, "frozen_layers is -1"),
        ({"frozen_layers": 1, "encoder_config": tiny_models.encoder("hubert")}, "with a hubert encoder"),
        ({"head_units": -1}, "head_units is -1; expected 0 or more"),
        ({"vad_units": -1}, "vad_units is -1; expected 0 or more"),
        ({"vad_seconds": -0.1}, "vad_seconds is -0.1; expected 0 or more"),
        ({"domains": ["a"]}, r"domains are \['a'\]; expected two or more different names, or none"),
        ({"domains": ["a", "a"]}, "expected two or more different names"),
        ({"domain_targets": {"a": ["Joy"]}}, "among domains, which are none"),
        ({"domains": ["a", "b"], "domain_targets": {"c": ["Joy"]}}, "among domains, which are a, b"),
        ({"domains": ["a", "b"], "domain_targets": {"a": []}}, r"a: \[\]; .* and different targets"),
        (
            {"domains": ["a", "b"], "domain_targets": {"a": ["Joy", "Joy"]}},
            "different targets among Admiration",
        ),
        ({"domains": ["a", "b"], "domain_targets": {"a": ["Rage"]}}, r"a: \['Rage'\]"),
        ({"domains": ["a.b", "c"], "domain_targets": {"a.b": ["Joy"]}}, "the domain 'a.b'"),
        ({"domains": ["train", "c"], "domain_targets": {"train": ["Joy"]}}, "the domain 'train'"),
        ({"lstm": False, "global_vector": False}, "lstm and attentive are all off"),
        (
            {"bounded": True, "target_mean": [0.0], "target_std": [1.0]},
            "bounded intensities can't be of z-sc",
        ),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        EmiConfig(**{"encoder_config": tiny_models.encoder("whisper"), **wrong})


def test_any_other_name_of_a_domain_will_do() -> None:
    model = tiny_models.model(
        domains=["emo-db 2", "ß"], domain_targets={"emo-db 2": ["Joy"], "ß": list(EMOTIONS)}
    )
    assert set(model.domains.own) == {"emo-db 2", "ß"}


@pytest.mark.parametrize("layers", [[1], [2], [1, 2], [1, 3], [2, 3], [1, 2, 3]])
def test_probed_layers_are_their_features_in_order(layers: list[int]) -> None:
    encoder = {**tiny_models.FAMILIES["whisper"], "encoder_layers": 3}
    model = EmiModel(EmiConfig(encoder_config=encoder, hidden_layers=[1, 2, 3], probe_layers=layers))
    features = [16 * (layer - 1) + i for layer in layers for i in range(16)]
    frames = torch.arange(2 * 5 * 48.0).reshape(2, 5, 48)
    torch.testing.assert_close(model.select_probed(frames), frames[..., features], rtol=0, atol=0)
