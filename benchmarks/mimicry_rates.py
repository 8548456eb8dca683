"""False positives and power of every measure of `emimic mimicry`, at 15 to 300 s: docs/results/mimicry_rates.json.

    python -m benchmarks.mimicry_rates TRACKS [--scale 1]   # TRACKS: of benchmarks.mimicry_tracks; not for power

Unrelated pairs are synthetic timelines (`benchmarks.mimicry.KINDS` in turn, from 30 s on every second pair with
pauses), or pieces of real recordings: joined vocal bursts (Apache-2.0), and English sentences (TAVA, AGPL-3.0, to
measure only). Each measure is tested at 5 %: in a single pair by surrogates, in a study by pseudo-dyads. Coupled pairs
have the second timeline follow the first one, with noise of a given power, and coupled trios the third one, too: how
many are found?
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bursts import machine
from benchmarks.command import make_parser
from benchmarks.mimicry import HOP, KINDS, LEVEL, make_timeline, make_values, silences
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


def deal_pieces(tracks: list[np.ndarray]) -> Source:
    """Return a source of pieces that never overlap within 20 sessions: one of each half of each track."""

    def cut(seconds: int, voices: int, rng: np.random.Generator) -> Iterator[list[Timeline]]:
        steps = round(seconds / HOP)
        while True:
            order = rng.permutation(len(tracks))
            for row, other in zip(order, np.roll(order, 1), strict=True):
                pair = []
                for track, half in ((row, 0), (other, 1)):
                    middle = len(tracks[track]) // 2
                    start = half * middle + int(rng.integers(middle - steps + 1))
                    pair.append(make_timeline(tracks[track][start : start + steps], "ab"[half]))
                yield pair[:voices]

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


def make_coupled(noise: float) -> Source:
    """Return a source of a timeline, and noisy copies of it 0.4 to 2.2 s later."""

    def follow(seconds: int, voices: int, rng: np.random.Generator) -> Iterator[list[Timeline]]:
        steps, number = round(seconds / HOP), 0
        while True:
            kind = list(KINDS)[number % len(KINDS)]
            lags = [int(rng.integers(2, 12)) for _ in range(voices - 1)]
            long = make_values(steps + 12, kind, rng)
            yield [
                make_timeline(long[12:], "a"),
                *(
                    make_timeline(
                        long[12 - lag :][:steps] + np.sqrt(noise) * make_values(steps, kind, rng), name
                    )
                    for lag, name in zip(lags, "bc", strict=False)
                ),
            ]
            number += 1

    return follow


NUMBERS = {15: 400, 30: 300, 60: 200, 300: 60}
STUDIES = {15: 15, 30: 10, 60: 10, 300: 3}
COUPLED = {15: 50, 30: 50, 60: 50, 300: 15}


def list_pair_rows(tracks: dict[str, list[np.ndarray]], scale: float) -> Iterator[dict[str, Any]]:
    """Yield the counts of single pairs, and of trios, per kind of recordings and length."""
    sources = {"synthetic": make_synthetic, **{name: make_pieces(arrays) for name, arrays in tracks.items()}}
    for seconds in SECONDS:
        for name, source in sources.items():
            if name in tracks and seconds > min(map(len, tracks[name])) * HOP:
                continue
            count = max(20, round(scale * NUMBERS[seconds]))
            pairs = source(seconds, 2, np.random.default_rng([2, seconds]))
            row = {"test": "surrogates", "recordings": name, "seconds": seconds}
            yield {**row, "counts": count_pairs(pairs, count)}
            yield {**row, "counts": count_groups(source, seconds, count)}


def list_study_rows(tracks: dict[str, list[np.ndarray]], scale: float) -> Iterator[dict[str, Any]]:
    """Yield the counts of sessions; the sentences are too few for a study without repetitions."""
    for name, source in (("synthetic", make_synthetic), ("bursts", deal_pieces(tracks["bursts"]))):
        for seconds in SECONDS if name == "synthetic" else SECONDS[:-1]:
            studies = max(1, round(scale * STUDIES[seconds]))
            row = {"test": "pseudo-dyads", "recordings": name, "seconds": seconds}
            yield {**row, **count_sessions(source, seconds, studies, 20)}


def list_power_rows(_: dict[str, list[np.ndarray]], scale: float) -> Iterator[dict[str, Any]]:
    """Yield the counts of coupled pairs per strength and length."""
    for strength, noise in NOISE.items():
        for seconds in SECONDS:
            pairs = make_coupled(noise)(seconds, 2, np.random.default_rng([5, seconds]))
            counts = count_pairs(pairs, max(10, round(scale * COUPLED[seconds])))
            yield {"test": "power", "recordings": strength, "seconds": seconds, "counts": counts}


def list_trio_power_rows(_: dict[str, list[np.ndarray]], scale: float) -> Iterator[dict[str, Any]]:
    """Yield the counts of rho in coupled trios per strength and length."""
    for strength, noise in NOISE.items():
        for seconds in SECONDS:
            counts = count_groups(make_coupled(noise), seconds, max(10, round(scale * COUPLED[seconds])))
            yield {"test": "power-trios", "recordings": strength, "seconds": seconds, "counts": counts}


TESTS = {
    "surrogates": list_pair_rows,
    "pseudo-dyads": list_study_rows,
    "power": list_power_rows,
    "power-trios": list_trio_power_rows,
}


def main() -> None:
    """Run the tests, and write their counts; those of other tests stay."""
    parser = make_parser(__doc__)
    parser.add_argument("tracks", type=Path, nargs="?")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the numbers of pairs")
    parser.add_argument("--tests", nargs="+", choices=list(TESTS), default=list(TESTS))
    arguments = parser.parse_args()
    if arguments.tracks is None and {"surrogates", "pseudo-dyads"} & set(arguments.tests):
        parser.error("give TRACKS, or --tests power power-trios")
    tracks = {}
    for name in ("bursts", "tava") if arguments.tracks else ():
        with np.load(arguments.tracks / f"{name}.npz") as file:
            tracks[name] = [file[key] for key in file.files]
    path = RESULTS / "mimicry_rates.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    result |= {
        "command": f"python -m benchmarks.mimicry_rates TRACKS --scale {arguments.scale:g}",
        "level": LEVEL,
    }
    for test in arguments.tests:
        result.setdefault("machines", {})[test] = machine()
        result["rows"] = [row for row in result["rows"] if row["test"] != test]
        for row in TESTS[test](tracks, arguments.scale):
            result["rows"].append(row)
            print(round(time.process_time()), json.dumps(row), flush=True)
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
