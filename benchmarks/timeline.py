"""Long recordings: speed, memory of the whole process, and the error of windows.

    python -m benchmarks.timeline ../shared/data/bursts/audio [--minutes 60] [--model FOLDER]
    python -m benchmarks.timeline ../shared/data/bursts/audio --attention RUN

Clips of the folder, in a shuffled order, are joined to one wav and to files of a minute each; `emimic predict
--timeline` predicts both, in separate processes, in turn. Expected with the model in the package: below 400 MB, and
an hour in less time than its minutes. Every 0.2 s is predicted once, for the speed; the ratio is the median of
five with `--hop 2`.

With `--attention`, RUN (whose encoder must accept any length, as wav2vec 2.0) predicts two minutes with attention over
all of them, and in windows; V/A/D of both are compared. Both write docs/results/timeline.json.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.bursts import machine
from benchmarks.command import make_parser
from emimic.files import write_atomically
from emimic.media import decode
from emimic.task import SAMPLE_RATE

_START = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(process.pid, 0)
open(sys.argv[1], "w").write(str(used.ru_maxrss))
sys.exit(status != 0)
"""
"""Runs a command from a process that is small: Linux counts the memory of the one that starts another as its own."""

OUT = Path(__file__).parent.parent / "docs" / "results" / "timeline.json"
REPEATS = 5


def joined(folder: Path, seconds: float) -> np.ndarray:
    """Return clips in a shuffled order, one after the other, cut at `seconds`: (sample,)."""
    clips = sorted(folder.glob("*.mp3"))
    left, parts = round(seconds * SAMPLE_RATE), []
    for number in np.random.default_rng(0).permutation(len(clips)):
        parts.append(decode.load(clips[number])[:left])
        left -= len(parts[-1])
        if not left:
            return np.concatenate(parts)
    raise SystemExit(f"the clips of {folder} are {left / SAMPLE_RATE:g} s too short")


def run_predict(
    paths: list[Path], model: str | None, *options: str
) -> tuple[float, list[dict[str, Any]], float]:
    """Run `emimic predict --timeline`; return its wall seconds, its clips and its peak memory in MB."""
    words: list[str | Path] = [sys.executable, "-m", "emimic", "predict", *paths, "--timeline", "--quiet"]
    words += ["--format", "json", *options, *(["--model", model] if model else [])]
    with tempfile.NamedTemporaryFile("r") as peak:
        start = time.perf_counter()
        started = [sys.executable, "-c", _START, peak.name, *words]
        shown = subprocess.run(started, stdout=subprocess.PIPE, check=True)
        wall = time.perf_counter() - start
        peak_mb = int(peak.read()) / 1024
    clips: list[dict[str, Any]] = json.loads(shown.stdout)["clips"]
    return wall, clips, peak_mb


def speed(folder: Path, minutes: int, model: str | None) -> dict[str, Any]:
    """Measure one long file, and the same in minutes."""
    with tempfile.TemporaryDirectory() as temporary:
        wave = joined(folder, 60.0 * minutes)
        whole = Path(temporary) / "long.wav"
        soundfile.write(whole, wave, SAMPLE_RATE, "PCM_16")
        pieces = [Path(temporary) / f"{i:04d}.wav" for i in range(minutes)]
        for path, piece in zip(pieces, wave.reshape(minutes, -1), strict=True):
            soundfile.write(path, piece, SAMPLE_RATE, "PCM_16")
        del wave
        ratios = []
        for _ in range(REPEATS):
            long, _, _ = run_predict([whole], model, "--hop", "2")
            short, _, _ = run_predict(pieces, model, "--hop", "2")
            ratios.append(long / short)
            print(f"one file {long:.1f} s, minutes {short:.1f} s", flush=True)
        wall, (clip,), peak_mb = run_predict([whole], model)
    joy = next(iter(clip["timeline"]["intensities"].values()))
    return {
        "command": f"python -m benchmarks.timeline CLIPS --minutes {minutes}",
        "machine": machine(),
        "load_before": round(os.getloadavg()[2], 2),
        "seconds": clip["seconds"],
        "windows": len(joy),
        "windows_with_voice": sum(value is not None for value in joy),
        "wall_s": round(wall, 1),
        "times_real_time": round(clip["seconds"] / wall, 1),
        "peak_mb": round(peak_mb),
        "one_file_to_its_minutes": {
            "median": round(statistics.median(ratios), 3),
            "minimum": round(min(ratios), 3),
            "maximum": round(max(ratios), 3),
            "repeats": REPEATS,
        },
    }


def attention(folder: Path, run: str, seconds: float = 120.0) -> dict[str, Any]:
    """Compare V/A/D of windows with those of all frames attending to each other."""
    import torch

    from emimic.inference.engine import TorchEngine
    from emimic.inference.predictor import Predictor
    from emimic.media.waveform import ClipFormat
    from emimic.model.model import EmiModel

    wave = joined(folder, seconds)
    model = EmiModel.open_run(run, device="cpu")
    clip = ClipFormat(None, model.config.do_normalize).prepare(wave).samples
    with torch.inference_mode():
        whole = model(torch.from_numpy(clip)[None]).vad[0].numpy()
    times = model.compute_frame_times(len(whole))
    predictor = Predictor(TorchEngine(run))
    figures: dict[str, Any] = {"seconds": seconds, "windows": {}}
    for window, hop in ((2.5, 0.2), (12.0, 6.0)):
        line = predictor.predict_timeline(
            wave, sample_rate=SAMPLE_RATE, name="joined", window=window, hop=hop, voice_segments=False
        )
        assert line.vad is not None
        assert line.vad_times is not None
        own = np.stack([np.interp(line.vad_times, times, values) for values in whole.T], axis=1)
        apart = np.sqrt(np.square(line.vad - own).mean(axis=0)) / own.std(axis=0)
        together = [float(np.corrcoef(line.vad[:, i], own[:, i])[0, 1]) for i in range(3)]
        figures["windows"][f"{window:g} s every {hop:g} s"] = {
            "rms_difference_in_stds": [round(float(v), 3) for v in apart],
            "pearson": [round(v, 4) for v in together],
        }
    return figures


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--model", help="default: the one in the package")
    parser.add_argument("--attention", metavar="RUN")
    given = parser.parse_args()
    results = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    if given.attention:
        results["full_attention"] = attention(given.folder, given.attention)
    else:
        kept = {"full_attention": results["full_attention"]} if "full_attention" in results else {}
        results = speed(given.folder, given.minutes, given.model) | kept
    print(json.dumps(results, indent=1))
    if given.model is None:
        write_atomically(OUT, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
