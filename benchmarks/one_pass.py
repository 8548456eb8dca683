"""Timelines in one pass beside exact ones, in which each window is a clip: docs/results/one_pass.json.

    python -m benchmarks.one_pass score CORPORA [--model FOLDER]
    python -m benchmarks.one_pass speed CORPORA [--model FOLDER] [--minutes 10]
    python -m benchmarks.one_pass lengths CORPORA [--model FOLDER]

CORPORA: made by benchmarks/default_corpora.py. `score` joins clips in a shuffled order: bursts of the validation
speakers, and acted speech (TAVA). It compares both timelines step by step, and scores both against the clips' labels: a
clip's value is the mean of the steps whose centers lie in it. Intervals resample speakers. Silence is predicted too, so
that the steps are the same. `speed` predicts a file and a stream of speech (Apache-2.0 coffee orders), exactly and in
one pass, in turn, on all cores; the ratio is the median of five. `lengths` predicts a minute of it in one pass,
repeated to 1 to 120 minutes, in turn.
"""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bursts import machine
from benchmarks.command import make_parser
from emimic import metrics
from emimic.data.corpus import Item, load_corpus
from emimic.files import write_atomically
from emimic.inference.engine import Engine, find_default_model, open_engine
from emimic.inference.grid import TimelineOptions
from emimic.inference.passes import FILE, LIVE, Blocks
from emimic.inference.stream import Stream, assemble_timeline, compute_timeline
from emimic.inference.timeline import Timeline
from emimic.inference.voice_activity import Detector
from emimic.media import decode
from emimic.task import EMOTIONS, SAMPLE_RATE, VAD

OUT = Path(__file__).parent.parent / "docs" / "results" / "one_pass.json"
REPEATS = 5
BLOCK = 10.0
MINUTES = (1, 10, 60, 120)
SOURCES = {"bursts": ("bursts", "valid", 600), "speech": ("tava", "test", 192)}

Wave = NDArray[np.float32]


def load_items(corpora: Path, name: str, split: str, count: int) -> list[Item]:
    """Return clips of a corpus in a shuffled order."""
    loaded = load_corpus(corpora / name, targets=EMOTIONS, splits=[split], scan=False, partial=True)
    items = loaded.splits[split].items
    return [items[i] for i in np.random.default_rng(0).permutation(len(items))[:count]]


def predict(engine: Engine, wave: Wave, options: TimelineOptions, blocks: Blocks = FILE) -> Timeline:
    """Return the timeline of a recording, silence included."""
    stream = Stream(engine, options, blocks=blocks, voice_segments=False)
    size = round(BLOCK * SAMPLE_RATE)
    steps = [step for start in range(0, len(wave), size) for step in stream.push(wave[start : start + size])]
    return assemble_timeline(stream, steps + stream.flush(), name="joined", targets=engine.spec.targets)


def stack(line: Timeline) -> NDArray[np.float64]:
    """Return intensities and V/A/D, (step, column)."""
    assert line.vad is not None
    return np.concatenate([line.intensities, line.vad], axis=1).astype(np.float64)


def average_clips(line: Timeline, edges: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean of the steps in each clip, (clip, column); of the nearest step, if it has none."""
    values, rows = stack(line), []
    for start, end in itertools.pairwise(edges):
        inside = (line.times * SAMPLE_RATE >= start) & (line.times * SAMPLE_RATE < end)
        nearest = np.abs(line.times - (start + end) / 2 / SAMPLE_RATE).argmin()
        rows.append(values[inside].mean(axis=0) if inside.any() else values[nearest])
    return np.array(rows)


def score(engine: Engine, items: Sequence[Item]) -> dict[str, Any]:
    """Return agreement of both ways, and each one's Pearson with the labels."""
    waves = [decode.load(item.path) for item in items]
    wave, edges = np.concatenate(waves), [0, *np.cumsum([len(part) for part in waves]).tolist()]
    exact = predict(engine, wave, TimelineOptions(exact=True))
    lines = {"file": predict(engine, wave, TimelineOptions(), FILE)}
    lines["stream"] = predict(engine, wave, TimelineOptions(), LIVE)
    unknown = np.full(len(VAD), np.nan)
    labels = np.array([[*item.labels, *(unknown if item.vad is None else item.vad)] for item in items])
    names = [*EMOTIONS, *VAD]
    known = [
        i for i in range(len(names)) if np.isfinite(labels[:, i]).sum() > 20 and np.nanstd(labels[:, i]) > 0
    ]
    speakers = [item.speaker for item in items]
    figures: dict[str, Any] = {
        "clips": len(items),
        "speakers": len(set(speakers)),
        "seconds": round(len(wave) / SAMPLE_RATE, 1),
    }
    base = average_clips(exact, edges)
    figures["exact"] = summarize(base[:, known], labels[:, known], [names[i] for i in known], speakers)
    for name, line in lines.items():
        assert line.method == "one pass"
        both = stack(exact), stack(line)
        rms = np.sqrt(np.square(both[0] - both[1]).mean(axis=0))
        r = [float(np.corrcoef(*(side[:, i] for side in both))[0, 1]) for i in range(len(names))]
        means = average_clips(line, edges)

        draws = [_resample(side[:, known], labels[:, known], speakers) for side in (means, base)]
        low, high = metrics.compute_interval(draws[0] - draws[1])
        figures[name] = summarize(means[:, known], labels[:, known], [names[i] for i in known], speakers) | {
            "agreement": {
                n: {"pearson": round(a, 4), "rms": round(float(b), 4)}
                for n, a, b in zip(names, r, rms, strict=True)
            },
            "less_exact": {
                "value": _average(means[:, known], labels[:, known])
                - _average(base[:, known], labels[:, known]),
                "low": float(low),
                "high": float(high),
            },
        }
    return figures


def _average(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.mean(metrics.compute_pearson(x, y)))


def _resample(x: NDArray[np.float64], y: NDArray[np.float64], speakers: Sequence[Any]) -> NDArray[np.float64]:
    """Return the mean Pearson of resampled speakers, (draw,); the same draws for the same speakers."""
    draws = metrics.resample_statistic(metrics.compute_pearson, x, y, groups=speakers, n=1000)
    return draws.reshape(1000, -1).mean(axis=1)


def summarize(
    x: NDArray[np.float64], y: NDArray[np.float64], names: Sequence[str], speakers: Sequence[Any]
) -> dict[str, Any]:
    """Return Pearson with the labels: the mean with its interval, and by column."""
    values = np.atleast_1d(metrics.compute_pearson(x, y))
    draws = metrics.resample_statistic(metrics.compute_pearson, x, y, groups=speakers, n=1000).reshape(
        1000, -1
    )
    low, high = metrics.compute_interval(draws.mean(axis=1))
    mean = {"value": float(values.mean()), "low": float(low), "high": float(high)}
    return {
        "pearson": {"mean": mean, **{name: round(float(v), 4) for name, v in zip(names, values, strict=True)}}
    }


def measure(engine: Engine, wave: Wave, options: TimelineOptions) -> float:
    """Return wall seconds of a timeline of a file's samples, with voice activity detection."""
    size = round(BLOCK * SAMPLE_RATE)
    start = time.perf_counter()
    compute_timeline(engine, (wave[i : i + size] for i in range(0, len(wave), size)), options, name="joined")
    return time.perf_counter() - start


def measure_lengths(model: Path, minute: Wave, repeats: int) -> dict[str, Any]:
    """Return ms per second of sound of one pass over a minute repeated to each of `MINUTES`: medians of turns."""
    engine = open_engine(model, streams=2)
    measure(engine, minute, TimelineOptions())  # first calls take longer
    costs: dict[int, list[tuple[float, float]]] = {minutes: [] for minutes in MINUTES}
    for _ in range(repeats):
        for minutes, turns in costs.items():
            files = max(1, 10 // minutes)  # short ones are measured over ten minutes, too
            wave, start = np.tile(minute, minutes), time.process_time()
            wall = sum(measure(engine, wave, TimelineOptions()) for _ in range(files))
            spent = time.process_time() - start
            turns.append((1000 * wall / files / (60 * minutes), 1000 * spent / files / (60 * minutes)))
            print(f"{minutes} min: {turns[-1][0]:.2f} ms, CPU {turns[-1][1]:.2f} ms per second", flush=True)
    medians = {
        name: {
            str(minutes): round(statistics.median(turn[column] for turn in turns), 2)
            for minutes, turns in costs.items()
        }
        for column, name in enumerate(("wall_ms_per_second", "cpu_ms_per_second"))
    }
    return {**medians, "repeats": repeats, "machine": machine()}


def measure_stream(engine: Engine, wave: Wave) -> dict[str, float]:
    """Return the load and the latency of a stream that arrives in tenths of a second."""
    stream, size, latest = Stream(engine), SAMPLE_RATE // 10, 0.0
    start, slowest = time.process_time(), 0.0
    for first in range(0, len(wave), size):
        begun = time.perf_counter()
        for step in stream.push(wave[first : first + size]):
            latest = max(latest, (first + size) / SAMPLE_RATE - step.time)
        slowest = max(slowest, time.perf_counter() - begun)
    stream.flush()
    return {
        "cpu_s_per_second": round((time.process_time() - start) / (len(wave) / SAMPLE_RATE), 4),
        "latency_s": round(latest, 2),
        "stated_latency_s": round(stream.latency, 2),
        "slowest_chunk_s": round(slowest, 3),
    }


def measure_parts(model: Path, wave: Wave, repeats: int) -> dict[str, float]:
    """Return CPU ms per second of sound of each part of one pass over a file's samples, on one thread: medians."""
    engine: Any = open_engine(model, threads=1)
    turns: list[dict[str, float]] = []
    spent: dict[str, float] = {}

    def time_calls(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            start = time.process_time()
            try:
                return call(*given, **named)
            finally:
                spent[part] = spent.get(part, 0.0) + time.process_time() - start

        return run

    engine.encode = time_calls("encoder", engine.encode)
    engine.predict_windows = time_calls("heads", engine.predict_windows)
    for _ in range(repeats):
        spent.clear()
        time_calls("all", predict)(engine, wave, TimelineOptions())
        detector = Detector(FILE.voice)
        time_calls("voice", detector.push)(wave)
        rest = spent.pop("all") - spent["encoder"] - spent["heads"]
        turns.append({**spent, "rest": rest})
    seconds = len(wave) / SAMPLE_RATE
    return {
        part: round(1000 * statistics.median(turn[part] for turn in turns) / seconds, 2) for part in turns[0]
    }


def measure_speed(model: Path, wave: Wave, repeats: int) -> dict[str, Any]:
    """Return the speed of both ways, in turn."""
    engine = open_engine(model, streams=2)
    walls: list[tuple[float, float]] = []
    for _ in range(repeats):
        walls.append(
            (measure(engine, wave, TimelineOptions(exact=True)), measure(engine, wave, TimelineOptions()))
        )
        print(f"exact {walls[-1][0]:.1f} s, one pass {walls[-1][1]:.1f} s", flush=True)
    ratios = [exact / single for exact, single in walls]
    seconds = len(wave) / SAMPLE_RATE
    return {
        "seconds": round(seconds, 1),
        "exact_times_real_time": round(seconds / statistics.median(wall for wall, _ in walls), 1),
        "times_real_time": round(seconds / statistics.median(wall for _, wall in walls), 1),
        "ratio": {
            "median": round(statistics.median(ratios), 2),
            "minimum": round(min(ratios), 2),
            "maximum": round(max(ratios), 2),
            "repeats": repeats,
        },
        "cpu_ms_per_second": measure_parts(model, wave[: 120 * SAMPLE_RATE], repeats),
        "stream": measure_stream(open_engine(model), wave[: 60 * SAMPLE_RATE]),
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("part", choices=("score", "speed", "lengths"))
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--model", type=Path, help="default: the one in the package")
    parser.add_argument("--name", help="of figures of another model, kept beside those of the included one")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--clips", type=int, help="at most, of each corpus")
    given = parser.parse_args()
    model = find_default_model() if given.model is None else given.model
    results: dict[str, Any] = {}
    if given.part == "score":
        engine = open_engine(model)
        results["scores"] = {
            name: score(engine, load_items(given.corpora, folder, split, given.clips or count))
            for name, (folder, split, count) in SOURCES.items()
        }
    else:
        waves = [decode.load(item.path) for item in load_items(given.corpora, "plain", "train", 2000)]
        wave = np.tile(np.concatenate(waves), 2)
        if given.part == "lengths":
            results["lengths"] = measure_lengths(model, wave[: 60 * SAMPLE_RATE], given.repeats)
        else:
            speed = measure_speed(model, wave[: round(60 * given.minutes * SAMPLE_RATE)], given.repeats)
            results["speed"] = speed | {"machine": machine()}
    blocks = {name: [one.before, one.advance, one.after] for name, one in (("file", FILE), ("stream", LIVE))}
    results["blocks_s"] = blocks
    stored = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    if given.name is not None:
        results = {given.name: stored.get(given.name, {}) | results}
    results = stored | results
    print(json.dumps(results, indent=1))
    write_atomically(OUT, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
