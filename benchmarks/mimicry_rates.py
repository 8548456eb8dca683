"""False positives and power of every measure of `emimic mimicry`, at 15 to 300 s: docs/results/mimicry_rates.json.

    python -m benchmarks.mimicry_rates TRACKS [--scale 1]   # TRACKS: of benchmarks.mimicry_tracks

Unrelated pairs are synthetic timelines (`benchmarks.mimicry.KINDS` in turn, from 30 s on every second pair with
pauses), or pieces of real recordings: joined vocal bursts (Apache-2.0), and English sentences (TAVA, AGPL-3.0, to
measure only). Each measure is tested at 5 %: in a single pair by surrogates, in a study by pseudo-dyads. Coupled pairs
have the second timeline follow the first one, with noise of a given power: how many are found?
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bursts import machine
from benchmarks.command import make_parser
from benchmarks.mimicry import HOP, KINDS, LEVEL, binomial, make_timeline, make_values, silences
from benchmarks.results import RESULTS
from emimic.inference.results import Timeline
from emimic.mimicry import MimicryError, Settings, compare
from emimic.mimicry.compare import make_series
from emimic.mimicry.measures import NAMES
from emimic.mimicry.study import Session, analyze
from emimic.mimicry.voices import compute_group_rho

SECONDS = (15, 30, 60, 300)
NOISE = {"weak": 4.0, "medium": 2.0, "strong": 1.0}
"""Power of the noise over that of the signal: correlations of .45, .58, .71 at the right lag."""
DRAWS = 99
Source = Callable[[int, int, np.random.Generator], Iterator[list[Timeline]]]
"""(seconds, voices of a session, random numbers) -> sessions of unrelated voices."""


def make_synthetic(seconds: int, voices: int, rng: np.random.Generator) -> Iterator[list[Timeline]]:
    """Yield unrelated timelines of one kind each session."""
    steps, number = round(seconds / HOP), 0
    while True:
        kind = list(KINDS)[number % len(KINDS)]
        has_gaps = seconds >= 30 and (number // len(KINDS)) % 2 == 1
        yield [
            make_timeline(make_values(steps, kind, rng), name, silences(steps, rng) if has_gaps else None)
            for name in "abc"[:voices]
        ]
        number += 1


def make_pieces(tracks: list[np.ndarray]) -> Source:
    """Return a source of pieces of different tracks, at random places."""

    def cut(seconds: int, voices: int, rng: np.random.Generator) -> Iterator[list[Timeline]]:
        steps = round(seconds / HOP)
        while True:
            picked = rng.choice(len(tracks), voices, replace=False)
            starts = [int(rng.integers(len(tracks[row]) - steps + 1)) for row in picked]
            pieces = [tracks[row][start : start + steps] for row, start in zip(picked, starts, strict=True)]
            gaps = [np.isnan(piece[:, 0]) for piece in pieces]
            if max(gap.mean() for gap in gaps) < 0.8:
                yield [make_timeline(piece, name) for piece, name in zip(pieces, "abc", strict=False)]

    return cut


def test_pair(pair: list[Timeline], seed: int) -> dict[str, float]:
    """Return the overall p of each measure in a pair."""
    found = compare(*pair, settings=Settings(alignment="windowed", draws=DRAWS, level=1 - LEVEL, seed=seed))
    rows = {one.name: float(one.p[-1]) for one in found.measures}
    return {"similarity": found.overall.chance.p, **rows}


def count_pairs(pairs: Iterator[list[Timeline]], number: int) -> dict[str, list[int]]:
    """Return, by measure, how many of `number` pairs have p of at most 5 %, and how many have a p."""
    found: dict[str, list[int]] = {name: [0, 0] for name in NAMES}
    done = 0
    while done < number:
        try:
            values = test_pair(next(pairs), done)
        except MimicryError:  # no window with a voice on both sides
            continue
        done += 1
        for name, p in values.items():
            found[name][0] += p <= LEVEL + 1e-9
            found[name][1] += bool(np.isfinite(p))
    return found


def count_sessions(source: Source, seconds: int, studies: int, size: int) -> dict[str, Any]:
    """Return the counts of the sessions of studies, judged by pseudo-dyads, and mean and std of SUSY's es."""
    found: dict[str, list[int]] = {name: [0, 0] for name in NAMES}
    sizes: list[float] = []
    rng = np.random.default_rng([3, seconds])
    pairs = source(seconds, 2, rng)
    for number in range(studies):
        sessions = []
        while len(sessions) < size:
            try:
                sessions.append(Session.from_timelines(f"s{len(sessions)}", next(pairs)))
            except MimicryError:
                continue
        study = analyze(
            sessions, settings=Settings(alignment="windowed", draws=19, level=1 - LEVEL, seed=number)
        )
        for name, test in study.voices[0].tests.items():
            p = test.p[:, -1]
            found[name][0] += int((p <= LEVEL + 1e-9).sum())
            found[name][1] += int(np.isfinite(p).sum())
        assert study.voices[0].dyads is not None
        sizes += [float(one.es[-1]) for one in study.voices[0].dyads.susy]
    es = np.array(sizes)[np.isfinite(sizes)]
    susy = {"mean": round(float(es.mean()), 3), "std": round(float(es.std(ddof=1)), 3)}
    return {"counts": found, "susy_es": susy}


def count_groups(source: Source, seconds: int, number: int) -> dict[str, list[int]]:
    """Return the counts of rho in single conversations of three unrelated voices."""
    trios, found = source(seconds, 3, np.random.default_rng([4, seconds])), [0, 0]
    settings = Settings(alignment="windowed", draws=39, level=1 - LEVEL)
    while found[1] < number:
        try:
            _, overall = compute_group_rho([make_series(voice) for voice in next(trios)], settings)
        except MimicryError:
            continue
        found[0] += overall.chance.p <= LEVEL + 1e-9
        found[1] += 1
    return {"rho": found}


def make_coupled(seconds: int, noise: float, rng: np.random.Generator) -> Iterator[list[Timeline]]:
    """Yield a timeline, and a noisy copy of it 0.4 to 2.2 s later."""
    steps, number = round(seconds / HOP), 0
    while True:
        kind = list(KINDS)[number % len(KINDS)]
        lag, long = int(rng.integers(2, 12)), make_values(steps + 12, kind, rng)
        second = long[12 - lag : 12 - lag + steps] + np.sqrt(noise) * make_values(steps, kind, rng)
        yield [make_timeline(long[12:], "a"), make_timeline(second, "b")]
        number += 1


def list_rows(tracks: Path, scale: float) -> Iterator[dict[str, Any]]:
    """Yield a row per test, kind of recordings and length: counts by measure."""
    sources: dict[str, Source] = {"synthetic": make_synthetic}
    longest = {"synthetic": 300}
    for name in ("bursts", "tava"):
        with np.load(tracks / f"{name}.npz") as file:
            arrays = [file[key] for key in file.files]
        sources[name], longest[name] = make_pieces(arrays), round(min(map(len, arrays)) * HOP)
    numbers = {15: 400, 30: 300, 60: 200, 300: 60}
    for seconds in SECONDS:
        for name, source in sources.items():
            if seconds > longest[name]:
                continue
            count = max(20, round(scale * numbers[seconds]))
            rng = np.random.default_rng([2, seconds])
            row = {"recordings": name, "seconds": seconds}
            yield {"test": "surrogates", **row, "counts": count_pairs(source(seconds, 2, rng), count)}
            yield {"test": "surrogates", **row, "counts": count_groups(source, seconds, count)}
            studies = max(1, round(scale * {15: 15, 30: 10, 60: 10, 300: 3}[seconds]))
            yield {"test": "pseudo-dyads", **row, **count_sessions(source, seconds, studies, 20)}
        for strength, noise in NOISE.items():
            rng = np.random.default_rng([5, seconds])
            pairs = make_coupled(seconds, noise, rng)
            count = max(10, round(scale * {15: 50, 30: 50, 60: 50, 300: 15}[seconds]))
            row = {"recordings": strength, "seconds": seconds}
            yield {"test": "power", **row, "counts": count_pairs(pairs, count)}


def main() -> None:
    """Run all tests, and write their counts."""
    parser = make_parser(__doc__)
    parser.add_argument("tracks", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the numbers of pairs")
    arguments = parser.parse_args()
    started, rows = time.process_time(), []
    for row in list_rows(arguments.tracks, arguments.scale):
        rows.append(row)
        print(round(time.process_time() - started), json.dumps(row), flush=True)
        result = {
            "command": f"python -m benchmarks.mimicry_rates TRACKS --scale {arguments.scale:g}",
            "level": LEVEL,
            "machine": machine(),
            "cpu_seconds": round(time.process_time() - started),
            "binomial_95": {str(number): binomial(LEVEL, number, 0.95) for number in (60, 200, 300, 400)},
            "rows": rows,
        }
        (RESULTS / "mimicry_rates.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
