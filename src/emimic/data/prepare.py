"""From the videos of a corpus to its audio: mp3, mono, 16 kHz, 64 kb/s (paper section 3.2)."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from emimic import files
from emimic.data.corpus import in_parallel, list_media
from emimic.data.split_tables import listing
from emimic.media import decode
from emimic.task import SAMPLE_RATE, AudioError, CorpusError
from emimic.wording import plural

Codec = Literal["mp3", "flac"]

REPORT: Final = "prepare.json"
"""The report's name in `audio/`."""
SCHEMA: Final = "emimic/prepare/1"


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What `prepare` did; file names are those in `raw/`."""

    codec: Codec
    made: tuple[str, ...]
    skipped: tuple[str, ...]
    """Files whose clip was under `audio/` before."""
    failed: dict[str, str]
    """File -> why no clip could be made of it."""
    warnings: tuple[str, ...]
    """Clips that were made, but of which something is to be known, such as a damaged end."""
    hours: float
    """Length of the clips made in this run."""
    ignored: tuple[str, ...] = ()
    """Folders, and files without the suffix of a recording."""

    def summary(self, limit: int = 20) -> str:
        """The report as plain text; of failures and of warnings, the first `limit` are named."""
        lines = [
            f"{plural(len(self.made), 'clip')} made ({self.hours:.2f} hours, {self.codec}), "
            f"{len(self.skipped)} were there, {len(self.failed)} failed"
            + (f", {len(self.ignored)} ignored" if self.ignored else "")
        ]
        failed = [f"{name}: {reason}" for name, reason in self.failed.items()]
        return "\n".join(lines + listing({"Failed": failed, "Warnings": self.warnings}, limit))


def prepare(
    folder: str | Path, *, codec: Codec = "mp3", workers: int | None = None, progress: bool = True
) -> PrepareReport:
    """Make `audio/<stem>.mp3` of every video or recording in `raw/`, and `audio/prepare.json`, the report.

    The audio is mono at 16 kHz: mp3 with 64 kb/s as in the paper, or flac, without loss. A clip that is there
    already, in any format, is left as it is, so an interrupted run is resumed by the same call; a clip is
    written whole or not at all. What can't be used is named in the report and no clip is made of it; folders
    in `raw/` and files without the suffix of a recording are ignored.

    workers: threads, default one a core. progress: show a bar on stderr.

    Raises CorpusError when there is no `raw/`, nothing in it is a recording, or `audio/` can't be written.
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
    there = {key for key, paths in list_media(target).items() if any(path.stat().st_size for path in paths)}
    todo = [path for key, path in jobs.items() if key not in there]

    def make(path: Path) -> float | str:
        """Seconds of the clip made, or why there is none."""
        try:
            samples = decode.load(path, name=f"raw/{path.name}", notes=notes)
            with files.atomic(target / f"{path.stem}.{codec}") as temporary:
                decode.save(temporary, samples, codec=codec)
        except AudioError as error:
            return str(error)
        return len(samples) / SAMPLE_RATE

    notes: list[str] = []
    try:
        files.make_folder(target)
        results = list(in_parallel(make, todo, workers=workers, progress=progress, text="Preparing clips"))
        named = {path.name: result for path, result in zip(todo, results, strict=True)}
        seconds = {name: result for name, result in named.items() if not isinstance(result, str)}
        failed |= {name: result for name, result in named.items() if isinstance(result, str)}
        report = PrepareReport(
            codec=codec,
            made=tuple(seconds),
            skipped=tuple(path.name for key, path in jobs.items() if key in there),
            failed=dict(sorted(failed.items())),
            warnings=tuple(notes),
            hours=sum(seconds.values()) / 3600,
            ignored=ignored,
        )
        content = {"schema": SCHEMA, **dataclasses.asdict(report)}
        files.write_atomic(target / REPORT, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    except files.OutputError as error:
        raise CorpusError(f"{error} What is finished stays: run again to go on.") from error
    except OSError as error:
        # A full disk would fail every other clip too; what is finished stays.
        raise CorpusError(f"{target} can't be written ({error}); mend that and run again to go on") from error
    return report


def _choose(raw: Path) -> tuple[dict[str, Path], dict[str, str], tuple[str, ...]]:
    """Clip key -> the file to make it of, in order of names; recordings not used, with the reason; the rest."""
    media = list_media(raw)
    jobs = {key: paths[0] for key, paths in sorted(media.items(), key=lambda entry: entry[1])}
    failed = {
        path.name: f"is the same clip as {paths[0].name}, which was taken; keep one of them"
        for paths in media.values()
        for path in paths[1:]
    }
    found = {path for paths in media.values() for path in paths}
    rest = [path.name for path in raw.iterdir() if path not in found and not files.is_hidden(path.name)]
    return jobs, failed, tuple(sorted(rest))
