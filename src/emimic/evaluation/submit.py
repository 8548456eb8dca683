"""The challenge's submission file: one row of predicted intensities for every file of a split."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from emimic.data.corpus import Split
from emimic.data.loader import BatchOptions
from emimic.data.split_tables import get_clip_key, list_some
from emimic.evaluation.predictions import format_csv, open_split, predict_split
from emimic.files import make_folder, write_atomically
from emimic.task import CorpusError, ModelError, SettingsError
from emimic.wording import pluralize


@dataclass(frozen=True)
class SubmitReport:
    """The result of `submit`.

    Attributes:
        rows: the number of rows.
        filled: files that could not be used and got the mean of the other rows instead of a prediction.
        clipped: the number of predicted values outside [0, 1].
        left_out: (clip, reason) for every clip that could not be used.
        notes: the corpus's warnings.
    """

    path: Path
    split: str
    rows: int
    filled: tuple[str, ...]
    clipped: int
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Return the report as plain sentences."""
        text = f"{self.path}: {pluralize(self.rows, 'row')} for the split {self.split}; "
        text += f"{self.clipped} values clipped to [0, 1]"
        if self.filled:
            text += f"\n{len(self.filled)} rows are means, not predictions: {', '.join(self.filled)}"
        return "\n".join([text, *(f"  {clip}: {reason}" for clip, reason in self.left_out), *self.notes])


def submit(
    run: Path,
    folder: Path,
    *,
    split: str = "test",
    out: Path,
    fill: Literal["mean"] | None = None,
    batch_seconds: float = 60.0,
    workers: int = 2,
    progress: bool = True,
) -> SubmitReport:
    """Predict a split, whose labels, if any, aren't read, and write the challenge's CSV.

    The file has the header `Filename` and the targets, then one row for every file the split lists, in its
    order: the name without a media suffix, an integer where it is a number ("00012" becomes 12), and
    intensities clipped to [0, 1] with six decimals.

    Args:
        run: a model folder.
        folder: a corpus in the ABAW layout.
        split: the split's name.
        out: the CSV to write; replaced if it exists, and untouched if anything fails.
        fill: the replacement for a file that can't be used. None raises instead. "mean" writes the mean of the other
            rows and reports the file in `SubmitReport.filled`.
        batch_seconds: seconds of audio in a batch.
        workers: threads that read audio.
        progress: whether to show a bar.

    Raises:
        CorpusError: if a listed file can't be used and `fill` is None, if none can, or if two listed names
            are the same number.
        ModelError: if the run is no local folder, can't be loaded, has no targets, or predicts NaN.
        SettingsError: if `fill` is neither None nor "mean".
    """
    if fill not in (None, "mean"):
        raise SettingsError(f"found fill={fill!r}; expected None or 'mean'")
    out = Path(out)
    make_folder(out.parent)  # before the work
    model, part, warnings, inputs = open_split(
        Path(run), folder, split, labels=False, workers=workers, progress=progress
    )
    _check(part, filled=fill is not None)
    if not model.config.targets:
        raise ModelError(f"{run} predicts V/A/D alone; expected a model with targets to submit")
    options = BatchOptions(batch_seconds, workers, progress)
    predictions, _ = predict_split(Path(run), model, part, inputs, options)
    values = dict(zip((item.id for item in part.items), np.clip(predictions, 0.0, 1.0), strict=True))
    mean = np.mean(list(values.values()), axis=0, dtype=np.float64)
    rows = [(get_clip_key(name), *(f"{v:.6f}" for v in values.get(name, mean))) for name in part.listed]
    write_atomically(out, format_csv(model.config.targets, rows))
    outside = int(np.count_nonzero((predictions < 0) | (predictions > 1)))
    return SubmitReport(
        path=out,
        split=part.name,
        rows=len(rows),
        filled=tuple(name for name in part.listed if name not in values),
        clipped=outside,
        left_out=tuple((left.id, left.reason) for left in part.left_out),
        notes=warnings,
    )


def _check(part: Split, *, filled: bool) -> None:
    """Raise CorpusError where a file is listed twice, or can't be used and isn't to be filled."""
    repeated = [name for name, count in Counter(map(get_clip_key, part.listed)).items() if count > 1]
    if repeated:
        raise CorpusError(
            f"the split {part.name!r} lists {list_some(repeated)} more than once; expected every file once. "
            "Fix its table"
        )
    if part.left_out and not filled:
        named = list_some([f"{left.id} ({left.reason})" for left in part.left_out])
        count = f"{len(part.left_out)} of the {len(part.listed)} files"
        raise CorpusError(
            f"{count} of the split {part.name!r} can't be used: {named}. "
            "Fix them, or fill them with the mean of the other rows (--fill mean; in Python, fill='mean')"
        )
