"""Fit the included model's prediction intervals: on its 37 held-out speakers of vocal bursts.

    python -m benchmarks.default_intervals CORPORA     # made by benchmarks/default_corpora.py

Each half of the speakers is mapped by calibration maps of the other half, as `emimic calibrate` does. Writes the
model's calibration.json and engine.json, and docs/results/default_intervals.json with the coverage per value.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np

from benchmarks.bursts import machine
from benchmarks.command import make_parser
from benchmarks.default import items_of, loads, predict
from emimic.export.graph_files import hash_file
from emimic.files import write_atomically
from emimic.inference.description import DESCRIPTION
from emimic.inference.engine import GraphEngine, find_default_model
from emimic.task import EMOTIONS, VAD
from emimic.training.calibration_fit import fit_intervals, map_across

OUT = Path(__file__).parent.parent / "docs" / "results" / "default_intervals.json"


def main() -> None:
    """Fit, write and print the intervals."""
    parser = make_parser(__doc__)
    parser.add_argument("corpora", type=Path)
    corpora: Path = parser.parse_args().corpora
    folder = find_default_model()
    engine = GraphEngine(folder)
    calibration = engine.calibration
    assert calibration is not None
    engine.calibration = None
    items = items_of(corpora, "bursts", "valid")
    raw, vad = predict(engine, loads(items))
    labels = np.stack([item.labels for item in items]).astype(float)
    vad_labels = np.stack([np.full(3, np.nan) if item.vad is None else item.vad for item in items])
    speakers = sorted({item.speaker for item in items})
    half = set(np.random.default_rng(0).permutation(speakers)[: len(speakers) // 2].tolist())
    folds = np.array([int(item.speaker in half) for item in items], dtype=np.intp)
    mapped = [map_across(x, y, folds) for x, y in zip(raw.T, labels.T, strict=True)]
    names = (*EMOTIONS, *VAD)
    intervals = fit_intervals(
        dict(zip(names, (*mapped, *vad.T), strict=True)),
        dict(zip(names, (*labels.T, *vad_labels.T), strict=True)),
        folds,
    )
    assert intervals is not None
    dataclasses.replace(calibration, intervals=intervals).save(folder)
    file = folder / DESCRIPTION
    description = json.loads(file.read_text(encoding="utf-8"))
    for name in ("calibration.json", "novelty.npz"):
        description["files"][name] = hash_file(folder / name)
    write_atomically(file, json.dumps(description, indent=1) + "\n")
    report = {
        "clips": len(items),
        "speakers": len(speakers),
        "level": intervals.level,
        "coverage": {name: round(value, 4) for name, value in intervals.coverage.items()},
        "mean_width": {
            name: round(float(np.diff(intervals.widths[name](values), axis=-1).mean()), 3)
            for name, values in zip(names, (*mapped, *vad.T), strict=True)
            if name in intervals.widths
        },
        "machine": machine(),
    }
    write_atomically(OUT, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
