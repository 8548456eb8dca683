"""`emimic features`: what is made of sound and of the challenge's files, and what is common to all kinds."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from json_schema import keeps
from synth_video import even, film, gray
from tiny_models import encoder
from tiny_models import model as tiny_model
from transformers import AutoConfig, AutoModel
from typer.testing import CliRunner

from emimic.cli import app
from emimic.cli.corpus import Kind
from emimic.data import transcripts
from emimic.features import faces, logmel, store
from emimic.features.extract import KINDS, extract, get_schema
from emimic.task import CorpusError, ModelError, SettingsError

LENGTHS = {"00001": 16_000, "00002": 300, "00003": 5_000, "00004": 250_000}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Four recordings of 0.02 to 15.6 s, and one that can't be read."""
    rng = np.random.default_rng(0)
    (tmp_path / "audio").mkdir()
    for clip, samples in LENGTHS.items():
        soundfile.write(tmp_path / f"audio/{clip}.wav", 0.1 * rng.standard_normal(samples), 16_000, "FLOAT")
    (tmp_path / "audio/00005.wav").write_bytes(b"broken")
    return tmp_path


def wave(corpus: Path, clip: str) -> np.ndarray:
    return soundfile.read(corpus / f"audio/{clip}.wav", dtype="float32")[0]


# Log-mel


def mel_by_hand(samples: np.ndarray) -> np.ndarray:
    """The published formula, a window and a band at a time."""

    def mel(f: float) -> float:
        return 1127 * np.log(1 + f / 700)

    samples = np.concatenate([samples, np.zeros(max(0, 400 - len(samples)))])
    edges = [mel(125) + (mel(7500) - mel(125)) * k / 65 for k in range(66)]
    rows = []
    for start in range(0, len(samples) - 399, 160):
        spectrum = [0.0] * 64
        window = [samples[start + n] * (0.5 - 0.5 * np.cos(2 * np.pi * n / 400)) for n in range(400)]
        magnitude = np.abs(np.fft.fft(np.array(window), 512))[:257]
        for band in range(64):
            low, mid, high = edges[band : band + 3]
            for k in range(1, 257):
                m = mel(k * 16_000 / 512)
                spectrum[band] += magnitude[k] * max(
                    0, min((m - low) / (mid - low), (high - m) / (high - mid))
                )
        rows.append(np.log(np.array(spectrum) + 0.01))
    return np.array(rows)


def test_log_mel_is_the_published_formula(corpus: Path) -> None:
    (report,) = extract(corpus, "log-mel", workers=2)
    assert report.made == tuple(LENGTHS)
    assert list(report.failed) == ["00005"]
    index = store.index(report.folder)
    for clip in ("00002", "00003"):
        frames = store.read(index[clip.lstrip("0")], clip)
        wanted = mel_by_hand(wave(corpus, clip))
        np.testing.assert_allclose(frames.values, wanted, atol=1e-5)
        np.testing.assert_allclose(frames.times, 0.0125 + 0.01 * np.arange(len(wanted)))
        assert frames.present.all()
    # The first 12 seconds: (192,000 - 400) / 160 + 1 windows.
    assert store.read(index["4"], "00004").values.shape == (1198, 64)


def test_log_mel_in_patches(corpus: Path) -> None:
    (report,) = extract(corpus, "log-mel", name="vggish", overrides={"patches": True, "max_seconds": None})
    index = store.index(corpus / "features/vggish")
    frames = logmel.compute_log_mel(wave(corpus, "00004"))
    actual = store.read(index["4"], "00004")
    assert actual.values.shape == (17, 96 * 64)
    np.testing.assert_array_equal(actual.values[3].reshape(96, 64), frames[3 * 96 : 4 * 96])
    rest = len(frames) - 16 * 96
    np.testing.assert_array_equal(actual.values[16].reshape(96, 64)[:rest], frames[16 * 96 :])
    np.testing.assert_allclose(actual.values[16].reshape(96, 64)[rest:], np.log(0.01), atol=1e-6)
    # A patch covers 95 hops and a window: its middle is at 0.4875 s.
    np.testing.assert_allclose(actual.times, 0.4875 + 0.96 * np.arange(17))
    assert report.facts["settings"] == {"max_seconds": None, "patches": True}


def test_a_tone_is_in_its_band_at_its_time(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    samples = np.arange(32_000)
    tone = (0.5 * np.sin(2 * np.pi * 1000 * samples / 16_000) * (samples >= 16_000)).astype(np.float32)
    film(tmp_path / "raw/7.mp4", even(25, 50), lambda _: gray(0), sound=tone)
    extract(tmp_path, "log-mel")
    frames = store.read(store.index(tmp_path / "features/log-mel")["7"], "7")
    mel = 1127 * np.log(1 + np.array([125, 1000, 7500]) / 700)
    band = round((mel[1] - mel[0]) / (mel[2] - mel[0]) * 65) - 1
    assert abs(int(frames.values[150].argmax()) - band) <= 1
    loud = frames.values[:, band] > np.log(1)
    assert frames.times[loud.argmax()] == pytest.approx(1.0, abs=0.02)


# Speech


@pytest.mark.parametrize("family", ["wav2vec2-layer", "hubert"])
def test_speech_is_the_encoder_of_transformers(corpus: Path, family: str) -> None:
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(**encoder(family))).eval()
    model.save_pretrained(corpus / "encoder")
    (corpus / "encoder/README.md").write_text("---\nlicense: apache-2.0\n---\n")
    given = {"dtype": "float32", "batch_seconds": 1.5}
    (report,) = extract(corpus, "speech", name="frames", model=str(corpus / "encoder"), overrides=given)
    assert set(report.made) == set(LENGTHS)
    assert list(report.failed) == ["00005"]
    assert f"license: apache-2.0 (looked in {corpus / 'encoder/README.md'})" in report.to_text()
    index = store.index(corpus / "features/frames")
    for clip in LENGTHS:
        samples = wave(corpus, clip)[:192_000]
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        if len(samples) < 400:
            samples = np.pad(samples, (0, 400 - len(samples)))
        with torch.inference_mode():
            wanted = model(torch.tensor(samples, dtype=torch.float32)[None]).last_hidden_state[0].numpy()
        frames = store.read(index[clip.lstrip("0")], clip)
        if len(samples) > 400:
            np.testing.assert_allclose(frames.values, wanted, atol=1e-4)
        assert frames.values.shape == wanted.shape
        np.testing.assert_allclose(frames.times, (200 + 320 * np.arange(len(wanted))) / 16_000)


def test_speech_of_one_layer_is_no_speech_of_two(corpus: Path) -> None:
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(**encoder("hubert"))).save_pretrained(corpus / "encoder")
    extract(corpus, "speech", model=str(corpus / "encoder"), overrides={"layers": 1})
    facts = json.loads((corpus / "features/speech/features.json").read_text())
    keeps("features/features_schema.json", facts)
    assert facts["settings"]["layers"] == 1
    assert facts["size"] == 16
    assert {"torch", "transformers", "emimic"} <= facts["versions"].keys()
    with pytest.raises(CorpusError, match=r"holds other features \(weights .*settings"):
        extract(corpus, "speech", model=str(corpus / "encoder"))
    # The number in a batch changes nothing.
    (report,) = extract(
        corpus, "speech", model=str(corpus / "encoder"), overrides={"layers": 1, "batch_seconds": 9}
    )
    assert set(report.skipped) == set(LENGTHS)


def test_speech_may_have_the_encoders_own_vad(corpus: Path) -> None:
    model = tiny_model("wav2vec2-layer", vad_learned=True).eval()
    model.save_pretrained(corpus / "encoder")
    given = {"dtype": "float32", "vad": True}
    extract(corpus, "speech", name="frames", model=str(corpus / "encoder"), overrides=given)
    samples = wave(corpus, "00001")[:192_000]
    samples = ((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)).astype(np.float32)
    wanted = model.predict([samples], hidden=True)[0]
    frames = store.read(store.index(corpus / "features/frames")["1"], "1")
    np.testing.assert_allclose(frames.values, np.concatenate([wanted.hidden, wanted.vad], axis=1), atol=1e-4)
    AutoModel.from_config(AutoConfig.for_model(**encoder("hubert"))).save_pretrained(corpus / "bare")
    with pytest.raises(ModelError, match="has no V/A/D head"):
        extract(corpus, "speech", name="other", model=str(corpus / "bare"), overrides={"vad": True})


# The challenge's files


def test_the_challenges_files_are_converted_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    face, sound = rng.standard_normal((9, 384)), rng.standard_normal((30, 768)).astype(np.float32)
    written: dict[str, Any] = {
        "vit/00001": face.astype(np.float32),
        "vit/00002": list(face.astype(np.float32)),
        "vit/00003": {f"{k:05d}.jpg": row for k, row in enumerate(face[:, None].astype(np.float16))},
        "vit/00004": face[:, None, :],
        "vit/00005": np.where(np.arange(9)[:, None] == 4, np.nan, face),
        "wav2vec2/00001": sound,
        "wav2vec2/00002": sound[0],
    }
    for folder, content in written.items():
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        (tmp_path / f"{folder}.pkl").write_bytes(pickle.dumps(content))
    (tmp_path / "vit/00006.pkl").write_bytes(pickle.dumps([face, face[:2]]))
    (tmp_path / "vit/00007.pkl").write_bytes(b"cos\nsystem\n(Vtouch ran\ntR.")
    vit, wav2vec2 = extract(tmp_path, "challenge", workers=1)
    assert vit.made == ("00001", "00002", "00003", "00004", "00005")
    assert vit.folder == tmp_path / "features/vit"
    assert "00006.pkl holds" in vit.failed["00006"]
    assert "00007.pkl asks for 'os.system', which was not run" in vit.failed["00007"]
    assert not wav2vec2.failed
    index = store.index(vit.folder)
    for number in range(1, 6):
        frames = store.read(index[str(number)], f"{number:05d}")
        present = np.arange(9) != (4 if number == 5 else -1)
        assert frames.values.dtype == np.float32
        np.testing.assert_allclose(frames.values[present], face[present], atol=2e-3)
        np.testing.assert_array_equal(frames.present, present)
        np.testing.assert_allclose(frames.times, np.arange(9) / 6)
    index = store.index(wav2vec2.folder)
    frames = store.read(index["1"], "00001")
    np.testing.assert_array_equal(frames.values, sound)
    np.testing.assert_allclose(frames.times, 0.0125 + 0.02 * np.arange(30))
    assert store.read(index["2"], "00002").values.shape == (1, 768)
    again = extract(tmp_path, "challenge")
    assert [len(report.skipped) for report in again] == [5, 2]
    assert again[0].made == ()


def test_frames_of_another_size_cost_only_their_clip(tmp_path: Path) -> None:
    (tmp_path / "vit").mkdir()
    shapes = {"00001": (5, 384), "00002": (384, 5), "00003": (5, 100), "00004": (7, 100), "00005": (2, 100)}
    for clip, shape in shapes.items():
        (tmp_path / f"vit/{clip}.pkl").write_bytes(pickle.dumps(np.ones(shape)))
    (report,) = extract(tmp_path, "challenge")
    assert report.made == ("00001",)
    message = "00002.pkl holds 384 frames of 5 features, expected 384 features"
    assert message in report.failed["00002"]
    assert list(report.failed) == ["00002", "00003", "00004", "00005"]
    (tmp_path / "features").rename(tmp_path / "before")
    (report,) = extract(tmp_path, "challenge", overrides={"vit_size": None})
    assert report.made == ("00003", "00004", "00005")
    assert "expected 100 features" in report.failed["00001"]


def test_numbered_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "vit").mkdir()
    frames = {name: np.full(384, value) for value, name in enumerate(("10.jpg", "2.jpg", "a/1.jpg"))}
    (tmp_path / "vit/1.pkl").write_bytes(pickle.dumps(frames))
    # Where a number is not a frame's own, the file's order is all there is.
    (tmp_path / "vit/2.pkl").write_bytes(
        pickle.dumps({"b/1.jpg": frames["10.jpg"], "a/1.jpg": frames["2.jpg"]})
    )
    extract(tmp_path, "challenge")
    for clip, wanted in (("1", [2, 1, 0]), ("2", [0, 1])):
        actual = store.read(tmp_path / f"features/vit/{clip}.safetensors", clip)
        assert actual.values[:, 0].tolist() == wanted


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_among_the_files_is_named_not_waited_for(corpus: Path) -> None:
    (corpus / "vit").mkdir()
    (corpus / "vit/00001.pkl").write_bytes(pickle.dumps(np.zeros((3, 384))))
    (corpus / "face_images/00001").mkdir(parents=True)
    (corpus / "features/transcripts").mkdir(parents=True)
    (corpus / "features/faces/00001").mkdir(parents=True)
    for pipe in (
        "vit/00004.pkl", "audio/00009.wav", "face_images/00001/1.jpg", "features/transcripts/00001.json",
        "features/faces/00001/frames.json",
    ):  # fmt: skip
        os.mkfifo(corpus / pipe)
    # In a process of its own, since what waits for a pipe can't be stopped from here.
    script = f"""
from pathlib import Path
from emimic.data import transcripts
from emimic.features import descriptors, faces
from emimic.features.extract import extract
folder = Path({str(corpus)!r})
for kind in ("challenge", "log-mel"):
    print(extract(folder, kind)[0].to_text())
for call in (
    lambda: descriptors.read_image(folder / "face_images/00001/1.jpg"),
    lambda: transcripts.read_all(folder / "features/transcripts"),
    lambda: faces.find(folder / "features/faces", 6.0),
):
    try:
        call()
    except Exception as error:
        print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert "vit: 1 clip made, 0 were there, 1 failed" in done.stdout, done.stderr
    assert "00004.pkl can't be read (it is a pipe" in done.stdout
    assert "log-mel: 4 clips made, 0 were there, 2 failed" in done.stdout
    assert "00009.wav: is a pipe" in done.stdout
    assert done.stdout.count("CorpusError") == 3
    assert done.stdout.count("(it is a pipe") == 4


def test_a_folder_without_the_challenges_files_is_named(corpus: Path) -> None:
    with pytest.raises(CorpusError, match="neither vit"):
        extract(corpus, "challenge")
    with pytest.raises(SettingsError, match="leave --name out"):
        extract(corpus, "challenge", name="mine")
    with pytest.raises(ModelError, match="takes no model"):
        extract(corpus, "challenge", model="mine")


# Common to all kinds


def test_a_run_goes_on_where_it_was(corpus: Path) -> None:
    extract(corpus, "log-mel")
    folder = corpus / "features/log-mel"
    times = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.safetensors")}
    (folder / "00003.safetensors").write_bytes((folder / "00003.safetensors").read_bytes()[:100])
    (report,) = extract(corpus, "log-mel")
    assert report.made == ("00003",)
    assert report.skipped == ("00001", "00002", "00004")
    changed = [f.name for f in folder.glob("*.safetensors") if f.stat().st_mtime_ns != times[f.name]]
    assert changed == ["00003.safetensors"]


def test_features_whose_maker_nobody_knows_are_left_alone(corpus: Path) -> None:
    extract(corpus, "log-mel")
    (corpus / "features/log-mel/features.json").unlink()
    with pytest.raises(CorpusError, match="holds other features"):
        extract(corpus, "log-mel")


def test_audio_is_preferred_to_the_video_it_came_from(corpus: Path) -> None:
    (corpus / "raw").mkdir()
    (corpus / "raw/1.mp4").write_bytes(b"broken")
    (corpus / "raw/9.mp4").write_bytes(b"broken")
    (report,) = extract(corpus, "log-mel")
    assert "00001" in report.made
    assert set(report.failed) == {"00005", "9"}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"kind": "smell"}, SettingsError, "expected one of challenge, speech"),
        ({"overrides": {"color": 1}}, SettingsError, "color: .*known names: max_seconds, patches"),
        ({"overrides": {"max_seconds": -1}}, SettingsError, "max_seconds: .*greater than 0"),
        ({"name": " "}, SettingsError, "name is ' ', expected a plain folder name"),
        ({"name": "../elsewhere"}, SettingsError, "expected a plain folder name"),
        ({"model": "x"}, ModelError, "takes no model"),
        ({"folder": "nowhere"}, CorpusError, "nowhere is not a folder"),
        ({"kind": "speech"}, ModelError, "needs a model: --model"),
        ({"kind": "speech", "model": "./nowhere"}, ModelError, "no such folder"),
    ],
)
def test_what_makes_no_sense_is_named(
    corpus: Path, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    asked = {"folder": corpus, "kind": "log-mel", **given}
    with pytest.raises(error, match=message):
        extract(asked.pop("folder"), asked.pop("kind"), **asked)


def test_two_files_of_one_clip_never_become_two_features(corpus: Path) -> None:
    twins = ["00001.flac", "1.wav"]
    for name in twins:
        soundfile.write(corpus / "audio" / name, wave(corpus, "00002"), 16_000)
    (corpus / "vit").mkdir()
    for name in ("00029", "29", "30"):
        (corpus / f"vit/{name}.pkl").write_bytes(pickle.dumps(np.zeros((2, 384))))
    for kind, made, named, taken in (
        ("log-mel", {"00001", "00002", "00003", "00004"}, ["00001.wav", "1.wav"], "00001.flac"),
        ("challenge", {"00029", "30"}, ["29.pkl"], "00029.pkl"),
    ):
        (report,) = extract(corpus, kind)
        assert set(report.made) == made
        for name in named:
            assert report.failed[name] == f"is the same clip as {taken}, which was taken; delete one"
        (again,) = extract(corpus, kind)
        assert set(again.skipped) == made
        assert again.failed == report.failed
    (corpus / "features/transcripts").mkdir()
    for name in ("1", "00001"):
        (corpus / f"face_images/{name}").mkdir(parents=True)
        (corpus / f"face_images/{name}/1.jpg").write_bytes(b"")
        (corpus / f"features/transcripts/{name}.json").write_text(json.dumps({"id": name, "words": []}))
    with pytest.raises(CorpusError, match="face_images holds 00001 and 1, the same clip"):
        faces.find(corpus / "face_images", 6.0)
    with pytest.raises(CorpusError, match=r"1\.json holds clip '1', as another file there does"):
        transcripts.read_all(corpus / "features/transcripts")


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no recording in audio/ or raw/"):
        extract(tmp_path, "log-mel")


def test_a_recording_whose_name_is_no_text_is_named(corpus: Path) -> None:
    (corpus / "audio").mkdir(exist_ok=True)
    odd = corpus / "audio" / os.fsdecode(b"b\xe4r.wav")
    odd.touch()
    (report,) = extract(corpus, "log-mel", progress=False)
    assert "rename it" in report.failed["b\ufffdr.wav"]
    report.to_text().encode()


def test_a_folder_that_cannot_be_written_is_named(corpus: Path) -> None:
    (corpus / "features").write_text("a file")
    with pytest.raises(CorpusError, match="can't be written"):
        extract(corpus, "log-mel")


def test_every_kind_has_its_command_and_says_what_may_be_set() -> None:
    assert {kind.value for kind in Kind} == set(KINDS)
    for kind in KINDS:
        for name, field in get_schema(kind).model_fields.items():
            assert field.description, f"{kind}: {name}"


def test_the_command_reports_what_became_of_the_clips(corpus: Path) -> None:
    asked = ["features", str(corpus), "--kind", "log-mel", "--set", "patches=true", "--name", "vggish", "-q"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1  # a clip is broken
    assert "vggish: 4 clips made, 0 were there, 1 failed" in done.output
    assert "00005.wav" in done.output
    (corpus / "audio/00005.wav").unlink()
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0
    assert "vggish: 0 clips made, 4 were there, 0 failed" in done.output
