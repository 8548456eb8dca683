"""Timestamps of a container: how much silence they put before the sound and between its parts.

Decoders yield frames one after the other. Where a sound track starts after the video, or packets are missing (a muted
caller, a stalled capture), only the timestamps say so. Here they become seconds of silence, so that second t of the
samples is second t of the file as players show it.
"""

from dataclasses import dataclass
from typing import Final

STAMPED: Final = frozenset({"mov", "matroska", "mpeg", "mpegts", "flv", "asf", "ogg"})
"""FFmpeg's names of the formats with timestamps; elsewhere (avi, mp3, wav) it derives them from lengths."""

STARTED: Final = STAMPED | {"avi"}
"""Formats that store when a track starts."""

FROM_ZERO: Final = frozenset({"mov", "matroska", "avi"})
"""Formats whose timestamps start at 0; in the others the first one is any number."""

PRIMING: Final = 2112
"""Samples that a codec may put before the sound (AAC's maximum); a sound ahead of the video by no more is priming."""

SLACK: Final = 0.01
"""Seconds by which timestamps may differ from the samples' own times: rounding to milliseconds, a recorder's jitter."""

OVERLAP: Final = 0.05
"""Seconds by which a sound may be ahead of its timestamps before sound that overlaps is left out."""

LATEST_START: Final = 60.0
"""Seconds; a later first timestamp is that of a cut from a longer stream, and not an hour of silence."""

LONGEST: Final = 3600.0
"""Maximum of silence inserted at once in seconds; longer jumps are absurd timestamps."""

MOST: Final = 4 * 3600.0
"""Maximum of silence inserted into one file in seconds."""

WORTH_NOTING: Final = 0.1
"""Minimum of silence that is reported, in seconds."""

_BACK: Final = 1.0  # seconds by which timestamps step back when they have begun again


def find_zero(form: str, video: float | None, sound: float | None, rate: int) -> float:
    """Return the container's timestamp of time 0, in seconds.

    Args:
        form: FFmpeg's name of the format.
        video: time of the video track's first frame in seconds, None without one.
        sound: time of the first decoded sample in seconds, None without sound.
        rate: sample rate of the sound in Hz.
    """
    stamps = [time for time in (video, sound) if time is not None]
    if not stamps:
        return 0.0
    is_from_zero = FROM_ZERO.intersection(form.split(",")) and min(stamps) <= LATEST_START
    start = 0.0 if is_from_zero else stamps[0]
    # A sound that starts long before the video defines time 0; a codec's priming doesn't.
    return start if sound is None or start - sound <= PRIMING / rate else sound


def is_stray(time: float, end: float, seconds: float, following: float) -> bool:
    """Return whether only this chunk's timestamp is wrong: both its neighbors would fit without it.

    Args:
        time: timestamp of the chunk in seconds.
        end: end of the chunk before, in seconds.
        seconds: length of the chunk.
        following: timestamp of the next chunk, which would follow this one directly if this one began at `end`.
    """
    return abs(time - end) > SLACK and abs(following - end - seconds) <= OVERLAP


@dataclass(slots=True)
class Timestamps:
    """Positions of decoded chunks by the timestamps of a file.

    Attributes:
        late: seconds of silence before the sound.
        gaps: number of gaps between its parts.
        lost: seconds of silence in all gaps.
        twice: seconds of sound left out, because other sound has the same timestamps.
        absurd: the longest jump that was ignored, in seconds.
    """

    late: float = 0.0
    gaps: int = 0
    lost: float = 0.0
    twice: float = 0.0
    absurd: float = 0.0
    _end: float = 0.0
    _shift: float = 0.0
    _is_ahead: bool = False  # the last chunk was left out, and the sound may still be ahead of its timestamps
    _last: tuple[float, float] | None = None  # time and seconds of the last chunk that had a timestamp

    def add(self, time: float | None, samples: int, rate: int) -> int:
        """Add the next chunk and return the number of samples of silence to put before it.

        A negative number is that of its first samples to leave out: they lie before time 0, or before the end of the
        last chunk.

        Args:
            time: timestamp of its first sample in seconds; None where it follows the last chunk directly.
            samples: number of its samples.
            rate: sample rate in Hz.
        """
        seconds = samples / rate
        if time is None:
            self._end += seconds
            return 0
        jump = time - self._shift - self._end
        if self._end == 0.0 and -PRIMING / rate <= jump < 0.0:
            return -self._leave_out(-jump, samples, rate)
        # Timestamps that hardly advance are wrong: they would leave out all the sound.
        is_slow = self._last is not None and 0.0 <= time - self._last[0] < self._last[1] / 2
        self._last = time, seconds
        if -_BACK <= jump < (-SLACK if self._is_ahead else -OVERLAP) and not is_slow:
            early = self._leave_out(-jump, samples, rate)
            self._is_ahead = early == samples
            self.twice += early / rate
            return -early
        self._is_ahead = False
        silence = self._insert(jump, rate)
        self._end += silence / rate + seconds
        return silence

    def list_notes(self) -> list[str]:
        """Return a sentence for each kind of silence that was inserted or ignored, and is worth noting."""
        notes = []
        if self.late >= WORTH_NOTING:
            notes.append(
                f"the sound starts {self.late:.4g} s after time 0 of the file; silence was inserted."
            )
        if self.lost >= WORTH_NOTING:
            gaps = "a gap" if self.gaps == 1 else f"{self.gaps} gaps"
            notes.append(f"the sound has {gaps} of {self.lost:.4g} s in all; silence was inserted.")
        if self.twice >= WORTH_NOTING:
            notes.append(f"{self.twice:.4g} s of the sound have the times of other sound; they are left out.")
        if self.absurd:
            notes.append(f"a timestamp jumps by {self.absurd:.4g} s; it was ignored, the sound continues.")
        return notes

    def _leave_out(self, seconds: float, samples: int, rate: int) -> int:
        """Return the number of a chunk's samples within its first `seconds`, and count the others as its length."""
        early = min(samples, round(seconds * rate))
        self._end += (samples - early) / rate
        return early

    def _insert(self, jump: float, rate: int) -> int:
        """Return the number of samples of silence for a jump of the timestamps in seconds."""
        if jump > LONGEST or (jump > SLACK and self.late + self.lost + jump > MOST):
            self.absurd = max(self.absurd, jump)
            self._shift += jump
            return 0
        if jump <= SLACK:
            self._shift += jump if jump < -_BACK else 0.0
            return 0
        if self._end == 0.0:
            self.late = jump
        else:
            self.gaps += 1
            self.lost += jump
        return round(jump * rate)
