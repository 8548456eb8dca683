"""Results of prediction: one per recording, and failures (NumPy only).

`print` shows a line per recording. `to_dict` gives JSON-ready values in the versioned form of
`output/formats/schema.json`; `to_frame` needs pandas; notebooks show `_repr_html_`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from emimic.calibration import Intervals
from emimic.files import make_encodable, make_one_line, make_writable
from emimic.inference import html
from emimic.inference.headline import Headline, make_intervals, name_values
from emimic.inference.recording import Channel, Recording
from emimic.inference.sentences import Sentence as Sentence
from emimic.inference.steps import Steps, build_steps, make_target_names, mask_infinite
from emimic.inference.timeline import SCHEMA as SCHEMA
from emimic.inference.timeline import Timeline as Timeline
from emimic.inference.timeline import VoiceSegment as VoiceSegment
from emimic.inference.timeline import average_steps, format_values, import_pandas, round_values
from emimic.inference.words import Speech as Speech
from emimic.prediction import Prediction
from emimic.task import VAD
from emimic.version import __version__

if TYPE_CHECKING:
    import pandas as pd

UNLIKE: Final = "unlike the training data"
"""The mark of a clip whose novelty is above 1."""


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """The result of one recording.

    Attributes:
        path: The file as it was named; for an array or standard input, a name.
        targets: Names of the intensities.
        seconds: Length of the recording, before the cut at the model's max_seconds.
        was_cut: The recording is longer than max_seconds.
        was_padded: The recording is shorter than the encoder's smallest input.
        prediction: Arrays: intensities (target,), in [0, 1] if calibrated, else about it and not clipped; V/A/D over
            frames; the clip's novelty.
        timeline: Predictions over the whole recording, if requested.
        was_silent: All samples stay below -65 dB of full scale, so the values are NaN.
        channel: Number of the channel, counted from 1, if one channel was predicted alone.
        notes: Remarks about the file, such as damage; each names the file.
        speech: What is said, if words were requested.
        sentences: Predictions of its sentences, if requested.
        intervals: Prediction intervals by value; None if the model has none.
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
    speech: Speech | None = None
    sentences: tuple[Sentence, ...] | None = None
    intervals: Intervals | None = None

    def __str__(self) -> str:
        """Return one line: name, length, the headline's intensities, marks."""
        values = format_values(self.targets, self.headline.intensities)
        return make_one_line("; ".join([f"{self.title}: {self.seconds:.1f} s", values, *self.marks]))

    def __repr__(self) -> str:
        return f"<Result {self}>"

    @property
    def intensities(self) -> dict[str, float]:
        """The intensities to quote by name, see `headline`, rounded to 6 decimals; NaN for silence."""
        return name_values(self.targets, self.headline.intensities)

    @property
    def vad(self) -> dict[str, float] | None:
        """Mean Arousal, Dominance and Valence by name, as `intensities`; None if the model has not learned them."""
        vad = self.headline.vad
        return None if vad is None else name_values(VAD, vad)

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
        """The text that distinguishes a channel's name from the file's."""
        return "" if self.channel is None else f" channel {self.channel}"

    @property
    def covered(self) -> float:
        """Seconds from the start that the prediction covers: all, or to the end of the last frame if cut."""
        times = self.prediction.times
        if not self.was_cut or not len(times):
            return self.seconds
        # The last frame's center is as far from its end as the first one's is from the clip's start.
        return min(self.seconds, float(times[-1] + times[0]))

    @property
    def headline(self) -> Headline:
        """The values to quote.

        For a recording longer than the cut this is the mean over its timeline, if it has one with a voice; otherwise
        the prediction.
        """
        prediction, line = self.prediction, self.timeline
        if self.was_cut and line is not None and np.isfinite(line.intensities).any():
            vad = None if line.vad is None else average_steps(line.vad)
            return Headline("mean over time", average_steps(line.intensities), vad)
        basis = f"first {round(self.covered, 1):g} s" if self.was_cut else "whole clip"
        vad = None if prediction.vad is None else prediction.vad.mean(axis=0)
        return Headline(basis, prediction.intensities, vad)

    @property
    def marks(self) -> list[str]:
        """Short remarks that the values need."""
        silent = self.was_silent and self.headline.basis != "mean over time"
        marks = {
            self.headline.basis: self.was_cut,
            "padded": self.was_padded,
            "silent": silent,
            "no voice": self.timeline is not None and not self.timeline.voice_segments and not silent,
            UNLIKE: self.prediction.is_unlike_training,
        }
        return [mark for mark, holds in marks.items() if holds]

    def replace_path(self, path: Path) -> "Result":
        """Return the same result with another spelling of the file's path, in its notes too."""
        prefix = f"{self.path}: "
        notes = tuple(
            f"{path}: {note.removeprefix(prefix)}" if note.startswith(prefix) else note for note in self.notes
        )
        return replace(self, path=path, notes=notes)

    @property
    def bare_notes(self) -> list[str]:
        """The notes without the file's path."""
        return [note.removeprefix(f"{self.path}: ") for note in self.notes]

    @property
    def remarks(self) -> list[str]:
        """The bare notes, and those about the cut and silence, as written to JSON and CSV."""
        remarks = self.bare_notes
        if self.was_cut:
            basis = self.headline.basis
            values = f"the {basis}" if basis == "mean over time" else f"those of the {basis}"
            remarks.append(f"longer than {round(self.covered, 1):g} s, so its values are {values}")
        if "silent" in self.marks:
            remarks.append("silent (below -65 dB of full scale), so it has no values")
        return remarks

    @property
    def vad_frames(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Centers (frame,) in seconds and V/A/D (frame, 3), NaN in silence; None if the model has not learned it."""
        if self.timeline is not None:
            return self.timeline.vad_frames
        vad = self.prediction.vad
        return None if vad is None else (self.prediction.times, mask_infinite(vad))

    def to_steps(self) -> Steps:
        """Return the timeline's steps; without a timeline, one step over the predicted part of the clip."""
        if self.timeline is not None:
            return self.timeline.to_steps()
        until = np.array([self.covered])
        return build_steps(
            (until / 2, np.zeros(1), until),
            np.array([0.0, self.covered]),
            self.prediction.intensities[None],
            self.vad_frames,
            targets=self.targets,
            seconds=self.seconds,
            voice_segments=[],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: schema, emimic (the version), targets, and the clip's own fields."""
        document = Results(self.targets, (self,), ()).to_dict()
        (clip,) = document["clips"]
        return {**{name: document[name] for name in ("schema", "emimic", "targets")}, **clip}

    def to_frame(self) -> "pd.DataFrame":
        """Return one row, see `Results.to_frame`; for values over time see `timeline.to_frame()`."""
        return Results(self.targets, (self,), ()).to_frame()

    def _repr_html_(self) -> str:
        headline = self.headline
        pairs = list(zip(self.targets, headline.intensities, strict=True))
        if headline.vad is not None:
            pairs += zip(VAD, headline.vad, strict=True)
        rows = [f"<th>{escape(name)}</th><td>{html.render_bar(float(value))}</td>" for name, value in pairs]
        caption = ", ".join([f"{escape(self.title)}: {self.seconds:.1f} s", *self.marks])
        timeline = "" if self.timeline is None else self.timeline._repr_html_()
        return html.render_table(caption, rows) + timeline


@dataclass(frozen=True, slots=True)
class Failure:
    """A file without a result. reason: the error, which names the file."""

    path: Path
    reason: str


Outcome = Result | Failure
"""What prediction gives for one input."""


@dataclass(frozen=True, slots=True, repr=False)
class Results:
    """Results of several recordings in the order of the inputs, and the failures."""

    targets: tuple[str, ...]
    clips: tuple[Result, ...]
    failed: tuple[Failure, ...]

    def __str__(self) -> str:
        """Return one line per recording, then one per failure."""
        lines = [*map(str, self.clips), *(make_one_line(failure.reason) for failure in self.failed)]
        return "\n".join(lines) or "no recordings"

    def __repr__(self) -> str:
        return f"<Results: {len(self.clips)} predicted, {len(self.failed)} failed>"

    @classmethod
    def from_outcomes(cls, targets: tuple[str, ...], outcomes: Sequence[Outcome]) -> Self:
        """Return the results and the failures of some inputs, each in the order of the inputs."""
        clips = tuple(outcome for outcome in outcomes if isinstance(outcome, Result))
        return cls(targets, clips, tuple(outcome for outcome in outcomes if isinstance(outcome, Failure)))

    @property
    def names(self) -> list[str]:
        """Unique names of the clips: the file's stem or, where stems are equal, the file's name or path."""
        forms = [
            [form(clip.path) + clip.suffix for clip in self.clips]
            for form in (attrgetter("stem"), attrgetter("name"), _name_in_folder, str)
        ]
        counts = [Counter(form) for form in forms]
        return [
            next((text for text, count in zip(texts, counts, strict=True) if count[text] == 1), texts[-1])
            for texts in zip(*forms, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: schema, emimic (the version), targets, clips and failed."""
        return {
            "schema": SCHEMA,
            "emimic": __version__,
            "targets": [make_writable(name) for name in self.targets],
            "clips": [_to_fields(result) for result in self.clips],
            "failed": [
                {"file": make_writable(failure.path), "reason": make_writable(failure.reason)}
                for failure in self.failed
            ],
        }

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per clip.

        Columns: Filename (see `names`), Seconds, the headline's targets and V/A/D if learned, Novelty if the model has
        such a score, Basis (see `Headline`), Notes (see `Result.remarks`).

        Raises:
            EmimicError: pandas is not installed.
        """
        rows, targets = [], make_target_names(self.targets)
        for name, clip in zip(self.names, self.clips, strict=True):
            headline, novelty = clip.headline, clip.prediction.novelty
            vad = {} if headline.vad is None else dict(zip(VAD, headline.vad, strict=True))
            rows.append(
                {
                    "Filename": make_encodable(name),
                    "Seconds": clip.seconds,
                    **dict(zip(targets, headline.intensities, strict=True)),
                    **vad,
                    **({} if novelty is None else {"Novelty": novelty}),
                    "Basis": headline.basis,
                    "Notes": make_encodable("; ".join(clip.remarks)),
                }
            )
        columns = None if rows else ["Filename", "Seconds", *targets, "Basis", "Notes"]
        frame: pd.DataFrame = import_pandas().DataFrame(rows, columns=columns)
        return frame

    def _repr_html_(self) -> str:
        titles = "".join(f"<th>{escape(name)}</th>" for name in ("Filename", "s", *self.targets, "basis"))
        rows = [titles]
        for name, clip in zip(self.names, self.clips, strict=True):
            headline = clip.headline
            bars = "".join(f"<td>{html.render_bar(float(value))}</td>" for value in headline.intensities)
            rows.append(f"<th>{escape(name)}</th><td>{clip.seconds:.1f}</td>{bars}<td>{headline.basis}</td>")
        failed = "".join(f"<li>{escape(failure.reason)}</li>" for failure in self.failed)
        caption = f"{len(self.clips)} predicted, {len(self.failed)} failed"
        return html.render_table(caption, rows) + (f"<ul>{failed}</ul>" if failed else "")


def _to_fields(result: Result) -> dict[str, Any]:
    """Return a clip's JSON-ready values."""
    prediction, headline = result.prediction, result.headline

    def by_target(values: NDArray[Any]) -> dict[str, float | None]:
        return dict(zip(result.targets, round_values(values), strict=True))

    def by_vad(values: NDArray[Any]) -> dict[str, float | None]:
        return dict(zip(VAD, round_values(values), strict=True))

    fields: dict[str, Any] = {
        "Filename": make_writable(result.name),
        "file": make_writable(result.path),
        **({} if result.channel is None else {"channel": result.channel}),
        "seconds": round(result.seconds, 3),
        "was_cut": result.was_cut,
        "was_padded": result.was_padded,
        "was_silent": result.was_silent,
        "notes": [make_writable(note) for note in result.remarks],
        "intensities": by_target(prediction.intensities),
    }
    if prediction.vad is not None:
        fields["vad_mean"] = by_vad(prediction.vad.mean(axis=0))
    fields["headline"] = {"basis": headline.basis, "intensities": by_target(headline.intensities)}
    if headline.vad is not None:
        fields["headline"]["vad"] = by_vad(headline.vad)
    if result.intervals is not None:
        fields["intervals"] = make_intervals(result.intervals, result.targets, headline)
    if prediction.novelty is not None:
        fields |= {
            "novelty": round(prediction.novelty, 6),
            "unlike_training_data": prediction.is_unlike_training,
        }
    if result.speech is not None:
        fields["words"] = {
            "text": make_writable(result.speech.text),
            "source": make_writable(result.speech.source),
        }
    if result.timeline is not None:
        fields["timeline"] = result.timeline.to_fields()
    if result.sentences is not None:
        fields["sentences"] = [sentence.to_fields(result.targets) for sentence in result.sentences]
    return fields


def attach_intervals(outcome: Outcome, intervals: Intervals | None) -> Outcome:
    """Return an outcome whose result and timeline have a model's prediction intervals."""
    if isinstance(outcome, Failure) or intervals is None:
        return outcome
    line = outcome.timeline
    timeline = None if line is None else replace(line, intervals=intervals)
    return replace(outcome, timeline=timeline, intervals=intervals)


def _name_in_folder(path: Path) -> str:
    return str(Path(path.parent.name) / path.name)
