"""Small synthetic media files for the tests; none comes from a corpus."""

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import soundfile

CONTAINERS = {
    # suffix: (PyAV format, audio codec, video codec or None)
    "m4a": ("ipod", "aac", None),
    "aac": ("adts", "aac", None),
    "mp4": ("mp4", "aac", "mpeg4"),
    "mov": ("mov", "pcm_s16le", "mpeg4"),
    "mkv": ("matroska", "flac", None),
    "webm": ("webm", "libopus", None),
    "mpg": ("mpeg", "mp2", "mpeg1video"),
    "ts": ("mpegts", "aac", None),
    "avi": ("avi", "pcm_u8", "mpeg4"),
}
FILES = {
    # suffix: (soundfile format, subtype)
    "wav": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "wavf": ("WAV", "FLOAT"),
    "wavd": ("WAV", "DOUBLE"),
    "ulaw": ("WAV", "ULAW"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "mp3vbr": ("MP3", "MPEG_LAYER_III"),
}
_NUMPY = {"s16": np.int16, "s32": np.int32, "u8": np.uint8, "flt": np.float32, "dbl": np.float64}


def sine(
    hertz: float = 440.0, seconds: float = 1.0, rate: int = 16_000, level: float = 0.5
) -> np.ndarray[Any, Any]:
    """(sample,) float32."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(
    seconds: float = 1.0, rate: int = 16_000, seed: int = 0, level: float = 0.1
) -> np.ndarray[Any, Any]:
    """(sample,) float32."""
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def encode(samples: np.ndarray[Any, Any], kind: str = "wav", rate: int = 16_000) -> bytes:
    """(sample,) or (sample, channel) -> the bytes of a file, by soundfile or by PyAV according to `kind`."""
    if kind in CONTAINERS:
        return contain(samples, kind, rate)
    form, subtype = FILES[kind]
    extra = {"bitrate_mode": "VARIABLE", "compression_level": 0.3} if kind == "mp3vbr" else {}
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype, **extra)
    return file.getvalue()


def contain(
    samples: np.ndarray[Any, Any] | None,
    kind: str = "mp4",
    rate: int = 16_000,
    codec: str = "",
    options: dict[str, str] | None = None,
) -> bytes:
    """A container file; with no samples, a video without an audio track."""
    form, default, video = CONTAINERS[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=form, options=options or {}) as container:
        images = _video(container, video or "mpeg4") if video or samples is None else None
        sound = None
        if samples is not None:
            columns = samples.reshape(len(samples), -1)
            layout = {1: "mono", 2: "stereo"}[columns.shape[1]]
            sound = container.add_stream(codec or default, rate=rate, layout=layout)
            if (codec or default) == "aac":
                sound.bit_rate = 256_000  # at its default FFmpeg's encoder distorts a sine
        if images is not None:
            for index in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), index * 20, np.uint8), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(images.encode(frame))
            container.mux(images.encode())
        if sound is not None:
            for audio in _frames(columns, layout, rate, sound.format.name):
                container.mux(sound.encode(audio))
            container.mux(sound.encode())
    return file.getvalue()


def _video(container: Any, codec: str) -> Any:
    stream = container.add_stream(codec, rate=25)
    stream.width = stream.height = 32
    stream.pix_fmt = "yuv420p"
    return stream


def _frames(columns: np.ndarray[Any, Any], layout: str, rate: int, form: str) -> list[Any]:
    """(sample, channel) -> one frame in the encoder's sample format, from which PyAV cuts what it wants."""
    kind = _NUMPY[form.rstrip("p")]
    if np.issubdtype(kind, np.integer):
        full = 2 ** (np.iinfo(kind).bits - 1)
        values = np.clip(
            columns.astype(float) * full + (128 if kind is np.uint8 else 0), *_range(kind)
        ).round()
    else:
        values = columns
    values = values.astype(kind)
    plane = values.T if form.endswith("p") else values.reshape(1, -1)
    frames = []
    for start in range(0, len(columns), 1024):
        stop = min(start + 1024, len(columns))
        many = 1 if form.endswith("p") else columns.shape[1]
        part = np.ascontiguousarray(plane[:, start * many : stop * many])
        frame = av.AudioFrame.from_ndarray(part, format=form, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        frames.append(frame)
    return frames


def _range(kind: Any) -> tuple[int, int]:
    return int(np.iinfo(kind).min), int(np.iinfo(kind).max)


def wav(
    data: bytes,
    *,
    rate: int = 16_000,
    channels: int = 1,
    claimed: int | None = None,
    tag: int = 1,
    bits: int = 16,
) -> bytes:
    """A RIFF file by hand, whose header may say what it likes; `tag` 1 is PCM, 3 floating point."""
    width = channels * bits // 8
    fields = (b"fmt ", 16, tag, channels, rate, (rate * width) & 0xFFFFFFFF, width & 0xFFFF, bits)
    head = struct.pack("<4sIHHIIHH", *fields)
    size = len(data) if claimed is None else claimed
    body = b"WAVE" + head + struct.pack("<4sI", b"data", size) + data
    return b"RIFF" + struct.pack("<I", min(size + 36, 0xFFFFFFFF)) + body


def surround(layout: str) -> tuple[bytes, list[float]]:
    """A 440 Hz sine of another level on each channel of a planar container file; and the levels."""
    levels = [0.8 / (index + 1) for index in range(av.AudioLayout(layout).nb_channels)]
    columns = np.stack([sine(440, 1.0, 48_000, level) for level in levels], axis=1)
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("wavpack", rate=48_000, layout=layout)
        # from_ndarray can't fill eight planes, so FFmpeg itself distributes the packed samples.
        resampler = av.AudioResampler(stream.format.name, layout, 48_000)
        for packed in _frames(columns, layout, 48_000, "flt"):
            for frame in resampler.resample(packed):
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue(), levels


def headless_mp3(content: bytes) -> bytes:
    """LAME's first frame, which holds the length, taken off an MPEG-2 layer 3 file of 16 or 24 kHz."""
    head = int.from_bytes(content[:4], "big")
    kilobits = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160][(head >> 12) & 15]
    rate = [22_050, 24_000, 16_000][(head >> 10) & 3]
    return content[72_000 * kilobits // rate + ((head >> 9) & 1) :]


PCM = (sine(seconds=0.5) * 32_767).astype("<i2").tobytes()


def random_bytes(seed: int, size: int = 50_000) -> bytes:
    return np.random.default_rng(seed).bytes(size)


NO_DECODER = "none of its audio tracks can be decoded"


NO_AUDIO = "is no audio or video that can be decoded"


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", r"is empty \(0 bytes\)"),
    "one byte": (lambda: b"R", NO_AUDIO),
    "text.mp3": (lambda: b"this is no music, only words\n" * 300, NO_AUDIO),
    "utf-16.mp3": (lambda: ("words\n" * 300).encode("utf-16"), NO_AUDIO),
    "zeros.wav": (lambda: bytes(5_000), NO_AUDIO),
    "ones.mp3": (lambda: b"\xff" * 5_000, NO_AUDIO),
    **{f"random {seed}": (lambda seed=seed: random_bytes(seed), NO_AUDIO) for seed in range(8)},
    **{
        f"magic {magic!r}": (lambda magic=magic: magic + random_bytes(9), NO_AUDIO)
        for magic in [
            b"RIFF\xff\xff\xff\xffWAVEfmt ",
            b"fLaC",
            b"fLaC\x00\x00\x00\x22",
            b"OggS",
            b"OggS\x00\x02",
            b"ID3\x04\x00\x00\x00\x00\x00\x0a",
            b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f",
            b"\xff\xfb\x90\x00",
            b"\x00\x00\x00\x20ftypM4A ",
            b"\x00\x00\x00\x18ftypmp42",
            b"\x1aE\xdf\xa3",
            b"\x00\x00\x01\xba",
            b"FORM\x00\x00\x10\x00AIFF",
            b".snd\x00\x00\x00\x18",
            b"caff\x00\x01",
            b"FLV\x01",
            b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
            b"\x89PNG\r\n\x1a\n",
            b"%PDF-1.7\n",
            b"PK\x03\x04",
            b"\x7fELF",
        ]
    },
    "playlist": (
        lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.wav\n#EXT-X-ENDLIST\n",
        NO_AUDIO,
    ),
    "concat": (lambda: b"ffconcat version 1.0\nfile other.wav\n", NO_AUDIO),
    "session": (lambda: b"v=0\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n", NO_AUDIO),
    "manifest": (
        lambda: b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
        NO_AUDIO,
    ),
    "video without sound": (lambda: contain(None, "mp4"), "has no audio track"),
    "webm without sound": (lambda: contain(None, "mkv"), "has no audio track"),
    "unknown codec": (
        lambda: encode(sine(), "mkv").replace(b"A_FLAC", b"A_FLAX"),
        NO_DECODER,
    ),
    "no samples.wav": (lambda: encode(np.zeros(0), "wav"), "holds no samples"),
    "aac head, then noise": (
        lambda: b"\xff\xf1\x50\x80" + random_bytes(9),
        "before its first sample|" + NO_AUDIO,
    ),
    "only a head": (
        lambda: encode(noise(), "flac")[:100],
        "damaged or cut short before its first",
    ),
    "one sample": (lambda: encode(np.ones(1), "wav", 192_000), "holds no samples"),
    "all NaN": (lambda: encode(np.full(999, np.nan), "wavf"), "all samples are NaN or infinite"),
    "all infinite": (lambda: encode(np.full(999, -np.inf), "wavd", 8_000), "all samples are NaN"),
    "beyond float32": (lambda: encode(np.full(999, 1e300), "wavd"), "all samples are NaN"),
    "rate 1 Hz": (lambda: wav(PCM, rate=1), "sample rate 1 Hz; expected 1000 to 768000"),
    "rate 999 Hz": (lambda: wav(PCM, rate=999), "sample rate 999 Hz"),
    "rate 2 GHz": (lambda: wav(PCM, rate=2_000_000_000), "sample rate|" + NO_AUDIO),
    "rate 0": (lambda: wav(PCM, rate=0), "sample rate|" + NO_AUDIO),
    "65 channels": (lambda: wav(PCM, channels=65), "65 channels; expected 1 to 64|65 channels"),
    "0 channels": (lambda: wav(PCM, channels=0), NO_AUDIO),
    "65535 channels": (lambda: wav(PCM, channels=65_535), NO_AUDIO),
    "tag of another codec": (lambda: wav(PCM, tag=0x7777), NO_DECODER),
    "moov at the end, cut": (lambda: encode(sine(), "m4a")[:-900], NO_AUDIO),
}
