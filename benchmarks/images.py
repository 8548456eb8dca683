"""The plots in the README and the site, by the real program: `make images` (or `python -m benchmarks.images`).

A recording: six bursts of one speaker of the sample, a second of quiet between them. The included model was trained on
this speaker, as on all of the sample's: the plot shows what a timeline looks like, not how well the model predicts.
`--model FOLDER` draws with another model. A study: synthetic sessions of 90 s, half of them coupled.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.mimicry import HOP, make_timeline, make_values, silences
from emimic import sample
from emimic.cli import predict_request
from emimic.media import decode
from emimic.mimicry import Settings
from emimic.mimicry.study import Session, Study, analyze, plots
from emimic.task import SAMPLE_RATE

IMAGES = Path(__file__).parent.parent / "docs" / "images"
CLIPS = [f"{number:05d}" for number in range(127, 133)]
"""Of speaker 000084, in the order of the targets: each asks for one of the six."""


def draw_recording(model: Path | None) -> None:
    """Write recording.png."""
    hiss = np.random.default_rng(0).normal(0, 0.0005, SAMPLE_RATE).astype(np.float32)
    parts = [hiss]
    for name in CLIPS:
        parts += [decode.load(sample.get_folder() / "audio" / f"{name}.mp3"), hiss]
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "recording.flac"
        decode.save(recording, np.concatenate(parts), codec="flac")
        asked = predict_request.Request(
            files=(str(recording),), model=model, plot=True, out=Path(folder) / "out"
        )
        predict_request.run(asked, print)
        shutil.copy(Path(folder) / "out" / "recording.png", IMAGES)


def make_study(number: int = 24, seconds: float = 90.0) -> Study:
    """Analyze sessions with pauses; in the first half the client follows the therapist 1 s later, with noise."""
    rng, steps, sessions = np.random.default_rng(0), round(seconds / HOP), []
    for row in range(number):
        first, noise = (make_values(steps, "AR(1) .8, means of 2.5 s", rng) for _ in range(2))
        second = np.roll(first, round(1 / HOP), axis=0) + 2.5 * noise if row < number // 2 else noise
        voices = [make_timeline(values, "voice", silences(steps, rng)) for values in (first, second)]
        roles, group = ("therapist", "client"), "coupled" if row < number // 2 else "control"
        sessions.append(Session.from_timelines(f"session {row + 1}", voices, group=group, roles=roles))
    return analyze(sessions, settings=Settings(alignment="windowed"))


def draw_study() -> None:
    """Write study-heat-map.png and study-distribution.png."""
    study = make_study()
    voices = study.voices[0]
    (IMAGES / "study-heat-map.png").write_bytes(plots.draw_heat_map(study, voices, 0))
    (IMAGES / "study-distribution.png").write_bytes(plots.draw_distribution(study, voices))


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    IMAGES.mkdir(exist_ok=True)
    draw_recording(parser.parse_args().model)
    draw_study()


if __name__ == "__main__":
    main()
