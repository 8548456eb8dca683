"""Corpora of a training run, one or several, with the run's settings of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emimic.data import class_tables, sampling
from emimic.data.corpus import Corpus, Item, load_corpus
from emimic.data.corpus_settings import CorpusSettings
from emimic.data.labels import choose_targets
from emimic.data.split_tables import Table, find_split_files, read_table
from emimic.data.transcripts import add_texts
from emimic.features import frames
from emimic.task import EMOTIONS, CorpusError, SettingsError
from emimic.training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class RunCorpus:
    """One corpus of a run.

    Attributes:
        name: of its folder.
        settings: of the run, for this corpus.
        corpus: its items have the settings' weights and domain.
    """

    name: str
    settings: CorpusSettings
    corpus: Corpus

    def list_training(self, *, both: bool) -> tuple[Item, ...]:
        """Return the training clips; both: of the splits train and valid."""
        return tuple(item for name in self._list_splits(both=both) for item in self.corpus.splits[name].items)

    def list_validation(self, *, both: bool) -> tuple[Item, ...]:
        """Return the validation clips; both: none, as they are trained on."""
        valid = self.corpus.splits.get("valid")
        return () if both or valid is None else valid.items

    def _list_splits(self, *, both: bool) -> list[str]:
        return [
            name for name in ("train", "valid") if name in self.corpus.splits and (both or name == "train")
        ]


def load_corpora(
    folders: Sequence[Path], settings: TrainSettings, *, progress: bool
) -> tuple[RunCorpus, ...]:
    """Load the corpora of a run.

    The first must have the splits train and valid, others may have train only. Targets are the paper's six if all of
    them are among the columns, else those of all corpora together; a corpus without a target's column has no labels
    for it.

    Raises:
        CorpusError: if one can't be used, see `load_corpus`, or two folders have the same name.
        SettingsError: if the settings name another corpus.
    """
    names = _name_corpora(folders, settings)
    several, default = len(folders) > 1, CorpusSettings.model_validate({})
    chosen = [settings.corpora.get(name, default) for name in names]
    targets = settings.targets
    tables: list[list[Table]] = [[] for _ in folders]
    if several:
        tables = [
            _read_tables(
                folder, (*(settings.targets or ()), *own.columns, settings.category or ""), first=i == 0
            )
            for i, (folder, own) in enumerate(zip(folders, chosen, strict=True))
        ]
        targets = _choose_targets(tables, chosen, settings)
        _check_category(tables, names, settings.category)
    corpora = []
    for name, folder, own, splits in zip(names, folders, chosen, tables, strict=True):
        category = settings.category
        if several and not any(category in table.header for table in splits):
            category = None
        corpus = load_corpus(
            folder,
            targets=targets,
            splits=[table.name for table in splits] if several else ["train", "valid"],
            label_scale=own.label_scale or settings.label_scale,
            category=category,
            workers=settings.workers,
            progress=progress,
            partial=several,
            columns=own.columns,
            ranked=own.ranks.column if own.ranks else None,
            clips=None if settings.audio else _list_clips(folder, settings, progress=progress),
        )
        if settings.vision is not None:
            values, seconds = settings.vision.model_dump(), settings.max_seconds
            corpus = frames.add_frames(corpus, values, seconds, workers=settings.workers, progress=progress)
        if settings.text is not None:
            corpus = add_texts(corpus, required=not several)
        corpora.append(RunCorpus(name, own, _mark(corpus, name, own, several=several)))
    _check_texts(corpora, settings)
    return tuple(corpora)


def _name_corpora(folders: Sequence[Path], settings: TrainSettings) -> list[str]:
    """Return the corpora's names, those of their folders. Raises as `load_corpora`."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise CorpusError(
            f"the corpora are {', '.join(map(str, folders))}; expected folders with different names. "
            "Rename one, or name it once"
        )
    if unknown := [name for name in settings.corpora if name not in names]:
        raise SettingsError(
            f"corpora has settings for {', '.join(unknown)}; the corpora of this run are {', '.join(names)}. "
            "Name the folders"
        )
    return names


def _list_clips(folder: Path, settings: TrainSettings, *, progress: bool) -> dict[str, Path] | None:
    """Return clip key -> a file of each clip that a model without audio can use; None: those with any recording."""
    if settings.vision is None:
        return None
    values, seconds = settings.vision.model_dump(), settings.max_seconds
    return frames.list_clips(folder, values, seconds, workers=settings.workers, progress=progress)


def _check_texts(corpora: Sequence[RunCorpus], settings: TrainSettings) -> None:
    """Raise CorpusError where no training clip has the words that a text branch learns from."""
    items = [item for corpus in corpora for item in corpus.list_training(both=False)]
    if settings.text is not None and all(item.text is None for item in items):
        raise CorpusError(
            f"no training clip of {', '.join(corpus.name for corpus in corpora)} has words, expected some for the text "
            "branch: add a column Text or transcripts/ID.txt, or leave text out"
        )


def check_mixtures(corpora: Sequence[RunCorpus], settings: TrainSettings) -> None:
    """Raise SettingsError where mixtures name a corpus of no run, or all of this run's."""
    if settings.mixtures is None:
        return
    names = [corpus.name for corpus in corpora]
    chosen = settings.mixtures.corpora
    if not set(chosen) < set(names):
        raise SettingsError(
            f"mixtures.corpora is {', '.join(chosen)}; expected some, not all, of the corpora of this run: "
            f"{', '.join(names)}"
        )


def make_pools(corpora: Sequence[RunCorpus], *, both: bool) -> tuple[sampling.Pool, ...]:
    """Return how each corpus's clips are drawn, with rows counted over all corpora.

    Raises:
        SettingsError: if the fractions don't fit together.
    """
    items = [corpus.list_training(both=both) for corpus in corpora]
    fractions = [corpus.settings.fraction for corpus in corpora]
    try:
        counts = sampling.count_clips([len(own) for own in items], fractions)
    except ValueError as error:
        pairs = ", ".join(
            f"{corpus.name} {fraction}" for corpus, fraction in zip(corpora, fractions, strict=True)
        )
        raise SettingsError(f"fraction of the corpora: {error}; found {pairs}") from None
    drawn: list[sampling.Pool] = []
    start = 0
    for i, (corpus, own, count) in enumerate(zip(corpora, items, counts, strict=True)):
        balance, together = (
            None if column is None else [item.columns[column] for item in own]
            for column in (corpus.settings.balance, corpus.settings.together)
        )
        rows = range(start, start + len(own))
        drawn.append(sampling.Pool(rows, count, corpus.name if i else "", balance, together))
        start += len(own)
    return tuple(drawn)


def _check_category(tables: Sequence[Sequence[Table]], names: Sequence[str], category: str | None) -> None:
    if category is not None and not any(category in table.header for own in tables for table in own):
        raise CorpusError(
            f"no corpus has a column {category}; expected it in one of {', '.join(names)}. Name another column of "
            "class names (category), or none"
        )


def _read_tables(folder: Path, named: Sequence[str], *, first: bool) -> list[Table]:
    """Return the tables of train and valid, with their classes' labels; the first corpus must have both."""
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder; expected a corpus with train_split.csv and audio/")
    valid = first or any((folder / f"{name}_split.csv").is_file() for name in ("valid", "val"))
    files, _ = find_split_files(folder, ["train", *(["valid"] if valid else [])], [])
    tables = [read_table(name, path) for name, path in files.items()]
    classified = class_tables.read(folder)
    class_tables.check_names(classified, tables, named)
    return class_tables.join(classified, tables, (), [])


def _choose_targets(
    tables: Sequence[Sequence[Table]], corpora: Sequence[CorpusSettings], settings: TrainSettings
) -> tuple[str, ...]:
    """Return the targets of several corpora together. Raises CorpusError."""
    columns = {name for own in tables for table in own for name in table.header}
    if settings.targets is not None:
        if missing := [name for name in settings.targets if name not in columns]:
            raise CorpusError(
                f"no corpus has a column {', '.join(missing)}; found {', '.join(sorted(columns))}. Name other targets"
            )
        return settings.targets
    if columns.issuperset(EMOTIONS):
        return EMOTIONS
    targets: dict[str, None] = {}
    for own, corpus in zip(tables, corpora, strict=True):
        six = [name for name in EMOTIONS if any(name in table.header for table in own)]
        try:
            chosen = choose_targets(own, None, settings.category, [], corpus.columns)
        except CorpusError:
            if settings.category is None and corpus.ranks is None:
                raise
            chosen = ()  # this corpus has classes only
        targets |= dict.fromkeys((*six, *chosen))
    if targets.keys() <= set(EMOTIONS):
        return tuple(name for name in EMOTIONS if name in targets)
    return tuple(targets)


def _mark(corpus: Corpus, name: str, own: CorpusSettings, *, several: bool) -> Corpus:
    """Return a corpus whose items have its settings; of several corpora, keys and classes differ between corpora."""

    def mark(item: Item) -> Item:
        kind = item.category
        return replace(
            item,
            corpus=name if several else "",
            domain=own.domain or name,
            weight=own.weight,
            vad_weight=own.vad_weight,
            ridge_weight=own.weight if own.ridge_weight is None else own.ridge_weight,
            trim=own.trim,
            category=f"{name}/{kind}" if several and kind is not None else kind,
        )

    splits = {
        key: replace(split, items=tuple(mark(item) for item in split.items))
        for key, split in corpus.splits.items()
    }
    return replace(corpus, splits=splits)
