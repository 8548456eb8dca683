"""Rows with vision: the paper's figures beside, and what each changes; a split divided 2:1 inside."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from image_corpus import BACKBONES, make_image_corpus
from json_schema import keeps
from tone_corpus import STILL

from emimic.data.split_tables import read_table
from emimic.experiments import table1, table2
from emimic.experiments.inside import divide, format_table, run_inside
from emimic.experiments.run import Request
from emimic.task import CorpusError
from emimic.training.settings import TrainSettings

VISION = {"encoder_config": BACKBONES["convnext"], "frames": "face_images", "lstm": False}


def test_the_rows_have_the_papers_figures_and_fit_a_training() -> None:
    rows = {row.name: row for row in table2.list_rows() if "vision" in row.groups and row.name != "full"}
    figures = {name: row.published for name, row in rows.items() if row.published is not None}
    assert figures == {
        "vision-zeros": -0.1,
        "vision-convnext": -0.01,
        "vision-dinov2": -0.01,
        "vision-expression": 0.013,
        "vision-audio": 0.198,
    }
    assert all(row.note for name, row in rows.items() if name in figures)
    settings = {name: TrainSettings.model_validate(dict(row.settings)) for name, row in rows.items()}
    assert {name for name, one in settings.items() if one.audio} == {"vision-audio"}
    joint = settings["vision-audio"]
    assert joint.vad_head
    assert not joint.freeze_encoder
    assert joint.vision is not None
    assert not joint.vision.freeze
    for name, field, value in (
        ("vision-zeros", "padding", "zeros"),
        ("vision-frozen", "freeze", True),
        ("vision-corpus", "frames", "face_images"),
        ("vision-160", "size", 160),
        ("vision-aligned", "align", True),
    ):
        changed, plain = settings[name].vision, settings["vision-convnext"].vision
        assert changed is not None
        assert plain is not None
        assert changed.model_copy(update={field: getattr(plain, field)}) == plain
        assert getattr(changed, field) == value


def test_the_frozen_row_is_one_row_in_both_tables(tmp_path: Path) -> None:
    (one,) = (row for row in table2.list_rows() if row.name == "frozen")
    request = Request(tmp_path, tmp_path)
    rows = {row.name: row for row in table1.list_rows(request, request.read_settings(), {}, {})}
    other = rows["ours-frozen"]
    assert table2.DEFAULTS | dict(one.settings) == dict(other.defaults) | dict(other.settings)
    assert one.published == other.published == 0.262
    assert rows["ours-vision-expression"].published == 0.013
    assert rows["ours-vision-audio"].published == 0.198
    assert rows["ours-vision-audio"].settings["vad_head"]


def test_a_row_with_vision_runs(tmp_path: Path) -> None:
    corpus = make_image_corpus(tmp_path / "corpus", train=8, valid=4)
    source = tmp_path / "encoder.json"
    source.write_text(json.dumps(BACKBONES["convnext"]))
    request = Request(
        corpus, tmp_path / "out", chosen="vision-corpus", seeds="0", show=False,
        sets=["epochs=1", "batch_size=4", "accelerator=cpu", "threads=1", "workers=1"],
    )  # fmt: skip
    outcome = table2.ablate(request, [f"vision-convnext={source}"], lambda _: None)
    (scores,) = (scores for scores in outcome.rows if scores.row.name == "vision-corpus")
    assert list(scores.scores) == [0]
    assert "the corpus's own crops" in (tmp_path / "out/table.md").read_text()


def write_table(folder: Path, speakers: list[str]) -> Path:
    rows = [f"{number},{speaker}" for number, speaker in enumerate(speakers)]
    (folder / "train_split.csv").write_text("\n".join(["Filename,Speaker", *rows]) + "\n")
    return folder / "train_split.csv"


def test_two_thirds_of_the_clips_or_speakers_are_trained_on(tmp_path: Path) -> None:
    table = read_table("train", write_table(tmp_path, [f"s{number % 6}" for number in range(30)]))
    trained, scored = divide(table, "clip", 0)
    assert (len(trained), len(scored)) == (20, 10)
    assert {row["Speaker"] for row in scored} <= {row["Speaker"] for row in trained}
    by_speaker = divide(table, "speaker", 0)
    assert [len(part) for part in by_speaker] == [20, 10]
    first, second = ({row["Speaker"] for row in part} for part in by_speaker)
    assert not first & second
    assert divide(table, "clip", 0) == (trained, scored)
    assert divide(table, "clip", 1) != (trained, scored)
    one = read_table("train", write_table(tmp_path, ["only"] * 3))
    with pytest.raises(CorpusError, match="1 speakers"):
        divide(one, "speaker", 0)


def test_each_split_is_trained_and_scored_inside(tmp_path: Path) -> None:
    corpus = make_image_corpus(tmp_path / "corpus", train=12, valid=12)
    given: dict[str, Any] = {
        "encoder": None, "encoder_config": STILL, "audio": False, "vision": VISION, "epochs": 1, "batch_size": 4,
        "accelerator": "cpu", "threads": 1, "workers": 1,
    }  # fmt: skip
    results = run_inside(corpus, tmp_path / "out", TrainSettings(**given), lambda _: None, show=False)
    counts = [(result.split, result.unit, result.trained, result.scored) for result in results]
    assert counts[0] == ("train", "clip", 8, 4)
    assert [count[:2] for count in counts] == [
        ("train", "clip"), ("train", "speaker"), ("valid", "clip"), ("valid", "speaker"),
    ]  # fmt: skip
    shared = {(result.split, result.unit): result.shared for result in results}
    assert shared["train", "speaker"] == shared["valid", "speaker"] == 0
    assert (shared["train", "clip"] or 0) > 0
    text = format_table(results)
    assert text.count("about 0.18") == 2
    # By clip, too, speakers are resampled, though the divided tables hide them.
    assert {result.resampled for result in results} == {"speakers"}
    assert "Intervals resample speakers of the scored clips." in text
    assert "chose each run's epoch" not in text  # there is one epoch
    for result in results:
        if result.pearson is not None and result.low is not None and result.high is not None:
            assert result.low <= result.high
            assert f"{result.pearson:.3f} [{result.low:.3f}, {result.high:.3f}]" in text
    chosen = replace(results[0], chose_epoch=True)
    assert "chose each run's epoch" in format_table([chosen])
    again = run_inside(corpus, tmp_path / "out", TrainSettings(**given), lambda _: None, show=False)
    assert again == results
    values = json.loads((tmp_path / "out/inside.json").read_text())
    keeps("experiments/inside_schema.json", values)
    assert values["paper"] == 0.18
