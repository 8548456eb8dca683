"""One self-contained HTML page of a recording: its sound, waveform, curves, and a cursor that moves over them."""

import base64
import hashlib
import html
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.inference.results import Result, VoiceSegment
from emimic.media import decode as media
from emimic.media.waveform import Wave
from emimic.output import drawing
from emimic.output.drawing import Envelope
from emimic.task import SAMPLE_RATE, VAD, add_note
from emimic.version import __version__

NOTICE: Final = (
    "Intended for research on expressed emotion with the knowledge of those who are heard, not for judging what a "
    "person feels nor for decisions about people. In the EU, inferring emotions at work and in education is forbidden "
    "except for medical or safety reasons (AI Act, Art. 5(1)(f)); elsewhere such systems are high-risk, and people "
    "must be told (Art. 50(3))."
)
"""The law's notice, in two sentences, wherever a user meets a result outside the terminal."""

_UNLIKE: Final = "is unlike the data the model was trained on: trust its values less."

_VIDEO: Final = (
    '<video muted playsinline preload="auto" src="{}" aria-label="The recording\'s picture"></video>'
    '<p id="unseen" role="alert" hidden>This browser can\'t show the video; sound and curves are all there.</p>'
)

_MOST_POINTS: Final = 4000  # of a magnified curve
_STRETCHES: Final = 8000  # of a waveform
_MOST_VALUES: Final = (
    20_000  # of a curve to read out: 7 minutes of VAD at 50 Hz, 66 of intensities every 0.2 s
)
_AS_IT_IS: Final = 5_000_000  # bytes of a recording that go into the page unchanged when browsers play it
_RATE: Final = 8_000  # bytes a second of the mp3 that audio.save writes
_FIREFOX: Final = 32 * 2**20  # the longest data URI it plays


def playable(
    source: str | os.PathLike[str] | bytes,
    samples: Wave | None = None,
    *,
    channel: int | None = None,
    notes: list[str] | None = None,
) -> tuple[bytes, str]:
    """A recording (a file or its bytes) -> bytes that every browser plays, and their media type.

    mp3, flac and PCM wav of at most 5 MB (or of at most 64 kb/s) stay as they are; all else becomes mp3 of what the
    model hears: samples, (sample,) at 16 kHz, decoded here when not given. channel: this one alone, counted from 0.
    Raises AudioError when the recording can't be read. Warns (EmimicWarning), or adds to `notes`, beyond 32 MB in the
    page, about 50 minutes, which Firefox does not play.
    """
    data = source if isinstance(source, bytes) else Path(os.fsdecode(source)).read_bytes()
    kind = _kind(data) if channel is None else None
    if kind and len(data) <= _AS_IT_IS:
        return data, kind
    if samples is None:
        samples = media.load(source, channel=channel, notes=notes)
    if not kind or len(data) > len(samples) / SAMPLE_RATE * _RATE:
        data, kind = media.encode(samples, codec="mp3"), "audio/mpeg"
    if len(data) * 4 / 3 > _FIREFOX:
        name = "<bytes>" if isinstance(source, bytes) else os.fsdecode(source)
        note = (
            f"{name}: its sound takes {len(data) * 4 / 3 / 2**20:.0f} MB in the page; Firefox plays at most 32. Use "
            "another browser, or split the recording."
        )
        add_note(note, notes)
    return data, kind


def page(
    result: Result,
    sound: bytes,
    media_type: str,
    wave: NDArray[np.float32] | Envelope,
    *,
    video: str | None = None,
) -> str:
    """The page of one result as a string: nothing in it is fetched from anywhere, but a video that is linked.

    sound, media_type: the recording as `playable` gives it. wave: the same recording for the drawing, (sample,) at
    16 kHz or its envelope. video: its address, see `page_video`; it follows the sound. Beyond 1000 values (magnified:
    4000) a curve is drawn as mean and range of neighbours, and beyond 20,000 read out as their mean; the page says so.
    Raises AudioError without samples.
    """
    seconds = result.timeline.seconds if result.timeline else result.seconds
    curves, shown = _curves(result), drawing.coarser(wave, _STRETCHES)
    grey = "".join(_box(r, seconds) for r in _not_heard(result))
    here = files("emimic.output")
    style, script, template = (
        here.joinpath(f"html_page.{end}").read_text("utf-8") for end in ("css", "js", "html")
    )
    name = drawing.short(result.title, 200)
    parts = {
        "name": html.escape(name),
        "version": html.escape(__version__),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "about": html.escape(_about(result)),
        # Without the file's name, which is the title.
        "notes": "".join(
            f'<p class="note">{html.escape(note[:1].upper() + note[1:])}</p>' for note in result.bare_notes
        ),
        "sound": f"data:{html.escape(media_type)};base64,{base64.b64encode(sound).decode()}",
        "media": "data:" if video is None or video.startswith("data:") else "data: file: 'self'",
        "video": "" if video is None else _VIDEO.format(html.escape(video)),
        "names": "".join([_wave_name(_peak(shown)), *(_name(c) for c in curves)]),
        "rows": "\n".join(
            _svg(grey + part) for part in (_waveform(shown, seconds), *(_drawn(c, seconds) for c in curves))
        ),
        "seconds": f"{seconds:.3f}",
        "coarse": _coarse(curves),
        "table": _table(result, curves),
        "notice": html.escape(NOTICE),
        "data": _json({"name": name, "seconds": seconds, "curves": [_told(c) for c in curves]}),
    }
    # In one pass, so that nothing a part holds is taken for a place to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)


@dataclass(frozen=True, slots=True)
class _Curve:
    """A row of the page.

    look: its CSS class. times, values (value,): what is read out, up to `reach` seconds away, each of `each` original
    values, whose mean is `mean`. far, near: what is drawn, before and after magnifying. low, high: its panel's span.
    """

    name: str
    look: str
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    reach: float
    each: int
    far: drawing.Curve
    near: drawing.Curve
    mean: float
    low: float
    high: float


def _curves(result: Result) -> list[_Curve]:
    t, one = result.timeline, result.prediction
    curves = []
    if t is not None:
        for i, name in enumerate(t.targets):
            look = f"c{i % len(drawing.COLORS)}"
            curves.append(_curve(name, look, t.times, t.intensities, i, t.hop))
    times, vad = (one.times, one.vad) if t is None else (t.vad_times, t.vad)
    if times is not None and vad is not None:
        step = float(times[1] - times[0]) if len(times) > 1 else 0.02
        curves += [_curve(name, "vad", times, vad, i, step) for i, name in enumerate(VAD)]
    return curves


def _curve(
    name: str,
    look: str,
    times: NDArray[np.float64],
    group: NDArray[np.floating[Any]],
    column: int,
    step: float,
) -> _Curve:
    """One column of a group (value, curve) that shares its range."""
    values = group[:, column]
    read = drawing.thin(times, values, _MOST_VALUES)
    known = values[np.isfinite(values)]
    low, high = drawing.span(group)
    far, near = drawing.overview(times, values), drawing.thin(times, values, _MOST_POINTS)
    mean = float(known.mean()) if len(known) else math.nan
    return _Curve(name, look, read.times, read.mean, step * read.each, read.each, far, near, mean, low, high)


def _told(curve: _Curve) -> dict[str, Any]:
    """A curve for the script: seconds to the millisecond, values to four decimals, null in a gap."""
    return {
        "name": curve.name,
        "reach": round(curve.reach, 3),
        "low": curve.low,
        "high": curve.high,
        "lowest": _finite(np.nanmin, curve.near.low),
        "highest": _finite(np.nanmax, curve.near.high),
        "times": [round(float(t), 3) for t in curve.times],
        "values": [round(float(v), 4) if math.isfinite(v) else None for v in curve.values],
    }


def _finite(reduce: Any, values: NDArray[np.float64]) -> float | None:
    """The lowest or highest value that isn't NaN, to four decimals; None without any."""
    return round(float(reduce(values)), 4) if np.isfinite(values).any() else None


def _not_heard(result: Result) -> list[VoiceSegment]:
    if result.timeline is not None:
        return drawing.silences(result.timeline)
    return [VoiceSegment(result.covered, result.seconds)] if result.was_cut else []


def _about(result: Result) -> str:
    told = drawing.about(result)
    part = (
        f"Its beginning (the first {round(result.covered, 1):g} s)" if result.was_cut else "As one clip, it"
    )
    unlike = f" {part} {_UNLIKE}" if result.prediction.is_unlike_training else ""
    if result.timeline is None:
        return told + (" (grey: not heard)." if result.was_cut else ".") + unlike
    voice_segments = result.timeline.voice_segments
    if not voice_segments:
        looked = not np.isfinite(result.timeline.intensities).any()  # else no voice_segments were asked for
        return f"{told}.{' No voice was found in it.' if looked else ''}{unlike}"
    total = drawing.length(sum(r.end - r.start for r in voice_segments))
    return f"{told}. Stretches with a voice: {len(voice_segments)}, together {total}.{unlike}"


def _coarse(curves: Sequence[_Curve]) -> str:
    longest = max((c.reach for c in curves if c.each > 1), default=0.0)
    return f"Values read out are means of up to {longest:.1f} s. " if longest else ""


def _wave_name(peak: float) -> str:
    """The waveform's axis ends at its peak, as a fraction of full scale."""
    return (
        f'<div><span>waveform<small>of full scale</small></span><i class="top">{peak:.2g}</i>'
        f'<i class="bottom">−{peak:.2g}</i></div>'
    )


def _name(curve: _Curve) -> str:
    unit = "0 to 1" if curve.look == "vad" else "intensity, 0 to 1"
    return (
        f'<div><span>{html.escape(curve.name)}<small>{unit}</small></span><span class="value">–</span>'
        f'<i class="top">{curve.high:g}</i><i class="bottom">{_minus(curve.low, "g")}</i></div>'
    )


def _svg(inside: str) -> str:
    """A row: stretched to the page's width, 1000 wide and 100 high within."""
    return f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">{inside}</svg>'


def _box(segment: VoiceSegment, seconds: float) -> str:
    x, width = 1000 * segment.start / seconds, 1000 * (segment.end - segment.start) / seconds
    return f'<rect class="silence" x="{x:.6g}" width="{width:.6g}" height="100"/>'


def _waveform(shown: Envelope, seconds: float) -> str:
    peak = _peak(shown)
    x = 1000 * (np.arange(len(shown.lows)) + 0.5) * shown.stretch / seconds
    return _path("wave", _around(x, 50 - 48 * shown.lows / peak, 50 - 48 * shown.highs / peak))


def _peak(wave: Envelope) -> float:
    """The highest absolute sample, 1 of digital silence."""
    return float(max(wave.highs.max(), -wave.lows.min())) or 1.0


def _drawn(curve: _Curve, seconds: float) -> str:
    """Grid and line of a curve; the script shows the coarse line until the page is magnified."""
    scale = 96 / (curve.high - curve.low)
    grid = "".join(f"M0 {98 - scale * (y - curve.low):.1f}h1000" for y in (0, 0.5, 1))
    if curve.far.each == 1:
        return _path("grid", grid) + _line(curve, curve.far, seconds)
    far, near = (_line(curve, drawn, seconds) for drawn in (curve.far, curve.near))
    return _path("grid", grid) + f'<g class="far">{far}</g><g class="near">{near}</g>'


def _line(curve: _Curve, drawn: drawing.Curve, seconds: float) -> str:
    """Range and line; a gap is a new start of the line, a lone value a dot."""
    scale, x = 96 / (curve.high - curve.low), 1000 * drawn.times / seconds
    mean, low, high = (98 - scale * (y - curve.low) for y in (drawn.mean, drawn.low, drawn.high))
    bands, lines = [], []
    for run in _runs(mean):
        lines.append(
            "M" + "L".join(_points(x[run], mean[run])) + ("h.01" if run.stop - run.start == 1 else "")
        )
        bands.append(_around(x[run], low[run], high[run]))
    band = _path(f"band {curve.look}", "".join(bands)) if drawn.each > 1 else ""
    return band + _path(curve.look, "".join(lines))


def _runs(values: NDArray[np.float64]) -> list[slice]:
    """The stretches of a curve without NaN."""
    there = np.concatenate([[False], np.isfinite(values), [False]])
    edges = np.flatnonzero(np.diff(there.astype(int)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _points(x: NDArray[Any], y: NDArray[Any]) -> list[str]:
    return [f"{a:.6g} {b:.1f}" for a, b in zip(x, y, strict=True)]


def _around(x: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> str:
    return "M" + "L".join([*_points(x, high), *reversed(_points(x, low))]) + "z"


def _path(look: str, d: str) -> str:
    return f'<path class="{look}" d="{d}"/>'


def _table(result: Result, curves: Sequence[_Curve]) -> str:
    """The headline first; then, over time, each curve's mean and highest value with its time, and of a recording over
    the cut the values of its beginning."""
    head, t = result.headline, result.timeline
    values = [*head.intensities, *(() if head.vad is None else head.vad)]
    one = result.prediction
    clip = [*one.intensities, *(() if one.vad is None else one.vad.mean(axis=0))]
    over_time = head.basis == "mean over time"
    heads = [head.basis]
    if t is not None:
        heads += [f"first {round(result.covered, 1):g} s" if over_time else "mean over time", "highest", "at"]
    rows = []
    for i, (name, value) in enumerate(zip((*result.targets, *VAD), values, strict=False)):
        meter = f'<meter min="0" max="1" value="{value:.4f}" aria-hidden="true"></meter>'
        cells = [f"{_minus(value)}{meter}" if math.isfinite(value) else "–"]
        if t is not None:
            mean, highest, at = _over_time(curves[i], t.seconds) if i < len(curves) else ["–"] * 3
            cells += [_minus(clip[i]) if over_time else mean, highest, at]
        rows.append(f'<tr><th scope="row">{html.escape(name)}</th>{_cells("td", cells)}</tr>')
    caption = "Values from 0 to 1 (no unit) of the recording"
    heads_row = f"<thead><tr><td></td>{_cells('th', heads)}</tr></thead>"
    return f"<table><caption>{caption}</caption>{heads_row}<tbody>{''.join(rows)}</tbody></table>"


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{text}</{tag}>" for text in texts)


def _over_time(curve: _Curve, seconds: float) -> list[str]:
    if not math.isfinite(curve.mean):
        return ["–"] * 3
    place = int(np.nanargmax(curve.near.high))
    time = float(curve.near.times[place])
    at = f"{time:.1f} s" if seconds < 90 else drawing.clock(time, seconds)
    return [_minus(curve.mean), _minus(float(curve.near.high[place])), at]


def _minus(value: float, form: str = ".2f") -> str:
    return f"{value:{form}}".replace("-", "−")


def _json(data: dict[str, Any]) -> str:
    """JSON that can stand in a script element: no `<`, so nothing in it can end or open an element."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _kind(data: bytes) -> str | None:
    """The media type of content that every browser plays, None for all else."""
    if data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1:2] and data[1] & 0xE6 == 0xE2):  # MPEG layer III
        return "audio/mpeg"
    if data[:4] == b"fLaC":
        return "audio/flac"
    at = data.find(b"fmt ", 12, 4096) + 8
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE" and at > 8:
        # 1 is PCM, 3 floating point, of which 64 bits are not played; a wav may hold many other codecs.
        codec, bits = data[at : at + 2], data[at + 14 : at + 16]
        return "audio/wav" if codec in (b"\1\0", b"\3\0") and bits != b"\x40\0" else None
    return None
