"""Corpus of a student: the recordings that its teacher predicts, and targets mixed from labels and predictions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from emimic.data import class_tables
from emimic.data.corpus import MEDIA_FOLDERS, Corpus, Item, Left, Split, list_media, load_corpus
from emimic.data.split_tables import find_split_files, get_clip_key, read_table
from emimic.files import compute_sha256, walk
from emimic.media import decode
from emimic.task import CorpusError, SettingsError
from emimic.training import checkpoint
from emimic.training.distill_targets import TeacherTargets
from emimic.training.settings import TrainSettings

STUDENT: Final = Path(__file__).parent / "student.yaml"
"""Settings of a student, which override the paper's."""
HELD_OUT: Final = 10
"""Without a split "valid", 1 / HELD_OUT of the clips, or of the speakers where all are named, is for validation."""
UNPREDICTED: Final = "the teacher has no prediction of it: it can't be read, or has changed since"


@dataclass(frozen=True, slots=True)
class Task:
    """Work of a teacher before its student's run.

    Attributes:
        settings: of the run; its teacher only where it is resumed.
        teacher_cache: folder of the teachers' predictions.
        recordings: files that the teacher predicts.
    """

    settings: TrainSettings
    teacher_cache: Path
    recordings: tuple[Path, ...]

    def set_teacher(self, key: str) -> TrainSettings:
        """Return the run's settings with its teacher. Raises SettingsError where a resumed run had another."""
        if self.settings.teacher not in (None, key):
            raise SettingsError(
                f"this run was started with the predictions of another teacher ({self.settings.teacher}, found {key}); "
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
    """Return what a student's run needs of its teacher. Raises EmimicError as `train` does."""
    if resume and config is None and not overrides and (out / checkpoint.SETTINGS).exists():
        settings = checkpoint.read_settings(out)
    else:
        settings = TrainSettings.read(config, overrides, base=STUDENT)
    recordings = [item.path for split in _load_unlabeled(folder).values() for item in split.items]
    for other in settings.unlabeled:
        recordings += [item.path for item in _list_recordings(Path(other))]
    return Task(settings, get_teacher_cache(settings, out), tuple(recordings))


def get_teacher_cache(settings: TrainSettings, out: Path) -> Path:
    """Return the folder of the teachers' predictions, which has one folder per teacher."""
    return Path(settings.teacher_cache) if settings.teacher_cache else out / "teacher"


def load_student_corpus(folder: Path, settings: TrainSettings, teacher: TeacherTargets) -> Corpus:
    """Load a corpus, or a folder of recordings, with a student's targets.

    Targets of training clips are mixed from label and teacher, or the teacher's where there is no label. Recordings of
    the further unlabeled folders are training clips, too. The split "valid" has labels where the table has them, else
    the teacher's predictions; without such a table it is a tenth of the training clips, by speaker where all are named.
    A clip without a prediction is left out, with a reason.

    Raises:
        CorpusError: if no clip is left for training or for validation.
    """
    unlabeled = {name: _select_predicted(split, teacher) for name, split in _load_unlabeled(folder).items()}
    corpus = _load_labeled(folder, settings, teacher.teacher.targets)
    labeled = {} if corpus is None else corpus.splits
    by_id = {item.id: item for item in labeled["train"].items} if "train" in labeled else {}
    items = [by_id.get(item.id, item) for item in unlabeled["train"].items]
    left_out = list(unlabeled["train"].left_out)
    if "valid" in labeled:
        valid = _select_predicted(labeled["valid"], teacher)
    elif "valid" in unlabeled:
        valid = _replace_labels(unlabeled["valid"], teacher)
    else:
        chosen = _choose_held_out(items)
        held_out = [item for item in items if item.id in chosen]
        valid = _replace_labels(_make_split("valid", held_out), teacher)
        items = [item for item in items if item.id not in chosen]
    # Recordings of the evaluation splits must not be trained on, even without their labels.
    excluded = {compute_sha256(path) for path in [*_list_test(folder), *(item.path for item in valid.items)]}
    for other in settings.unlabeled:
        more = _select_predicted(_make_split("train", _list_recordings(Path(other))), teacher)
        left_out += more.left_out
        items += [item for item in more.items if compute_sha256(item.path) not in excluded]
    if not items or not valid.items:
        raise CorpusError(
            f"{folder}: {len(items)} recordings are left to learn from and {len(valid.items)} for validation; expected "
            f"one of each at least. Give more recordings ({UNPREDICTED} holds for {len(left_out)})"
        )
    listed = (*(item.id for item in items), *(omitted.id for omitted in left_out))
    fraction = settings.teacher_fraction
    train = _mix_labels(Split("train", listed, tuple(items), tuple(left_out)), teacher, fraction)
    if settings.train_on == "train+valid":
        valid = _mix_labels(valid, teacher, fraction)
    notes = () if corpus is None else corpus.warnings
    return Corpus(folder, teacher.teacher.targets, {"train": train, "valid": valid}, notes)


def _mix_labels(split: Split, teacher: TeacherTargets, fraction: float) -> Split:
    """Mix labels with a fraction of the teacher's intensities, within [0, 1], which are the target without a label."""

    def mix(item: Item) -> Item:
        predicted = teacher.read(item).intensities.clip(0.0, 1.0)
        labels = np.full_like(predicted, np.nan) if item.labels is None else item.labels
        target = np.where(np.isnan(labels), predicted, fraction * predicted + (1 - fraction) * labels)
        return replace(item, labels=target.astype(np.float32))

    return replace(split, items=tuple(map(mix, split.items)))


def _replace_labels(split: Split, teacher: TeacherTargets) -> Split:
    """Return a split whose labels are the teacher's predictions."""

    def relabel(item: Item) -> Item:
        prediction = teacher.read(item)
        vad = None if prediction.vad is None else prediction.vad.mean(axis=0)
        return replace(item, labels=prediction.intensities, vad=vad)

    return replace(split, items=tuple(map(relabel, split.items)))


def _select_predicted(split: Split, teacher: TeacherTargets) -> Split:
    """Return a split without the clips that the teacher hasn't predicted; it lists those as left out."""
    items = tuple(item for item in split.items if teacher.has(item))
    ids = {item.id for item in items}
    unpredicted = tuple(Left(item.id, UNPREDICTED) for item in split.items if item.id not in ids)
    return replace(split, items=items, left_out=(*split.left_out, *unpredicted))


def _choose_held_out(items: Sequence[Item]) -> set[str]:
    """Return ids of a tenth of the clips, or of a tenth of the speakers' where all are named; always the same."""
    by_speaker = all(item.speaker for item in items)
    names = sorted({(item.speaker or "") if by_speaker else item.id for item in items})
    count = max(1, round(len(names) / HELD_OUT))
    chosen = {names[i] for i in np.random.default_rng(0).permutation(len(names))[:count]}
    return {item.id for item in items if ((item.speaker or "") if by_speaker else item.id) in chosen}


# Files of a corpus


def _load_unlabeled(folder: Path) -> dict[str, Split]:
    """Return the splits of a corpus without their labels, or a folder's recordings as the split "train"."""
    if not any(folder.glob("[!.]*_split.csv")):
        return {"train": _make_split("train", _list_recordings(folder))}
    names = ["train", *(["valid"] if "valid" in _find_tables(folder) else [])]
    return load_corpus(folder, splits=names, labels=False, scan=False).splits


def _find_tables(folder: Path) -> dict[str, Path]:
    """Return split name -> table, of those of train, valid and test that exist."""
    return find_split_files(folder, [], [])[1]


def _load_labeled(folder: Path, settings: TrainSettings, targets: Sequence[str]) -> Corpus | None:
    """Return the splits of a corpus that have labels of all the teacher's targets; None without any."""
    names = []
    tables = [read_table(name, path) for name, path in _find_tables(folder).items()]
    for table in class_tables.join(class_tables.read(folder), tables, (), []):
        name = table.name
        labeled = set(targets) <= set(table.header) and any(row[t] for row in table.rows for t in targets)
        if labeled and name in ("train", "valid"):
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


def _list_test(folder: Path) -> list[Path]:
    """Return the recordings of the split "test" that exist: the challenge releases its table first."""
    if "test" not in (tables := _find_tables(folder)):
        return []
    names = {get_clip_key(name) for name in read_table("test", tables["test"]).list_ids()}
    media = [files for name in MEDIA_FOLDERS for files in list_media(folder / name).items()]
    return [path for key, paths in media if key in names for path in paths]


def _list_recordings(folder: Path) -> list[Item]:
    """Return a folder's recordings, recursively and sorted, without labels; an id is the path within the folder."""
    if not folder.is_dir():
        raise CorpusError(f"{folder} is no folder; expected one with recordings or a corpus")
    errors: list[OSError] = []
    paths = sorted(path for path in walk(folder, errors) if path.suffix.lower() in decode.MEDIA_SUFFIXES)
    if errors:
        raise CorpusError(f"{errors[0].filename}: can't be listed ({errors[0].strerror}). Make it readable")
    if not paths:
        raise CorpusError(
            f"{folder} holds no audio or video file; expected recordings, also in folders within"
        )
    return [Item(path.relative_to(folder).as_posix(), path, None, None, float("nan")) for path in paths]


def _make_split(name: str, items: Sequence[Item]) -> Split:
    return Split(name, tuple(item.id for item in items), tuple(items), ())
