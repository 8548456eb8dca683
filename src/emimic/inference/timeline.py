"""Timelines: intensities and valence, arousal, dominance (V/A/D) of one recording over time (NumPy only)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from emimic.calibration import Intervals
from emimic.files import make_one_line, make_writable
from emimic.inference import html
from emimic.inference.steps import Steps, build_steps, compute_edges, make_target_names, mask_infinite
from emimic.install import install
from emimic.task import VAD, EmimicError
from emimic.version import __version__

if TYPE_CHECKING:
    import pandas as pd

SCHEMA: Final = "emimic/results/1"


Method = Literal["one pass", "exact"]
"""How a timeline's windows were predicted: from one pass of the encoder, or each as a clip of its own."""


@dataclass(frozen=True, slots=True)
class VoiceSegment:
    """A part of a recording that contains a voice; start and end in seconds from the recording's start."""

    start: float
    end: float


@dataclass(frozen=True, slots=True, repr=False)
class Timeline:
    """Predictions of one recording over time; silent steps are NaN.

    Attributes:
        name: Name of the recording (a file's stem).
        seconds: Length of the recording.
        targets: Names of the intensities.
        window: Length of each window in seconds.
        hop: Seconds between two windows' centers.
        times: (step,) the center of each window in seconds.
        starts: (step,) the window's start in seconds; windows are shorter at a recording's two ends.
        ends: (step,) the window's end in seconds.
        intensities: (step, target), about [0, 1]: the model's prediction of the window.
        vad_times: (frame,) times of V/A/D in seconds: the steps' or, on request, the centers of frames, 50 per second;
            None if not learned.
        vad: (frame, 3) arousal, dominance, valence, of the steps' windows or of frames; None if not learned.
        voice_segments: Parts with a voice.
        method: How windows were predicted.
        intervals: Prediction intervals of a clip with such values; None if the model has none.
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
    method: Method = "exact"
    intervals: Intervals | None = None

    def __str__(self) -> str:
        """Return one line: name, length, steps, fraction with a voice, mean intensities."""
        steps = f"{len(self.times)} steps of {self.hop:g} s, voice in {self._voiced:.0%}"
        means = format_values(self.targets, average_steps(self.intensities))
        return make_one_line(f"{self.name}: {self.seconds:.1f} s, {steps}; means {means}")

    def __repr__(self) -> str:
        return f"<Timeline {self}>"

    @property
    def _voiced(self) -> float:
        """Fraction of the steps, 0 to 1, that have values."""
        return float(np.isfinite(self.intensities[:, 0]).mean()) if len(self.intensities) else 0.0

    @property
    def vad_frames(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Times (frame,) in seconds and V/A/D (frame, 3), NaN in silence; None if the model has not learned it."""
        if self.vad is None or self.vad_times is None:
            return None
        return self.vad_times, mask_infinite(self.vad)

    def to_steps(self) -> Steps:
        """Return the steps on a grid of whole milliseconds."""
        return build_steps(
            (self.times, self.starts, self.ends),
            compute_edges(self.times, self.hop, self.seconds),
            self.intensities,
            self.vad_frames,
            targets=self.targets,
            seconds=self.seconds,
            voice_segments=[(segment.start, segment.end) for segment in self.voice_segments],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: schema, emimic (the version), name, seconds, targets and the fields over time.

        A silent step is None.
        """
        return {
            "schema": SCHEMA,
            "emimic": __version__,
            "name": self.name,
            "seconds": round(self.seconds, 3),
            "targets": [make_writable(name) for name in self.targets],
            **self.to_fields(),
        }

    def to_fields(self) -> dict[str, Any]:
        """Return the JSON-ready values over time, as they stand in a clip's `timeline`."""
        fields: dict[str, Any] = {
            "window": self.window,
            "hop": self.hop,
            "method": self.method,
            "times": round_values(self.times, 3),
            "starts": round_values(self.starts, 3),
            "ends": round_values(self.ends, 3),
            "intensities": dict(zip(self.targets, map(round_values, self.intensities.T), strict=True)),
            "voice_segments": [
                {"start": round(segment.start, 3), "end": round(segment.end, 3)}
                for segment in self.voice_segments
            ],
        }
        if self.vad is not None and self.vad_times is not None:
            values = dict(zip(VAD, map(round_values, self.vad.T), strict=True))
            fields["vad"] = {"times": round_values(self.vad_times, 3), "values": values}
        if self.intervals is not None:
            fields["intervals"] = {"level": self.intervals.level} | {
                key: {
                    name: {"low": round_values(pair[:, 0]), "high": round_values(pair[:, 1])}
                    for name, pair in zip(names, np.moveaxis(pairs, 1, 0), strict=True)
                }
                for key, names, pairs in self._list_intervals(self.intervals)
            }
        return fields

    def _list_intervals(
        self, intervals: Intervals
    ) -> Iterator[tuple[str, tuple[str, ...], NDArray[np.float64]]]:
        """Yield the field, the names, and intervals (step, name, 2) of intensities and V/A/D."""
        yield "intensities", self.targets, intervals.compute(self.targets, self.intensities)
        if self.vad is not None:
            yield "vad", VAD, intervals.compute(VAD, self.vad)

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per step, indexed by Seconds (its center): Start, End, the targets, V/A/D (frames' mean).

        Raises:
            EmimicError: pandas is not installed.
        """
        steps = self.to_steps()
        index = import_pandas().Index(steps.times, name="Seconds")
        windows = {"Start": steps.since, "End": steps.until}
        values = dict(zip(make_target_names(steps.names), steps.values.T, strict=True))
        frame: pd.DataFrame = import_pandas().DataFrame({**windows, **values}, index=index)
        return frame

    def _repr_html_(self) -> str:
        lines = [html.render_line(self.intensities[:, i]) for i in range(len(self.targets))]
        rows = [
            f"<th>{escape(name)}</th><td>{drawn}</td>"
            for name, drawn in zip(self.targets, lines, strict=True)
        ]
        caption = f"{escape(self.name)}: {self.seconds:.1f} s, a voice in {self._voiced:.0%}; intensities from 0 to 1"
        return html.render_table(caption, rows)


def average_steps(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean (column,) of (step, column) over the steps that have values; NaN without any."""
    finite = np.isfinite(values)
    count, total = finite.sum(axis=0), np.where(finite, values, 0.0).sum(axis=0, dtype=np.float64)
    mean = np.full(values.shape[1], np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def round_values(values: Iterable[Any], digits: int = 6) -> list[float | None]:
    """Return rounded numbers for JSON; None for NaN and infinities."""
    return [round(float(value), digits) if math.isfinite(value) else None for value in values]


def format_values(names: Sequence[str], values: Iterable[Any]) -> str:
    """Return `Admiration 0.12, Amusement 0.34`; `-` for NaN."""
    pairs = zip(names, map(float, values), strict=True)
    return ", ".join(f"{name} {value:z.2f}" if math.isfinite(value) else f"{name} -" for name, value in pairs)


def import_pandas() -> Any:
    """Return the module pandas.

    Raises:
        EmimicError: It is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise EmimicError(f"to_frame needs pandas: {install('formats')}") from error
    return pandas
