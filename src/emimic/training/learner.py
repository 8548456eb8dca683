"""Models that a run trains: the paper's or a baseline, with the features that a baseline reads."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emimic.baselines import inputs
from emimic.baselines.model import MODEL_TYPE, BaselineModel
from emimic.data import loader
from emimic.data.corpus import Corpus, Item
from emimic.data.split_tables import get_clip_key, list_some
from emimic.features import frames, store
from emimic.files import read_json
from emimic.media import decode
from emimic.model.model import EmiModel
from emimic.task import CorpusError

Learner = EmiModel | BaselineModel


def open_run(folder: Path) -> Learner:
    """Load a finished run of either kind for prediction. Raises ModelError."""
    try:
        kind = read_json(folder / "config.json")["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None  # EmiModel reports what is wrong
    return BaselineModel.open_run(folder) if kind == MODEL_TYPE else EmiModel.open_run(folder)


def make_source(
    model: Learner, items: Sequence[Item], features: "Features | None", without: Sequence[str] = ()
) -> loader.Source:
    """Return what a model's clips are read from: media files or, for a baseline, features. Raises CorpusError.

    Args:
        model: of a run.
        items: the clips.
        features: of a baseline.
        without: further branches that get no input.
    """
    if isinstance(model, EmiModel):
        return loader.add_branches(make_audio_source(model, items), make_readers(model, without))
    if features is None:
        raise CorpusError(f"{model.config.baseline} uses features; expected those of a corpus")
    return features.make_source(model, items)


def make_readers(model: EmiModel, without: Sequence[str] = ()) -> dict[str, loader.Reader]:
    """Return what reads the sequence of each further branch of a model from a clip, except of those in `without`."""
    readers: dict[str, loader.Reader] = {}
    if "text" in model.branches:
        text: Any = model.branches["text"]
        readers["text"] = lambda item: text.tokenize(item.text)
    if "vision" in model.branches:
        readers["vision"] = frames.make_reader(model.config.vision, model.config.max_seconds)
    return {name: reader for name, reader in readers.items() if name not in without}


def make_audio_source(model: EmiModel, items: Sequence[Item]) -> loader.Source:
    """Return what the voices of a model's clips are read from; a model without audio reads none."""
    if not model.config.audio:
        return loader.make_silent_source(items)
    return loader.make_waveform_source(items, model.clip_format)


@dataclass(frozen=True)
class Features:
    """A corpus's features for a baseline.

    Attributes:
        folder: of the corpus.
        modalities: modality -> feature folder, or waveform.
        indexes: modality -> clip key -> file.
        damaged: files that can't be read.
    """

    folder: Path
    modalities: dict[str, str]
    indexes: dict[str, inputs.Index]
    damaged: tuple[Path, ...] = ()

    @classmethod
    def from_folder(cls, folder: Path, modalities: dict[str, str]) -> "Features":
        """Index a corpus's features. Raises CorpusError where a folder is missing or two files hold one clip."""
        damaged: list[Path] = []
        return cls(folder, modalities, inputs.index_modalities(folder, modalities, damaged), tuple(damaged))

    @property
    def clips(self) -> inputs.Index:
        """Clip key -> a file, of every clip that can be used."""
        return inputs.list_usable(self.indexes, self.modalities)

    def measure_sizes(self) -> dict[str, int]:
        """Return the features of a frame by modality, without a waveform. Raises CorpusError on an empty folder."""
        return {
            modality: store.read_frame_size(
                self.indexes[modality].values(), self.folder / store.FOLDER / name
            )
            for modality, name in self.modalities.items()
            if name != store.WAVEFORM
        }

    def read_digests(self) -> dict[str, str]:
        """Return the digest of the model that made the features, by modality, where it was recorded."""
        digests = {
            modality: store.digest_facts(self.folder / store.FOLDER / name)
            for modality, name in self.modalities.items()
            if name != store.WAVEFORM
        }
        return {modality: digest for modality, digest in digests.items() if digest is not None}

    def check(self, made_by: Mapping[str, str]) -> None:
        """Raise CorpusError where the features of another model are recorded than those a baseline was trained on."""
        for modality, digest in self.read_digests().items():
            if made_by.get(modality, digest) != digest:
                folder = self.folder / store.FOLDER / self.modalities[modality]
                raise CorpusError(
                    f"{folder} was made by another model, or with other settings, than the features this system has "
                    f"learned from ({store.FACTS} says by which): make the same ones, or train again"
                )

    def add_warnings(self, corpus: Corpus) -> Corpus:
        """Return the corpus with a warning per damaged file, and per split and modality with missing clips."""
        notes = [f"{path} is damaged, its clip is used without it: make it again" for path in self.damaged]
        for split in corpus.splits.values():
            for modality, index in self.indexes.items():
                missing = [item.id for item in split.items if get_clip_key(item.id) not in index]
                if missing:
                    notes.append(
                        f"{split.name}: {len(missing)} of {len(split.items)} clips have no {modality} and are used "
                        f"without it: {list_some(missing)}"
                    )
        return dataclasses.replace(corpus, warnings=(*corpus.warnings, *notes))

    def make_source(self, model: BaselineModel, items: Sequence[Item]) -> loader.Source:
        """Return what `model` reads of the clips. Raises CorpusError where another model made the features."""
        config = model.config
        self.check(config.made_by)
        shorten, clip_format = model.system.shorten(model.options), model.clip_format

        def read(item: Item, _: int) -> loader.ModelInput:
            key, parts, masks = get_clip_key(item.id), {}, {}
            for modality, index in self.indexes.items():
                if modality == config.waveform:
                    parts[modality] = clip_format.prepare(decode.load(index[key], notes=[])).samples
                    masks[modality] = np.ones(len(parts[modality]), np.bool_)
                else:
                    parts[modality], masks[modality] = inputs.read_frames(
                        index.get(key), item.id, config.sizes[modality], shorten.get(modality)
                    )
            return loader.ModelInput(inputs.Clip(parts, masks))

        return loader.Source(items, read, encoded=config.waveform is None)
