"""Section 3.2 of the paper as code: what a corpus is made of, as a report, tables and pictures."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.data.corpus import MEDIA_FOLDERS, Corpus, Item, Split, list_media, load_corpus
from emimic.data.split_tables import LABELLED, clip_key
from emimic.describe import markdown
from emimic.describe import numbers as statistics
from emimic.describe.measure import JOURNAL, Clip, measure
from emimic.evaluation import plots
from emimic.files import CsvText, OutputError, make_folder, write_atomic
from emimic.task import MAX_SECONDS, CorpusError

SCHEMA: Final = "emimic/description/1"
OUT: Final = "description"
"""The default folder of what is written, in the corpus's."""

PAPERS_CLIPS: Final = ("11437", "15709")
"""The paper's examples of faces that were not found (section 3.2)."""


@dataclass(frozen=True)
class Description:
    """What `describe` found, and where it was written."""

    out: Path
    numbers: dict[str, Any]
    """What is in `description.json`."""
    clips: tuple[Clip, ...]

    def table(self) -> str:
        """The numbers of section 3.2 beside the paper's, as aligned plain text, and where the rest lies."""
        rows = [("", "this corpus", markdown.PAPER), *markdown.beside_the_paper(self.numbers)]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        damaged = len(self.numbers["damaged"])
        return "\n".join([*lines, f"damaged or missing: {damaged}", f"written to {self.out}"])


def describe(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    cut: float = MAX_SECONDS,
    label_scale: float | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Description:
    """Measure every clip of a corpus once and write every number of the paper's section 3.2, with its figures.

    In `out`, by default `folder`/description, files there being replaced: `description.md`, `description.json`,
    `clips.csv` (a row a listed clip), and as PNG and SVG `labels` (Figure 1), `durations` (Figure 2) and `cuts` (what
    each cut would cost). `facts.jsonl` there keeps what was measured: an interrupted run goes on where it was.

    Of a folder without train and valid, whatever tables are there count; without a table, all its media are one split.

    cut: the length in seconds whose cost is told. label_scale, workers, progress: as in `load_corpus`.

    Raises CorpusError when the tables can't be used, no clip can be measured, or `out` can't be written.
    """
    folder = Path(folder)
    if not 0 < cut < math.inf:
        raise CorpusError(f"cut is {cut}, expected a positive number of seconds, such as {MAX_SECONDS:g}")
    corpus = _corpus(folder, label_scale)
    out = folder / OUT if out is None else Path(out)
    try:
        make_folder(out)
        clips = measure(corpus, out, workers=workers, progress=progress)
        numbers = _numbers(corpus, clips, cut)
        _write(out, corpus, clips, numbers)
    except OutputError as error:
        raise CorpusError(f"{error} What is measured stays: run again to go on.") from error
    except OSError as error:
        raise CorpusError(f"{out} can't be written ({error}); give another folder (--out)") from error
    return Description(out, numbers, clips)


def _corpus(folder: Path, label_scale: float | None) -> Corpus:
    """As `describe` says; what is wrong with a table is told by `load_corpus`."""
    there = {path.name.removesuffix("_split.csv") for path in folder.glob("[!.]*_split.csv")}
    raw, sound = (list_media(folder / name) for name in reversed(MEDIA_FOLDERS))
    if not there and (media := raw | sound):
        items = [Item(path.stem, path, None, None, math.nan) for path, *_ in sorted(media.values())]
        return Corpus(folder, (), {"all": Split("all", tuple(item.id for item in items), tuple(items), ())})
    names = sorted(
        {"valid" if name == "val" else name for name in there}, key=lambda n: (n not in LABELLED, n)
    )
    return load_corpus(
        folder,
        splits=None if not names or set(LABELLED) <= set(names) else names,
        label_scale=label_scale,
        scan=False,
        allow_speaker_overlap=True,
    )


def _numbers(corpus: Corpus, clips: Sequence[Clip], cut: float) -> dict[str, Any]:
    lengths = _lengths(clips)
    if not lengths:
        why = "; ".join(trouble for clip in clips[:3] for trouble in clip.found.troubles[:1])
        raise CorpusError(f"{corpus.folder}: no clip can be read ({why}); are audio/ and raw/ complete?")
    labels = _labels(corpus)
    return {
        "schema": SCHEMA,
        "folder": str(corpus.folder),
        "targets": list(corpus.targets),
        "clips": {name: _split(corpus, name, clips) for name in corpus.splits},
        "speakers": len({s for split in corpus.splits.values() for s in split.speakers or ()}) or None,
        "labels": statistics.of_labels(labels, corpus.targets),
        "shifts": statistics.shifts(labels, corpus.targets),
        "durations": statistics.of_durations(lengths.values(), cut),
        "over_two_hours": [
            f"{split} {clip}" for (split, clip), n in lengths.items() if n > statistics.ERROR_SECONDS
        ],
        "fps": statistics.of_rates(clips),
        "frames": statistics.of_frames(clips),
        "papers_clips": {
            clip_key(clip.id): {"faces": clip.faces, "expected": clip.expected, "faces_fps": clip.faces_fps}
            for clip in clips
            if clip_key(clip.id) in PAPERS_CLIPS and clip.faces_fps is not None
        },
        "audio": statistics.of_sound(clips),
        "damaged": [
            {"split": split.name, "clip": left.id, "kind": left.kind, "reason": left.reason}
            for split in corpus.splits.values()
            for left in split.left_out
        ]
        + [
            {"split": clip.split, "clip": clip.id, "kind": "damaged", "reason": trouble}
            for clip in clips
            for trouble in clip.found.troubles
        ],
        "warnings": list(corpus.warnings),
    }


def _split(corpus: Corpus, name: str, clips: Sequence[Clip]) -> dict[str, Any]:
    split = corpus.splits[name]
    known = [seconds for (part, _), seconds in _lengths(clips).items() if part == name]
    return {
        "listed": len(split.listed),
        "with_file": len(split.items),
        "readable": len(known),
        "hours": math.fsum(known) / 3600,
    }


def _lengths(clips: Sequence[Clip]) -> dict[tuple[str, str], float]:
    """(split, clip) -> seconds, of the clips of which anything could be read."""
    return {(clip.split, clip.id): clip.seconds for clip in clips if clip.seconds}


def _labels(corpus: Corpus) -> dict[str, NDArray[np.float32]]:
    """Split -> (clip, target) of the clips with labels; no split without any."""
    rows = {
        name: [item.labels for item in split.items if item.labels is not None]
        for name, split in corpus.splits.items()
    }
    return {name: np.stack(found) for name, found in rows.items() if found and corpus.targets}


def _write(out: Path, corpus: Corpus, clips: Sequence[Clip], numbers: dict[str, Any]) -> None:
    seconds = np.sort(np.array(list(_lengths(clips).values())))
    rates = [clip.found.picture.fps for clip in clips if clip.found.picture and clip.found.picture.fps]
    usual = statistics.credible(seconds)
    cuts = np.unique(usual)  # between these the curves are straight
    kept, lost = statistics.cost_of_cuts(seconds, cuts)[0], statistics.cost_of_cuts(usual, cuts)[1]
    figures = {
        "durations": plots.draw_durations(seconds, np.array(rates)),
        "cuts": plots.draw_cuts(cuts, kept, lost, numbers["durations"]["cut"]),
    }
    if labels := _labels(corpus):
        figures = {"labels": plots.draw_boxes(labels, corpus.targets), **figures}
    for name, figure in figures.items():
        write_atomic(out / f"{name}.png", plots.render_png(figure))
        write_atomic(out / f"{name}.svg", plots.render_svg(figure))
    write_atomic(out / "clips.csv", _csv(corpus, clips))
    write_atomic(
        out / "description.json", json.dumps(numbers, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    )
    write_atomic(out / "description.md", markdown.markdown(numbers, tuple(figures), JOURNAL))


def _csv(corpus: Corpus, clips: Sequence[Clip]) -> str:
    """A row for each listed clip, in the order of the tables; empty where a thing is not there."""
    measured = {(clip.split, clip.id): clip for clip in clips}
    rows = []
    for split in corpus.splits.values():
        reasons = {left.id: left.reason for left in split.left_out}
        seen: set[str] = set()
        for name in split.listed:
            clip = None if name in seen else measured.get((split.name, name))
            seen.add(name)
            start = {"Split": split.name, "Filename": name}
            rows.append(start | (_row(clip) if clip else {"troubles": reasons.get(name, "")}))
    columns = list(dict.fromkeys(column for row in rows for column in row if column != "troubles"))
    text = CsvText()
    writer = csv.DictWriter(text, [*columns, "troubles"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(clip: Clip) -> dict[str, Any]:
    picture, sound, heard = clip.found.picture, clip.found.sound, clip.found.heard
    return {
        "seconds": clip.seconds,
        "audio": clip.audio,
        "codec": sound and sound.codec,
        "rate": sound and sound.rate,
        "channels": sound and sound.channels,
        "bit_rate": sound and sound.bit_rate,
        "samples": heard and heard.samples,
        "peak": heard and heard.peak,
        "clipped": heard and heard.clipped,
        "silence": heard and heard.silence,
        "speech": heard and heard.speech,
        "video": clip.video,
        "video_codec": picture and picture.codec,
        "width": picture and picture.width,
        "height": picture and picture.height,
        "video_seconds": clip.video_seconds,
        "fps": picture and picture.fps,
        "frames": picture and picture.frames,
        "frames_expected": clip.expected,
        "faces": clip.faces,
        "faces_fps": clip.faces_fps,
        "troubles": " ".join(clip.found.troubles),
    }
