"""The corpora that a training run learns from: one as it is, or several whose clips are told apart by corpus."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emimic.data import class_tables, sampling
from emimic.data.corpus import Corpus, Item, load_corpus
from emimic.data.corpus_settings import CorpusSettings
from emimic.data.labels import choose_targets
from emimic.data.split_tables import Table, read_table, split_files
from emimic.task import EMOTIONS, CorpusError, SettingsError
from emimic.training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Member:
    """One corpus of a run, its items marked with what the run's settings say of it; its folder's name."""

    name: str
    settings: CorpusSettings
    corpus: Corpus

    def learned(self, *, both: bool) -> tuple[Item, ...]:
        """Return its training clips; both: those of valid, too."""
        return tuple(item for name in self._splits(both=both) for item in self.corpus.splits[name].items)

    def held_out(self, *, both: bool) -> tuple[Item, ...]:
        """Return the clips that epochs are compared by."""
        valid = self.corpus.splits.get("valid")
        return () if both or valid is None else valid.items

    def _splits(self, *, both: bool) -> list[str]:
        return [
            name for name in ("train", "valid") if name in self.corpus.splits and (both or name == "train")
        ]


def load_corpora(folders: Sequence[Path], settings: TrainSettings, *, progress: bool) -> tuple[Member, ...]:
    """Read the corpora of a run.

    The first must have the splits train and valid, others may have train alone. Targets are the paper's six where all
    of them are among the columns, else those of all corpora together; one that a corpus lacks is unknown there.

    Raises:
        CorpusError: where one can't be used, see `load_corpus`, or two folders have the same name.
        SettingsError: where the settings name a corpus that isn't there.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise CorpusError(
            f"the corpora are {', '.join(map(str, folders))}; expected folders with different names, by which they "
            "are told apart. Rename one, or name it once"
        )
    if unknown := [name for name in settings.corpora if name not in names]:
        raise SettingsError(
            f"corpora has settings for {', '.join(unknown)}; the corpora of this run are {', '.join(names)}. "
            "Name the folders"
        )
    several, default = len(folders) > 1, CorpusSettings.model_validate({})
    members = [settings.corpora.get(name, default) for name in names]
    targets = settings.targets
    tables: list[list[Table]] = [[] for _ in folders]
    if several:
        tables = [
            _tables(folder, (*(settings.targets or ()), *own.columns, settings.category or ""), first=i == 0)
            for i, (folder, own) in enumerate(zip(folders, members, strict=True))
        ]
        targets = _targets(tables, members, settings)
        _check_category(tables, names, settings.category)
    found = []
    for name, folder, own, there in zip(names, folders, members, tables, strict=True):
        category = settings.category
        if several and not any(category in table.header for table in there):
            category = None
        corpus = load_corpus(
            folder,
            targets=targets,
            splits=[table.name for table in there] if several else ["train", "valid"],
            label_scale=own.label_scale or settings.label_scale,
            category=category,
            workers=settings.workers,
            progress=progress,
            partial=several,
            columns=own.columns,
            ranked=own.ranks.column if own.ranks else None,
        )
        found.append(Member(name, own, _marked(corpus, name, own, several=several)))
    return tuple(found)


def check_mixtures(members: Sequence[Member], settings: TrainSettings) -> None:
    """Raise SettingsError where mixtures name a corpus that isn't there, or leave no other to mix into."""
    if settings.mixtures is None:
        return
    names = [member.name for member in members]
    chosen = settings.mixtures.corpora
    if not set(chosen) < set(names):
        raise SettingsError(
            f"mixtures.corpora is {', '.join(chosen)}; expected some, not all, of the corpora of this run: "
            f"{', '.join(names)}"
        )


def pools(members: Sequence[Member], *, both: bool) -> tuple[sampling.Pool, ...]:
    """Return how each corpus's clips are drawn, their rows counted over all corpora.

    Raises:
        SettingsError: if the fractions don't fit together.
    """
    items = [member.learned(both=both) for member in members]
    try:
        counts = sampling.counts(
            [len(own) for own in items], [member.settings.fraction for member in members]
        )
    except ValueError as error:
        given = ", ".join(f"{member.name} {member.settings.fraction}" for member in members)
        raise SettingsError(f"fraction of the corpora: {error}; found {given}") from None
    found: list[sampling.Pool] = []
    start = 0
    for i, (member, own, count) in enumerate(zip(members, items, counts, strict=True)):
        balance, together = (
            None if column is None else [item.cells[column] for item in own]
            for column in (member.settings.balance, member.settings.together)
        )
        rows = range(start, start + len(own))
        found.append(sampling.Pool(rows, count, member.name if i else "", balance, together))
        start += len(own)
    return tuple(found)


def _check_category(tables: Sequence[Sequence[Table]], names: Sequence[str], category: str | None) -> None:
    if category is not None and not any(category in table.header for own in tables for table in own):
        raise CorpusError(
            f"no corpus has a column {category}; expected it in one of {', '.join(names)}. Name another column of "
            "class names (category), or none"
        )


def _tables(folder: Path, named: Sequence[str], *, first: bool) -> list[Table]:
    """The tables of train and valid, with their classes' labels; of the first corpus both must be there."""
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder; expected a corpus with train_split.csv and audio/")
    valid = first or any((folder / f"{name}_split.csv").is_file() for name in ("valid", "val"))
    files, _ = split_files(folder, ["train", *(["valid"] if valid else [])], [])
    tables = [read_table(name, path) for name, path in files.items()]
    classified = class_tables.read(folder)
    class_tables.check_names(classified, tables, named)
    return class_tables.join(classified, tables, (), [])


def _targets(
    tables: Sequence[Sequence[Table]], members: Sequence[CorpusSettings], settings: TrainSettings
) -> tuple[str, ...]:
    """The targets of several corpora together."""
    columns = {name for own in tables for table in own for name in table.header}
    if settings.targets is not None:
        if lacking := [name for name in settings.targets if name not in columns]:
            raise CorpusError(
                f"no corpus has a column {', '.join(lacking)}; found {', '.join(sorted(columns))}. Name other targets"
            )
        return settings.targets
    if columns.issuperset(EMOTIONS):
        return EMOTIONS
    found: dict[str, None] = {}
    for own, member in zip(tables, members, strict=True):
        six = [name for name in EMOTIONS if any(name in table.header for table in own)]
        try:
            chosen = choose_targets(own, None, settings.category, [], member.columns)
        except CorpusError:
            if settings.category is None and member.ranks is None:
                raise
            chosen = ()  # its classes alone are learned
        found |= dict.fromkeys((*six, *chosen))
    if found.keys() <= set(EMOTIONS):
        return tuple(name for name in EMOTIONS if name in found)
    return tuple(found)


def _marked(corpus: Corpus, name: str, own: CorpusSettings, *, several: bool) -> Corpus:
    """Items that know their corpus; ids and classes of one corpus are those of no other."""

    def marked(item: Item) -> Item:
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
        key: replace(split, items=tuple(marked(item) for item in split.items))
        for key, split in corpus.splits.items()
    }
    return replace(corpus, splits=splits)
