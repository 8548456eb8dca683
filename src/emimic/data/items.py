"""Clips of a corpus: those that can be used, those left out, and the split that lists both."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emimic.data.split_tables import list_some
from emimic.task import CorpusError

Kind = Literal["missing", "unreadable", "duplicate", "label"]


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """The face crops of a clip.

    Attributes:
        id: of the clip.
        times: (frame,) in seconds.
        files: the crop of each frame; None without a face.
    """

    id: str
    times: NDArray[np.float64]
    files: tuple[Path | None, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """A clip that can be used."""

    id: str
    """As written in the table."""
    path: Path
    labels: NDArray[np.float32] | None = field(compare=False)
    """(target,), in [0, 1] for the six emotions; NaN where unknown; None without any label."""
    speaker: str | None
    seconds: float
    """Length of the whole recording; NaN when the corpus was not scanned."""
    vad: NDArray[np.float32] | None = field(default=None, compare=False)
    """(3,) arousal, dominance, valence in [0, 1]; NaN where unknown; None without any."""
    category: str | None = None
    """The clip's class for the auxiliary task; None when not requested, or missing."""
    row: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """The table's row: column -> stripped text, empty for an empty field."""
    corpus: str = ""
    """Name of its corpus when a run has several: ids are unique only within one."""
    domain: str | None = None
    """Kind of its recording; None when unknown."""
    weight: float = 1.0
    """Factor of the loss of its targets."""
    vad_weight: float = 1.0
    """Factor of the loss of its V/A/D labels."""
    ridge_weight: float = 1.0
    """Its weight in the ridge regression of a domain's own layer."""
    trim: bool = False
    """Digital silence at both ends is left out."""
    columns: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Further columns of its row that were requested: column -> text."""
    frames: Crops | Path | None = field(default=None, compare=False)
    """Its images for a vision branch: crops, or its video; None without any, or when not requested."""
    text: str | None = None
    """Its words, see `transcripts.add_texts`; None when not requested, or without any."""

    @property
    def key(self) -> str:
        """Its id among all clips of a run."""
        return f"{self.corpus}/{self.id}" if self.corpus else self.id


@dataclass(frozen=True, slots=True)
class Left:
    """A listed clip that can't be used, with the reason."""

    id: str
    reason: str
    kind: Kind = "unreadable"


@dataclass(frozen=True, slots=True)
class Split:
    """One table: every id in file order as written, the clips that can be used, and the others with a reason."""

    name: str
    listed: tuple[str, ...]
    items: tuple[Item, ...]
    left_out: tuple[Left, ...]

    @property
    def labels(self) -> NDArray[np.float32]:
        """(clip, target) float32 in the order of `items`, NaN where unknown; CorpusError when no clip has labels."""
        sizes = {len(item.labels) for item in self.items if item.labels is not None}
        if not sizes:
            clips = list_some([item.id for item in self.items]) or "it has no usable clip"
            raise CorpusError(
                f"split {self.name!r} has no labels ({clips}): it can't be scored; name one that has (--split)"
            )
        unknown = np.full(sizes.pop(), np.nan, np.float32)
        return np.stack([unknown if item.labels is None else item.labels for item in self.items])

    @property
    def hours(self) -> float:
        """Length of all usable clips in hours; NaN when the corpus was not scanned."""
        return math.fsum(item.seconds for item in self.items) / 3600

    @property
    def speakers(self) -> tuple[str, ...] | None:
        """The speakers of the usable clips, sorted; None when the table names none."""
        return tuple(sorted({item.speaker for item in self.items if item.speaker})) or None

    def list_outside(self) -> tuple[str, ...]:
        """Return the ids of usable clips with a label outside [0, 1]."""
        labeled = ((item.id, item.labels) for item in self.items if item.labels is not None)
        return tuple(name for name, values in labeled if ((values < 0) | (values > 1)).any())
