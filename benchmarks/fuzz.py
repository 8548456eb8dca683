"""Damaged files of every kind that emimic reads: what must be refused by name, quickly, in little memory.

    python benchmarks/fuzz.py --minutes 120 [--seed 0] [--kinds wav mp4 table ...] [--found FOLDER]

Whole files are made first (a sentence in ten containers, a corpus, an exported model, what is written and read back:
pickled arrays, features, a teacher's predictions, a journal, a run). Each input is one of them, damaged: bits
flipped, bytes or fields replaced, pieces cut out, repeated, moved, or the end missing. A child process reads it; the
input counts as a finding when the child crashes, takes 10 s of CPU time or a minute, grows by more than 1 GiB, or
raises anything outside `EmimicError`. Input number N of a kind follows from the seed, the kind and N alone. Findings
are kept under --found with what happened. Writes docs/results/fuzz.json; stops with an error when there are findings.
"""

import argparse
import io
import json
import os
import pickle
import random
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from emimic.task import EMOTIONS, SAMPLE_RATE, EmimicError

OUT = Path(__file__).parent.parent / "docs" / "results" / "fuzz.json"
SECONDS, WALL, BYTES = 10.0, 60.0, 1 << 30
CONTAINERS = {
    "wav": "pcm_s16le", "flac": "flac", "mp3": "mp3", "ogg": "libopus", "mp4": "aac",
    "mkv": "aac", "webm": "libopus", "mpg": "mp2", "ts": "aac", "aiff": "pcm_s16be",
}  # fmt: skip
ROWS = "Filename,{},Speaker\n".format(",".join(EMOTIONS))
TINY = {
    "model_type": "wav2vec2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "conv_dim": [8] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
FIELDS = (
    b"",
    b"-1",
    b"nan",
    b"1e400",
    b"0_5",
    b'"',
    b"\0",
    b"\xff\xfe",
    b"9" * 30,
    b"None",
    b"..",
    b"[" * 4000,
)
"""What stands in the place of a field of a text."""


# Whole files


def voice() -> np.ndarray:
    """A second of a voice-like tone, (sample,) float32."""
    time_ = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * 140 * k * time_) / k for k in range(1, 12))
    return (0.1 * tone * (1 + np.sin(2 * np.pi * 3 * time_))).astype(np.float32)


def contained(name: str, codec: str) -> bytes:
    """The voice in a container; in those of pictures with some beside it."""
    import av

    buffer = io.BytesIO()
    rate = 48_000 if codec in ("libopus", "mp2") else SAMPLE_RATE
    muxer = {"mpg": "mpeg", "ts": "mpegts", "mkv": "matroska"}.get(name, name)
    with av.open(buffer, "w", format=muxer) as out:
        sound: Any = out.add_stream(codec, rate=rate)
        sound.layout = "mono"
        picture: Any = None
        if name in ("mp4", "mkv", "mpg", "ts"):
            picture = out.add_stream("mpeg1video" if name == "mpg" else "mpeg4", rate=25)
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
            for i in range(25):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * i, np.uint8), "rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                out.mux(picture.encode(frame))
            out.mux(picture.encode(None))
        resampler = av.AudioResampler(
            format=sound.format, layout="mono", rate=rate, frame_size=sound.frame_size
        )
        whole = av.AudioFrame.from_ndarray(voice()[None], format="flt", layout="mono")
        whole.sample_rate = SAMPLE_RATE
        for frame in (*resampler.resample(whole), *resampler.resample(None)):
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return buffer.getvalue()


def make(folder: Path) -> dict[str, Path]:
    """Each kind's folder of whole files; the one that is damaged is named by `DAMAGED`."""
    import soundfile

    from emimic.features import store
    from emimic.inference.engine import find_default_model
    from emimic.model.config import EmiConfig
    from emimic.model.model import EmiModel
    from emimic.prediction import Prediction
    from emimic.training import checkpoint, teacher_cache
    from emimic.training.settings import TrainSettings

    places = {kind: folder / kind for kind in DAMAGED}
    for place in places.values():
        place.mkdir(parents=True)
    for name, codec in CONTAINERS.items():
        (places[name] / f"clip.{name}").write_bytes(contained(name, codec))
    (places["table"] / "audio").mkdir()
    for split, first in (("train", 0), ("valid", 6)):
        rows = ROWS
        for i in range(first, first + 6):
            soundfile.write(places["table"] / "audio" / f"{i:05d}.wav", voice()[:4000], SAMPLE_RATE)
            rows += f"{i:05d},0.5,0,1,0.25,,1,{split}{i % 3}\n"
        (places["table"] / f"{split}_split.csv").write_text(rows, encoding="utf-8")
    for kind in ("engine", "graph", "calibration", "novelty"):
        for file in find_default_model().iterdir():
            if file.name != DAMAGED[kind]:
                os.link(file, places[kind] / file.name)
            else:
                shutil.copy(file, places[kind])
    rng = np.random.default_rng(0)
    arrays = {"00001": rng.normal(size=(5, 4)), "00002": rng.normal(size=(3, 4)).astype(np.float32)}
    (places["pickle"] / "arrays.pkl").write_bytes(pickle.dumps(arrays))
    frames = store.Sequence.whole(rng.normal(size=(9, 4)).astype(np.float16), np.arange(9) / 50)
    store.write(places["features"] / "clip.safetensors", "00001", frames)
    prediction = Prediction(
        intensities=rng.random(6).astype(np.float32), vad=rng.random((9, 3)).astype(np.float32),
        times=np.arange(9) / 50, hidden=None,
    )  # fmt: skip
    teacher_cache.write(places["teacher"] / "clip.npz", prediction)
    for kind in ("run", "weights", "settings"):
        model = EmiModel(EmiConfig(encoder_config=TINY, lstm=False))
        model.save_pretrained(places[kind])
        checkpoint.write_settings(places[kind], TrainSettings.read(), {})
    subprocess.run(
        [sys.executable, "-m", "emimic", "predict", places["wav"] / "clip.wav", "--out", places["journal"], "--quiet"],
        check=True, capture_output=True,
    )  # fmt: skip
    return places


# What is read of each kind


def read_media(file: Path) -> None:
    """All that is asked of a recording."""
    from emimic.media import container, decode

    decode.load(file)
    container.probe(file)


def read_engine(file: Path) -> None:
    """Open a model and predict a clip."""
    from emimic.inference.engine import open_engine

    open_engine(file.parent, threads=1).predict([voice()])


def read_table(file: Path) -> None:
    """Read a corpus."""
    from emimic.data.corpus import load_corpus

    load_corpus(file.parent, splits=["train", "valid"], scan=False)


def read_run(file: Path) -> None:
    """Open a run."""
    from emimic.model.model import EmiModel

    EmiModel.open_run(file.parent, device="cpu")


def read_settings(file: Path) -> None:
    """Read what a run was started with."""
    from emimic.training import checkpoint

    checkpoint.read_settings(file.parent)


def read_pickle(file: Path) -> None:
    """Read the arrays of a pickle, which runs nothing of it."""
    from emimic.files import read_arrays

    read_arrays(file)


def read_features(file: Path) -> None:
    """Read frames."""
    from emimic.features import store

    store.read_clip_id(file)
    store.read(file, "00001")


def read_teacher(file: Path) -> None:
    """Read a teacher's prediction."""
    from emimic.training import teacher_cache

    teacher_cache.read(file)


def read_journal(file: Path) -> None:
    """Go on with a folder of predictions."""
    from emimic.inference.engine import find_default_model
    from emimic.inference.journal import Journal

    Journal(file.parent, find_default_model(), targets=EMOTIONS).__exit__(None, None, None)


DAMAGED = {name: f"clip.{name}" for name in CONTAINERS} | {
    "table": "train_split.csv", "engine": "engine.json", "graph": "model.onnx", "calibration": "calibration.json",
    "novelty": "novelty.npz", "pickle": "arrays.pkl", "features": "clip.safetensors", "teacher": "clip.npz",
    "journal": "journal.jsonl", "run": "config.json", "weights": "model.safetensors", "settings": "train.json",
}  # fmt: skip
READERS: dict[str, Callable[[Path], None]] = dict.fromkeys(CONTAINERS, read_media) | {
    "table": read_table, "engine": read_engine, "graph": read_engine, "calibration": read_engine,
    "novelty": read_engine, "pickle": read_pickle, "features": read_features, "teacher": read_teacher,
    "journal": read_journal, "run": read_run, "weights": read_run, "settings": read_settings,
}  # fmt: skip
TEXT = ("table", "engine", "calibration", "journal", "run", "settings")


# Damage


def damaged(data: bytes, rng: random.Random, *, text: bool) -> bytes:
    """One to four kinds of damage, one after another."""
    kinds = [*KINDS.values(), *[in_field] * (4 * text)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        if data:
            start = rng.randrange(
                len(data) if rng.random() < 0.5 else min(len(data), 200)
            )  # headers decide most
            data = rng.choice(kinds)(data, start, min(len(data) - start, 1 << rng.randrange(12)), rng)
    return data


def in_field(data: bytes, start: int, _: int, rng: random.Random) -> bytes:
    """A field of a text replaced."""
    spots = [i for i, byte in enumerate(data) if byte in b',:\n"[ {']
    start = rng.choice(spots or [0]) + 1
    end = next((i for i in spots if i > start), len(data))
    return data[:start] + rng.choice(FIELDS) + data[end:]


def in_bits(data: bytes, start: int, length: int, rng: random.Random) -> bytes:
    """Some bits flipped."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 20))):
        changed[start + rng.randrange(length)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def in_number(data: bytes, start: int, _: int, rng: random.Random) -> bytes:
    """A number of a header replaced by one at the edge of its kind."""
    size = rng.choice((1, 2, 4, 8))
    number = rng.choice((0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)) % (1 << 8 * size)
    return data[:start] + number.to_bytes(size, rng.choice(("little", "big"))) + data[start + size :]


def moved(data: bytes, start: int, length: int, rng: random.Random) -> bytes:
    """A piece written over another place."""
    other = rng.randrange(len(data))
    return data[:other] + data[start : start + length] + data[other + length :]


KINDS: dict[str, Callable[[bytes, int, int, random.Random], bytes]] = {
    "bits": in_bits,
    "number": in_number,
    "moved": moved,
    "bytes": lambda data, start, length, rng: data[:start] + rng.randbytes(length) + data[start + length :],
    "cut": lambda data, start, length, _: data[:start] + data[start + length :],
    "repeated": lambda data, start, length, rng: (
        data[:start] + data[start : start + length] * rng.choice((2, 3, 50)) + data[start + length :]
    ),
    "end": lambda data, start, *_: data[:start],
}
"""Damage: of data, at a start, over a length."""


# Judging


def child() -> None:
    """Read the files that are named on standard input, one a line with its kind; say what came of each."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        kind, _, name = line.rstrip("\n").partition(" ")
        before, result, start = peak(), "read", time.process_time()
        try:
            READERS[kind](Path(name))
        except EmimicError as error:
            result = (
                "refused"
                if Path(name).name in str(error) or Path(name).parent.name in str(error)
                else "unnamed"
            )
        except Exception as error:  # noqa: BLE001 - what is looked for
            result = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if peak() - before > BYTES:
            result = f"{(peak() - before) / 2**20:.0f} MiB"
        print(json.dumps([result, time.process_time() - start]), file=say, flush=True)


def peak() -> int:
    """The most memory that this process had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Judge:
    """A child process that reads files, started again when it is lost or has read a thousand."""

    def __init__(self, log: Path) -> None:
        self.log, self.process, self.count = log, None, 0

    def __call__(self, kind: str, file: Path) -> str:
        """Return what came of reading the file: read, refused, or what was wrong."""
        process = self.process
        if process is None or self.count >= 1000:
            self.stop()
            process = self.process = subprocess.Popen(
                [sys.executable, __file__, "--child"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("wb"), text=True,
            )  # fmt: skip
            self.count = 0
        self.count += 1
        process.stdin.write(f"{kind} {file}\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], WALL)[0]:
            self.stop()
            return f"took longer than {WALL:g} s"
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self.process = None
            return f"ended with {code}"
        result, seconds = json.loads(line)
        return f"took {seconds:.0f} s" if seconds > SECONDS and self.count > 1 else result

    def stop(self) -> None:
        """End the child."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=DAMAGED, default=list(DAMAGED))
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child()
        return
    with tempfile.TemporaryDirectory() as name:
        places = make(Path(name))
        judge = Judge(Path(name) / "stderr.txt")
        whole = {kind: (places[kind] / DAMAGED[kind]).read_bytes() for kind in given.kinds}
        for kind in given.kinds:
            if (result := judge(kind, places[kind] / DAMAGED[kind])) != "read":
                sys.exit(f"the whole {kind} file is {result}; {judge.log.read_text()[-500:]}")
        found: dict[str, dict[str, Any]] = {
            kind: {"inputs": 0, "read": 0, "refused": 0} for kind in given.kinds
        }
        findings: list[dict[str, Any]] = []
        start, number = time.monotonic(), 0
        while time.monotonic() - start < 60 * given.minutes:
            for kind in given.kinds:
                data = damaged(whole[kind], random.Random(f"{given.seed} {kind} {number}"), text=kind in TEXT)
                file = places[kind] / DAMAGED[kind]
                file.write_bytes(data)
                result = judge(kind, file)
                found[kind]["inputs"] += 1
                if result in ("read", "refused"):
                    found[kind][result] += 1
                    continue
                findings.append({"kind": kind, "number": number, "what": result})
                given.found.mkdir(parents=True, exist_ok=True)
                (given.found / f"{kind}-{number}-{DAMAGED[kind]}").write_bytes(data)
                print(f"{kind} {number}: {result}", flush=True)
            number += 1
        judge.stop()
    minutes = (time.monotonic() - start) / 60
    results = {"seed": given.seed, "minutes": round(minutes, 1), "kinds": found, "findings": findings}
    OUT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(
        f"{sum(one['inputs'] for one in found.values())} inputs in {minutes:.1f} minutes, {len(findings)} findings"
    )
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
