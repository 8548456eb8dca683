"""The decoder for what libsndfile reads: wav, aiff, flac, mp3, ogg, opus and others."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import soundfile

from emimic.media import chunks
from emimic.media.chunks import Chunks, DamagedError, UndecodableError, mask_absurd
from emimic.media.claims import has_more_flac, is_cut_short
from emimic.media.input_file import InputFile, OffsetFile
from emimic.media.waveform import check_format

_FLOATING: Final = ("FLOAT", "DOUBLE")  # libsndfile's subtypes of which samples may have any scale


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read forward only.

    soundfile seeks after every read, which resets libsndfile's mp3 decoder and makes it print to stderr.
    """

    def seekable(self) -> bool:
        """Return False."""
        return False


def decode_soundfile(file: InputFile, label: str, *, start: int = 0) -> Chunks:
    """Yield the sound of a file from byte `start` on, by libsndfile.

    Raises:
        UndecodableError: libsndfile can't read the content.
        DamagedError: after the last chunk, when frames are missing or broken.
        AudioError: the sample rate or the number of channels is absurd.
    """
    try:
        sound = _ForwardFile(OffsetFile(file, start) if start else file)
    except soundfile.LibsndfileError as error:
        raise UndecodableError(f"soundfile: {error.error_string}") from None
    with sound:
        check_format(sound.samplerate, sound.channels, label)
        n_read = 0
        while True:
            size = max(1, min(sound.frames - n_read, chunks.CHUNK // sound.channels))
            buffer = np.empty((size, sound.channels), np.float32)
            try:
                chunk = sound.read(out=buffer)
            except soundfile.LibsndfileError:
                # Broken flac: the frames before the break are in `buffer`, and tell() counts them.
                yield buffer[: max(0, sound.tell() - n_read)], sound.samplerate, None
                raise DamagedError from None
            if not len(chunk):
                break
            n_read += len(chunk)
            yield chunk if sound.subtype in _FLOATING else mask_absurd(chunk), sound.samplerate, None
        if (sound.format == "FLAC" and has_more_flac(file, start)) or is_cut_short(sound, n_read):
            raise DamagedError


def decode_chained(file: InputFile, label: str, *, starts: Sequence[int]) -> Chunks:
    """Yield the sound of a chained Ogg file, one logical stream after the other.

    Args:
        file: the Ogg file.
        label: name for error messages.
        starts: first byte of each stream.

    Raises:
        DamagedError: after the last chunk, when a stream is damaged.
    """
    is_damaged = False
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        try:
            yield from decode_soundfile(file.truncate_at(end), label, start=start)
        except DamagedError:
            is_damaged = True
    if is_damaged:
        raise DamagedError
