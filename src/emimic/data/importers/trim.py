"""Digital zeros at a recording's end, which are padding and no sound."""

import io
import wave

from emimic.task import AudioError


def trim_zeros(data: bytes) -> bytes:
    """Return a PCM WAV file without the zeros it ends with, otherwise the same samples; as it is where there are none.

    Raises:
        AudioError: it is no PCM WAV file, or holds zeros only.
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
