"""A student learns from a teacher: which recordings the teacher must answer, and what its answers make of a corpus."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from emimic.data import class_tables
from emimic.data.corpus import MEDIA_FOLDERS, Corpus, Item, Left, Split, list_media, load_corpus
from emimic.data.split_tables import clip_key, read_table, split_files
from emimic.files import sha256, walk
from emimic.media import decode
from emimic.task import CorpusError, SettingsError
from emimic.training import checkpoint
from emimic.training.distill_targets import Lessons
from emimic.training.settings import TrainSettings

STUDENT: Final = Path(__file__).parent / "student.yaml"
"""The settings of a student, over the paper's."""
HELD_OUT: Final = 10
"""One clip in so many, or one speaker where they are known, is watched by where no split is for that."""
UNANSWERED: Final = "the teacher has no answer to it: it can't be read, or has changed since"


@dataclass(frozen=True, slots=True)
class Task:
    """settings: of the run, without its teacher. answers: the folder for those. recordings: what it must answer."""

    settings: TrainSettings
    answers: Path
    recordings: tuple[Path, ...]

    def taught_by(self, key: str) -> TrainSettings:
        """The run's settings with its teacher. Raises SettingsError when a run to be resumed had another."""
        if self.settings.teacher not in (None, key):
            raise SettingsError(
                f"this run was started with the answers of another teacher ({self.settings.teacher}, found {key}); "
                "resume it with that one, or start another run"
            )
        return self.settings.model_copy(update={"teacher": key})


def plan(
    folder: Path,
    out: Path,
    config: Path | None = None,
    overrides: dict[str, Any] | None = None,
    *,
    resume: bool = False,
) -> Task:
    """What a student's run needs of its teacher first. Raises EmimicError as `train` does."""
    if resume and config is None and not overrides and (out / checkpoint.SETTINGS).exists():
        settings = checkpoint.read_settings(out)
    else:
        settings = TrainSettings.read(config, overrides, base=STUDENT)
    recordings = [item.path for split in _bare(folder).values() for item in split.items]
    for place in settings.unlabelled:
        recordings += [item.path for item in _inside(Path(place))]
    return Task(settings, answers_of(settings, out), tuple(recordings))


def answers_of(settings: TrainSettings, out: Path) -> Path:
    """The folder of teachers' answers, each teacher's in a folder of its own."""
    return Path(settings.answers) if settings.answers else out / "teacher"


def load_taught(folder: Path, settings: TrainSettings, lessons: Lessons) -> Corpus:
    """A corpus, or a folder of recordings, as a student learns it.

    Targets of training clips are mixed from label and teacher, or the teacher's where there is no label; the further
    unlabelled folders' recordings are training clips, too. The split "valid" has labels where the table has them, else
    the teacher's answers; without such a table it is a tenth of the training clips, by speaker where those are known.
    A clip that the teacher hasn't answered is left out by name.
    """
    bare = {name: _answered(split, lessons) for name, split in _bare(folder).items()}
    corpus = _labelled(folder, settings, lessons.teacher.targets)
    labelled = {} if corpus is None else corpus.splits
    known = {item.id: item for item in labelled["train"].items} if "train" in labelled else {}
    items = [known.get(item.id, item) for item in bare["train"].items]
    left = list(bare["train"].left_out)
    if "valid" in labelled:
        valid = _answered(labelled["valid"], lessons)
    elif "valid" in bare:
        valid = _agreeing(bare["valid"], lessons)
    else:
        chosen = _held_out(items)
        valid = _agreeing(_split("valid", [item for item in items if item.id in chosen]), lessons)
        items = [item for item in items if item.id not in chosen]
    judged = {sha256(path) for path in [*_tested(folder), *(item.path for item in valid.items)]}
    for place in settings.unlabelled:
        more = _answered(_split("train", _inside(Path(place))), lessons)
        left += more.left_out
        # What is judged on must not be learned, even without its label.
        items += [item for item in more.items if sha256(item.path) not in judged]
    if not items or not valid.items:
        raise CorpusError(
            f"{folder}: {len(items)} recordings are left to learn from and {len(valid.items)} to watch by; expected "
            f"one of each at least. Give more recordings ({UNANSWERED} holds for {len(left)})"
        )
    listed = (*(item.id for item in items), *(one.id for one in left))
    train = _mixed(Split("train", listed, tuple(items), tuple(left)), lessons, settings.teacher_share)
    if settings.train_on == "train+valid":
        valid = _mixed(valid, lessons, settings.teacher_share)
    notes = () if corpus is None else corpus.warnings
    return Corpus(folder, lessons.teacher.targets, {"train": train, "valid": valid}, notes)


def _mixed(split: Split, lessons: Lessons, share: float) -> Split:
    """Targets of which the teacher's answer, within [0, 1], is a share; where there is no label, that answer."""

    def mixed(item: Item) -> Item:
        answer = lessons.of(item).intensities.clip(0.0, 1.0)
        labels = np.full_like(answer, np.nan) if item.labels is None else item.labels
        target = np.where(np.isnan(labels), answer, share * answer + (1 - share) * labels)
        return replace(item, labels=target.astype(np.float32))

    return replace(split, items=tuple(map(mixed, split.items)))


def _agreeing(split: Split, lessons: Lessons) -> Split:
    """A split whose labels are the teacher's answers."""

    def agreeing(item: Item) -> Item:
        answer = lessons.of(item)
        vad = None if answer.vad is None else answer.vad.mean(axis=0)
        return replace(item, labels=answer.intensities, vad=vad)

    return replace(split, items=tuple(map(agreeing, split.items)))


def _answered(split: Split, lessons: Lessons) -> Split:
    """A split without the clips that the teacher hasn't answered, each named."""
    items = tuple(item for item in split.items if lessons.knows(item))
    there = {item.id for item in items}
    left = tuple(Left(item.id, UNANSWERED) for item in split.items if item.id not in there)
    return replace(split, items=items, left_out=(*split.left_out, *left))


def _held_out(items: Sequence[Item]) -> set[str]:
    """Ids of a tenth of the clips, or the clips of a tenth of the speakers where all are known; the same every time."""
    by_speaker = all(item.speaker for item in items)
    names = sorted({(item.speaker or "") if by_speaker else item.id for item in items})
    count = max(1, round(len(names) / HELD_OUT))
    chosen = {names[i] for i in np.random.default_rng(0).permutation(len(names))[:count]}
    return {item.id for item in items if ((item.speaker or "") if by_speaker else item.id) in chosen}


# What is there


def _bare(folder: Path) -> dict[str, Split]:
    """The splits of a corpus without their labels, or a folder's recordings as the split "train"."""
    if not any(folder.glob("[!.]*_split.csv")):
        return {"train": _split("train", _inside(folder))}
    names = ["train", *(["valid"] if "valid" in _tables(folder) else [])]
    return load_corpus(folder, splits=names, labels=False, scan=False).splits


def _tables(folder: Path) -> dict[str, Path]:
    """Split name -> table, of train, valid and test, as far as they are there."""
    _, there = split_files(folder, [], [])
    return there


def _labelled(folder: Path, settings: TrainSettings, targets: Sequence[str]) -> Corpus | None:
    """The splits of a corpus that have labels of all the teacher's targets; None without any."""
    names = []
    tables = [read_table(name, path) for name, path in _tables(folder).items()]
    for table in class_tables.join(class_tables.read(folder), tables, (), []):
        name = table.name
        there = set(targets) <= set(table.header) and any(row[t] for row in table.rows for t in targets)
        if there and name in ("train", "valid"):
            names.append(name)
    if not names:
        return None
    return load_corpus(
        folder,
        targets=targets,
        splits=names,
        label_scale=settings.label_scale,
        category=settings.category,
        scan=False,
    )


def _tested(folder: Path) -> list[Path]:
    """The clips of the split "test", as far as they are there: in the challenge its table comes first."""
    if "test" not in (tables := _tables(folder)):
        return []
    names = {clip_key(name) for name in read_table("test", tables["test"]).ids()}
    media = [found for place in MEDIA_FOLDERS for found in list_media(folder / place).items()]
    return [path for key, paths in media if key in names for path in paths]


def _inside(folder: Path) -> list[Item]:
    """Every recording of a folder, in depth and in order, without labels; its id is its path there."""
    if not folder.is_dir():
        raise CorpusError(f"{folder} is no folder; expected one with recordings or a corpus")
    troubles: list[OSError] = []
    found = sorted(path for path in walk(folder, troubles) if path.suffix.lower() in decode.MEDIA_SUFFIXES)
    if troubles:
        raise CorpusError(
            f"{troubles[0].filename}: can't be listed ({troubles[0].strerror}). Make it readable"
        )
    if not found:
        raise CorpusError(f"{folder} holds no audio or video file; expected recordings in any depth")
    return [Item(path.relative_to(folder).as_posix(), path, None, None, float("nan")) for path in found]


def _split(name: str, items: Sequence[Item]) -> Split:
    return Split(name, tuple(item.id for item in items), tuple(items), ())
