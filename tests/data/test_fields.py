"""Numbers and speakers in tables, as people, spreadsheets and pandas write them; settings in YAML by the same rule."""

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_corpora import HEADER, make, refused, row
from pydantic import ValidationError
from typer.testing import CliRunner

from emimic.cli import app
from emimic.data.corpus import load_corpus
from emimic.data.fields import get_speaker_key, list_alike, read_number, seems_number, show_name
from emimic.data.importers.layout import to_number
from emimic.features.extract import get_schema
from emimic.task import ModelError, SettingsError
from emimic.training.settings import TrainSettings, parse_overrides

SLIPS = ["0_5", "1_000", "0,5", "1,5", "50%", "50 %", "1 000", "٠.٥", "５", "1'000"]


@pytest.mark.parametrize("text", [*SLIPS, "0x1", "½", "--1", "1e", ".", "+", "e5", "much", "1.2.3"])
def test_what_is_no_number(text):
    assert read_number(text) is None


@given(st.floats(allow_nan=False))
def test_numbers_as_python_writes_them(value):
    assert read_number(repr(value)) == value


def test_other_numbers():
    assert [read_number(text) for text in ("+1", ".5", "5.", "1E-2", "-0")] == [1, 0.5, 5, 0.01, 0]
    assert all(math.isnan(read_number(text) or 0) for text in ("", "nan", "NaN"))


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_an_error_even_where_every_field_has_it(slip, tmp_path):
    field = f'"{slip}"'
    assert seems_number(slip)
    make(tmp_path, train=[row("1", field, 0, 0, 0, 0, 0)])
    refused(tmp_path, "train_split.csv, line 2 (clip 1): Admiration is", "such as 0.5")
    make(tmp_path, "Filename,Calm", train=[f"1,{field}"], valid=["2,0.5"])
    refused(tmp_path, "train_split.csv, line 2 (clip 1): Calm is", "such as 0.5")
    (tmp_path / "targets.csv").write_text(f"Kind,Joy\nlaugh,{field}\n", encoding="utf-8")
    refused(tmp_path, "targets.csv, line 2: Joy is", "a finite number")


def test_published_tables_have_commas_for_points_but_no_slips():
    assert [to_number(text) for text in ("0,5", "0.5", "0_5", "inf", "")] == [0.5, 0.5, None, None, None]


@pytest.mark.parametrize("text", ["0_5", "010", "1:30", "1_000", "[0.1, 0_5]", "{a: 1_0}"])
def test_numbers_that_yaml_reads_otherwise(text, tmp_path):
    with pytest.raises(SettingsError, match=r"--set epochs=.*expected a number such as 0\.5"):
        parse_overrides([f"epochs={text}"])
    file = tmp_path / "settings.yaml"
    file.write_text(f"epochs: {text}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"settings\.yaml: found"):
        TrainSettings.read(file)


def test_names_and_numbers_in_yaml_stay():
    given = ["a=0.5", "b=1e-4", "c='0_5'", "d=run_1", "e=", "f=0", "g=[0, 10]"]
    assert [*parse_overrides(given).values()] == [0.5, 1e-4, "0_5", "run_1", None, 0, [0, 10]]


@given(st.integers(0, 10**12), st.integers(0, 4), st.sampled_from(["", ".", ".0", ".00"]))
def test_one_speaker_however_a_number_is_written(value, zeros, end):
    assert get_speaker_key("0" * zeros + str(value) + end) == str(value)


@given(st.text(min_size=1))
def test_one_speaker_in_every_unicode_form(name):
    forms = {get_speaker_key(unicodedata.normalize(form, name)) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    assert len(forms) == 1
    assert get_speaker_key(forms.copy().pop()) in forms


def test_different_speakers_stay_different():
    names = ["anna", "Anna", "12", "12.5", "120", "S012", "S12", "1-2", "0", "-12", "ann a"]
    assert len({get_speaker_key(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("one", "two"),
    [("12.0", "12"), ("000310", "310"), ("J\u00f6rg", "Jo\u0308rg"), ("１２", "12"), ("a  b", "a b")],
)
def test_a_speaker_in_two_splits_however_spelled(one, two, tmp_path):
    rows = {"train": [row("1", speaker=one), row("3", speaker=two)], "valid": [row("2", speaker=two)]}
    make(tmp_path, HEADER + ",Speaker", **rows)
    refused(tmp_path, "train_split.csv and valid_split.csv both name the speakers", one)
    corpus = load_corpus(tmp_path, allow_speaker_overlap=True, columns=["Speaker"])
    assert corpus.splits["train"].speakers == corpus.splits["valid"].speakers == (get_speaker_key(two),)
    assert len({item.columns["Speaker"] for item in corpus.splits["train"].items}) == 1
    assert len({item.row["Speaker"] for item in corpus.splits["train"].items}) == 1


@pytest.mark.parametrize(
    ("one", "two"),
    [("anna", "anna\u200b"), ("an\u00adna", "\u200fanna"), ("anna", "anna\x01"), ("a\u2060 b", "a b")],
)
def test_a_speaker_in_two_splits_with_letters_that_cannot_be_seen(one, two, tmp_path):
    make(tmp_path, HEADER + ",Speaker", train=[row("1", speaker=one)], valid=[row("2", speaker=two)])
    refused(tmp_path, "both name the speakers", f"{show_name(one)} = {show_name(two)}")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("S-1", "S\u20131"), ("S_1", "s1"), ("O'Brien", "O\u2019Brien"), ("310", "'310"), ("310", '=""310""'),
        ("310", "310,0"), ("S012", "S12"), ("12.50", "12.5"), ("2020-01-02", "2020_01_02"), ("anna", "ANNA"),
    ],
)  # fmt: skip
def test_speakers_that_differ_in_signs_alone_are_asked_about(one, two, tmp_path):
    fields = [f'"{name}"' for name in (one, two)]
    make(
        tmp_path,
        HEADER + ",Speaker",
        train=[row("1", speaker=fields[0])],
        valid=[row("2", speaker=fields[1])],
    )
    (note,) = load_corpus(tmp_path, scan=False).warnings
    written = two.replace('""', '"')
    assert f"the speakers {one} and {written} differ only in" in note


def test_names_that_are_not_alike():
    names = ["anna", "ann", "12", "1-2", "1.25", "120", "S1-2", "S12", "-12", "?!", "!"]
    assert list_alike(names) == []
    assert list_alike([*names, "Anna", "S1_2"]) == ["Anna and anna", "S1-2 and S1_2"]


@pytest.mark.parametrize(
    "name",
    ["1.23457E+11", "1,2E+05", "nan", "None", "<NA>", "#N/A", "NA", "#REF!", "?", "-", "Unknown"],
)
def test_speakers_that_no_id_can_be(name, tmp_path):
    make(tmp_path, HEADER + ",Speaker", train=[row("1", speaker=f'"{name}"')], valid=[row("2", speaker="b")])
    refused(tmp_path, f"train_split.csv, line 2 (clip 1): Speaker is '{name}'")


def test_speakers_that_differ_in_case_alone_are_asked_about(tmp_path):
    header = HEADER + ",Speaker"
    make(tmp_path, header, train=[row("1", speaker="Anna")], valid=[row("2", speaker="anna")])
    (note,) = load_corpus(tmp_path, scan=False).warnings
    assert note.startswith(
        "train_split.csv and valid_split.csv: the speakers Anna and anna differ only in case"
    )


def test_a_table_without_speakers_beside_one_with_them_is_pointed_out(tmp_path):
    make(tmp_path, HEADER + ",Speaker", train=[row("1", speaker="a")], valid=[row("2", speaker="")])
    (note,) = load_corpus(tmp_path, scan=False).warnings
    assert note.startswith("valid_split.csv names no speaker and train_split.csv does")


@pytest.mark.parametrize("text", ["yes", "true", "off"])
@pytest.mark.parametrize(
    "given",
    ["epochs={}", "lr={}", "loss={{mse: {}}}", "corpora={{a: {{weight: {}}}}}", "hidden_layers=[1, {}]"],
)
def test_yes_and_no_are_no_numbers(given, text):
    with pytest.raises(SettingsError, match="are no numbers"):
        TrainSettings.read(overrides=parse_overrides([given.format(text)]))


def test_features_take_finite_numbers_alone():
    for value in (math.nan, math.inf, True):
        with pytest.raises(ValidationError):
            get_schema("challenge")(wav2vec2_start=value)


@pytest.mark.parametrize(
    "words",
    [
        ["--hop", "0_2"], ["--threads=1_0"], ["--batch-seconds", "3_0e1"],
        ["--hop=nan"], ["--window", "inf"], ["--batch-seconds", "NaN"], ["--mic", "-Infinity"],
    ],
)  # fmt: skip
def test_numbers_of_options(words, tmp_path):
    asked = ["predict", "x.wav", *words, "--model", str(tmp_path / "nope")]
    assert isinstance(CliRunner().invoke(app, asked).exception, SettingsError)


def test_names_of_options_may_look_like_numbers(tmp_path):
    asked = ["predict", "0_1", "-o", "0_2", "--hop", "0.2", "--model", str(tmp_path / "nope")]
    assert isinstance(CliRunner().invoke(app, asked).exception, ModelError)
