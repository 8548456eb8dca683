"""The work on uploads in a thread: sounds in, results, documents or a comparison out."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from emimic.inference.grid import TimelineOptions
from emimic.inference.predictor import Predictor
from emimic.inference.results import Result, attach_intervals
from emimic.inference.stream import Stream, compute_timeline
from emimic.inference.timeline import Timeline
from emimic.media.waveform import Wave
from emimic.mimicry import MimicryError, Settings, compare_all
from emimic.server.decoder_pool import Sound
from emimic.server.errors import ApiError
from emimic.server.workers import StoppedError
from emimic.task import SAMPLE_RATE, AudioError, EmimicError

BLOCK: Final = 10.0
"""Seconds predicted at a time, as by `Predictor.predict_timeline`; between two blocks the work can stop."""

BATCH: Final = 5.0
"""Seconds of a forward pass. ONNX Runtime keeps the memory of each thread's largest pass: 175 MB of 30 s, 35 MB of 5 s,
at the same speed."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that was decoded. name: of its file."""

    name: str
    sound: Sound


def check_options(predictor: Predictor, options: TimelineOptions) -> None:
    """Check a timeline's options before the work.

    Raises:
        ApiError: The window or the hop is invalid.
    """
    try:
        Stream(predictor.engine, options)
    except EmimicError as error:
        raise ApiError("invalid_parameter", f"{error}.") from None


def predict_recording(
    predictor: Predictor, recording: Recording, options: TimelineOptions | None, stop: threading.Event
) -> Result:
    """Return a recording's result, with a timeline if there are options of one.

    Raises:
        ApiError: It can't be used.
        StoppedError: The event was set.
    """
    _check(stop)
    path, sound = Path(recording.name), recording.sound
    try:
        result = predictor(sound.samples, sample_rate=SAMPLE_RATE, name=path)
        if options is not None:
            result = replace(result, timeline=predict_timeline(predictor, recording, options, stop))
    except AudioError as error:
        raise ApiError("undecodable", str(error)) from None
    result = replace(result, notes=(*result.notes, *(f"{path}: {note}" for note in sound.notes)))
    attached = attach_intervals(result, predictor.intervals)
    assert isinstance(attached, Result)
    return attached


def predict_timeline(
    predictor: Predictor, recording: Recording, options: TimelineOptions, stop: threading.Event
) -> Timeline:
    """Return a recording's timeline.

    Raises:
        AudioError: It can't be used.
        StoppedError: The event was set.
    """
    blocks = _cut(recording.sound.samples, stop)
    return compute_timeline(
        predictor.engine, blocks, options, name=Path(recording.name).stem, batch_seconds=BATCH
    )


def compare_recordings(
    predictor: Predictor,
    recordings: Sequence[Recording],
    options: TimelineOptions,
    settings: Settings,
    stop: threading.Event,
) -> dict[str, Any]:
    """Return the comparison of the first recording with each of the others, as `emimic mimicry` writes it.

    Raises:
        ApiError: They can't be compared.
        StoppedError: The event was set.
    """
    try:
        seed, *mimics = (predict_timeline(predictor, recording, options, stop) for recording in recordings)
        return compare_all(seed, mimics, settings=settings, stop=partial(_check, stop)).to_dict()
    except (AudioError, MimicryError) as error:
        raise ApiError("not_comparable", str(error)) from None


def check_channels(first: Wave, second: Wave) -> None:
    """Check that two channels hold different sounds.

    Raises:
        ApiError: They are equal.
    """
    if np.array_equal(first, second):
        raise ApiError(
            "not_comparable",
            "both channels are the same, a mono recording in two. Send a recording for each voice.",
        )


def _cut(samples: Wave, stop: threading.Event) -> Iterator[Wave]:
    size = round(BLOCK * SAMPLE_RATE)
    for start in range(0, len(samples), size):
        _check(stop)
        yield samples[start : start + size]


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise StoppedError
