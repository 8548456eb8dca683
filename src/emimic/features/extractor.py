"""The extraction of features of any kind: the clips of a corpus, what is made already, what fails."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from emimic.data.corpus import MEDIA_FOLDERS, list_media
from emimic.data.corpus_settings import Numbers
from emimic.data.parallel import explain_stop, run_in_parallel
from emimic.data.split_tables import format_sections, get_clip_key
from emimic.features import store
from emimic.files import OutputError, make_encodable, make_folder
from emimic.progress import show_progress
from emimic.task import MAX_SECONDS, CorpusError, EmimicError, ModelError
from emimic.wording import pluralize


class Options(Numbers):
    """Settings of all kinds that decode clips."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_seconds: float | None = Field(
        MAX_SECONDS, gt=0, description="only the first seconds of a clip (paper: 12); null: all of it"
    )


@dataclass(frozen=True, slots=True)
class Job:
    """The request of a kind of features for a corpus.

    Attributes:
        notes: warnings on the clips, from any thread.
    """

    folder: Path
    kind: str
    name: str | None
    model: str | None
    workers: int
    device: str | None = None
    progress: bool = False
    notes: list[str] = field(default_factory=list)

    def get_folder(self, name: str | None = None) -> Path:
        """Return the folder of the features: of the requested name, else `name`, else the kind's."""
        return self.folder / store.FOLDER / (self.name or name or self.kind)

    def require_model(self, example: str) -> str:
        """Return the model's path or name; raise ModelError without one."""
        if self.model is None:
            raise ModelError(
                f"--kind {self.kind} needs a model: --model {example}, a path or a name on the hub"
            )
        return self.model

    def refuse_model(self) -> None:
        """Raise ModelError if a model was named."""
        if self.model is not None:
            raise ModelError(f"--kind {self.kind} takes no model, found {self.model!r}: leave it out")


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip and the file, or folder, from which its features are made."""

    id: str
    path: Path


Outcome = tuple[Clip, EmimicError | None]
"""A clip, and the reason of its failure; None when its features are written."""

MAX_FAILURES: Final = 20
"""A model that fails on this number of clips in the same way, and succeeds on none, is not run on the others."""


@dataclass(frozen=True)
class Work:
    """Features to make.

    Attributes:
        folder: of the features.
        facts: what determines them (store.DECISIVE), and other facts for features.json.
        make: writes the features of clips into `folder`, and yields each clip's outcome in any order.
        list_made: returns the keys of clips that are made.
        notes: warnings on the clips, see `Job`.
    """

    folder: Path
    facts: Mapping[str, Any]
    clips: Sequence[Clip]
    make: Callable[[Sequence[Clip]], Iterable[Outcome]]
    list_made: Callable[[Path], Iterable[str]] = store.index
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of each clip, by id.

    Attributes:
        made: clips whose features were made now.
        skipped: clips whose features were made before.
        failed: reasons by id.
    """

    folder: Path
    facts: Mapping[str, Any]
    made: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]
    warnings: tuple[str, ...]

    def to_text(self, limit: int = 20) -> str:
        """Return the report as plain text, with the first `limit` failures and warnings."""
        model = (
            f"; model {self.facts['model']}, license: {self.facts['license']}"
            if self.facts.get("model")
            else ""
        )
        failed = [f"{clip}: {reason}" for clip, reason in self.failed.items()]
        return "\n".join(
            [
                f"{self.folder}: {pluralize(len(self.made), 'clip')} made, {len(self.skipped)} were there, "
                f"{len(self.failed)} failed{model}",
                *format_sections({"Failed": failed, "Warnings": self.warnings}, limit),
            ]
        )


def collect_facts(job: Job, settings: BaseModel, *libraries: str, **more: Any) -> dict[str, Any]:
    """Return the content of features.json, with the versions of these libraries."""
    return {
        "kind": job.kind,
        "model": job.model,
        **more,
        "settings": settings.model_dump(mode="json"),
        "versions": {name: version(name) for name in ("emimic", "numpy", *libraries)},
    }


def describe_source(folder: Path) -> dict[str, Any]:
    """Return what determines the features of a folder from which others are made.

    Raises:
        CorpusError: if its features.json can't be read.
    """
    facts = store.read_facts(folder)
    return {"name": folder.name, "weights": facts.get("weights"), "settings": facts.get("settings")}


def list_clips(folder: Path, names: Sequence[str] = MEDIA_FOLDERS) -> list[Clip]:
    """Return the recordings of a corpus in order of their names, each from the first of its folders `names` with it.

    Raises:
        CorpusError: if there is none.
    """
    media: dict[str, list[Path]] = {}
    for name in reversed(names):
        media |= list_media(folder / name, pipes=True)
    if not media:
        raise CorpusError(f"{folder} holds no recording in {' or '.join(f'{name}/' for name in names)}")
    clips = (Clip(path.stem, path) for paths in media.values() for path in paths)
    return sorted(clips, key=lambda clip: (clip.id, clip.path))


def write_each(
    make: Callable[[Clip], store.Sequence], folder: Path, workers: int
) -> Callable[[Sequence[Clip]], Iterator[Outcome]]:
    """Return a `Work.make` that makes and writes the features of single clips in threads."""
    return process_each(lambda clip: write_clip(folder, clip, make(clip)), workers)


def process_each(
    process: Callable[[Clip], None], workers: int
) -> Callable[[Sequence[Clip]], Iterator[Outcome]]:
    """Return a `Work.make` that calls `process` for single clips in threads."""

    def try_process(clip: Clip) -> EmimicError | None:
        try:
            process(clip)
        except OutputError:  # a full disk would fail every other clip too
            raise
        except EmimicError as error:
            return error
        return None

    def process_all(clips: Sequence[Clip]) -> Iterator[Outcome]:
        errors = run_in_parallel(try_process, clips, workers=workers)
        return zip(clips, errors, strict=True)

    return process_all


def write_clip(folder: Path, clip: Clip, sequence: store.Sequence) -> None:
    """Write a clip's file of features."""
    store.write(folder / f"{clip.id}{store.SUFFIX}", clip.id, sequence)


def make_missing(work: Work, *, progress: bool) -> Report:
    """Make the features that aren't there yet.

    Raises:
        CorpusError: if the folder has other features, or can't be written.
        ModelError: if the model fails on every clip in the same way.
    """
    made: list[str] = []
    faults: list[str] = []
    failed: dict[str, str] = {}
    before = len(work.notes)
    with explain_stop(work.folder):
        make_folder(work.folder)
        present = set(work.list_made(work.folder))
        _check_facts(work, bool(present))
        store.describe(work.folder, work.facts)
        clips = _drop_duplicates(work.clips, failed)
        missing = [clip for key, clip in clips.items() if key not in present]
        for clip, reason in show_progress(
            work.make(missing), f"Making {work.folder.name}", total=len(missing), show=progress
        ):
            if reason is None:
                made.append(clip.id)
                continue
            failed[clip.id] = str(reason)
            if isinstance(reason, ModelError):
                faults.append(str(reason))
            if len(faults) == MAX_FAILURES:
                _check_faults(faults, present or made)
        _check_faults(faults, present or made)
        if files := sorted(work.folder.glob(f"[!.]*{store.SUFFIX}")):
            store.describe(work.folder, {**work.facts, "size": store.read_frame_size(files, work.folder)})
    skipped = tuple(clip.id for key, clip in clips.items() if key in present)
    notes = tuple(work.notes[before:])
    return Report(work.folder, work.facts, tuple(made), skipped, dict(sorted(failed.items())), notes)


def _drop_duplicates(clips: Iterable[Clip], failed: dict[str, str]) -> dict[str, Clip]:
    """Return clip key -> the first clip that has it and whose name a table can hold; add the others to `failed`."""
    first: dict[str, Clip] = {}
    for clip in clips:
        if make_encodable(clip.id) != clip.id:
            failed[make_encodable(clip.path.name)] = (
                "its name is no text in UTF-8, as a table's are; rename it"
            )
        elif (other := first.setdefault(get_clip_key(clip.id), clip)) is not clip:
            failed[clip.path.name] = f"is the same clip as {other.path.name}, which was taken; delete one"
    return first


def _check_faults(faults: Sequence[str], made: Collection[str]) -> None:
    if not made and len(set(faults)) == 1:
        raise ModelError(
            f"{faults[0]}; so it does on every clip ({len(faults)} tried): fix that, or take another model"
        )


def _check_facts(work: Work, made: bool) -> None:
    """Raise CorpusError where the folder has features with other facts."""
    facts = store.read_facts(work.folder)
    wrong = [name for name in store.DECISIVE if facts.get(name) != work.facts.get(name)]
    if made and wrong:
        differences = "; ".join(
            f"{name} {facts.get(name)} there, {work.facts.get(name)} asked for" for name in (*wrong, "model")
        )
        raise CorpusError(
            f"{work.folder} holds other features ({differences}); give another --name, or delete the folder"
        )
