"""Import of a published layout into a corpus folder: recordings in `audio/`, split tables, a report."""

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emimic import files
from emimic.data.importers.layout import Clip, Layout, LeftOut, Source, list_recordings
from emimic.data.importers.masks import get_category_labels
from emimic.data.importers.splits import choose_speakers
from emimic.data.importers.trim import trim_zeros
from emimic.data.parallel import explain_stop, run_in_parallel
from emimic.data.split_tables import format_sections
from emimic.files import read_json
from emimic.task import EMOTIONS, VAD, AudioError, CorpusError, SettingsError
from emimic.wording import pluralize

REPORT: Final = "import.json"
"""Name of the report; it marks a folder that a rerun may write to."""
SCHEMA: Final = "emimic/import/1"
SPLITS: Final = ("train", "valid", "test")
_POINTER: Final = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of an import; names are those of the source's files."""

    corpus: str
    out: str
    splits: dict[str, dict[str, int]]
    """Split -> number of clips, and of known speakers."""
    targets: tuple[str, ...]
    """Columns with a label: of the six, then of V/A/D."""
    made: int
    skipped: int
    """Number of recordings that existed from an earlier run."""
    failed: dict[str, str]
    """Recording -> reason why it can't be used."""
    left_out: dict[str, str]
    """Recording or row -> reason why no clip was made of it."""
    planned: dict[str, int]
    """Reason -> number of recordings that the options leave out."""
    notes: tuple[str, ...]

    def to_text(self, limit: int = 20) -> str:
        """Return the report as plain text, with the first `limit` failures and recordings left out."""
        lines = [
            f"{self.corpus} -> {self.out}: {pluralize(self.made, 'clip')} made, {self.skipped} were there, "
            f"{len(self.failed)} failed, {len(self.left_out) + sum(self.planned.values())} left out",
            *(f"  {name}: clips {n['clips']}, speakers {n['speakers']}" for name, n in self.splits.items()),
            f"  targets: {', '.join(self.targets)}",
            *(f"  left out: {n} x {reason}" for reason, n in self.planned.items()),
        ]
        sections = {
            title: [f"{name}: {reason}" for name, reason in entries.items()]
            for title, entries in {"Failed": self.failed, "Left out": self.left_out}.items()
        }
        return "\n".join(lines + format_sections({**sections, "Notes": self.notes}, limit))


def import_layout(
    layout: Layout,
    folder: str | Path,
    out: str | Path,
    *,
    valid_speakers: int | None = None,
    link: bool = False,
    trim: bool = False,
    song: bool = False,
    test_set: str | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> ImportReport:
    """Make the corpus folder `out` of a published corpus: `audio/`, `train_split.csv` and others, `import.json`.

    A table has Filename, those of the six emotions and of Arousal, Dominance, Valence with a label (in [0, 1], or
    empty), Speaker (CORPUS-ID), Emotion, and the source's columns. Existing recordings are kept, so the same call
    resumes an interrupted import. Files that can't be used are in the report.

    Args:
        layout: one of LAYOUTS.
        folder: the corpus as published.
        out: a new folder, or that of an earlier import with the same options.
        valid_speakers: number of speakers for validation when no split is published; default a fifth, 0 for none.
        link: make symbolic links instead of copies.
        trim: leave out the digital zeros at the end of PCM WAV files.
        song: include singing (RAVDESS).
        test_set: the published test set that becomes `test_split.csv` (MSP-Podcast), default Test1.
        workers: threads, default one per core.
        progress: show a bar on standard error.

    Raises:
        CorpusError: nothing in `folder` matches the layout, a table is damaged, or `out` holds something else or
            can't be written.
        SettingsError: options exclude each other, or the corpus doesn't have one.
    """
    folder, out = Path(folder), Path(out)
    options = {"song": song, "test_set": test_set is not None, "valid_speakers": valid_speakers is not None}
    _check_options(layout, {name for name, is_set in options.items() if is_set}, link=link, trim=trim)
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder; expected {layout.expected}")
    if out.resolve().is_relative_to(folder.resolve()):
        raise CorpusError(
            f"{out} lies in {folder}, which is read; expected a folder outside of it. Name another"
        )
    recordings, twice = list_recordings(folder, layout.folders)
    source = Source(folder, recordings, song, test_set or "Test1")
    entries = [*twice, *layout.clips(source)]
    clips = [entry for entry in entries if isinstance(entry, Clip)]
    left_out = [entry for entry in entries if isinstance(entry, LeftOut)]
    if not clips:
        _refuse(layout, folder, recordings, left_out)
    if not layout.publishes_splits:
        clips = _split(layout, clips, valid_speakers)
    settings = {"corpus": layout.name, "link": link, "trim": trim}
    with explain_stop(out):
        _claim(out, settings)
        results = _copy_all(clips, out / "audio", link=link, trim=trim, workers=workers, progress=progress)
        pairs = list(zip(clips, results, strict=True))
        usable = [clip for clip, result in pairs if isinstance(result, bool)]
        failed = {clip.path.name: result for clip, result in pairs if isinstance(result, str)}
        if not usable:
            name, reason = next(iter(failed.items()))
            raise CorpusError(f"{folder}: none of {len(clips)} recordings can be used ({name} {reason})")
        targets = _write_tables(out, layout.name, usable, source.notes)
        report = ImportReport(
            layout.name, str(out), _count(usable), targets, results.count(True), results.count(False), failed,
            {entry.name: entry.reason for entry in left_out if not entry.planned},
            dict(Counter(entry.reason for entry in left_out if entry.planned)),
            tuple(source.notes),
        )  # fmt: skip
        _write_report(out, settings, report)
    return report


def _check_options(layout: Layout, names: set[str], *, link: bool, trim: bool) -> None:
    """Check that a layout has the options with these names, and that they don't exclude each other.

    Raises:
        SettingsError: it doesn't, or they do.
    """
    if link and trim:
        raise SettingsError("found --link and --trim, expected one: a link is to the recording as it is")
    supported = layout.options | (set() if layout.publishes_splits else {"valid_speakers"})
    if unknown := sorted(names - supported):
        spelled = ", ".join(f"--{name.replace('_', '-')}" for name in unknown)
        raise SettingsError(f"{layout.name} has no option {spelled}: leave it out")


def _refuse(layout: Layout, folder: Path, recordings: Sequence[Path], left_out: Sequence[LeftOut]) -> None:
    """Raise CorpusError: nothing matches the layout."""
    n_files = pluralize(len(recordings), "recording") + (
        f" such as {recordings[0].name}" if recordings else ""
    )
    reason = f" ({left_out[0].name}: {left_out[0].reason})" if left_out else ""
    raise CorpusError(
        f"{folder}: found {n_files} and no clip of {layout.name}{reason}; expected {layout.expected}. Give the folder "
        "as it was unpacked"
    )


def _split(layout: Layout, clips: Sequence[Clip], n: int | None) -> list[Clip]:
    """Return the clips with their splits, with `n` speakers for validation."""
    genders = {clip.speaker: clip.columns.get("Gender", "") for clip in clips}
    valid_speakers = choose_speakers(genders, layout.name, n)
    return [
        dataclasses.replace(clip, split="valid" if clip.speaker in valid_speakers else "train")
        for clip in clips
    ]


def _claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Mark `out` as an import with these settings.

    Raises:
        CorpusError: it holds anything else.
    """
    report = out / REPORT
    if report.is_file():
        try:
            before = read_json(report)["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{report} can't be read ({error}); remove {out} and import again") from error
        if before == settings:
            return
        if any((out / "audio").glob("[!.]*")):
            raise CorpusError(
                f"{out} was imported as {before}, expected {dict(settings)}. Name another folder"
            )
    elif out.is_dir() and (other := sorted(path.name for path in out.glob("[!.]*"))):
        raise CorpusError(
            f"{out} holds {', '.join(other[:3])} and no {REPORT}; expected a new or an empty folder. Name another"
        )
    files.make_folder(out)
    _write_report(out, settings, None)


def _write_report(out: Path, settings: Mapping[str, Any], report: ImportReport | None) -> None:
    """Write the settings and the report; None while the import is unfinished."""
    content = {"schema": SCHEMA, "settings": dict(settings), "report": report and dataclasses.asdict(report)}
    files.write_atomically(out / REPORT, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _copy_all(
    clips: Sequence[Clip], target: Path, *, link: bool, trim: bool, workers: int | None, progress: bool
) -> list[bool | str]:
    """Copy or link all recordings, and return the results of `_copy`."""
    target.mkdir(exist_ok=True)

    def copy(clip: Clip) -> bool | str:
        return _copy(clip.path, target / clip.path.name, link=link, trim=trim)

    return list(run_in_parallel(copy, clips, workers=workers, progress=progress, text="Importing clips"))


def _copy(path: Path, target: Path, *, link: bool, trim: bool) -> bool | str:
    """Copy or link a recording, and return True; False when it exists, or the reason why it can't be used.

    Raises:
        CorpusError: a link can't be made.
        OSError: the target can't be written.
    """
    if target.exists():
        return False
    try:
        with path.open("rb") as file:
            data = file.read(len(_POINTER)) if link else file.read()
    except OSError as error:
        return f"can't be read ({error})"
    if not data:
        return "is empty; download it again"
    if data.startswith(_POINTER):
        return "is a pointer of Git LFS, not the recording: run `git lfs pull` in its repository"
    if link:
        target.unlink(missing_ok=True)  # a link that leads nowhere
        try:
            target.symlink_to(path.resolve())
        except OSError as error:
            raise CorpusError(f"{target} can't be made as a link ({error}); leave --link out") from error
        return True
    try:
        data = trim_zeros(data) if trim else data
    except AudioError as error:
        return str(error)
    files.write_atomically(target, data)
    return True


def _write_tables(out: Path, corpus: str, clips: Sequence[Clip], notes: list[str]) -> tuple[str, ...]:
    """Write a table per split, remove those of an earlier run, and return the label columns, the same in all."""
    labels = [get_category_labels(clip.category, clip.joy) | dict(clip.vad) for clip in clips]
    labeled: set[str] = set().union(*labels)
    targets = tuple(name for name in (*EMOTIONS, *VAD) if name in labeled)
    filled = (name for clip in clips for name, text in clip.columns.items() if text)
    columns = tuple(dict.fromkeys(filled))
    header = ("Filename", *targets, "Speaker", "Emotion", *columns)
    for split in SPLITS:
        rows = [
            (
                clip.path.name,
                *(f"{row[name]:.6g}" if name in row else "" for name in targets),
                clip.speaker and f"{corpus}-{clip.speaker}",
                clip.category,
                *(clip.columns.get(name, "") for name in columns),
            )
            for clip, row in zip(clips, labels, strict=True)
            if clip.split == split
        ]
        table = out / f"{split}_split.csv"
        if rows:
            text = files.CsvText()
            csv.writer(text).writerows([header, *rows])
            files.write_atomically(table, text.getvalue())
        else:
            table.unlink(missing_ok=True)
    if not set(EMOTIONS) <= labeled and labeled & set(EMOTIONS):
        names = ", ".join(name for name in EMOTIONS if name in labeled)
        notes.append(f"only {names} of the six have a label; train with --set targets='[{names}]'")
    return targets


def _count(clips: Sequence[Clip]) -> dict[str, dict[str, int]]:
    """Return the number of clips and of known speakers in each split that has clips."""
    by_split = {name: [clip for clip in clips if clip.split == name] for name in SPLITS}
    return {
        name: {"clips": len(part), "speakers": len({clip.speaker for clip in part} - {""})}
        for name, part in by_split.items()
        if part
    }
