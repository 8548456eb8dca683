"""Whole files of every kind that emimic reads, for `benchmarks.fuzz`."""

import io
import os
import pickle
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from emimic.task import EMOTIONS, SAMPLE_RATE

CONTAINERS = {
    "wav": "pcm_s16le", "flac": "flac", "mp3": "mp3", "ogg": "libopus", "mp4": "aac",
    "mkv": "aac", "webm": "libopus", "mpg": "mp2", "ts": "aac", "aiff": "pcm_s16be",
}  # fmt: skip
ROWS = "Filename,{},Speaker\n".format(",".join(EMOTIONS))
TINY = {
    "model_type": "wav2vec2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "conv_dim": [8] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
DAMAGED = {name: f"clip.{name}" for name in CONTAINERS} | {
    "table": "train_split.csv", "engine": "engine.json", "graph": "model.onnx", "calibration": "calibration.json",
    "novelty": "novelty.npz", "pickle": "arrays.pkl", "features": "clip.safetensors", "teacher": "clip.npz",
    "journal": "journal.jsonl", "run": "config.json", "weights": "model.safetensors", "settings": "train.json",
}  # fmt: skip
"""Each kind, and the name of its file that is damaged."""


def make_voice() -> np.ndarray:
    """Return a second of a voice-like tone, (sample,) float32."""
    time_ = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * 140 * k * time_) / k for k in range(1, 12))
    return (0.1 * tone * (1 + np.sin(2 * np.pi * 3 * time_))).astype(np.float32)


def encode(name: str, codec: str) -> bytes:
    """Return the voice in a container; in those of video with a video beside it."""
    import av

    buffer = io.BytesIO()
    rate = 48_000 if codec in ("libopus", "mp2") else SAMPLE_RATE
    muxer = {"mpg": "mpeg", "ts": "mpegts", "mkv": "matroska"}.get(name, name)
    with av.open(buffer, "w", format=muxer) as out:
        sound: Any = out.add_stream(codec, rate=rate)
        sound.layout = "mono"
        video: Any = None
        if name in ("mp4", "mkv", "mpg", "ts"):
            video = out.add_stream("mpeg1video" if name == "mpg" else "mpeg4", rate=25)
            video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
            for i in range(25):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * i, np.uint8), "rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
        resampler = av.AudioResampler(
            format=sound.format, layout="mono", rate=rate, frame_size=sound.frame_size
        )
        whole = av.AudioFrame.from_ndarray(make_voice()[None], format="flt", layout="mono")
        whole.sample_rate = SAMPLE_RATE
        for frame in (*resampler.resample(whole), *resampler.resample(None)):
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return buffer.getvalue()


def make_files(folder: Path) -> dict[str, Path]:
    """Make a folder of whole files for each kind; return the folders by kind."""
    import soundfile

    from emimic.features import store
    from emimic.inference.engine import find_default_model
    from emimic.model.config import EmiConfig
    from emimic.model.model import EmiModel
    from emimic.prediction import Prediction
    from emimic.training import checkpoint, teacher_cache
    from emimic.training.settings import TrainSettings

    folders = {kind: folder / kind for kind in DAMAGED}
    for target in folders.values():
        target.mkdir(parents=True)
    for name, codec in CONTAINERS.items():
        (folders[name] / f"clip.{name}").write_bytes(encode(name, codec))
    (folders["table"] / "audio").mkdir()
    for split, first in (("train", 0), ("valid", 6)):
        rows = ROWS
        for i in range(first, first + 6):
            soundfile.write(folders["table"] / "audio" / f"{i:05d}.wav", make_voice()[:4000], SAMPLE_RATE)
            rows += f"{i:05d},0.5,0,1,0.25,,1,{split}{i % 3}\n"
        (folders["table"] / f"{split}_split.csv").write_text(rows, encoding="utf-8")
    for kind in ("engine", "graph", "calibration", "novelty"):
        for file in find_default_model().iterdir():
            if file.name != DAMAGED[kind]:
                os.link(file, folders[kind] / file.name)
            else:
                shutil.copy(file, folders[kind])
    rng = np.random.default_rng(0)
    arrays = {"00001": rng.normal(size=(5, 4)), "00002": rng.normal(size=(3, 4)).astype(np.float32)}
    (folders["pickle"] / "arrays.pkl").write_bytes(pickle.dumps(arrays))
    frames = store.Sequence.whole(rng.normal(size=(9, 4)).astype(np.float16), np.arange(9) / 50)
    store.write(folders["features"] / "clip.safetensors", "00001", frames)
    prediction = Prediction(
        intensities=rng.random(6).astype(np.float32), vad=rng.random((9, 3)).astype(np.float32),
        times=np.arange(9) / 50, hidden=None,
    )  # fmt: skip
    teacher_cache.write(folders["teacher"] / "clip.npz", prediction)
    for kind in ("run", "weights", "settings"):
        model = EmiModel(EmiConfig(encoder_config=TINY, lstm=False))
        model.save_pretrained(folders[kind])
        checkpoint.write_settings(folders[kind], TrainSettings.read(), {})
    subprocess.run(
        [sys.executable, "-m", "emimic", "predict", folders["wav"] / "clip.wav", "--out", folders["journal"],
         "--quiet"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folders
