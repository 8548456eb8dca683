"""The container's clock: how much silence its time stamps put before the sound and between its parts.

Decoders hand out frames one after the other. Where a sound track starts after the picture, or packets are missing (a
muted caller, a stalled capture), the time stamps alone say so. Here they become seconds of silence, so that second t of
the samples is second t of the file as players show it.
"""

from dataclasses import dataclass
from typing import Final

STAMPED: Final = frozenset({"mov", "matroska", "mpeg", "mpegts", "flv", "asf", "ogg"})
"""FFmpeg's names of the formats whose packets carry times; elsewhere (avi, mp3, wav) it makes times of lengths."""

STARTED: Final = STAMPED | {"avi"}
"""Formats that say when a track starts."""

FROM_NOUGHT: Final = frozenset({"mov", "matroska", "avi"})
"""Formats whose clock starts at 0; in the others the first time stamp is any number."""

PRIMING: Final = 2112
"""Samples that a codec may put in front of the sound (AAC's most); a sound this little ahead of the picture is that."""

SLACK: Final = 0.01
"""Seconds by which stamps may differ from the samples' own times: clocks of a millisecond, a recorder's jitter."""

OVERLAP: Final = 0.05
"""Seconds by which a sound may be ahead of its stamps, before what is stamped twice is left out."""

LATEST_START: Final = 60.0
"""Seconds; a first time stamp beyond is taken from a longer stream, and not as an hour of nothing."""

LONGEST: Final = 3600.0
"""Seconds of silence believed in one go; longer jumps are absurd stamps."""

MOST: Final = 4 * 3600.0
"""Seconds of silence believed in one file."""

WORTH_NOTING: Final = 0.1
"""Seconds of silence put in that are reported."""

_BACK: Final = 1.0  # seconds that stamps must step back to count as a clock that began again


def zero(form: str, picture: float | None, sound: float | None, rate: int) -> float:
    """Return time 0 of a file on its container's clock, in seconds.

    Args:
        form: FFmpeg's name of the format.
        picture: time of the first frame of the video track, None without one.
        sound: time of the first decoded sample, None without sound.
        rate: samples of the sound a second.
    """
    stamps = [time for time in (picture, sound) if time is not None]
    if not stamps:
        return 0.0
    from_nought = FROM_NOUGHT.intersection(form.split(",")) and min(stamps) <= LATEST_START
    start = 0.0 if from_nought else stamps[0]
    # A sound that starts long before the picture sets the clock; a codec's priming doesn't.
    return start if sound is None or start - sound <= PRIMING / rate else sound


def is_stray(time: float, end: float, seconds: float, following: float) -> bool:
    """Return whether a chunk's time is wrong by itself: neither where the last chunk ended, nor does the next go on.

    Args:
        time, seconds: of the chunk.
        end: of the chunk before.
        following: time of the next chunk, which would be right after this one if this one came at `end`.
    """
    return abs(time - end) > SLACK and abs(following - end - seconds) <= OVERLAP


@dataclass(slots=True)
class Clock:
    """Positions of decoded chunks on the clock of a file; late, gaps, lost: silence before the sound, how often between
    its parts, and how much there; twice: how much was stamped twice and is left out; absurd: the longest jump that was
    not believed (all in seconds)."""

    late: float = 0.0
    gaps: int = 0
    lost: float = 0.0
    twice: float = 0.0
    absurd: float = 0.0
    _end: float = 0.0
    _shift: float = 0.0
    _ahead: bool = False  # the last chunk was left out, and the sound may still be ahead of the stamps
    _last: tuple[float, float] | None = None  # time and seconds of the last chunk that had a time

    def before(self, time: float | None, samples: int, rate: int) -> int:
        """Take the next chunk; return how many samples of silence go before it.

        A negative number: as many of its own first samples lie before time 0, or before the end of the last chunk,
        and are to be left out.

        Args:
            time: of its first sample in seconds; None where it simply follows.
            samples, rate: its length, and samples a second.
        """
        seconds = samples / rate
        if time is None:
            self._end += seconds
            return 0
        jump = time - self._shift - self._end
        if self._end == 0.0 and -PRIMING / rate <= jump < 0.0:
            early = min(samples, round(-jump * rate))
            self._end += (samples - early) / rate
            return -early
        # Stamps that all but stand still are nonsense: they would leave out all the sound.
        slow = self._last is not None and 0.0 <= time - self._last[0] < self._last[1] / 2
        self._last = time, seconds
        if -_BACK <= jump < (-SLACK if self._ahead else -OVERLAP) and not slow:
            early = min(samples, round(-jump * rate))
            self._ahead = early == samples
            self.twice += early / rate
            self._end += (samples - early) / rate
            return -early
        self._ahead = False
        silence = round(jump * rate)
        if jump > LONGEST or (jump > SLACK and self.late + self.lost + jump > MOST):
            self.absurd = max(self.absurd, jump)
            self._shift += jump
            silence = 0
        elif jump > SLACK:
            if self._end == 0.0:
                self.late = jump
            else:
                self.gaps += 1
                self.lost += jump
        else:
            self._shift += jump if jump < -_BACK else 0.0
            silence = 0
        self._end += silence / rate + seconds
        return silence

    def notes(self) -> list[str]:
        """Return a sentence for each kind of silence that was put in, worth noting or not believed."""
        notes = []
        if self.late >= WORTH_NOTING:
            notes.append(
                f"the sound starts {self.late:.4g} s after time 0 of the file; silence stands there."
            )
        if self.lost >= WORTH_NOTING:
            where = "a gap" if self.gaps == 1 else f"{self.gaps} gaps"
            notes.append(f"the sound has {where} of {self.lost:.4g} s in all; silence stands there.")
        if self.twice >= WORTH_NOTING:
            notes.append(f"{self.twice:.4g} s of the sound have the times of other sound; they are left out.")
        if self.absurd:
            notes.append(
                f"a time stamp jumps by {self.absurd:.4g} s; it is not believed, the sound goes on there."
            )
        return notes
