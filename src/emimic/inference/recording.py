"""A recording that is predicted: a file with its channels averaged, or one of its channels."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a recording, predicted alone. number: counted from 1."""

    path: Path
    number: int


Recording = Path | Channel
"""A file with its channels averaged, or one of its channels."""


def split_recording(recording: Recording) -> tuple[Path, int | None]:
    """Return a recording's file and its channel's number, None for all channels averaged."""
    return (recording.path, recording.number) if isinstance(recording, Channel) else (recording, None)
