"""The plot in the README and the site, by the real program: `make images` (or `python -m benchmarks.images`).

Six bursts of one speaker of the sample, a second of quiet between them. The included model was trained on this speaker,
as on all of the sample's: the plot shows what a timeline looks like, not how well the model predicts.
`--model FOLDER` draws with another model.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

from emimic import sample
from emimic.cli import predict_request
from emimic.media import decode
from emimic.task import SAMPLE_RATE

ROOT = Path(__file__).parent.parent
CLIPS = [f"{number:05d}" for number in range(127, 133)]
"""Of speaker 000084, in the order of the targets: each asks for one of the six."""


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    model = parser.parse_args().model
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
        images = ROOT / "docs" / "images"
        images.mkdir(exist_ok=True)
        shutil.copy(Path(folder) / "out" / "recording.png", images)


if __name__ == "__main__":
    main()
