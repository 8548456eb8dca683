"""The way of every extraction: which clips there are, what is made already, what is made now, what fails."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from emimic.data.corpus import MEDIA_FOLDERS, in_parallel, list_media
from emimic.data.corpus_settings import Numbers
from emimic.data.split_tables import clip_key, listing
from emimic.features import store
from emimic.files import OutputError, encodable, make_folder
from emimic.progress import shown
from emimic.task import MAX_SECONDS, CorpusError, EmimicError, ModelError
from emimic.wording import plural


class Options(Numbers):
    """What every kind that hears or sees clips lets one set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_seconds: float | None = Field(
        MAX_SECONDS, gt=0, description="only the first seconds of a clip (paper: 12); null: all of it"
    )


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for."""

    folder: Path
    kind: str
    name: str | None
    model: str | None
    workers: int
    device: str | None = None
    progress: bool = False
    notes: list[str] = field(default_factory=list)
    """What is to be said of clips that features are made of, from any thread."""

    def place(self, name: str | None = None) -> Path:
        """Where the features go; `name` unless one was asked for, by default the kind's."""
        return self.folder / store.FOLDER / (self.name or name or self.kind)

    def need_model(self, example: str) -> str:
        """The model that was named. Raises ModelError."""
        if self.model is None:
            raise ModelError(
                f"--kind {self.kind} needs a model: --model {example}, a path or a name on the hub"
            )
        return self.model

    def refuse_model(self) -> None:
        """For kinds that need none. Raises ModelError."""
        if self.model is not None:
            raise ModelError(f"--kind {self.kind} takes no model, found {self.model!r}: leave it out")


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip and the file, or folder, that its features are made of."""

    id: str
    path: Path


Outcome = tuple[Clip, EmimicError | None]
"""A clip, and why nothing could be made of it; None when its features are written."""

HOPELESS: Final = 20
"""A model that has failed on so many clips in the same way, and on none in another, is not tried on the others."""


@dataclass(frozen=True)
class Work:
    """Features to make.

    facts: what decides them (store.DECISIVE) and what else is worth knowing, for features.json. make: writes the
    features of clips into `place` and tells of each, in any order. there: the keys of clips that are made. notes: gets
    what is to be said of clips meanwhile, see `Job`.
    """

    place: Path
    facts: Mapping[str, Any]
    clips: Sequence[Clip]
    make: Callable[[Sequence[Clip]], Iterable[Outcome]]
    there: Callable[[Path], Iterable[str]] = store.index
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the clips, by id."""

    place: Path
    facts: Mapping[str, Any]
    made: tuple[str, ...]
    skipped: tuple[str, ...]
    """Made before."""
    failed: dict[str, str]
    """Id -> why there are no features of it."""
    warnings: tuple[str, ...]

    def summary(self, limit: int = 20) -> str:
        """The report as plain text; of failures and of warnings, the first `limit` are named."""
        model = (
            f"; model {self.facts['model']}, licence: {self.facts['licence']}"
            if self.facts.get("model")
            else ""
        )
        failed = [f"{clip}: {reason}" for clip, reason in self.failed.items()]
        return "\n".join(
            [
                f"{self.place}: {plural(len(self.made), 'clip')} made, {len(self.skipped)} were there, "
                f"{len(self.failed)} failed{model}",
                *listing({"Failed": failed, "Warnings": self.warnings}, limit),
            ]
        )


def facts(job: Job, settings: BaseModel, *libraries: str, **more: Any) -> dict[str, Any]:
    """What features.json says of features made by a job. libraries: whose versions are of interest."""
    return {
        "kind": job.kind,
        "model": job.model,
        **more,
        "settings": settings.model_dump(mode="json"),
        "versions": {name: version(name) for name in ("emimic", "numpy", *libraries)},
    }


def maker(place: Path) -> dict[str, Any]:
    """What made the features that others are made of: these are others when those change. Raises CorpusError."""
    found = store.facts(place)
    return {"name": place.name, "weights": found.get("weights"), "settings": found.get("settings")}


def clips(folder: Path, places: Sequence[str] = MEDIA_FOLDERS) -> list[Clip]:
    """The recordings of a corpus in order of their names, of each clip those in the first of `places` that has it.

    Raises CorpusError when there is none.
    """
    media: dict[str, list[Path]] = {}
    for place in reversed(places):
        media |= list_media(folder / place, pipes=True)
    if not media:
        raise CorpusError(f"{folder} holds no recording in {' or '.join(f'{name}/' for name in places)}")
    found = (Clip(path.stem, path) for paths in media.values() for path in paths)
    return sorted(found, key=lambda clip: (clip.id, clip.path))


def each(
    make: Callable[[Clip], store.Sequence], place: Path, workers: int
) -> Callable[[Sequence[Clip]], Iterator[Outcome]]:
    """Clips on their own, several at once, each written where it is made."""
    return each_written(lambda clip: write(place, clip, make(clip)), workers)


def each_written(work: Callable[[Clip], None], workers: int) -> Callable[[Sequence[Clip]], Iterator[Outcome]]:
    """As `each`, for what writes itself."""

    def one(clip: Clip) -> EmimicError | None:
        try:
            work(clip)
        except OutputError:  # a full disk would fail every other clip too
            raise
        except EmimicError as error:
            return error
        return None

    def all_of(chosen: Sequence[Clip]) -> Iterator[Outcome]:
        told = in_parallel(one, chosen, workers=workers, progress=False, text="")
        return zip(chosen, told, strict=True)

    return all_of


def write(place: Path, clip: Clip, sequence: store.Sequence) -> None:
    """A clip's file of features."""
    store.write(place / f"{clip.id}{store.SUFFIX}", clip.id, sequence)


def run(work: Work, *, progress: bool) -> Report:
    """Make what isn't there yet.

    Raises:
        CorpusError: other features are there, or the folder can't be written.
        ModelError: the model fails on every clip in the same way.
    """
    made: list[str] = []
    faults: list[str] = []
    failed: dict[str, str] = {}
    before = len(work.notes)
    try:
        make_folder(work.place)
        there = set(work.there(work.place))
        _agree(work, bool(there))
        store.describe(work.place, work.facts)
        first = _distinct(work.clips, failed)
        todo = [clip for key, clip in first.items() if key not in there]
        for clip, reason in shown(
            work.make(todo), f"Making {work.place.name}", total=len(todo), show=progress
        ):
            if reason is None:
                made.append(clip.id)
                continue
            failed[clip.id] = str(reason)
            if isinstance(reason, ModelError):
                faults.append(str(reason))
            if len(faults) == HOPELESS:
                _check_hope(faults, there or made)
        _check_hope(faults, there or made)
        if files := sorted(work.place.glob(f"[!.]*{store.SUFFIX}")):
            store.describe(work.place, {**work.facts, "size": store.size(files, work.place)})
    except OutputError as error:
        raise CorpusError(f"{error} What is finished stays: run again to go on.") from error
    except OSError as error:
        # A full disk would fail every other clip too; what is finished stays.
        raise CorpusError(
            f"{work.place} can't be written ({error}); mend that and run again to go on"
        ) from error
    skipped = tuple(clip.id for key, clip in first.items() if key in there)
    notes = tuple(work.notes[before:])
    return Report(work.place, work.facts, tuple(made), skipped, dict(sorted(failed.items())), notes)


def _distinct(clips: Iterable[Clip], failed: dict[str, str]) -> dict[str, Clip]:
    """Clip key -> the first clip that has it, whose name a table can hold; the others are put into `failed`."""
    first: dict[str, Clip] = {}
    for clip in clips:
        if encodable(clip.id) != clip.id:
            failed[encodable(clip.path.name)] = "its name is no text in UTF-8, as a table's are; rename it"
        elif (taken := first.setdefault(clip_key(clip.id), clip)) is not clip:
            failed[clip.path.name] = f"is the same clip as {taken.path.name}, which was taken; delete one"
    return first


def _check_hope(faults: Sequence[str], made: Collection[str]) -> None:
    if not made and len(set(faults)) == 1:
        raise ModelError(
            f"{faults[0]}; so it does on every clip ({len(faults)} tried): mend that, or take another model"
        )


def _agree(work: Work, made: bool) -> None:
    """Features of two makers never share a folder: nobody could tell them apart."""
    found = store.facts(work.place)
    wrong = [name for name in store.DECISIVE if found.get(name) != work.facts.get(name)]
    if made and wrong:
        told = "; ".join(
            f"{name} {found.get(name)} there, {work.facts.get(name)} asked for" for name in (*wrong, "model")
        )
        raise CorpusError(
            f"{work.place} holds other features ({told}); give another --name, or delete the folder"
        )
