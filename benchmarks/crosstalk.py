"""Hits and false alarms of the crosstalk warning, on joined bursts: docs/results/crosstalk.json.

    python -m benchmarks.crosstalk BURSTS

Recordings of 20 s are joined from the vocal bursts of two validation speakers, at the same level. The first voice is
added to the second one's recording at -20, -30 and -40 dB, 3 ms later, or not at all.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import make_parser
from benchmarks.mimicry_tracks import join_clips, list_bursts
from benchmarks.results import RESULTS
from emimic.mimicry.crosstalk import SHARP, WINDOW, find_crosstalk, split_windows
from emimic.task import SAMPLE_RATE

SECONDS = 20.0
LEVELS = (None, -20, -30, -40)
DELAY = 48  # samples


def split(wave: np.ndarray) -> list[np.ndarray]:
    """Return blocks of a window's length."""
    size = round(WINDOW * SAMPLE_RATE)
    return [wave[start : start + size] for start in range(0, len(wave), size)]


def measure(folder: Path, pairs: int) -> list[dict[str, Any]]:
    """Return, for each level, the windows and the recordings with crosstalk."""
    clips = list_bursts(folder)
    rng = np.random.default_rng(2)
    found: dict[int | None, list[tuple[int, float, bool]]] = {level: [] for level in LEVELS}
    for _ in range(pairs):
        names = rng.choice(sorted(clips), 2, replace=False)
        first, second = (join_clips(clips[name], SECONDS, rng) for name in names)
        first, second = (0.05 * wave / np.sqrt(np.mean(wave**2)) for wave in (first, second))
        for level in LEVELS:
            gain = 0.0 if level is None else 10 ** (level / 20)
            mixed = second + gain * np.roll(first, DELAY)
            one = find_crosstalk(split_windows(split(first), split(mixed), SECONDS), SECONDS)
            is_warned = any("the same sound" in note for note in one.describe())
            found[level].append((one.windows, one.same_sound * one.windows, is_warned))
    return [
        {
            "level": level, "windows": sum(row[0] for row in rows), "found": round(sum(row[1] for row in rows)),
            "recordings": len(rows), "warned": sum(row[2] for row in rows),
        }
        for level, rows in found.items()
    ]  # fmt: skip


def main() -> None:
    """Measure, and write the figures."""
    parser = make_parser(__doc__)
    parser.add_argument("bursts", type=Path)
    parser.add_argument("--pairs", type=int, default=60)
    arguments = parser.parse_args()
    rows = measure(arguments.bursts, arguments.pairs)
    result = {
        "command": f"python -m benchmarks.crosstalk BURSTS --pairs {arguments.pairs}",
        "sharp": SHARP,
        "rows": rows,
    }
    (RESULTS / "crosstalk.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
