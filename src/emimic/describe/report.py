"""The contents of a corpus as a report, tables and plots, as in sections 3.1 and 3.2 of the paper."""

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
from emimic.data.parallel import explain_stop
from emimic.data.split_tables import LABELED, get_clip_key
from emimic.describe import markdown, numbers
from emimic.describe.measure import JOURNAL, Clip, measure
from emimic.evaluation import plots
from emimic.figures import render
from emimic.files import CsvText, make_folder, write_atomically
from emimic.task import MAX_SECONDS, CorpusError

SCHEMA: Final = "emimic/description/1"
OUT: Final = "description"
"""The default output folder, within the corpus."""

PAPERS_CLIPS: Final = ("11437", "15709")
"""The paper's examples of faces that were not found (section 3.2)."""


@dataclass(frozen=True)
class Description:
    """The result of `describe`.

    Attributes:
        out: the output folder.
        numbers: the content of `description.json`.
    """

    out: Path
    numbers: dict[str, Any]
    clips: tuple[Clip, ...]

    def to_text(self) -> str:
        """Return the numbers beside those of the paper's sections 3.1 and 3.2, and the output folder, as plain text."""
        rows = [("", "this corpus", markdown.PAPER), *markdown.compare_with_paper(self.numbers)]
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
    """Measure every clip of a corpus once and write every number of the paper's sections 3.1 and 3.2.

    `out` gets `description.md`, `description.json`, `clips.csv` (a row for each listed clip), and as PNG and SVG
    `labels` (Figure 1), `durations` (Figure 2) and `cuts` (the cost of each cut). `facts.jsonl` there stores the
    measurements, so that an interrupted run can be resumed.

    A folder without train and valid is described by the tables it has; without a table, all its media are one split.

    Args:
        folder: the corpus.
        out: the output folder, by default `folder`/description; files there are replaced.
        cut: the length in seconds whose cost is reported.
        label_scale: as in `load_corpus`.
        workers: as in `load_corpus`.
        progress: whether to show a bar.

    Raises:
        CorpusError: if the tables can't be used, no clip can be measured, or `out` can't be written.
    """
    folder = Path(folder)
    if not 0 < cut < math.inf:
        raise CorpusError(f"cut is {cut}, expected a positive number of seconds, such as {MAX_SECONDS:g}")
    corpus = _load(folder, label_scale)
    out = folder / OUT if out is None else Path(out)
    with explain_stop(out):
        make_folder(out)
        clips = measure(corpus, out, workers=workers, progress=progress)
        values = _compute_numbers(corpus, clips, cut)
        _write(out, corpus, clips, values)
    return Description(out, values, clips)


def _load(folder: Path, label_scale: float | None) -> Corpus:
    """Load the corpus with the tables it has, or with all its media as one split."""
    tables = {path.name.removesuffix("_split.csv") for path in folder.glob("[!.]*_split.csv")}
    raw, sound = (list_media(folder / name) for name in reversed(MEDIA_FOLDERS))
    if not tables and (media := raw | sound):
        items = [Item(path.stem, path, None, None, math.nan) for path, *_ in sorted(media.values())]
        return Corpus(folder, (), {"all": Split("all", tuple(item.id for item in items), tuple(items), ())})
    names = sorted(
        {"valid" if name == "val" else name for name in tables}, key=lambda n: (n not in LABELED, n)
    )
    return load_corpus(
        folder,
        splits=None if not names or set(LABELED) <= set(names) else names,
        label_scale=label_scale,
        scan=False,
        allow_speaker_overlap=True,
    )


def _compute_numbers(corpus: Corpus, clips: Sequence[Clip], cut: float) -> dict[str, Any]:
    lengths = _list_lengths(clips)
    if not lengths:
        reasons = "; ".join(trouble for clip in clips[:3] for trouble in clip.measured.troubles[:1])
        raise CorpusError(f"{corpus.folder}: no clip can be read ({reasons}); are audio/ and raw/ complete?")
    labels = _stack_labels(corpus)
    return {
        "schema": SCHEMA,
        "folder": str(corpus.folder),
        "targets": list(corpus.targets),
        "clips": {name: _summarize_split(corpus, name, clips) for name in corpus.splits},
        "speakers": len({s for split in corpus.splits.values() for s in split.speakers or ()}) or None,
        "labels": numbers.summarize_labels(labels, corpus.targets),
        "shifts": numbers.compare_splits(labels, corpus.targets),
        "durations": numbers.summarize_durations(lengths.values(), cut),
        "over_two_hours": [
            f"{split} {clip}" for (split, clip), n in lengths.items() if n > numbers.ERROR_SECONDS
        ],
        "fps": numbers.summarize_rates(clips),
        "frames": numbers.summarize_frames(clips),
        "papers_clips": {
            get_clip_key(clip.id): {
                "faces": clip.faces,
                "expected": clip.expected,
                "faces_fps": clip.faces_fps,
            }
            for clip in clips
            if get_clip_key(clip.id) in PAPERS_CLIPS and clip.faces_fps is not None
        },
        "audio": numbers.summarize_audio(clips),
        "damaged": [
            {"split": split.name, "clip": omitted.id, "kind": omitted.kind, "reason": omitted.reason}
            for split in corpus.splits.values()
            for omitted in split.left_out
        ]
        + [
            {"split": clip.split, "clip": clip.id, "kind": "damaged", "reason": trouble}
            for clip in clips
            for trouble in clip.measured.troubles
        ],
        "warnings": list(corpus.warnings),
    }


def _summarize_split(corpus: Corpus, name: str, clips: Sequence[Clip]) -> dict[str, Any]:
    split = corpus.splits[name]
    lengths = [seconds for (part, _), seconds in _list_lengths(clips).items() if part == name]
    return {
        "listed": len(split.listed),
        "with_file": len(split.items),
        "readable": len(lengths),
        "hours": math.fsum(lengths) / 3600,
    }


def _list_lengths(clips: Sequence[Clip]) -> dict[tuple[str, str], float]:
    """Return (split, clip) -> seconds, for the readable clips."""
    return {(clip.split, clip.id): clip.seconds for clip in clips if clip.seconds}


def _stack_labels(corpus: Corpus) -> dict[str, NDArray[np.float32]]:
    """Return split -> (clip, target) of the labeled clips; no split without any."""
    labels = {
        name: [item.labels for item in split.items if item.labels is not None]
        for name, split in corpus.splits.items()
    }
    return {name: np.stack(rows) for name, rows in labels.items() if rows and corpus.targets}


def _write(out: Path, corpus: Corpus, clips: Sequence[Clip], values: dict[str, Any]) -> None:
    seconds = np.sort(np.array(list(_list_lengths(clips).values())))
    rates = [clip.measured.video.fps for clip in clips if clip.measured.video and clip.measured.video.fps]
    credible = numbers.drop_errors(seconds)
    cuts = np.unique(credible)  # between these the lines are straight
    uncut, lost = numbers.compute_cost(seconds, cuts)[0], numbers.compute_cost(credible, cuts)[1]
    figures = {
        "durations": plots.draw_durations(seconds, np.array(rates)),
        "cuts": plots.draw_cuts(cuts, uncut, lost, values["durations"]["cut"]),
    }
    if labels := _stack_labels(corpus):
        figures = {"labels": plots.draw_boxes(labels, corpus.targets), **figures}
    for name, figure in figures.items():
        write_atomically(out / f"{name}.png", render(figure))
        write_atomically(out / f"{name}.svg", render(figure, "svg"))
    write_atomically(out / "clips.csv", _format_csv(corpus, clips))
    write_atomically(
        out / "description.json", json.dumps(values, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    )
    write_atomically(out / "description.md", markdown.render(values, tuple(figures), JOURNAL))


def _format_csv(corpus: Corpus, clips: Sequence[Clip]) -> str:
    """Return a row for each listed clip, in the order of the tables, with empty fields for missing values."""
    measured = {(clip.split, clip.id): clip for clip in clips}
    rows = []
    for split in corpus.splits.values():
        reasons = {omitted.id: omitted.reason for omitted in split.left_out}
        seen: set[str] = set()
        for name in split.listed:
            clip = None if name in seen else measured.get((split.name, name))
            seen.add(name)
            start = {"Split": split.name, "Filename": name}
            rows.append(start | (_make_row(clip) if clip else {"troubles": reasons.get(name, "")}))
    columns = list(dict.fromkeys(column for row in rows for column in row if column != "troubles"))
    text = CsvText()
    writer = csv.DictWriter(text, [*columns, "troubles"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _make_row(clip: Clip) -> dict[str, Any]:
    video, sound, waveform = clip.measured.video, clip.measured.sound, clip.measured.waveform
    return {
        "seconds": clip.seconds,
        "audio": clip.audio,
        "codec": sound and sound.codec,
        "rate": sound and sound.rate,
        "channels": sound and sound.channels,
        "bit_rate": sound and sound.bit_rate,
        "samples": waveform and waveform.samples,
        "peak": waveform and waveform.peak,
        "clipped": waveform and waveform.clipped,
        "silence": waveform and waveform.silence,
        "speech": waveform and waveform.speech,
        "video": clip.video,
        "video_codec": video and video.codec,
        "width": video and video.width,
        "height": video and video.height,
        "video_seconds": clip.video_seconds,
        "fps": video and video.fps,
        "frames": video and video.frames,
        "frames_expected": clip.expected,
        "faces": clip.faces,
        "faces_fps": clip.faces_fps,
        "troubles": " ".join(clip.measured.troubles),
    }
