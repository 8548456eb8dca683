"""Result of a training run, and its table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_SHOWN: Final = 20  # clips that were left out


@dataclass(frozen=True)
class Result:
    """Result of a training run.

    Attributes:
        folder: the run folder.
        targets: names of the outputs that are compared.
        history: one dict per epoch: epoch, steps, loss, and validation Pearson, mean and per target; of several
            corpora the means over them, and each one's.
        best_epoch: number of the epoch whose model is in the folder.
        signal: the signal that stopped the run early, or None.
        fused: of a baseline, the weights of its branches, where they were searched.
        left_out: "split: clip: reason" of every listed clip that couldn't be used.
    """

    folder: Path
    targets: tuple[str, ...]
    history: tuple[dict[str, Any], ...]
    best_epoch: int | None
    signal: int | None = None
    fused: str = ""
    left_out: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Return one line per epoch, then where the best model is, and notes."""
        lines = self._list_epochs()
        if self.best_epoch is not None:
            scored = "pearson" in self.history[-1]
            what = "validation Pearson" if scored else "no validation: all clips were trained on"
            lines.append(f"{what}; the model of epoch {self.best_epoch} is in {self.folder}")
        if any(None in [e.get("pearson", 0), *e.get("targets", {}).values()] for e in self.history):
            lines.append(
                "undef.: predictions or labels are constant. To compare epochs, a target with constant labels is left "
                "out of the mean, one with constant predictions counts as 0"
            )
        if self.fused:
            lines.append(self.fused)
        if self.left_out:
            rest = len(self.left_out) - _SHOWN
            more = [f"and {rest} more (train.json counts them)"] if rest > 0 else []
            lines += [
                f"{len(self.left_out)} listed clips were left out:", *self.left_out[:_SHOWN], *more
            ]  # fmt: skip
        return "\n".join(lines)

    def _list_epochs(self) -> list[str]:
        """Return the header and one line per epoch."""
        corpora = list(dict.fromkeys(name for entry in self.history for name in entry.get("corpora", {})))
        names = [*self.targets, *corpora]
        width = max(len(name) for name in names)
        lines = [f"epoch     loss  {'mean':>7}  " + "  ".join(f"{name:>{width}}" for name in names)]
        for entry in self.history:
            scores = [entry.get("pearson"), *(entry.get("targets", {}).get(name) for name in self.targets)]
            scores += [entry.get("corpora", {}).get(name, {}).get("watched") for name in corpora]
            mean, *rest = _format(scores) if "pearson" in entry else ["-"] * len(scores)
            best = " *" if entry["epoch"] == self.best_epoch else ""
            columns = "  ".join(f"{text:>{width}}" for text in rest)
            lines.append(f"{entry['epoch']:5d} {entry['loss']:8.5f}  {mean:>7}  {columns}{best}")
        return lines


def _format(scores: Sequence[float | None]) -> list[str]:
    return ["undef." if score is None else f"{score:.4f}" for score in scores]
