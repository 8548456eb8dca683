"""Digital zeros at the end of a recording, which are padding."""

import io
import wave

from emimic.task import AudioError


def trim_zeros(data: bytes) -> bytes:
    """Return the content of a PCM WAV file without the zeros at its end; unchanged when there are none.

    Raises:
        AudioError: the content is no PCM WAV file, or only zeros.
    """
    try:
        with wave.open(io.BytesIO(data)) as sound:
            parameters = sound.getparams()
            frames = sound.readframes(parameters.nframes)
    except (wave.Error, EOFError) as error:
        raise AudioError(
            f"is no PCM WAV file that can be trimmed ({error}); convert it, or leave --trim out"
        ) from error
    size = parameters.nchannels * parameters.sampwidth
    zero = b"\x80" if parameters.sampwidth == 1 else b"\0"  # WAV files with 8 bits are unsigned
    length = -(-len(frames.rstrip(zero)) // size) * size
    if not length:
        raise AudioError("holds digital zeros only; download it again, or leave it out")
    if length >= len(frames):
        return data
    trimmed = io.BytesIO()
    with wave.open(trimmed, "wb") as sound:
        sound.setparams(parameters)
        sound.writeframes(frames[:length])
    return trimmed.getvalue()
