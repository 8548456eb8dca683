"""Faces: found where they are, at the time they are shown, missing where they are missing; and what is said of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from json_schema import keeps
from PIL import Image
from synth_video import even, film, square
from tiny_networks import blazeface, colors, ultraface, yunet

from emimic.features import faces, store
from emimic.features.detectors import Detector
from emimic.features.extract import extract
from emimic.task import CorpusError, ModelError, SettingsError

FPS = 29.83
TURN = 0.8
"""Seconds at which the square turns from red to green."""


def scene(time: float) -> np.ndarray:
    """A bright square that wanders from square to square, is away from 0.3 to 0.5 s, and changes its color."""
    if 0.3 <= time < 0.5:
        return np.zeros((240, 320, 3), np.uint8)
    color = (255, 205, 205) if time < TURN else (205, 255, 205)
    return square(40 * (int(time * 10) % 8), 40 * (int(time * 5) % 6), color=color)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clip 00007, whose sound starts 0.2 s late; 00008 without sound; 00009 is broken; 00010 shows no face."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "raw").mkdir()
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.float32)
    film(folder / "raw/00007.mkv", even(FPS, 40), scene, sound=tone, sound_start=0.2)
    film(folder / "raw/00008.mp4", even(FPS, 40), scene)
    (folder / "raw/00009.mp4").write_bytes(b"broken")
    film(folder / "raw/00010.mp4", even(10, 5), lambda _: np.zeros((240, 320, 3), np.uint8))
    ultraface(folder / "detector.onnx")
    colors(folder / "colors.onnx")
    return folder


@pytest.fixture
def corpus(films: Path, tmp_path: Path) -> Path:
    shutil.copytree(films, tmp_path / "corpus")
    return tmp_path / "corpus"


def cut(corpus: Path, **settings: Any) -> Any:
    (report,) = extract(
        corpus, "faces", model=str(corpus / "detector.onnx"), overrides={"fps": None, "margin": 0, **settings}
    )
    return report


def describe(corpus: Path, model: str = "colors.onnx", **settings: Any) -> Any:
    given = {"normalize": "unit", **settings}
    (report,) = extract(corpus, "face-descriptors", model=str(corpus / model), overrides=given, workers=2)
    return report


def test_crops_are_cut_at_their_times_and_missing_where_there_is_no_face(corpus: Path) -> None:
    report = cut(corpus)
    assert report.made == ("00007", "00008", "00010")
    assert list(report.failed) == ["00009"]
    assert "00009.mp4" in report.failed["00009"]
    assert any("00010.mp4: no face in 5 frames" in note for note in report.warnings)
    actual = faces.find(corpus / "features/faces", 6.0)
    assert list(actual) == ["7", "8", "10"]
    crops = actual["8"]
    np.testing.assert_allclose(crops.times, np.arange(40) / FPS, atol=1e-3)
    missing = [k for k, file in enumerate(crops.files) if file is None]
    assert missing == [k for k in range(40) if 0.3 <= k / FPS < 0.5]
    for k, file in enumerate(crops.files):
        if file is not None:
            image = np.asarray(Image.open(file))
            assert image.shape == (224, 224, 3)
            wanted = (255, 205, 205) if k / FPS < TURN else (205, 255, 205)
            np.testing.assert_allclose(image[40:-40, 40:-40].mean(axis=(0, 1)), wanted, atol=14)
    # The same film with a sound that starts 0.2 s late, which moves no image: time 0 is the container's.
    np.testing.assert_allclose(actual["7"].times, crops.times, atol=2e-3)


def test_descriptors_change_with_the_face_and_are_never_of_a_black_image(corpus: Path) -> None:
    cut(corpus)
    report = describe(corpus)
    assert report.made == ("00007", "00008")
    assert report.failed == {"00010": "no face was found in it"}
    index = store.index(corpus / "features/face-descriptors")
    frames = store.read(index["8"], "00008")
    times = np.arange(40) / FPS
    np.testing.assert_allclose(frames.times, times, atol=1e-3)
    np.testing.assert_array_equal(frames.present, (times < 0.3) | (times >= 0.5))
    assert frames.values.shape == (40, 4)
    assert frames.values.dtype == np.float32
    assert (frames.values[~frames.present] == 0).all()
    wanted = np.where(times[:, None] < TURN, [1, 0.804, 0.804], [0.804, 1, 0.804])
    np.testing.assert_allclose(frames.values[frames.present][:, :3], wanted[frames.present], atol=0.09)
    np.testing.assert_allclose(frames.values[:, 3], frames.values[:, 0] - frames.values[:, 2], atol=1e-5)
    facts = json.loads((corpus / "features/face-descriptors/features.json").read_text())
    keeps("features/features_schema.json", facts)
    assert facts["outputs"] == {"color": 3, "contrast": 1}
    assert facts["size"] == 4
    assert facts["model"].endswith("colors.onnx")


def test_the_faces_of_the_corpus_say_their_frame_by_their_number(corpus: Path) -> None:
    for clip, numbers in (("00001", (1, 2, 5)), ("00002", (2, 3))):
        folder = corpus / "face_images" / clip
        folder.mkdir(parents=True)
        for number in numbers:
            Image.new("RGB", (112, 112), (10 * number, 200, 0)).save(folder / f"{number:05d}.jpg", quality=95)
    report = describe(corpus, outputs="color", fps=6)
    assert report.made == ("00001", "00002")
    first = store.read(store.index(report.folder)["1"], "00001")
    np.testing.assert_allclose(first.times, np.arange(5) / 6)
    assert first.present.tolist() == [True, True, False, False, True]
    np.testing.assert_allclose(first.values[first.present, 0] * 255, [10, 20, 50], atol=4)
    second = store.read(store.index(report.folder)["2"], "00002")
    # The first frame of this clip shows no face: the others' numbers start at 1.
    assert second.present.tolist() == [False, True, True]
    np.testing.assert_allclose(second.times, [0, 1 / 6, 2 / 6])


def test_where_a_clip_has_a_frame_nought_numbers_count_from_there(corpus: Path) -> None:
    for clip, numbers in (("1", (0, 1)), ("2", (3,))):
        (corpus / "face_images" / clip).mkdir(parents=True)
        for number in numbers:
            Image.new("RGB", (20, 20)).save(corpus / "face_images" / clip / f"frame_{number}.png")
    actual = faces.find(corpus / "face_images", 6.0)
    np.testing.assert_allclose(actual["2"].times, np.arange(4) / 6)
    assert [file is not None for file in actual["2"].files] == [False, False, False, True]


@pytest.mark.parametrize("network", [{"batch": 1}, {"batch": 2}, {"last": True}, {"size": 64}, {}])
@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        ({"normalize": "unit"}, lambda x: x / 255),
        ({"normalize": "bytes"}, lambda x: x),
        ({"normalize": "symmetric", "bgr": True}, lambda x: x[::-1] / 127.5 - 1),
        ({"normalize": "imagenet"}, lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    ],
)
def test_images_are_normalized_as_asked(
    corpus: Path, network: dict[str, Any], settings: dict[str, Any], formula: Any
) -> None:
    colors(corpus / "other.onnx", **network)
    (corpus / "face_images/1").mkdir(parents=True)
    shown = [(200, 100, 50), (30, 60, 90), (0, 0, 0)]
    for number, color in enumerate(shown):
        Image.new("RGB", (80, 80), color).save(corpus / f"face_images/1/{number}.png")
    report = describe(corpus, "other.onnx", outputs=["color"], **settings)
    actual = store.read(store.index(report.folder)["1"], "1")
    np.testing.assert_allclose(actual.values, [formula(np.array(one)) for one in shown], atol=2e-2)
    # A black image that is there is an image.
    assert actual.present.all()


def test_a_network_over_gray_images_sees_their_brightness(corpus: Path) -> None:
    colors(corpus / "other.onnx", channels=1)
    (corpus / "face_images/1").mkdir(parents=True)
    Image.new("RGB", (80, 80), (200, 100, 50)).save(corpus / "face_images/1/1.png")
    report = describe(corpus, "other.onnx", outputs=["color"], normalize="bytes")
    actual = store.read(store.index(report.folder)["1"], "1")
    np.testing.assert_allclose(actual.values, [[0.299 * 200 + 0.587 * 100 + 0.114 * 50]], atol=0.01)


def test_networks_over_something_else_are_refused(corpus: Path) -> None:
    (corpus / "face_images/1").mkdir(parents=True)
    Image.new("RGB", (80, 80)).save(corpus / "face_images/1/1.png")
    colors(corpus / "other.onnx", channels=5)
    with pytest.raises(ModelError, match=r"other\.onnx takes image .*expected one batch of images"):
        describe(corpus, "other.onnx")
    colors(corpus / "other.onnx", size=64)
    with pytest.raises(ModelError, match=r"other\.onnx fails: "):
        describe(corpus, "other.onnx", size=32)


def test_both_layouts_of_detectors_find_the_square(tmp_path: Path) -> None:
    image = square(120, 80)
    for pixels in (False, True):
        actual = Detector(str(ultraface(tmp_path / "a.onnx", pixels=pixels))).detect(image, 0.6)
        assert actual is not None
        np.testing.assert_allclose(actual.box, (120, 80, 160, 120), atol=0.1)
        assert actual.score == pytest.approx(1, abs=0.01)
    # Twice the size is seen through half the resolution, and reported in pixels of the frame.
    actual = Detector(str(tmp_path / "a.onnx")).detect(square(240, 160, 80, shape=(480, 640)), 0.6)
    assert actual is not None
    np.testing.assert_allclose(actual.box, (240, 160, 320, 240), atol=0.1)
    detector = Detector(str(yunet(tmp_path / "y.onnx")))
    assert detector.yunet
    both = square(64, 96, 32, (0, 0, 255), shape=(256, 320)) + square(
        192, 96, 32, (255, 0, 0), shape=(256, 320)
    )
    actual = detector.detect(both, 0.6)
    assert actual is not None
    # Square (3, 2) of the stride of 32, shifted by a quarter, twice the size; the red square is none.
    np.testing.assert_allclose(
        actual.box, (2.75 * 32 - 32, 3.5 * 32 - 32, 2.75 * 32 + 32, 3.5 * 32 + 32), atol=0.5
    )
    assert detector.detect(np.zeros((100, 50, 3), np.uint8), 0.6) is None


def test_blazeface_is_decoded_around_its_anchors(tmp_path: Path) -> None:
    """Anchors: two at each center of 16 x 16 squares, then six at each of 8 x 8; all in pixels of 128 x 128."""
    values = [3.0, -2.0, 40.0, 32.0, -10.0, -8.0, 10.0, -4.0, *[0.0] * 8]
    for number, center in (
        (2 * (16 * 5 + 3) + 1, (3.5 * 8, 5.5 * 8)),
        (512 + 6 * (8 * 2 + 4) + 5, (4.5 * 16, 2.5 * 16)),
    ):
        network = blazeface(tmp_path / f"{number}.onnx", number, values)
        detector = Detector(str(network))
        assert detector.has_eyes
        # A frame of 320 x 240 lies in the middle of the square, 48 rows high above and below.
        face = detector.detect(np.zeros((240, 320, 3), np.uint8), 0.6)
        assert face is not None
        assert face.score == pytest.approx(1 / (1 + np.exp(-4)))
        x, y = center[0] + 3, center[1] - 2
        wanted = np.array([x - 20, y - 16, x + 20, y + 16]) * 2.5 - [0, 40, 0, 40]
        np.testing.assert_allclose(face.box, wanted, atol=1e-3)
        assert face.eyes is not None
        eyes = np.add(center, [[-10, -8], [10, -4]]) * 2.5 - [0, 40]
        np.testing.assert_allclose(face.eyes, eyes, atol=1e-3)
        assert detector.detect(np.zeros((240, 320, 3), np.uint8), 0.99) is None


def test_the_included_detector_finds_no_face_in_a_square() -> None:
    detector = Detector()
    assert detector.blazeface
    assert detector.detect(square(120, 80), 0.6) is None
    folder = Path(detector.network.source).parent
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert "mediapipe" in (folder / "README.md").read_text()


def test_a_face_is_rotated_until_its_eyes_are_level() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    eyes = np.array([[80.0, 90.0], [120.0, 110.0]])
    for x, y in eyes.astype(int):
        image[y - 3 : y + 4, x - 3 : x + 4] = 255
    rows = []
    for points in (None, eyes):
        patch = np.asarray(faces.crop(image, (60, 60, 140, 140), 0.0, 80, points)).astype(float)[..., 0]
        halves = patch[:, :40], patch[:, 40:]
        rows.append([(half.sum(axis=1) @ np.arange(80)) / half.sum() for half in halves])
    assert rows[0][1] - rows[0][0] == pytest.approx(20, abs=1)
    assert rows[1][1] - rows[1][0] == pytest.approx(0, abs=1)


def test_the_included_network_describes_faces_by_default(corpus: Path) -> None:
    cut(corpus)
    (report,) = extract(corpus, "face-descriptors")
    assert report.made == ("00007", "00008")
    frames = store.read(store.index(corpus / "features/face-descriptors")["8"], "00008")
    assert frames.values.shape[1] == 7
    np.testing.assert_allclose(frames.values[frames.present].sum(axis=1), 1, atol=1e-4)
    facts = json.loads((corpus / "features/face-descriptors/features.json").read_text())
    assert facts["settings"]["normalize"] == "bytes"
    assert "in the package" in facts["model"]


def test_the_detector_is_given_no_stretched_image(tmp_path: Path) -> None:
    wide = square(0, 0, 80, shape=(240, 640))
    actual = Detector(str(ultraface(tmp_path / "a.onnx"))).detect(wide, 0.6)
    assert actual is not None
    np.testing.assert_allclose(actual.box, (0, 0, 80, 80), atol=0.1)


@pytest.mark.parametrize(
    ("box", "margin", "wanted"),
    [
        ((40, 40, 80, 80), 0.0, (40, 40, 80, 80)),
        ((40, 40, 80, 60), 0.0, (40, 30, 80, 70)),
        ((40, 40, 80, 80), 0.5, (20, 20, 100, 100)),
        ((0, 0, 40, 40), 0.5, (0, 0, 80, 80)),
        ((-20, 90, 20, 130), 0.0, (0, 80, 40, 120)),
        ((-420, -500, 580, 900), 0.1, (20, 0, 140, 120)),
    ],
)
def test_a_crop_is_a_square_within_the_image(
    box: tuple[float, ...], margin: float, wanted: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (120, 160, 3), np.uint8)
    side = wanted[2] - wanted[0]
    actual = np.asarray(faces.crop(image, box, margin, side))  # type: ignore[arg-type]
    np.testing.assert_array_equal(actual, image[wanted[1] : wanted[3], wanted[0] : wanted[2]])


def test_what_is_there_is_kept_and_the_rest_is_made(corpus: Path) -> None:
    cut(corpus)
    kept = corpus / "features/faces/00007/frames.json"
    keeps("features/frames_schema.json", json.loads(kept.read_text()))
    before = kept.stat().st_mtime_ns
    shutil.rmtree(corpus / "features/faces/00008")
    (corpus / "features/faces/00010/frames.json").unlink()  # as one that was being cut
    report = cut(corpus)
    assert report.skipped == ("00007",)
    assert report.made == ("00008", "00010")
    assert kept.stat().st_mtime_ns == before


def test_two_models_or_settings_never_share_a_folder(corpus: Path) -> None:
    cut(corpus)
    with pytest.raises(CorpusError, match=r"faces holds other features .*margin.*give another --name"):
        cut(corpus, margin=0.2)
    describe(corpus)
    colors(corpus / "colors.onnx", scale=2.0)  # another network under the same name
    with pytest.raises(CorpusError, match=r"holds other features.*weights"):
        describe(corpus)
    colors(corpus / "colors.onnx")
    assert describe(corpus).skipped == ("00007", "00008")
    # Nor do those of faces that were cut in another way.
    shutil.rmtree(corpus / "features/faces")
    cut(corpus, margin=0.2)
    with pytest.raises(CorpusError, match=r"holds other features.*source"):
        describe(corpus)


def test_the_license_of_a_model_is_reported(corpus: Path) -> None:
    unknown = f"license: unknown, look it up (there is no {corpus / 'README.md'})"
    assert unknown in cut(corpus).to_text()
    (corpus / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A card\n")
    assert "colors.onnx, license: cc-by-nc-4.0" in describe(corpus).to_text()


def test_a_model_on_the_hub_is_fetched(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def fetch(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(corpus / "detector.onnx")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    monkeypatch.setattr(
        huggingface_hub.ModelCard,
        "load",
        lambda *_, **__: huggingface_hub.ModelCard("---\nlicense: mit\n---\n"),
    )
    (report,) = extract(corpus, "faces", model="someone/faces/onnx/detector.onnx")
    assert asked == [("someone/faces", "onnx/detector.onnx")]
    assert "license: mit" in report.to_text()


def test_what_cannot_be_used_is_named(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="gives no points of a face"):
        cut(corpus, align=True)
    with pytest.raises(ModelError, match="nowhere: no such file"):
        extract(corpus, "faces", model="nowhere")
    (corpus / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"bad\.onnx can't be opened as ONNX"):
        extract(corpus, "faces", model=str(corpus / "bad.onnx"))
    with pytest.raises(ModelError, match=r"colors\.onnx gives .*expected boxes"):
        Detector(str(corpus / "colors.onnx")).detect(square(0, 0), 0.6)
    with pytest.raises(CorpusError, match="face_images holds no face crops"):
        describe(corpus)
    cut(corpus)
    with pytest.raises(ModelError, match="has no output other; it has color, contrast"):
        describe(corpus, outputs="other")
    with pytest.raises(SettingsError, match=r"normalize: .*expected one of imagenet, unit"):
        describe(corpus, normalize="caffe")
    (corpus / "features/faces/00007/00000.jpg").write_bytes(b"broken")
    report = describe(corpus)
    assert "00000.jpg can't be read as an image" in report.failed["00007"]
    assert report.made == ("00008",)

    def refuse(*_: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(ModelError, match="can't be fetched from the hub: no network"):
        extract(corpus, "faces", model="someone/faces/detector.onnx")
