"""Audio of the videos of a corpus: mp3, mono, 16 kHz, 64 kb/s (paper section 3.2)."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from emimic import files
from emimic.data.media_files import list_media
from emimic.data.parallel import explain_stop, run_in_parallel
from emimic.data.split_tables import format_sections
from emimic.media import decode
from emimic.task import SAMPLE_RATE, AudioError, CorpusError
from emimic.wording import pluralize

Codec = Literal["mp3", "flac"]

REPORT: Final = "prepare.json"
"""Name of the report in `audio/`."""
SCHEMA: Final = "emimic/prepare/1"


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """The result of `prepare`; file names are those in `raw/`."""

    codec: Codec
    made: tuple[str, ...]
    skipped: tuple[str, ...]
    """Files whose clip existed in `audio/` before."""
    failed: dict[str, str]
    """File -> reason why no clip could be made of it."""
    warnings: tuple[str, ...]
    """Problems of clips that were made, such as a damaged end."""
    hours: float
    """Length of the clips made in this run."""
    ignored: tuple[str, ...] = ()
    """Folders, and files without the suffix of a recording."""

    def to_text(self, limit: int = 20) -> str:
        """Return the report as plain text, with the first `limit` failures and warnings."""
        lines = [
            f"{pluralize(len(self.made), 'clip')} made ({self.hours:.2f} hours, {self.codec}), "
            f"{len(self.skipped)} were there, {len(self.failed)} failed"
            + (f", {len(self.ignored)} ignored" if self.ignored else "")
        ]
        failed = [f"{name}: {reason}" for name, reason in self.failed.items()]
        return "\n".join(lines + format_sections({"Failed": failed, "Warnings": self.warnings}, limit))


def prepare(
    folder: str | Path, *, codec: Codec = "mp3", workers: int | None = None, progress: bool = True
) -> PrepareReport:
    """Make `audio/<stem>.mp3` of every video or recording in `raw/`, and `audio/prepare.json`, the report.

    The audio is mono at 16 kHz: mp3 with 64 kb/s as in the paper, or lossless flac. Existing clips in any format are
    kept, so the same call resumes an interrupted run; clips are written atomically. Files that can't be used are
    reported and skipped; folders in `raw/` and files without the suffix of a recording are ignored.

    Args:
        folder: the corpus.
        codec: mp3 or flac.
        workers: threads, default one per CPU.
        progress: show a bar on standard error.

    Raises:
        CorpusError: there is no `raw/`, nothing in it is a recording, or `audio/` can't be written.
    """
    folder = Path(folder)
    if codec not in get_args(Codec):
        raise CorpusError(f"codec is {codec!r}, expected one of {', '.join(get_args(Codec))}")
    raw, target = folder / "raw", folder / "audio"
    if not raw.is_dir():
        raise CorpusError(f"{raw} is not a folder; expected the videos of the corpus in it")
    jobs, failed, ignored = _choose(raw)
    if not jobs:
        raise CorpusError(f"{raw} holds no video and no recording; expected files such as 00001.mp4")
    existing = {
        key for key, paths in list_media(target).items() if any(path.stat().st_size for path in paths)
    }
    todo = [path for key, path in jobs.items() if key not in existing]

    def make(path: Path) -> float | str:
        """Return the length of the clip in seconds, or why none was made."""
        try:
            samples = decode.load(path, name=f"raw/{path.name}", notes=notes)
            with files.replace_atomically(target / f"{path.stem}.{codec}") as temporary:
                decode.save(temporary, samples, codec=codec)
        except AudioError as error:
            return str(error)
        return len(samples) / SAMPLE_RATE

    notes: list[str] = []
    with explain_stop(target):
        files.make_folder(target)
        results = list(
            run_in_parallel(make, todo, workers=workers, progress=progress, text="Preparing clips")
        )
        by_name = {path.name: result for path, result in zip(todo, results, strict=True)}
        seconds = {name: result for name, result in by_name.items() if not isinstance(result, str)}
        failed |= {name: result for name, result in by_name.items() if isinstance(result, str)}
        report = PrepareReport(
            codec=codec,
            made=tuple(seconds),
            skipped=tuple(path.name for key, path in jobs.items() if key in existing),
            failed=dict(sorted(failed.items())),
            warnings=tuple(notes),
            hours=sum(seconds.values()) / 3600,
            ignored=ignored,
        )
        content = {"schema": SCHEMA, **dataclasses.asdict(report)}
        files.write_atomically(target / REPORT, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return report


def _choose(raw: Path) -> tuple[dict[str, Path], dict[str, str], tuple[str, ...]]:
    """Return clip key -> its file in order of names, the recordings not used with the reason, and the other entries."""
    media = list_media(raw)
    jobs = {key: paths[0] for key, paths in sorted(media.items(), key=lambda entry: entry[1])}
    failed = {
        path.name: f"is the same clip as {paths[0].name}, which was taken; keep one of them"
        for paths in media.values()
        for path in paths[1:]
    }
    recordings = {path for paths in media.values() for path in paths}
    others = [
        path.name for path in raw.iterdir() if path not in recordings and not files.is_hidden(path.name)
    ]
    return jobs, failed, tuple(sorted(others))
