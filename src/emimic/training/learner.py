"""What the loop trains and the verbs score: the paper's model, or a system it compares with; opened, and fed."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emimic.baselines import inputs
from emimic.baselines.model import MODEL_TYPE, BaselineModel
from emimic.data import loader
from emimic.data.corpus import Corpus, Item
from emimic.data.split_tables import clip_key, some
from emimic.features import store
from emimic.files import read_json
from emimic.media import decode
from emimic.model.model import EmiModel
from emimic.task import CorpusError

Learner = EmiModel | BaselineModel


def open_run(folder: Path) -> Learner:
    """A finished run of either kind, ready to answer. Raises ModelError."""
    try:
        kind = read_json(folder / "config.json")["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None  # EmiModel says what is wrong with it
    return BaselineModel.open_run(folder) if kind == MODEL_TYPE else EmiModel.open_run(folder)


def source_of(model: Learner, items: Sequence[Item], heard: "Features | None") -> loader.Source:
    """Where a model's clips come from: the media files or, of a baseline, the features it hears."""
    if isinstance(model, EmiModel):
        return loader.waveforms(items, model.config, model.min_samples)
    if heard is None:
        raise CorpusError(f"{model.config.baseline} hears features; expected those of a corpus")
    return heard.source(model, items)


@dataclass(frozen=True)
class Features:
    """A corpus's features as a system reads them: role -> feature folder, role -> clip key -> file."""

    folder: Path
    modalities: dict[str, str]
    indexes: dict[str, inputs.Index]
    damaged: tuple[Path, ...] = ()

    @classmethod
    def of(cls, folder: Path, modalities: dict[str, str]) -> "Features":
        """Raises CorpusError when a folder isn't there or two of its files hold one clip."""
        damaged: list[Path] = []
        return cls(folder, modalities, inputs.indexes(folder, modalities, damaged), tuple(damaged))

    @property
    def clips(self) -> inputs.Index:
        """Clip key -> a file, for every clip that can be heard."""
        return inputs.usable(self.indexes, self.modalities)

    def sizes(self) -> dict[str, int]:
        """Features of a frame by role, but for a waveform. Raises CorpusError when a folder is empty."""
        return {
            role: inputs.frame_size(self.folder, name, self.indexes[role])
            for role, name in self.modalities.items()
            if name != store.WAVEFORM
        }

    def made_by(self) -> dict[str, str]:
        """Role -> what made its features, where that was written down."""
        known = {
            role: store.made_by(self.folder / store.FOLDER / name)
            for role, name in self.modalities.items()
            if name != store.WAVEFORM
        }
        return {role: digest for role, digest in known.items() if digest is not None}

    def check(self, made_by: Mapping[str, str]) -> None:
        """Raise CorpusError where features are known to be made by something else than those a system learned from."""
        for role, digest in self.made_by().items():
            if made_by.get(role, digest) != digest:
                place = self.folder / store.FOLDER / self.modalities[role]
                raise CorpusError(
                    f"{place} was made by another model, or with other settings, than the features this system has "
                    f"learned from ({store.FACTS} says by which): make the same ones, or train again"
                )

    def told(self, corpus: Corpus) -> Corpus:
        """The corpus with a warning for damaged files, and one for each split and role that clips go without."""
        notes = [f"{path} is damaged, its clip goes without: make it again" for path in self.damaged]
        for split in corpus.splits.values():
            for role, index in self.indexes.items():
                lacking = [item.id for item in split.items if clip_key(item.id) not in index]
                if lacking:
                    notes.append(
                        f"{split.name}: {len(lacking)} of {len(split.items)} clips have no {role} and go without: "
                        f"{some(lacking)}"
                    )
        return dataclasses.replace(corpus, warnings=(*corpus.warnings, *notes))

    def source(self, model: BaselineModel, items: Sequence[Item]) -> loader.Source:
        """What `model` reads of the clips of `items`."""
        config = model.config
        self.check(config.made_by)

        def prepare(samples: NDArray[np.float32]) -> NDArray[np.float32]:
            ready = decode.prepare(
                samples,
                max_seconds=config.max_seconds,
                normalize=config.do_normalize,
                min_samples=model.min_samples,
            )
            return ready.samples

        return inputs.source(
            items,
            self.indexes,
            config.sizes,
            model.system.shorten(model.options),
            prepare,
            waveform=config.waveform,
        )
