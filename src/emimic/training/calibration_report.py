"""Report of a calibration."""

from dataclasses import dataclass
from pathlib import Path

from emimic.training.calibration_fit import LEVEL


@dataclass(frozen=True)
class Report:
    """Report of a calibration.

    Attributes:
        out: folder of the calibration.
        clips: target -> number of labeled clips.
        error: target -> calibration error on these clips before and after, see `compute_calibration_error`; the latter
            is optimistic, since they fitted the map.
        novel: corpus -> fraction of held-out clips marked as novel.
        notes: warnings.
        coverage: name -> fraction of labels within the prediction interval, on speakers whose clips fitted none.
    """

    out: Path
    clips: dict[str, int]
    error: dict[str, tuple[float, float]]
    novel: dict[str, float]
    notes: tuple[str, ...]
    coverage: dict[str, float]

    def to_text(self) -> str:
        """Return the report as lines of text."""
        lines = [f"{'':16} clips  error before, after (of the clips that fitted it)"]
        lines += [
            f"{name:16} {self.clips[name]:5}  {before:.3f}  {after:.3f}"
            for name, (before, after) in self.error.items()
        ]
        lines += [
            f"{name}: {fraction:.1%} of held-out clips are marked as unlike the training data"
            for name, fraction in self.novel.items()
        ]
        lines += [
            f"{name}: {fraction:.1%} of labels lie in the {LEVEL:.0%} interval, on speakers that fitted none"
            for name, fraction in self.coverage.items()
        ]
        return "\n".join([*lines, *self.notes, f"written to {self.out}"])
