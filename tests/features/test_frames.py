"""Frames of clips from crops, films and new recordings, at a constant rate; without a face black or left out."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from synth_video import film, gray, square
from tiny_networks import ultraface

from emimic.data.corpus import load_corpus
from emimic.data.items import Crops
from emimic.features import frames
from emimic.model.images import Preprocessing
from emimic.task import CorpusError

SIDE = 16


def make_values(**given: Any) -> dict[str, Any]:
    preprocessing = dataclasses.asdict(Preprocessing.of_size(SIDE))
    return {
        "frames": "faces", "fps": 5.0, "detector": None, "score": 0.6, "margin": 0.0, "size": 32, "align": False,
        "padding": "masked", "preprocessing": preprocessing, **given,
    }  # fmt: skip


def read(source: Any, seconds: float = 12.0, **given: Any) -> np.ndarray[Any, Any]:
    values = make_values(**given)
    return frames.read(source, Preprocessing.of_dict(values["preprocessing"]), values, seconds)


def make_crops(folder: Path, present: list[bool], fps: float) -> Crops:
    folder.mkdir(parents=True)
    files = []
    for number, has_face in enumerate(present):
        file = folder / f"{number}.png"
        Image.fromarray(np.full((20, 20, 3), 10 * number + 5, np.uint8)).save(file)
        files.append(file if has_face else None)
    return Crops("1", np.arange(len(present)) / fps, tuple(files))


def test_frames_without_a_face_are_left_out_or_black(tmp_path: Path) -> None:
    crops = make_crops(tmp_path / "a", [True, False, True, True, False], 5.0)
    actual = read(crops)
    assert actual.dtype == np.uint8
    assert actual.shape == (3, SIDE, SIDE, 3)
    assert actual[:, 0, 0, 0].tolist() == [5, 25, 35]
    padded = read(crops, seconds=1.6, padding="zeros")
    assert padded[:, 0, 0, 0].tolist() == [5, 0, 25, 35, 0, 0, 0, 0]
    assert read(crops, seconds=0.5)[:, 0, 0, 0].tolist() == [5, 25]
    assert read(None).shape == (0, SIDE, SIDE, 3)
    assert not read(None, seconds=1.0, padding="zeros").any()
    # At half the rate, the crops nearest to 0, .4 and .8 s.
    assert read(make_crops(tmp_path / "b", [True] * 5, 5.0), fps=2.5)[:, 0, 0, 0].tolist() == [5, 25, 45]


def test_a_film_is_read_by_its_times_whatever_its_rate(tmp_path: Path) -> None:
    times = [k / 50 for k in range(20)] + [0.5, 0.9]  # then it stalls
    path = film(tmp_path / "a.mp4", times, lambda time: gray(round(200 * time)))
    actual = read(path, frames="video")[:, 0, 0, 0].astype(float)
    np.testing.assert_allclose(actual, [0, 40, 76, 100, 180], atol=6)  # .5 s is nearest to .6 s
    assert len(read(path, seconds=0.1, frames="video")) == 1


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    for clip in ("1", "2"):
        film(
            tmp_path / f"raw/{clip}.mp4",
            [k / 5 for k in range(4)],
            lambda time: square(40, 80, color=(255, 205, 205)) if time != 0.4 else square(0, 0, 0),
        )
    ultraface(tmp_path / "detector.onnx")
    (tmp_path / "train_split.csv").write_text("Filename,Joy\n1,0.5\n2,0.1\n3,0.2\n")
    (tmp_path / "audio").mkdir()
    for clip in ("1", "2", "3"):
        soundfile.write(tmp_path / f"audio/{clip}.wav", np.zeros(1600), 16_000)
    return tmp_path


def test_faces_of_a_corpus_are_cut_once_and_equal_those_of_a_new_recording(corpus: Path) -> None:
    values = make_values(detector=str(corpus / "detector.onnx"))
    loaded = load_corpus(corpus, splits=["train"], scan=False)
    one = frames.add_frames(loaded, values, 12.0)
    items = one.splits["train"].items
    assert [item.frames is None for item in items] == [False, False, True]
    assert any("1 of 3 clips have no frames" in note and "3" in note for note in one.warnings)
    read_item = frames.make_reader(values, 12.0)
    actual = read_item(items[0])
    assert len(actual) == 3  # of four frames one has no face
    (folder,) = (corpus / "features").iterdir()
    assert folder.name.startswith("faces-32px-")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    assert len(before) == 6
    frames.find(corpus, values, 12.0)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    frames.find(corpus, values | {"size": 24}, 12.0)
    assert len(list((corpus / "features").iterdir())) == 2
    notes: list[str] = []
    new = frames.FrameReader(values, 12.0).read(corpus / "raw/1.mp4", "1.mp4", notes)
    np.testing.assert_allclose(new.astype(float), actual, atol=12)  # JPEG
    assert not notes
    named = make_values(frames=f"features/{folder.name}")
    assert frames.find(corpus, named, 12.0).keys() == {"1", "2"}
    assert frames.read_crop_settings(corpus, named)["size"] == 32


def test_missing_frames_are_errors(tmp_path: Path) -> None:
    for kind, message in (
        ("faces", "holds no video"), ("video", "holds no video"), ("face_images", "no face crops"),
        ("features/no", "no face crops"), ("elsewhere", "expected faces, face_images"),
    ):  # fmt: skip
        with pytest.raises(CorpusError, match=message):
            frames.find(tmp_path, make_values(frames=kind), 12.0)
