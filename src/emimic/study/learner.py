"""What the loop trains and the verbs score: the paper's model, or a system it compares with; opened, and fed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emimic import audio
from emimic.model import EmiModel
from emimic.study import batches
from emimic.study.corpus import Item
from emimic.study.rivals import sequences
from emimic.study.rivals.model import MODEL_TYPE, RivalModel
from emimic.study.rivals.system import WAVEFORM

Learner = EmiModel | RivalModel


def open_run(folder: Path) -> Learner:
    """A finished run of either kind, ready to answer. Raises ModelError."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None  # EmiModel says what is wrong with it
    return RivalModel.open_run(folder) if kind == MODEL_TYPE else EmiModel.open_run(folder)


def source_of(model: Learner, items: Sequence[Item], folder: Path) -> batches.Source:
    """Where a model's clips come from: the media files, or the features in the corpus `folder`."""
    if isinstance(model, EmiModel):
        return batches.waveforms(items, model.config, model.min_samples)
    return Features.of(folder, model.config.modalities).source(model, items)


@dataclass(frozen=True)
class Features:
    """A corpus's features as a system reads them: role -> feature folder, role -> clip key -> file."""

    folder: Path
    modalities: dict[str, str]
    indexes: dict[str, sequences.Index]

    @classmethod
    def of(cls, folder: Path, modalities: dict[str, str]) -> "Features":
        """Raises CorpusError when a folder isn't there or two of its files hold one clip."""
        return cls(folder, modalities, sequences.indexes(folder, modalities))

    @property
    def clips(self) -> sequences.Index:
        """Clip key -> a file, for every clip that can be heard."""
        return sequences.usable(self.indexes, self.modalities)

    def sizes(self) -> dict[str, int]:
        """Features of a frame by role, but for a waveform. Raises CorpusError when a folder is empty."""
        return {
            role: sequences.frame_size(self.folder, name, self.indexes[role])
            for role, name in self.modalities.items()
            if name != WAVEFORM
        }

    def source(self, model: RivalModel, items: Sequence[Item]) -> batches.Source:
        """What `model` reads of the clips of `items`."""
        config = model.config

        def prepare(samples: NDArray[np.float32]) -> NDArray[np.float32]:
            ready = audio.prepare(
                samples,
                max_seconds=config.max_seconds,
                normalise=config.do_normalize,
                min_samples=model.min_samples,
            )
            return ready.samples

        return sequences.source(
            items,
            self.indexes,
            config.sizes,
            model.system.shorten(model.options),
            prepare,
            waveform=config.waveform,
        )
