"""The one configuration: what is read, what is refused, and the paper's values."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emimic.model.config import EmiConfig
from emimic.model.settings import ModelSettings
from emimic.task import EMOTIONS, ModelError, SettingsError
from emimic.training import checkpoint
from emimic.training.settings import TrainSettings, parse_overrides


def test_defaults_are_the_papers() -> None:
    """Section 4, "Implementation Details"; 3.2 (length) and 5 (dropout, stopping); else the released code."""
    paper = TrainSettings()
    assert paper.encoder == "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
    assert paper.encoder_config is None
    assert paper.lr == 1e-4
    assert paper.encoder_lr is None
    assert paper.batch_size == 32
    assert paper.epochs == 30
    assert paper.loss == {"mse": 1.0}
    assert paper.max_seconds == 12.0
    assert paper.lstm_layers == 2
    assert paper.lstm_dropout == 0.1
    assert paper.clip_value == 100.0
    assert paper.weight_decay == 0.01
    assert paper.warmup_epochs == 1.0
    assert paper.patience is not None
    assert paper.train_on == "train"
    assert paper.precision == "32-true"
    assert (paper.global_vector, paper.regression_head, paper.lstm, paper.vad_head) == (True,) * 4
    off = ("freeze_encoder", "freeze_convolutions", "standardize_targets", "ema", "targets", "label_scale")
    off += ("augment", "category", "global_std", "head_dropout", "lstm_units")  # what the paper hasn't
    assert not any(getattr(paper, name) for name in off)
    assert TrainSettings.read() == paper


def test_the_models_configuration_has_the_same_defaults() -> None:
    settings, config = TrainSettings(), EmiConfig()
    names = [field.name for field in dataclasses.fields(ModelSettings)]
    assert {name: getattr(config, name) for name in names} == {
        name: getattr(settings, name) for name in names
    }


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in TrainSettings.model_fields.values())


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainSettings().lr = 1.0  # type: ignore[misc]


def test_a_file_then_overrides(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "lr: 3.0e-4\nloss: {mse: 1, ccc: 2}\ntargets: [Joy, Excitement]\npatience: null\nepochs: 7\n"
    )
    found = TrainSettings.read(file, {"loss.ccc": 0.5, "loss.pearson": 1, "epochs": 9})
    assert (found.lr, found.epochs, found.patience) == (3e-4, 9, None)
    assert found.loss == {"mse": 1.0, "ccc": 0.5, "pearson": 1.0}
    assert found.targets == ("Joy", "Excitement")
    assert found == TrainSettings(
        lr=3e-4, epochs=9, patience=None, targets=("Joy", "Excitement"), loss={"mse": 1, "ccc": 0.5, "pearson": 1}
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}"])
def test_an_empty_file_is_the_paper(text: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    assert TrainSettings.read(file) == TrainSettings()


def test_dotted_names_make_an_encoder_config() -> None:
    found = TrainSettings.read(
        None, {"encoder_config.model_type": "wav2vec2", "encoder_config.hidden_size": 96}
    )
    assert found.encoder is None
    assert found.encoder_config == {"model_type": "wav2vec2", "hidden_size": 96}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("x=null", None),
        ("x=~", None),
        ("x=", None),
        ("x=true", True),
        ("x=False", False),
        ("x=3", 3),
        ("x=0.25", 0.25),
        ("x=1e-4", 1e-4),
        ("x=3E-4", 3e-4),
        ("x=1.0e-4", 1e-4),
        ("x=-2e3", -2000.0),
        ("x=[Joy, Empathic Pain]", ["Joy", "Empathic Pain"]),
        ("x={mse: 1, ccc: 2}", {"mse": 1, "ccc": 2}),
        ("x=train+valid", "train+valid"),
        ("x=runs/a=b", "runs/a=b"),
        ('x="1e-4"', 1e-4),
        ("x=audeering/wav2vec2", "audeering/wav2vec2"),
    ],
)
def test_overrides_are_read_as_yaml(pair: str, value: Any) -> None:
    found = parse_overrides([pair])
    assert found == {"x": value}
    assert type(found["x"]) is type(value)


def test_overrides_keep_names_and_the_last_word() -> None:
    assert parse_overrides(["lr=1", "loss.pearson=1", "lr=2"]) == {"lr": 2, "loss.pearson": 1}
    assert parse_overrides([]) == {}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_survives_the_command_line(number: float) -> None:
    assert parse_overrides([f"lr={number!r}"]) == {"lr": number}


@pytest.mark.parametrize("pair", ["lr", "=1", "", "lr 1e-4"])
def test_an_override_without_a_name_or_a_value(pair: str) -> None:
    with pytest.raises(SettingsError, match="name=value") as caught:
        parse_overrides([pair])
    assert repr(pair) in str(caught.value)


@pytest.mark.parametrize("pair", ["targets=[Joy", "lr={", "lr=a: b: c"])
def test_an_override_that_is_no_yaml(pair: str) -> None:
    with pytest.raises(SettingsError, match="YAML") as caught:
        parse_overrides([pair])
    assert pair in str(caught.value)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(SettingsError, match="learning_rate") as caught:
        TrainSettings.read(None, {"learning_rate": 1})
    for name in TrainSettings.model_fields:
        assert name in str(caught.value)


OUT_OF_RANGE = [
    ("lr", 0), ("lr", -1e-4), ("lr", "fast"), ("lr", None), ("lr", math.inf), ("lr", math.nan), ("encoder_lr", 0),
    ("weight_decay", -0.1), ("warmup_epochs", -1), ("warmup_epochs", math.inf), ("epochs", 0), ("epochs", 2.5),
    ("batch_size", 0), ("clip_value", 0), ("patience", 0), ("ema", 0), ("ema", 1), ("ema", math.nan),
    ("lstm_dropout", 1), ("lstm_dropout", -0.1), ("lstm_layers", 0), ("encoder_layers", 0), ("max_seconds", 0),
    ("max_seconds", math.inf), ("label_scale", 0), ("batch_seconds", 0), ("batch_seconds", math.inf), ("threads", 0),
    ("workers", 0), ("checkpoint_steps", 0), ("seed", -1), ("train_on", "valid"), ("precision", "16-mixed"),
    ("feature_dtype", "float64"), ("targets", 7), ("loss", {"mse": "much"}), ("loss", {"mse": math.nan}),
    ("loss", 1), ("encoder_config", "wav2vec2"), ("lstm", "maybe"), ("augment", -0.1), ("augment", 1.1),
    ("augment", math.nan), ("vad_weight", -1), ("category_weight", -1), ("category", 3), ("lstm_units", 0),
    ("head_dropout", 1),
    ("global_std", "much"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        TrainSettings.read(None, {name: value})
    assert str(caught.value).startswith(name)
    assert "found" in str(caught.value)
    assert "known names" not in str(caught.value)


def test_what_excludes_what() -> None:
    config = {"model_type": "wav2vec2"}
    with pytest.raises(SettingsError, match="one of encoder"):
        TrainSettings.read(None, {"encoder": "a", "encoder_config": config})
    with pytest.raises(SettingsError, match="one of encoder"):
        TrainSettings.read(None, {"encoder": None})
    assert TrainSettings.read(None, {"encoder_config": None}) == TrainSettings()
    with pytest.raises(SettingsError, match="num_hidden_layers"):
        TrainSettings.read(None, {"encoder_config": config, "encoder_layers": 3})
    assert TrainSettings.read(None, {"encoder_layers": 3}).encoder_layers == 3
    with pytest.raises(
        SettingsError, match=r"features are computed once: set one of augment and freeze_encoder"
    ):
        TrainSettings.read(None, {"augment": 0.5, "freeze_encoder": True})
    assert TrainSettings.read(None, {"augment": 0, "freeze_encoder": True}).freeze_encoder
    with pytest.raises(SettingsError, match="all off"):
        TrainSettings.read(None, {"lstm": False, "global_vector": False})
    assert not TrainSettings.read(None, {"lstm": False}).lstm
    assert not TrainSettings.read(None, {"global_vector": False}).global_vector


def test_a_dotted_name_into_a_single_value(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("lr: 1.0e-4\n")
    with pytest.raises(SettingsError, match=r"lr\.x: lr isn't a group"):
        TrainSettings.read(file, {"lr.x": 1})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"lr: [1", "can't be read as YAML"),
        (b"lr: \xff\xfe", "can't be read as YAML"),
        (b"- lr\n- 1\n", "found a list"),
        (b"lr=1\n", "found a str"),
        (b"1: 2\n", "1"),
        (b"lr: !!python/object/apply:os.getcwd []", "can't be read as YAML"),
        (None, "can't be read as YAML"),
    ],
)
def test_files_that_are_no_settings(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        TrainSettings.read(file)


CHANGED: dict[str, Any] = {
    "loss": {"pearson": 1.0, "mse": 0.1}, "targets": EMOTIONS[:2], "lr": 1 / 3, "patience": None, "clip_value": None,
    "ema": 0.999, "train_on": "train+valid", "label_scale": 100.0, "features": "/tmp/é", "encoder_lr": 1e-5,
    "threads": 3, "max_seconds": 7.25, "augment": 0.5, "category": "Mood", "lstm_units": 64, "global_std": True,
}  # fmt: skip


@pytest.mark.parametrize("values", [{}, CHANGED, {"encoder": None, "encoder_config": {"conv_dim": [8, 8]}}])
def test_round_trip_through_train_json(values: dict[str, Any], tmp_path: Path) -> None:
    settings = TrainSettings(**values)
    checkpoint.write_settings(tmp_path, settings, {"device": "cpu"})
    assert checkpoint.read_settings(tmp_path) == settings
    stored = json.loads((tmp_path / "train.json").read_text())
    assert stored["device"] == "cpu"
    assert stored["settings"].keys() == TrainSettings.model_fields.keys()


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="isn't a training run"):
        checkpoint.read_settings(tmp_path)


def test_tiny_settings_of_the_tests_are_settings(tiny: Callable[..., dict[str, Any]]) -> None:
    assert TrainSettings(**tiny(still=True)).encoder_config["layerdrop"] == 0.0  # type: ignore[index]


def test_a_part_of_a_group_keeps_the_groups_defaults(tmp_path: Path) -> None:
    assert TrainSettings.read(None, {"loss.pearson": 0.5}).loss == {"mse": 1.0, "pearson": 0.5}
    assert TrainSettings.read(None, {"loss.mse": 0.5}).loss == {"mse": 0.5}
    file = tmp_path / "own.yaml"
    file.write_text("loss: {ccc: 1.0}")
    assert TrainSettings.read(file, {"loss.pearson": 0.5}).loss == {"ccc": 1.0, "pearson": 0.5}
    assert TrainSettings.read().loss == {"mse": 1.0}


def test_targets_may_be_none_at_all() -> None:
    """For a corpus of VAD labels that has other columns too."""
    assert TrainSettings.read(None, parse_overrides(["targets=[]"])).targets == ()


def test_one_target_needs_no_list() -> None:
    assert TrainSettings.read(None, parse_overrides(["targets=Joy"])).targets == ("Joy",)
