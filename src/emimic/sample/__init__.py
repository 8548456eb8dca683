"""A small real corpus inside the package: 140 clips, 20 speakers, the layout of the ABAW challenge.

Beside it, no part of the corpus, are four acted sentences, in `speech/`.
"""

from importlib.resources import files
from pathlib import Path

__all__ = ["folder"]


def get_folder() -> Path:
    """Return the sample corpus: `train_split.csv`, `valid_split.csv`, `test_split.csv` and `audio/*.mp3`.

    Its labels are *intended* categories cast onto the six targets, 0 or 1; the README beside it says how.
    The folder belongs to the installation: copy it before changing anything in it.
    """
    return Path(str(files(__name__)))
