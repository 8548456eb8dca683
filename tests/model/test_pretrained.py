"""Models to disk and back, published encoders in every layout, and damaged folders that name themselves."""

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel

from emimic.model import encoders, pretrained
from emimic.model.config import EmiConfig
from emimic.model.model import WEIGHTS, EmiModel
from emimic.model.settings import ModelSettings
from emimic.task import EMOTIONS, ModelError

# transformers' WavLM gives torch a float and a boolean mask at once.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")

G, V = ".weight_g", ".weight_v"
NEW = {G: ".parametrizations.weight.original0", V: ".parametrizations.weight.original1"}
SPEECH = [family for family in tiny_models.FAMILIES if family != "whisper"]


@pytest.fixture(autouse=True)
def no_pickle(monkeypatch):
    """Nothing in this file may unpickle: a pickle runs what it likes."""

    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was read")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "ran")


def refused(call, folder, *patterns):
    """The ModelError names the folder, and each pattern."""
    with pytest.raises(ModelError) as caught:
        call(folder)
    for pattern in (re.escape(str(folder)), *patterns):
        assert re.search(pattern, str(caught.value)), str(caught.value)
    return str(caught.value)


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def same_state(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor, other[name]), name


# To disk and back


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_saved_model_predicts_with_the_same_bits(family, dtype, tmp_path):
    # Positional convolutions of 8 channels a group are refused in bf16.
    groups = {} if family == "whisper" else {"num_conv_pos_embedding_groups": 1}
    model = tiny_models.model(family, vad_pretrained=True, encoder=groups).to(dtype)
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", WEIGHTS]
    clips = [tiny_models.clip(400), tiny_models.clip(3000, seed=1)]
    own = model.predict(clips)
    for loaded in (
        EmiModel.from_pretrained(tmp_path),
        EmiModel.from_pretrained(str(tmp_path), local_files_only=True),
        AutoModel.from_pretrained(tmp_path),
    ):
        assert type(loaded) is EmiModel
        assert not loaded.training
        same_state(model.state_dict(), loaded.state_dict())
        for ours, theirs in zip(own, loaded.predict(clips), strict=True):
            np.testing.assert_array_equal(ours.intensities, theirs.intensities)
            np.testing.assert_array_equal(ours.vad, theirs.vad)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_two_loads_predict_with_the_same_bits(family, tmp_path):
    model = tiny_models.model(family)
    model.save_pretrained(tmp_path)
    clips = [tiny_models.clip(400), tiny_models.clip(3000, seed=1)]
    own = [prediction.intensities for prediction in model.predict(clips)]
    one, other = (
        [prediction.intensities for prediction in EmiModel.from_pretrained(tmp_path).predict(clips)]
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(one, own, rtol=0, atol=1e-6)


@pytest.mark.parametrize("off", ["global_vector", "lstm", "regression_head", "vad_head"])
def test_every_switch_comes_back(off, tmp_path):
    model = tiny_models.model(**{off: False})
    model.save_pretrained(tmp_path)
    loaded = EmiModel.from_pretrained(tmp_path)
    same_state(model.state_dict(), loaded.state_dict())
    assert getattr(loaded.config, off) is False


def test_every_field_of_a_configuration_comes_back(tmp_path):
    fields = {
        "targets": ["Freude", "Empathic Pain", "ß"],
        "global_vector": True,
        "global_std": True,
        "lstm": False,
        "regression_head": False,
        "vad_head": False,
        "lstm_layers": 3,
        "lstm_units": 7,
        "lstm_dropout": 0.25,
        "vad_dropout": 0.75,
        "vad_pretrained": True,
        "vad_learned": True,
        "head_dropout": 0.5,
        "categories": ["laugh", "sigh"],
        "freeze_encoder": True,
        "freeze_convolutions": True,
        "max_seconds": 7.5,
        "do_normalize": False,
        "padding": "zeros",
        "hidden_layers": [1, 2],
        "probe_layers": [2],
        "frozen_layers": 1,
        "attention_seconds": 0.5,
        "standardize_frames": True,
        "attentive": True,
        "head_units": 9,
        "vad_units": 0,
        "vad_seconds": 0.5,
        "vad_bounded": True,
        "bounded": False,
        "domains": ["speech", "bursts"],
        "domain_targets": {"speech": ["ß", "Freude"]},
        "target_mean": [0.1, 0.2, 0.3],
        "target_std": [1.0, 2.0, 3.0],
    }
    default = EmiConfig()
    own = EmiConfig.__annotations__ | ModelSettings.__annotations__
    assert fields.keys() == own.keys() - {
        "encoder_config", "model_type", "sub_configs",
        "audio", "vision", "text",  # test_vision.py and test_text.py
    }  # fmt: skip
    assert all(
        getattr(default, name) != value
        for name, value in fields.items()
        if name not in ("global_vector", "bounded")
    )
    config = EmiConfig(encoder_config=tiny_models.encoder("whisper", encoder_layerdrop=0.2), **fields)
    config.save_pretrained(tmp_path)
    for loaded in (EmiConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert isinstance(loaded, EmiConfig)
        assert {name: getattr(loaded, name) for name in fields} == fields
        assert loaded.encoder_config.model_type == "whisper"
        assert loaded.encoder_config.encoder_layerdrop == 0.2
        assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()


def test_a_loaded_model_is_frozen_as_it_was(tmp_path):
    tiny_models.model(freeze_encoder=True).save_pretrained(tmp_path)
    loaded = EmiModel.from_pretrained(tmp_path).train()
    assert not loaded.encoder.training
    assert not any(parameter.requires_grad for parameter in loaded.encoder.parameters())
    assert all(parameter.requires_grad for parameter in loaded.head.parameters())


# Damaged and foreign folders


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny_models.model(freeze_convolutions=True).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "model"))


load = EmiModel.from_pretrained


@pytest.mark.parametrize("name", ["flash_attention_2", "flex_attention"])
def test_another_attention_is_refused_by_name(folder, name):
    with pytest.raises(ModelError, match=f"attn_implementation is '{name}', expected sdpa or eager"):
        EmiModel.from_pretrained(folder, attn_implementation=name)


def test_attention_and_places_of_weights_change_nothing(folder):
    clip = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    expected = EmiModel.from_pretrained(folder).eval().predict([clip])[0].intensities
    for given in ({"attn_implementation": "eager"}, {"device_map": "cpu"}, {"device_map": {"": "cpu"}}):
        model = EmiModel.from_pretrained(folder, **given).eval()
        np.testing.assert_allclose(model.predict([clip])[0].intensities, expected, atol=1e-5)


def test_weights_cut_short_are_refused(folder):
    whole = (folder / WEIGHTS).read_bytes()
    for size in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        (folder / WEIGHTS).write_bytes(whole[:size])
        refused(load, folder)
    (folder / WEIGHTS).write_bytes(whole + b"\0")
    refused(load, folder)


def test_a_flipped_bit_in_the_header_is_refused_or_harmless(folder, saved):
    whole = (folder / WEIGHTS).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    clean = load(saved).state_dict()
    rng = np.random.default_rng(0)
    outcomes = {"refused": 0, "same": 0}
    for position in [0, 3, 7, 8, *rng.integers(9, header, size=40)]:
        broken = bytearray(whole)
        broken[position] ^= 1 << int(rng.integers(8))
        (folder / WEIGHTS).write_bytes(broken)
        try:
            actual = load(folder)
        except ModelError as error:
            assert str(folder) in str(error)  # noqa: PT017 - both outcomes are right, depending on the byte
            outcomes["refused"] += 1
        else:
            same_state(clean, actual.state_dict())
            outcomes["same"] += 1
    assert outcomes["refused"] > 30


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    refused(load, folder, f"has no {name}", "expected a model folder")


def test_pickled_weights_are_not_read(folder, tmp_path):
    (folder / WEIGHTS).unlink()
    torch.save(Payload(tmp_path / "ran"), folder / "pytorch_model.bin")
    refused(load, folder, f"has no {WEIGHTS}")
    (folder / WEIGHTS).write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    refused(load, folder)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(AssertionError, match="a pickle was read"):
        torch.load(folder / "pytorch_model.bin")  # the guard itself works


@pytest.mark.parametrize(
    "name", ["head.dense.bias", "lstm.weight_hh_l1", "encoder.encoder.layer_norm.weight"]
)
def test_missing_tensors_are_named(folder, name):
    edit_weights(folder, lambda tensors: tensors.pop(name))
    refused(load, folder, "doesn't fit its own config.json", "missing_keys", re.escape(name))


def test_tensors_too_many_are_named(folder):
    edit_weights(folder, lambda tensors: tensors.update(stranger=torch.zeros(3)))
    refused(load, folder, "unexpected_keys", "stranger")


def test_wrong_shapes_are_named(folder):
    edit_weights(folder, lambda tensors: tensors.update({"head.out_proj.bias": torch.zeros(7)}))
    refused(load, folder, "mismatched_keys", "head.out_proj.bias", r"\[7\]", r"\[6\]")


def test_a_caller_cannot_ask_for_less_care(folder):
    edit_weights(folder, lambda tensors: tensors.update({"head.out_proj.bias": torch.zeros(7)}))
    for option in ({"ignore_mismatched_sizes": False}, {"use_safetensors": False}):
        refused(lambda path, option=option: load(path, **option), folder, "mismatched_keys")


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        (
            {"model_type": "wav2vec2"},
            "type 'wav2vec2', expected 'emimic': a bare encoder starts a training run",
        ),
        ({"model_type": "bert"}, "type 'bert'"),
        ({"model_type": None}, "type None"),
        ({"targets": [], "vad_head": False}, "one or more different names"),
        ({"targets": ["a"]}, "mismatched_keys"),
        ({"lstm": "x"}, "field 'lstm'"),
        ({"lstm": False}, "unexpected_keys"),
        ({"lstm_layers": 3}, "missing_keys"),
        ({"encoder_config": {"model_type": "bert"}}, "family 'bert'"),
        ({"encoder_config": 3}, "can't be loaded"),
    ],
)
def test_a_configuration_that_does_not_fit(folder, changes, pattern):
    edit_config(folder, **changes)
    refused(load, folder, pattern)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"\xff\xfe{}"])
def test_a_configuration_that_is_no_object(folder, text):
    (folder / "config.json").write_bytes(text)
    refused(load, folder, "isn't a JSON object", "damaged")


def test_a_file_is_no_folder(folder):
    refused(load, folder / WEIGHTS, "is a file; expected a model folder")


def test_errors_without_words_are_named_by_their_type(folder, monkeypatch):
    def silent(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", silent)
    refused(load, folder, "MemoryError")


def test_nothing_there(tmp_path):
    refused(load, tmp_path / "nothing", "can't be loaded as an emimic model")
    refused(lambda name: load(name, local_files_only=True), "nobody/nothing", "can't be loaded")


# Published encoders


class Head(nn.Module):
    """The head of audeering's checkpoint, after its model card."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.final_dropout)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, x):
        return self.out_proj(self.dropout(torch.tanh(self.dense(self.dropout(x)))))


class Dimensional(transformers.Wav2Vec2PreTrainedModel):
    """Mean over time, then the head: the checkpoint's own way."""

    _tied_weights_keys = None

    def __init__(self, config):
        super().__init__(config)
        self.wav2vec2 = transformers.Wav2Vec2Model(config)
        self.classifier = Head(config)
        self.post_init()

    def forward(self, samples):
        return self.classifier(self.wav2vec2(samples).last_hidden_state.mean(dim=1))


def config_of(family, **changes):
    settings = tiny_models.encoder(family, **changes)
    return AutoConfig.for_model(settings.pop("model_type"), **settings)


def spelled(state, spelling):
    """The state dict under torch's older or newer names of weight norm."""
    renamed = {}
    for name, tensor in state.items():
        for old, new in NEW.items():
            ours, theirs = (new, old) if spelling == "old" else (old, new)
            name = name.replace(ours, theirs) if name.endswith(ours) else name
        renamed[name] = tensor.clone()
    return renamed


def write(folder, model, *, spelling="new", prefix="", shards=1, **preprocessor):
    """A checkpoint folder as the hub has them."""
    folder.mkdir(exist_ok=True)
    model.config.save_pretrained(folder)
    state = {prefix + name: tensor for name, tensor in spelled(model.state_dict(), spelling).items()}
    if shards == 1:
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    else:
        names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
        places = {name: names[i % shards] for i, name in enumerate(state)}
        for file in names:
            part = {name: tensor for name, tensor in state.items() if places[name] == file}
            save_file(part, folder / file, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": places}
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def dimensional(labels=3, **changes):
    torch.manual_seed(1)
    model = Dimensional(config_of("wav2vec2-layer", num_labels=labels, **changes))
    tiny_models.scramble(model)
    return model.eval()


def bare(family, **changes):
    torch.manual_seed(1)
    made = encoders.build(config_of(family, **changes))
    tiny_models.scramble(made)
    return made.eval()


start = EmiModel.from_encoder


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("spelling", ["old", "new"])
def test_the_audeering_layout(spelling, shards, tmp_path):
    source = dimensional(final_dropout=0.3)
    folder = write(tmp_path / "vad", source, spelling=spelling, shards=shards, do_normalize=True)
    names = load_file(next(iter(sorted(folder.glob("*.safetensors"))))).keys()
    assert all(name.startswith(("wav2vec2.", "classifier.")) for name in names)
    model = start(folder).eval()
    same_state(source.wav2vec2.state_dict(), model.encoder.state_dict())
    same_state(source.classifier.state_dict(), model.vad.state_dict())
    assert model.config.vad_pretrained
    assert model.config.vad_dropout == 0.3
    assert model.config.do_normalize
    assert model.config.targets == list(EMOTIONS)

    # The mean before the head, as the checkpoint computes it; per frame, as the paper's model uses it.
    model, source = model.double(), source.double()
    samples = torch.from_numpy(tiny_models.clip(3300)).double()[None]
    with torch.no_grad():
        hidden, _ = model.encode(samples)
        w = tiny_models.under(tiny_models.weights(source), "classifier.")
        formula = np.tanh(hidden[0].numpy().mean(axis=0) @ w["dense.weight"].T + w["dense.bias"])
        formula = formula @ w["out_proj.weight"].T + w["out_proj.bias"]
        np.testing.assert_allclose(model.vad(hidden.mean(dim=1))[0], formula, rtol=0, atol=1e-12)
        np.testing.assert_allclose(source(samples)[0], formula, rtol=0, atol=1e-12)
        frames = np.tanh(hidden[0].numpy() @ w["dense.weight"].T + w["dense.bias"])
        frames = frames @ w["out_proj.weight"].T + w["out_proj.bias"]
        np.testing.assert_allclose(model(samples).vad[0], frames, rtol=0, atol=1e-12)
    (prediction,) = model.predict([tiny_models.clip(3300)])
    np.testing.assert_allclose(prediction.vad, frames, rtol=0, atol=1e-6)


def test_the_vad_head_can_be_left_out_or_changed(tmp_path):
    folder = write(tmp_path / "vad", dimensional())
    without = start(folder, vad_head=False, targets=["a"], max_seconds=3.0)
    assert not hasattr(without, "vad")
    assert not without.config.vad_pretrained
    assert without.config.targets == ["a"]
    assert without.config.max_seconds == 3
    assert start(folder, vad_dropout=0.6).vad.dropout.p == 0.6
    frozen = start(folder, freeze_encoder=True)
    assert {name.split(".")[0] for name, p in frozen.named_parameters() if p.requires_grad} == {
        "lstm",
        "head",
    }


def test_a_classifier_of_other_outputs_is_no_vad_head(tmp_path):
    model = start(write(tmp_path / "eight", dimensional(labels=8)))
    assert not model.config.vad_pretrained
    assert model.vad.out_proj.out_features == 3


@pytest.mark.parametrize(
    "name",
    [
        "classifier.out_proj.weight",
        "classifier.out_proj.bias",
        "classifier.dense.weight",
        "wav2vec2.encoder.layer_norm.bias",
        "wav2vec2.encoder.layers.1.attention.k_proj.weight",
        "wav2vec2.feature_extractor.conv_layers.0.conv.weight",
        "wav2vec2.encoder.pos_conv_embed.conv.weight_g",
    ],
)
def test_a_missing_weight_is_named(name, tmp_path):
    folder = write(tmp_path / "vad", dimensional(), spelling="old")
    edit_weights(folder, lambda tensors: tensors.pop(name))
    ours = name.removeprefix("wav2vec2.").removeprefix("classifier.").replace(G, NEW[G])
    refused(
        start, folder, rf"doesn't fit its config.json: missing \['{re.escape(ours)}'\], left over nothing"
    )


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("wav2vec2.encoder.stranger.weight", r"missing nothing, left over \['encoder.stranger.weight'\]"),
        ("wav2vec2.encoder.layers.2.layer_norm.bias", r"left over \['encoder.layers.2.layer_norm.bias'\]"),
        ("wav2vec2.odd.weight_g", r"left over \['odd.weight_g'\]"),
        ("classifier.dense.extra", r"left over \['dense.extra'\]"),
        ("stranger.weight", "holds a weight of no known use: stranger.weight"),
    ],
)
def test_a_weight_too_many_is_named(name, pattern, tmp_path):
    folder = write(tmp_path / "vad", dimensional())
    edit_weights(folder, lambda tensors: tensors.update({name: torch.zeros(2)}))
    refused(start, folder, pattern)


def test_a_weight_of_another_shape_is_named(tmp_path):
    folder = write(tmp_path / "vad", dimensional())
    edit_weights(folder, lambda tensors: tensors.update({"wav2vec2.encoder.layer_norm.bias": torch.zeros(2)}))
    refused(start, folder, "doesn't fit its config.json", "encoder.layer_norm.bias")


@pytest.mark.parametrize("layers", [None, 1, 2])
@pytest.mark.parametrize("spelling", ["old", "new"])
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_bare_encoders(family, spelling, layers, tmp_path):
    source = bare(family)
    model = start(write(tmp_path / "bare", source, spelling=spelling), layers=layers)
    weights = model.encoder.state_dict()
    state = source.state_dict()
    gone = {name for name in state if layers == 1 and re.match(r"(encoder\.)?layers\.1\.", name)}
    assert bool(gone) == (layers == 1)
    same_state({name: tensor for name, tensor in state.items() if name not in gone}, weights)
    assert model.config.encoder_config.num_hidden_layers == (layers or 2)
    assert not model.config.vad_pretrained
    assert model.config.do_normalize == (family != "whisper")


def test_the_first_layers_compute_as_the_stack_cut_there(tmp_path):
    source = bare("wav2vec2-layer").double()
    model = start(write(tmp_path / "bare", source), layers=1).double().eval()
    settings = tiny_models.encoder("wav2vec2-layer", num_hidden_layers=1)
    clip = tiny_models.clip(2000)
    own = tiny_models.wav2vec2(tiny_models.weights(source), settings, clip)
    with torch.no_grad():
        hidden, _ = model.encode(torch.from_numpy(clip).double()[None])
    np.testing.assert_allclose(hidden[0], own, rtol=0, atol=1e-6)  # weights pass through float32


@pytest.mark.parametrize("layers", [-1, 0, 3])
def test_layers_that_are_not_there(layers, tmp_path):
    folder = write(tmp_path / "bare", bare("hubert"))
    refused(lambda path: start(path, layers=layers), folder, f"layers is {layers}", "has 1 to 2")


@pytest.mark.parametrize(
    ("family", "task"),
    [(family, task) for family in SPEECH for task in ("CTC", "SequenceClassification")]
    + [("wav2vec2-layer", "PreTraining"), ("wav2vec2-group", "PreTraining")],
)
def test_checkpoints_of_other_tasks(family, task, tmp_path):
    stem = {"wav2vec2": "Wav2Vec2", "wavlm": "WavLM", "hubert": "Hubert", "data2vec": "Data2VecAudio"}
    kind = getattr(transformers, f"{stem[family.split('-')[0]]}For{task}")
    torch.manual_seed(2)
    source = kind(config_of(family, codevector_dim=8, proj_codevector_dim=8, vocab_size=5))
    source.save_pretrained(tmp_path)
    model = start(tmp_path)
    inner = getattr(source, source.base_model_prefix)
    same_state(inner.state_dict(), model.encoder.state_dict())
    assert not model.config.vad_pretrained


def test_whisper_in_all_its_layouts(tmp_path):
    torch.manual_seed(3)
    whole = transformers.WhisperForConditionalGeneration(config_of("whisper"))
    whole.save_pretrained(tmp_path / "whole")
    whole.model.save_pretrained(tmp_path / "model")
    inner = whole.model.encoder
    write(tmp_path / "prefixed", inner, prefix="encoder.", do_normalize=False)
    write(tmp_path / "deeper", inner, prefix="model.encoder.")
    write(tmp_path / "bare", inner)
    seen = set()
    for folder in sorted(tmp_path.iterdir()):
        seen.add(next(name.split("layers")[0] for name in load_file(folder / WEIGHTS) if "fc1" in name))
        model = start(folder)
        same_state(inner.state_dict(), model.encoder.state_dict())
        assert not model.config.do_normalize
        assert not any(p.requires_grad for p in model.encoder.embed_positions.parameters())
    assert {"model.encoder.", "encoder.", ""} <= seen


def test_half_precision_checkpoints_become_float32(tmp_path):
    source = bare("whisper")
    model = start(write(tmp_path / "half", source.half(), prefix="encoder."))
    for name, tensor in model.encoder.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, source.state_dict()[name].float())


def test_the_vector_of_specaugment_may_be_missing_or_needless(tmp_path):
    """facebook/wav2vec2-base-960h has none, though its configuration masks."""
    source = bare("wav2vec2-group")
    incomplete = write(tmp_path / "incomplete", source)
    edit_weights(incomplete, lambda tensors: tensors.pop("masked_spec_embed"))
    model = start(incomplete)
    assert torch.isfinite(model.encoder.masked_spec_embed).all()
    needless = write(tmp_path / "needless", source)
    edit_config(needless, mask_time_prob=0.0)
    assert not hasattr(start(needless).encoder, "masked_spec_embed")


@pytest.mark.parametrize("family", ["wav2vec2-layer", "whisper"])
@pytest.mark.parametrize("message", [True, False, None])
def test_normalization_follows_the_preprocessor(family, message, tmp_path):
    settings = {"sampling_rate": 16_000} | ({} if message is None else {"do_normalize": message})
    folder = write(tmp_path / "bare", bare(family), **settings)
    expected = message if message is not None else family != "whisper"
    assert start(folder).config.do_normalize is expected
    assert start(folder, do_normalize=not expected).config.do_normalize is not expected


# Encoders that can't be read


@pytest.fixture
def published(tmp_path):
    return write(tmp_path / "encoder", bare("wav2vec2-layer"), do_normalize=True)


def test_an_encoder_of_pickles_is_not_read(published, tmp_path):
    (published / WEIGHTS).unlink()
    torch.save(Payload(tmp_path / "ran"), published / "pytorch_model.bin")
    refused(start, published, "has no model.safetensors: pickled weights aren't read", "save_pretrained")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", [0, 8, 100, -1])
def test_a_damaged_encoder_is_named(published, size):
    whole = (published / WEIGHTS).read_bytes()
    (published / WEIGHTS).write_bytes(whole[:size])
    refused(start, published, "isn't a complete safetensors file", "download it again")


@pytest.mark.parametrize(
    ("name", "text", "pattern"),
    [
        ("config.json", "[]", "can't be read"),
        ("config.json", "{", "not a valid JSON"),
        ("config.json", '{"hidden_size": 3}', "can't be read"),
        ("config.json", '{"model_type": "wav2vec2", "hidden_size": "x"}', "hidden_size"),
        ("preprocessor_config.json", "{", "isn't JSON"),
        ("preprocessor_config.json", "[]", "holds a JSON list, expected an object"),
    ],
)
def test_damaged_settings_of_an_encoder_are_named(published, name, text, pattern):
    (published / name).write_text(text)
    refused(start, published, pattern)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_index_is_named(published, text):
    (published / WEIGHTS).unlink()
    (published / f"{WEIGHTS}.index.json").write_text(text)
    refused(start, published, "index.json")


def test_a_missing_shard_is_seen(tmp_path):
    folder = write(tmp_path / "shards", bare("wav2vec2-layer"), shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(start, folder, "missing")


def test_a_foreign_family_is_named(published):
    edit_config(published, model_type="bert")
    with pytest.raises(ModelError, match="family 'bert'; emimic runs wav2vec2"):
        start(published)


def test_code_in_a_checkpoint_is_neither_run_nor_offered(published, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda *args: asked.append(args) or "y")
    (published / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    edit_config(published, model_type="own", auto_map={"AutoConfig": "own.Config"})
    refused(start, published, "can't be read")
    assert not asked
    assert not (tmp_path / "ran").exists()


def test_no_encoder_there(tmp_path):
    refused(start, tmp_path / "nothing", "can't be read")
    refused(lambda name: start(name, local_files_only=True), "nobody/nothing", "can't be read")


def test_a_lost_connection_is_a_model_error(published, monkeypatch):
    def lost(*args, **kwargs):
        raise OSError("connection lost")

    monkeypatch.setattr(pretrained, "cached_file", lost)
    refused(start, published, "connection lost")


@pytest.mark.parametrize("learned", [True, False])
def test_a_finished_run_gives_its_encoder(tmp_path: Path, learned: bool) -> None:
    torch.manual_seed(0)
    config = EmiConfig(
        encoder_config=tiny_models.model("whisper").config.encoder_config,
        vad_learned=learned,
        lstm_units=8,
        do_normalize=True,
        categories=["laugh", "sigh"],
    )
    run = EmiModel(config)
    run.save_pretrained(tmp_path)
    model = EmiModel.from_encoder(tmp_path)
    for name, tensor in run.encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], tensor)
    assert model.config.vad_pretrained is learned
    assert torch.equal(model.vad.dense.weight, run.vad.dense.weight) is learned
    assert model.config.do_normalize
    assert not model.config.categories
    assert model.lstm.hidden_size == model.config.frame_features


OTHER = {"hidden_layers": [1, 2], "standardize_frames": True, "vad_units": 0, "vad_bounded": True}


@pytest.mark.parametrize(("had", "given"), [(OTHER, {}), ({}, OTHER), (OTHER, OTHER)])
def test_a_vad_head_of_another_kind_starts_fresh(
    had: dict[str, Any], given: dict[str, Any], tmp_path: Path
) -> None:
    run = tiny_models.model("whisper", vad_learned=True, **had)
    run.save_pretrained(tmp_path)
    model = EmiModel.from_encoder(tmp_path, layers=2, **given)
    assert torch.equal(model.encoder.layers[1].fc1.weight, run.encoder.layers[1].fc1.weight)
    assert not model.config.vad_pretrained
    assert not model.config.predicts_vad
    assert not torch.equal(model.vad.out_proj.bias, run.vad.out_proj.bias)
    assert (model.vad.dense is None) == bool(given)
