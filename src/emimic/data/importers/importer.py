"""From a published layout to a corpus folder: recordings into `audio/`, split tables, a report."""

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emimic import files
from emimic.data.corpus import in_parallel
from emimic.data.importers.layout import Clip, Layout, LeftOut, Source, list_recordings
from emimic.data.importers.masks import labels_of
from emimic.data.importers.splits import choose_speakers
from emimic.data.importers.trim import trim_zeros
from emimic.data.split_tables import listing
from emimic.files import read_json
from emimic.task import EMOTIONS, VAD, AudioError, CorpusError, SettingsError
from emimic.wording import plural

REPORT: Final = "import.json"
"""The report's name; it marks a folder that a rerun may write to."""
SCHEMA: Final = "emimic/import/1"
SPLITS: Final = ("train", "valid", "test")
_POINTER: Final = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did; names are those of the source's files."""

    corpus: str
    out: str
    splits: dict[str, dict[str, int]]
    """Split -> clips, and speakers that are known."""
    targets: tuple[str, ...]
    """Columns with at least one label: of the six, then of V/A/D."""
    made: int
    skipped: int
    """Recordings that were there from an earlier run."""
    failed: dict[str, str]
    """Recording -> why it can't be used."""
    left_out: dict[str, str]
    """Recording or row -> why it makes no clip."""
    planned: dict[str, int]
    """Reason -> how many were left out as the options say."""
    notes: tuple[str, ...]

    def summary(self, limit: int = 20) -> str:
        """Return the report as plain text; of failures and of what was left out, the first `limit` are named."""
        lines = [
            f"{self.corpus} -> {self.out}: {plural(self.made, 'clip')} made, {self.skipped} were there, "
            f"{len(self.failed)} failed, {len(self.left_out) + sum(self.planned.values())} left out",
            *(f"  {name}: clips {n['clips']}, speakers {n['speakers']}" for name, n in self.splits.items()),
            f"  targets: {', '.join(self.targets)}",
            *(f"  left out: {n} x {reason}" for reason, n in self.planned.items()),
        ]
        named = {
            title: [f"{name}: {reason}" for name, reason in entries.items()]
            for title, entries in {"Failed": self.failed, "Left out": self.left_out}.items()
        }
        return "\n".join(lines + listing({**named, "Notes": self.notes}, limit))


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

    A table has Filename, those of the six emotions and of Arousal, Dominance, Valence with a label (in [0, 1]; an empty
    cell is unknown), Speaker (CORPUS-ID), Emotion, and the source's columns. Recordings that are there are left as they
    are, so an interrupted import is resumed by the same call. What can't be used is named in the report.

    Args:
        layout: one of LAYOUTS.
        folder: the corpus as published.
        out: a new folder, or that of an earlier import with the same options.
        valid_speakers: speakers held out for validation where no split is published; default a fifth, 0 for none.
        link: symbolic links in place of copies.
        trim: without the digital zeros that PCM WAV files end with.
        song: also singing (RAVDESS).
        test_set: which published test set becomes `test_split.csv` (MSP-Podcast), default Test1.
        workers: threads, default one per core.
        progress: show a bar on standard error.

    Raises:
        CorpusError: nothing in `folder` matches the layout, a table is damaged, or `out` holds something else or
            can't be written.
        SettingsError: options that exclude each other, or that the corpus doesn't have.
    """
    folder, out = Path(folder), Path(out)
    asked = {"song": song, "test_set": test_set is not None, "valid_speakers": valid_speakers is not None}
    _check_options(layout, {name for name, given in asked.items() if given}, link=link, trim=trim)
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder; expected {layout.expected}")
    if out.resolve().is_relative_to(folder.resolve()):
        raise CorpusError(
            f"{out} lies in {folder}, which is read; expected a folder outside of it. Name another"
        )
    recordings, twice = list_recordings(folder, layout.folders)
    source = Source(folder, recordings, song, test_set or "Test1")
    found = [*twice, *layout.clips(source)]
    clips = [entry for entry in found if isinstance(entry, Clip)]
    left_out = [entry for entry in found if isinstance(entry, LeftOut)]
    if not clips:
        _refuse(layout, folder, recordings, left_out)
    if not layout.publishes_splits:
        clips = _split(layout, clips, valid_speakers)
    settings = {"corpus": layout.name, "link": link, "trim": trim}
    try:
        _claim(out, settings)
        results = _bring_all(clips, out / "audio", link=link, trim=trim, workers=workers, progress=progress)
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
    except files.OutputError as error:
        raise CorpusError(f"{error} What is finished stays: run again to go on.") from error
    except OSError as error:
        # A full disk would fail every other clip too; what is finished stays.
        raise CorpusError(
            f"{out} can't be written ({error}); free space or permit it, and run again to go on"
        ) from error
    return report


def _check_options(layout: Layout, asked: set[str], *, link: bool, trim: bool) -> None:
    if link and trim:
        raise SettingsError("found --link and --trim, expected one: a link is to the recording as it is")
    known = layout.options | (set() if layout.publishes_splits else {"valid_speakers"})
    if unknown := sorted(asked - known):
        spelled = ", ".join(f"--{name.replace('_', '-')}" for name in unknown)
        raise SettingsError(f"{layout.name} has no option {spelled}: leave it out")


def _refuse(layout: Layout, folder: Path, recordings: Sequence[Path], left_out: Sequence[LeftOut]) -> None:
    """Raise CorpusError: nothing matches."""
    found = plural(len(recordings), "recording") + (f" such as {recordings[0].name}" if recordings else "")
    why = f" ({left_out[0].name}: {left_out[0].reason})" if left_out else ""
    raise CorpusError(
        f"{folder}: found {found} and no clip of {layout.name}{why}; expected {layout.expected}. Give the folder as it "
        "was unpacked"
    )


def _split(layout: Layout, clips: Sequence[Clip], n: int | None) -> list[Clip]:
    genders = {clip.speaker: clip.columns.get("Gender", "") for clip in clips}
    held_out = choose_speakers(genders, layout.name, n)
    return [
        dataclasses.replace(clip, split="valid" if clip.speaker in held_out else "train") for clip in clips
    ]


def _claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Mark `out` as an import with these settings; CorpusError when it holds anything else."""
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
    content = {"schema": SCHEMA, "settings": dict(settings), "report": report and dataclasses.asdict(report)}
    files.write_atomic(out / REPORT, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _bring_all(
    clips: Sequence[Clip], target: Path, *, link: bool, trim: bool, workers: int | None, progress: bool
) -> list[bool | str]:
    """Return the result of `_bring` for each clip."""
    target.mkdir(exist_ok=True)

    def bring(clip: Clip) -> bool | str:
        return _bring(clip.path, target / clip.path.name, link=link, trim=trim)

    return list(in_parallel(bring, clips, workers=workers, progress=progress, text="Importing clips"))


def _bring(path: Path, target: Path, *, link: bool, trim: bool) -> bool | str:
    """Copy or link a recording: True when made, False when it was there, or why it can't be used.

    Raises:
        CorpusError: no link can be made.
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
    files.write_atomic(target, data)
    return True


def _write_tables(out: Path, corpus: str, clips: Sequence[Clip], notes: list[str]) -> tuple[str, ...]:
    """Write a table per split, remove those of an earlier run; the label columns, the same in all."""
    labels = [labels_of(clip.category, clip.joy) | dict(clip.vad) for clip in clips]
    known: set[str] = set().union(*labels)
    targets = tuple(name for name in (*EMOTIONS, *VAD) if name in known)
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
            files.write_atomic(table, text.getvalue())
        else:
            table.unlink(missing_ok=True)
    if not set(EMOTIONS) <= known and known & set(EMOTIONS):
        few = [name for name in EMOTIONS if name in known]
        notes.append(
            f"only {', '.join(few)} of the six have a label; train with --set targets='[{', '.join(few)}]'"
        )
    return targets


def _count(clips: Sequence[Clip]) -> dict[str, dict[str, int]]:
    by_split = {name: [clip for clip in clips if clip.split == name] for name in SPLITS}
    return {
        name: {"clips": len(part), "speakers": len({clip.speaker for clip in part} - {""})}
        for name, part in by_split.items()
        if part
    }
