"""Error rate of warping, and lags found by windows, on constructed pairs: docs/results/mimicry.json.

    python -m benchmarks.mimicry                    # synthetic timelines: no model, about ten minutes
    python -m benchmarks.mimicry --audio [--model M]  # also a joined recording and its delayed, noisy copies

Unrelated pairs must be found similar as often as the level says (5 %), whatever their autocorrelation and gaps. Pairs
with a known lag and leader, or warped by a known path, must be found. The rates of windows: benchmarks.mimicry_rates.
"""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import make_parser
from emimic.inference.results import Timeline
from emimic.mimicry import Settings, compare
from emimic.task import EMOTIONS, SAMPLE_RATE

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "mimicry.json"
HOP = 0.2
KINDS = {
    "AR(1) .5": (0.5, 0, False),
    "AR(1) .9": (0.9, 0, False),
    "AR(1) .97": (0.97, 0, False),
    "AR(1) .8, means of 2.5 s": (0.8, 12, False),
    "AR(1) .8, means of 2.5 s, skewed": (0.8, 12, True),
}
LEVEL = 0.05


def make_values(steps: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """(step, 9) without any relation among them: AR(1), averaged like the timeline's windows, skewed by exp."""
    phi, smooth, skewed = KINDS[kind]
    noise = rng.standard_normal((steps + 200, 9))
    for step in range(1, len(noise)):
        noise[step] += phi * noise[step - 1]
    if smooth:
        total = noise.cumsum(axis=0)
        noise = total[smooth:] - total[:-smooth]
    values = noise[-steps:] / noise.std(axis=0)
    return np.exp(values) if skewed else values


def make_timeline(values: np.ndarray, name: str, gaps: np.ndarray | None = None) -> Timeline:
    """Return a timeline of six intensities, and V/A/D at 50 Hz; gaps (step,) True where there is no voice."""
    values = np.where(gaps[:, None], np.nan, values) if gaps is not None else values
    times = HOP * np.arange(len(values))
    vad = np.repeat(values[:, 6:], 10, axis=0).astype(np.float32)
    vad_times = (np.arange(len(vad)) - 4.5) * 0.02
    six = values[:, :6].astype(np.float32)
    return Timeline(
        name,
        len(values) * HOP,
        EMOTIONS,
        2.5,
        HOP,
        times,
        times - 1.25,
        times + 1.25,
        six,
        vad_times,
        vad,
        (),
    )


def silences(steps: int, rng: np.random.Generator) -> np.ndarray:
    """Speech of 2 to 12 s and pauses of 0.4 to 3 s, in turn: (step,) True in pauses."""
    gaps, position = np.zeros(steps, bool), 0
    while position < steps:
        position += int(rng.integers(10, 60))
        length = int(rng.integers(2, 15))
        gaps[position : position + length] = True
        position += length
    return gaps


def binomial(rate: float, pairs: int) -> tuple[float, float]:
    """Return the fractions of pairs within which 99 % of experiments fall, if `rate` is the true one (exact)."""
    logs = [
        math.lgamma(pairs + 1) - math.lgamma(k + 1) - math.lgamma(pairs - k + 1)
        + k * math.log(rate) + (pairs - k) * math.log1p(-rate)
        for k in range(pairs + 1)
    ]  # fmt: skip
    total = np.cumsum(np.exp(logs))
    return float(np.searchsorted(total, 0.005) / pairs), float(np.searchsorted(total, 0.995) / pairs)


def unrelated(pairs: int, draws: int) -> Iterator[dict[str, Any]]:
    """Return how often unrelated pairs are found similar, overall and in any dimension (corrected)."""
    low, high = binomial(LEVEL, pairs)
    for alignment, seconds in (("dtw", 8), ("dtw", 20)):
        for kind in KINDS:
            for gapped in (False, True):
                if gapped and seconds < 20:
                    continue  # too little would be left
                rng = np.random.default_rng([seconds, list(KINDS).index(kind), gapped])
                steps, overall, any_one = round(seconds / HOP), 0, 0
                for number in range(pairs):
                    sides = []
                    for name, length in (("a", steps), ("b", round(0.8 * steps))):
                        gaps = silences(length, rng) if gapped else None
                        sides.append(make_timeline(make_values(length, kind, rng), name, gaps))
                    settings = Settings(alignment=alignment, draws=draws, level=1 - LEVEL, seed=number)
                    compared = compare(sides[0], sides[1], settings=settings)
                    overall += compared.overall.chance.beyond
                    any_one += any(one.chance.beyond for one in compared.dimensions)
                yield {
                    "alignment": alignment, "seconds": seconds, "timelines": kind, "gaps": gapped, "pairs": pairs,
                    "overall": overall / pairs, "any_dimension": any_one / pairs, "binomial_99": [low, high],
                }  # fmt: skip


def led(pairs: int, draws: int) -> Iterator[dict[str, Any]]:
    """Copies with a known lag, gain, offset and as much noise as signal: is the lag found, and the leader?

    Lags of two hops and more: a lag of one hop, found within one hop, need not show who leads.
    """
    for kind in KINDS:
        for gapped in (False, True):
            rng = np.random.default_rng([7, list(KINDS).index(kind), gapped])
            within, leader, whole, worst = 0, 0, 0, 0.0
            steps = round(60 / HOP)
            for number in range(pairs):
                lag = int(rng.integers(2, 12)) * (1 if number % 2 else -1)
                long = make_values(steps + 24, kind, rng)
                gain = rng.uniform(0.5, 2, size=9)
                first = long[12 : 12 + steps]
                second = gain * (
                    long[12 - lag : 12 - lag + steps] + make_values(steps, kind, rng)
                ) + rng.normal(size=9)
                gaps = [silences(steps, rng) if gapped else None for _ in range(2)]
                settings = Settings(alignment="windowed", draws=draws, seed=number)
                compared = compare(
                    make_timeline(first, "a", gaps[0]), make_timeline(second, "b", gaps[1]), settings=settings
                )
                lead = compared.leads[-1]
                worst = max(worst, abs(lead.lag - lag * HOP))
                within += abs(lead.lag - lag * HOP) <= HOP + 1e-9
                whole += abs(lead.whole_lag - lag * HOP) <= HOP + 1e-9
                leader += (lead.lag > 0) == (lag > 0) and lead.lag != 0
            yield {
                "timelines": kind, "gaps": gapped, "pairs": pairs, "seconds": 60, "noise_to_signal": 1.0,
                "lag_within_one_hop": within, "whole_lag_within_one_hop": whole, "leader": leader,
                "worst_lag_error": worst,
            }  # fmt: skip


def warped(pairs: int, draws: int) -> Iterator[dict[str, Any]]:
    """Imitations at another, changing speed, with half as much noise as signal: are they found, and the path?"""
    for seconds in (8, 20):
        for kind in KINDS:
            rng = np.random.default_rng([11, seconds, list(KINDS).index(kind)])
            steps, beyond, errors = round(seconds / HOP), 0, []
            for number in range(pairs):
                seed = make_values(steps, kind, rng)
                length = round(steps * rng.uniform(0.75, 1.35))
                positions = np.linspace(0, 1, length)
                path = (positions + 0.06 * np.sin(2 * np.pi * positions) * rng.choice((-1, 1))) * (steps - 1)
                mimic = np.stack([np.interp(path, np.arange(steps), one) for one in seed.T], axis=1)
                noise = make_values(length, kind, rng) * np.sqrt(0.5)
                compared = compare(
                    make_timeline(seed, "seed"),
                    make_timeline(mimic + noise, "mimic"),
                    settings=Settings(draws=draws, seed=number),
                )
                beyond += compared.overall.chance.beyond
                assert compared.path is not None
                truth = np.interp(compared.path.mimic, HOP * np.arange(length), path * HOP)
                errors.append(np.abs(compared.path.seed - truth).mean())
            yield {
                "seconds": seconds, "timelines": kind, "pairs": pairs, "noise_to_signal": 0.5,
                "more_than_chance": beyond, "mean_path_error_seconds": float(np.mean(errors)),
            }  # fmt: skip


def compare_recordings(model: str | None, pairs: int, draws: int) -> dict[str, Any]:
    """Sample clips joined to 60 s, and a copy with a known delay, another gain and noise, through the model."""
    import emimic
    from emimic.media import decode

    folder = Path(emimic.__file__).parent / "sample" / "audio"
    clips = sorted(folder.glob("*.mp3"))
    predictor = emimic.load(model) if model else emimic.load()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(pairs):
        parts, lag = [], float(rng.choice((-1, 1)) * HOP * rng.integers(2, 12))
        while sum(map(len, parts)) < 66 * SAMPLE_RATE:
            parts.append(decode.load(clips[rng.integers(len(clips))]))
        whole = np.concatenate(parts)
        start = 3 * SAMPLE_RATE
        first = whole[start : start + 60 * SAMPLE_RATE]
        shift = start - round(lag * SAMPLE_RATE)
        second = whole[shift : shift + 60 * SAMPLE_RATE] * 10 ** (rng.uniform(-10, 6) / 20)
        noise = rng.standard_normal(len(second)) * np.sqrt(np.mean(second**2)) * 10 ** (-15 / 20)
        sides = [
            predictor.predict_timeline(wave.astype(np.float32), sample_rate=SAMPLE_RATE)
            for wave in (first, second + noise)
        ]
        compared = compare(
            sides[0], sides[1], settings=Settings(alignment="windowed", draws=draws, seed=number)
        )
        lead = compared.leads[-1]
        rows.append(
            {
                "lag": lag,
                "found": lead.lag,
                "similarity": compared.overall.similarity,
            }
        )
    right = [abs(row["found"] - row["lag"]) <= HOP + 1e-9 for row in rows]
    leaders = [row["found"] * row["lag"] > 0 for row in rows]
    rows = [{name: _rounded(value) for name, value in row.items()} for row in rows]
    return {"pairs": pairs, "lag_within_one_hop": sum(right), "leader": sum(leaders), "rows": rows}


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    """Run the requested parts and write their figures; other figures stay."""
    parser = make_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=400, help="unrelated pairs a row")
    parser.add_argument("--draws", type=int, default=99)
    parser.add_argument("--audio-pairs", type=int, default=20)
    parser.add_argument("--audio", action="store_true", help="run the real recordings only")
    parser.add_argument("--model", help="a run or an exported model; default: the included model")
    arguments = parser.parse_args()
    result = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    started = time.perf_counter()
    if arguments.audio:
        result["audio"] = compare_recordings(arguments.model, arguments.audio_pairs, arguments.draws)
        _write(result)
        return
    result["command"] = f"python -m benchmarks.mimicry --pairs {arguments.pairs} --draws {arguments.draws}"
    result["level"] = LEVEL
    for key, rows in (
        ("led", led(100, arguments.draws)),
        ("warped", warped(100, arguments.draws)),
        ("unrelated", unrelated(arguments.pairs, arguments.draws)),
    ):
        result[key] = []
        for row in rows:
            print(key, json.dumps(row), flush=True)
            result[key].append({name: _rounded(value) for name, value in row.items()})
            result["seconds"] = round(time.perf_counter() - started)
            _write(result)


def _write(result: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
