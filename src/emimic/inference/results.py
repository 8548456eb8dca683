"""What the service wing hands out: the result for a file, curves over time, failures (NumPy only).

`to_dict` gives what JSON can hold, in the versioned form of `formats.tables` (its `schema` field names it); `to_frame`
needs pandas; `_repr_html_` is what a notebook shows.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from emimic.files import encodable, writable
from emimic.inference import html
from emimic.inference.steps import Steps, finite, grid, target_names, timeline_edges
from emimic.install import install
from emimic.prediction import Prediction
from emimic.task import VAD, EmimicError
from emimic.version import __version__

if TYPE_CHECKING:
    import pandas as pd


SCHEMA: Final = "emimic/results/1"

UNLIKE: Final = "unlike the training data"
"""The mark of a clip whose novelty is beyond 1."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a recording, with a voice of its own. number: counted from 1."""

    path: Path
    number: int


Recording = Path | Channel
"""What is predicted: a file with its channels averaged, or one of its channels."""


def parts(recording: Recording) -> tuple[Path, int | None]:
    """Return a recording's file and its channel's number, None for all channels averaged."""
    return (recording.path, recording.number) if isinstance(recording, Channel) else (recording, None)


@dataclass(frozen=True, slots=True)
class VoiceSegment:
    """A stretch of a recording in which a voice is heard, in seconds from its start."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Curves of one recording; a silent stretch is a gap (NaN), never a value.

    name: what the recording is called (a file's stem). seconds: its whole length. targets: names of the intensities.
    window, hop: seconds. times (step,): the center of each window in seconds, a hop apart; starts, ends (step,): the
    stretch each was heard over (a window is shorter at a recording's two ends). intensities (step, target), about
    [0, 1]: the model's result for that stretch heard as a clip of its own. vad_times (frame,): centers of the VAD
    frames in seconds, 50 a second; vad (frame, 3): arousal, dominance, valence; both None when the model has not
    learned VAD. voice_segments: where a voice is heard.
    """

    name: str
    seconds: float
    targets: tuple[str, ...]
    window: float
    hop: float
    times: NDArray[np.float64]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    intensities: NDArray[np.float32]
    vad_times: NDArray[np.float64] | None
    vad: NDArray[np.float32] | None
    voice_segments: tuple[VoiceSegment, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: schema, emimic (the version), name, seconds, targets, and the timeline's own fields; a gap is
        None."""
        whole = self._alone().to_dict()
        own = {"name": self.name, "seconds": whole["seconds"], "targets": whole["targets"]}
        return {"schema": whole["schema"], "emimic": whole["emimic"], **own, **whole["timeline"]}

    def to_frame(self) -> "pd.DataFrame":
        """A row a step, indexed by Seconds (its center): Start, End, the targets, VAD (the mean of the step's frames).

        Raises EmimicError when pandas isn't installed.
        """
        own = self._alone().steps()
        index = _pandas().Index(own.times, name="Seconds")
        stretches = {"Start": own.since, "End": own.until}
        values = dict(zip(target_names(own.names), own.values.T, strict=True))
        frame: pd.DataFrame = _pandas().DataFrame({**stretches, **values}, index=index)
        return frame

    def _repr_html_(self) -> str:
        share = float(np.isfinite(self.intensities[:, 0]).mean())
        curves = [html.curve(self.intensities[:, i]) for i in range(len(self.targets))]
        cells = zip(self.targets, curves, strict=True)
        rows = [f"<th>{escape(name)}</th><td>{drawn}</td>" for name, drawn in cells]
        about = f"{escape(self.name)}: {self.seconds:.1f} s, a voice in {share:.0%}; intensities from 0 to 1"
        return html.table(about, rows)

    def _alone(self) -> "Result":
        """A result of nothing but these curves, which is what formats take."""
        unknown = np.full(len(self.targets), np.nan, np.float32)
        nothing = Prediction(unknown, None, np.empty(0))
        return Result(Path(self.name), self.targets, self.seconds, False, False, nothing, self)


@dataclass(frozen=True, slots=True)
class Headline:
    """One value a dimension for a whole recording, and what it is about.

    basis: `whole clip`, `first 12 s` (of a longer recording) or `mean over time` (of its timeline, where it has one).
    intensities (target,), as in the prediction; vad (3,), None when the model has not learned VAD. NaN is silence.
    """

    basis: str
    intensities: NDArray[np.floating[Any]]
    vad: NDArray[np.floating[Any]] | None


@dataclass(frozen=True, slots=True)
class Result:
    """One recording's result.

    path: the file as given (for an array or standard input, a name). targets: names of the intensities. seconds: its
    length before the cut at the model's max_seconds (was_cut); was_padded: it was shorter than the encoder's smallest
    input; was_silent: what was heard stays below -65 dB of full scale, so that its result is NaN. prediction:
    intensities (target,), in [0, 1] from a calibrated model, else about it and not clipped, VAD over frames, and the
    clip's novelty. timeline: curves over the whole recording, when asked for. channel: its number, counted from 1,
    where one of the file's channels was predicted alone. notes: what its reader should know of the file, such as
    damage; each names the file.
    """

    path: Path
    targets: tuple[str, ...]
    seconds: float
    was_cut: bool
    was_padded: bool
    prediction: Prediction
    timeline: Timeline | None = None
    was_silent: bool = False
    channel: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def recording(self) -> Recording:
        """The file, or its channel."""
        return self.path if self.channel is None else Channel(self.path, self.channel)

    @property
    def name(self) -> str:
        """The file's stem, and its channel."""
        return self.path.stem + self.suffix

    @property
    def title(self) -> str:
        """The file's name, and its channel."""
        return self.path.name + self.suffix

    @property
    def suffix(self) -> str:
        """What tells a channel's name from the file's."""
        return "" if self.channel is None else f" channel {self.channel}"

    @property
    def covered(self) -> float:
        """Seconds from the start that the prediction is about: all, or to the end of the last frame when cut."""
        times = self.prediction.times
        if not self.was_cut or not len(times):
            return self.seconds
        # The last frame's center is as far from its end as the first one's is from the clip's start.
        return min(self.seconds, float(times[-1] + times[0]))

    @property
    def headline(self) -> Headline:
        """The values to quote: of a recording over the cut the mean over its timeline, where there is one with a
        voice; else the prediction."""
        one, line = self.prediction, self.timeline
        if self.was_cut and line is not None and np.isfinite(line.intensities).any():
            vad = None if line.vad is None else _mean(line.vad)
            return Headline("mean over time", _mean(line.intensities), vad)
        basis = f"first {round(self.covered, 1):g} s" if self.was_cut else "whole clip"
        return Headline(basis, one.intensities, None if one.vad is None else one.vad.mean(axis=0))

    @property
    def marks(self) -> list[str]:
        """What a reader of its values must know, in a word each."""
        silent = self.was_silent and self.headline.basis != "mean over time"
        marks = {
            self.headline.basis: self.was_cut,
            "padded": self.was_padded,
            "silent": silent,
            "no voice": self.timeline is not None and not self.timeline.voice_segments and not silent,
            UNLIKE: self.prediction.is_unlike_training,
        }
        return [word for word, holds in marks.items() if holds]

    def renamed(self, path: Path) -> "Result":
        """Return the same with another spelling of the file's path, in its notes too."""
        old = f"{self.path}: "
        notes = (f"{path}: {note.removeprefix(old)}" if note.startswith(old) else note for note in self.notes)
        return replace(self, path=path, notes=tuple(notes))

    @property
    def bare_notes(self) -> list[str]:
        """The notes without the file's path."""
        return [note.removeprefix(f"{self.path}: ") for note in self.notes]

    @property
    def remarks(self) -> list[str]:
        """The bare notes, and those of the cut and of silence: what JSON and CSV say of it."""
        found = self.bare_notes
        if self.was_cut:
            basis = self.headline.basis
            values = f"the {basis}" if basis == "mean over time" else f"those of the {basis}"
            found.append(f"longer than {round(self.covered, 1):g} s, so its values are {values}")
        if "silent" in self.marks:
            found.append("silent (below -65 dB of full scale), so it has no values")
        return found

    @property
    def vad_frames(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Centers (frame,) in seconds and V/A/D (frame, 3), NaN in a gap; None when the model has not learned V/A/D."""
        one, line = self.prediction, self.timeline
        times, vad = (one.times, one.vad) if line is None else (line.vad_times, line.vad)
        return None if vad is None or times is None else (times, finite(vad))

    def steps(self) -> Steps:
        """Return the timeline's steps; without a timeline one step over what was predicted of the clip."""
        line = self.timeline
        if line is None:
            until = np.array([self.covered])
            stretches, edges = (until / 2, np.zeros(1), until), np.array([0.0, until[0]])
            values, voice_segments = self.prediction.intensities[None], []
        else:
            stretches = (line.times, line.starts, line.ends)
            edges = timeline_edges(line.times, line.hop, line.seconds)
            values, voice_segments = (
                line.intensities,
                [(segment.start, segment.end) for segment in line.voice_segments],
            )
        return grid(
            stretches,
            edges,
            values,
            self.vad_frames,
            targets=self.targets,
            seconds=self.seconds,
            voice_segments=voice_segments,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: schema, emimic (the version), targets, and the clip's own fields."""
        whole = Results(self.targets, (self,), ()).to_dict()
        (clip,) = whole["clips"]
        return {"schema": whole["schema"], "emimic": whole["emimic"], "targets": whole["targets"], **clip}

    def to_frame(self) -> "pd.DataFrame":
        """One row, see `Results.to_frame`; the curves are `timeline.to_frame()`."""
        return Results(self.targets, (self,), ()).to_frame()

    def _repr_html_(self) -> str:
        one = self.headline
        cells = zip(self.targets, one.intensities, strict=True)
        rows = [f"<th>{escape(name)}</th><td>{html.bar(float(value))}</td>" for name, value in cells]
        if one.vad is not None:
            means = zip(VAD, one.vad, strict=True)
            rows += [f"<th>{name}</th><td>{html.bar(float(value))}</td>" for name, value in means]
        about = ", ".join([f"{escape(self.title)}: {self.seconds:.1f} s", *self.marks])
        curves = "" if self.timeline is None else self.timeline._repr_html_()
        return html.table(about, rows) + curves


@dataclass(frozen=True, slots=True)
class Failure:
    """A file without a result, and why (the reason names the file)."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Results:
    """What became of a list of files: results in the order of the inputs, and the failures."""

    targets: tuple[str, ...]
    clips: tuple[Result, ...]
    failed: tuple[Failure, ...]

    @classmethod
    def of(cls, targets: tuple[str, ...], told: Sequence[Result | Failure]) -> Self:
        """Results and failures, in one order, apart."""
        clips = tuple(one for one in told if isinstance(one, Result))
        return cls(targets, clips, tuple(one for one in told if isinstance(one, Failure)))

    @property
    def names(self) -> list[str]:
        """What tells each clip from the others: its file's stem, or where stems meet, the file's name or path."""
        forms = [[form(one.path) + one.suffix for one in self.clips] for form in (_stem, _name, _near, str)]
        counts = [Counter(form) for form in forms]
        return [
            next((text for text, count in zip(own, counts, strict=True) if count[text] == 1), own[-1])
            for own in zip(*forms, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: schema, emimic (the version), targets, clips and failed."""
        return {
            "schema": SCHEMA,
            "emimic": __version__,
            "targets": [writable(name) for name in self.targets],
            "clips": [_clip(result) for result in self.clips],
            "failed": [{"file": writable(f.path), "reason": writable(f.reason)} for f in self.failed],
        }

    def to_frame(self) -> "pd.DataFrame":
        """A row a clip: Filename (see `names`), Seconds, the headline's targets and VAD if the model has learned it,
        Novelty if the model has such a score, Basis (what the values are about, see `Headline`), Notes (see
        `Result.remarks`).

        Raises EmimicError when pandas isn't installed.
        """
        rows, targets = [], target_names(self.targets)
        for name, one in zip(self.names, self.clips, strict=True):
            head, novelty = one.headline, one.prediction.novelty
            vad = {} if head.vad is None else dict(zip(VAD, head.vad, strict=True))
            named = dict(zip(targets, head.intensities, strict=True))
            score = {} if novelty is None else {"Novelty": novelty}
            about = {"Basis": head.basis, "Notes": encodable("; ".join(one.remarks))}
            rows.append(
                {"Filename": encodable(name), "Seconds": one.seconds, **named, **vad, **score, **about}
            )
        columns = None if rows else ["Filename", "Seconds", *targets, "Basis", "Notes"]
        frame: pd.DataFrame = _pandas().DataFrame(rows, columns=columns)
        return frame

    def _repr_html_(self) -> str:
        titles = "".join(f"<th>{escape(name)}</th>" for name in ("Filename", "s", *self.targets, "basis"))
        rows = [titles]
        for name, one in zip(self.names, self.clips, strict=True):
            head = one.headline
            bars = "".join(f"<td>{html.bar(float(value))}</td>" for value in head.intensities)
            rows.append(f"<th>{escape(name)}</th><td>{one.seconds:.1f}</td>{bars}<td>{head.basis}</td>")
        failed = "".join(f"<li>{escape(failure.reason)}</li>" for failure in self.failed)
        about = f"{len(self.clips)} heard, {len(self.failed)} failed"
        return html.table(about, rows) + (f"<ul>{failed}</ul>" if failed else "")


def _clip(result: Result) -> dict[str, Any]:
    one = result.prediction
    clip: dict[str, Any] = {
        "Filename": writable(result.name),
        "file": writable(result.path),
        **({} if result.channel is None else {"channel": result.channel}),
        "seconds": round(result.seconds, 3),
        "was_cut": result.was_cut,
        "was_padded": result.was_padded,
        "was_silent": result.was_silent,
        "notes": [writable(note) for note in result.remarks],
        "intensities": dict(zip(result.targets, _numbers(one.intensities), strict=True)),
    }
    if one.vad is not None:
        clip["vad_mean"] = dict(zip(VAD, _numbers(one.vad.mean(axis=0)), strict=True))
    head = result.headline
    clip["headline"] = {
        "basis": head.basis,
        "intensities": dict(zip(result.targets, _numbers(head.intensities), strict=True)),
    }
    if head.vad is not None:
        clip["headline"]["vad"] = dict(zip(VAD, _numbers(head.vad), strict=True))
    if one.novelty is not None:
        clip |= {"novelty": round(one.novelty, 6), "unlike_training_data": one.is_unlike_training}
    if result.timeline is not None:
        clip["timeline"] = _timeline(result.timeline)
    return clip


def _timeline(line: Timeline) -> dict[str, Any]:
    curves: dict[str, Any] = {
        "window": line.window,
        "hop": line.hop,
        "times": _numbers(line.times, 3),
        "starts": _numbers(line.starts, 3),
        "ends": _numbers(line.ends, 3),
        "intensities": dict(zip(line.targets, map(_numbers, line.intensities.T), strict=True)),
        "voice_segments": [{"start": round(r.start, 3), "end": round(r.end, 3)} for r in line.voice_segments],
    }
    if line.vad is not None and line.vad_times is not None:
        values = dict(zip(VAD, map(_numbers, line.vad.T), strict=True))
        curves["vad"] = {"times": _numbers(line.vad_times, 3), "values": values}
    return curves


def _numbers(values: Iterable[Any], digits: int = 6) -> list[float | None]:
    return [round(float(v), digits) if math.isfinite(v) else None for v in values]


def _mean(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """(step, column), NaN in silence -> mean of the rest (column,), NaN where there is none."""
    finite = np.isfinite(values)
    count, total = finite.sum(axis=0), np.where(finite, values, 0.0).sum(axis=0, dtype=np.float64)
    mean = np.full(values.shape[1], np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _stem(path: Path) -> str:
    return path.stem


def _name(path: Path) -> str:
    return path.name


def _near(path: Path) -> str:
    """With the folder it lies in."""
    return str(Path(path.parent.name) / path.name)


def _pandas() -> Any:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise EmimicError(f"to_frame needs pandas: {install('formats')}") from error
    return pandas
