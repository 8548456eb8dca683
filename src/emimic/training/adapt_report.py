"""Report of `emimic adapt`: how well the two ways of a timeline agree."""

from dataclasses import dataclass
from pathlib import Path

from emimic.inference.results import Failure
from emimic.wording import pluralize


@dataclass(frozen=True)
class Agreement:
    """Agreement of both ways, by target and V/A/D: Pearson's r and the root mean square difference."""

    pearson: dict[str, float]
    rms: dict[str, float]


@dataclass(frozen=True)
class AdaptReport:
    """Report of `adapt`.

    Attributes:
        folder: the new run.
        before: agreement of the model's ways on further random pieces of the recordings.
        after: that of the adapted one, on the same; None where it was stopped.
        failures: recordings that can't be used.
        signal: the signal that stopped it early, or None.
    """

    folder: Path
    before: Agreement
    after: Agreement | None
    failures: tuple[Failure, ...]
    signal: int | None = None

    def to_text(self) -> str:
        """Return the agreement as a table, and what could not be used."""
        lines = [failure.reason for failure in self.failures]
        if lines:
            lines.insert(0, f"{pluralize(len(lines), 'recording')} left out:")
        if self.after is None:
            return "\n".join(lines)
        lines.append("one pass against windows as clips   r before  after   rms before  after")
        lines += [
            f"{name:<34} {self.before.pearson[name]:10.3f} {self.after.pearson[name]:6.3f} "
            f"{self.before.rms[name]:12.3f} {self.after.rms[name]:6.3f}"
            for name in self.after.pearson
        ]
        return "\n".join([*lines, f"the adapted model is in {self.folder}"])
