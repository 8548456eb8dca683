"""A self-contained HTML page of a recording: its sound, waveform, timelines, and a cursor that follows the sound."""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.inference.results import Result, VoiceSegment
from emimic.output import drawing
from emimic.output.drawing import Envelope
from emimic.output.html_svg import Panel, draw_silence, draw_waveform, find_peak, make_panels, wrap_svg
from emimic.task import VAD
from emimic.version import __version__

NOTICE: Final = (
    "Intended for research on expressed emotion with the knowledge of the speakers, not for judging what a person "
    "feels nor for decisions about people. In the EU, inferring emotions at work and in education is forbidden "
    "except for medical or safety reasons (AI Act, Art. 5(1)(f)); elsewhere such systems are high-risk, and people "
    "must be informed (Art. 50(3))."
)
"""The legal notice on every page."""

_UNLIKE: Final = "is unlike the data the model was trained on: trust its values less."

_VIDEO: Final = (
    '<video muted playsinline preload="auto" src="{}" aria-label="The recording\'s video"></video>'
    '<p id="unseen" role="alert" hidden>This browser can\'t show the video; sound and timelines still work.</p>'
)

_START: Final = 'new TimelineView(document, JSON.parse(document.getElementById("data").textContent));\n'

_WAVEFORM_BINS: Final = 8000


def make_page(
    result: Result,
    sound: bytes,
    media_type: str,
    wave: NDArray[np.float32] | Envelope,
    *,
    video: str | None = None,
) -> str:
    """Return the page of a result; it fetches nothing, except a video that is linked.

    A line of more than 1000 values (magnified: 4000) is drawn as means with ranges. Of more than 20,000 values, means
    are read out, and the page states it.

    Args:
        result: of one recording.
        sound: the recording, from `make_playable`.
        media_type: of the sound.
        wave: the same recording to draw, (sample,) at 16 kHz or its envelope.
        video: its address, from `html_video.make_address`; it follows the sound.

    Raises:
        AudioError: there are no samples.
    """
    seconds = result.timeline.seconds if result.timeline else result.seconds
    panels, envelope = make_panels(result), drawing.coarsen(wave, _WAVEFORM_BINS)
    silences = "".join(draw_silence(segment, seconds) for segment in _find_gray(result))
    style, script = _read("html_page.css"), _read("timeline_view.js") + _START
    template = _read("html_page.html").replace("{{view}}", _read("timeline_view.html").rstrip())
    name = drawing.shorten(result.title, 200)
    drawn = [draw_waveform(envelope, seconds), *(panel.draw(seconds) for panel in panels)]
    parts = {
        "name": html.escape(name),
        "version": html.escape(__version__),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "about": html.escape(_describe(result)),
        # Without the file's name, which is the title.
        "notes": "".join(
            f'<p class="note">{html.escape(note[:1].upper() + note[1:])}</p>' for note in result.bare_notes
        ),
        "sound": f"data:{html.escape(media_type)};base64,{base64.b64encode(sound).decode()}",
        "media": "data:" if video is None or video.startswith("data:") else "data: file: 'self'",
        "video": "" if video is None else _VIDEO.format(html.escape(video)),
        "names": "".join([_name_waveform(find_peak(envelope)), *map(_name_panel, panels)]),
        "rows": "\n".join(wrap_svg(silences + part) for part in drawn),
        "seconds": f"{seconds:.3f}",
        "coarse": _describe_means(panels),
        "table": _make_table(result, panels),
        "notice": html.escape(NOTICE),
        "data": _to_json({"name": name, "seconds": seconds, "lines": [panel.to_dict() for panel in panels]}),
    }
    # In one pass, so that no text of a part is taken for a placeholder.
    return re.sub(r"\{\{(\w+)\}\}", lambda placeholder: parts[placeholder[1]], template)


def _read(name: str) -> str:
    """Return a file of this package, which the page in the browser uses, too."""
    return files("emimic.output").joinpath(name).read_text("utf-8")


def _find_gray(result: Result) -> list[VoiceSegment]:
    """Return the segments without values: silences of a timeline, or the end of a clip that was cut."""
    if result.timeline is not None:
        return drawing.find_silences(result.timeline)
    return [VoiceSegment(result.covered, result.seconds)] if result.was_cut else []


def _describe(result: Result) -> str:
    """Return the page's subtitle."""
    text = drawing.describe(result)
    part = (
        f"Its beginning (the first {round(result.covered, 1):g} s)" if result.was_cut else "As one clip, it"
    )
    unlike = f" {part} {_UNLIKE}" if result.prediction.is_unlike_training else ""
    if result.timeline is None:
        return text + (" (gray: not predicted)." if result.was_cut else ".") + unlike
    segments = result.timeline.voice_segments
    if not segments:
        is_silent = not np.isfinite(result.timeline.intensities).any()  # else voice was not detected at all
        return f"{text}.{' No voice was found in it.' if is_silent else ''}{unlike}"
    total = drawing.format_length(sum(segment.end - segment.start for segment in segments))
    return f"{text}. Voice segments: {len(segments)}, together {total}.{unlike}"


def _describe_means(panels: Sequence[Panel]) -> str:
    """Return a sentence on values that are means of several predictions, if there are any."""
    longest = max((panel.reach for panel in panels if panel.each > 1), default=0.0)
    return f"Values read out are means of up to {longest:.1f} s. " if longest else ""


def _name_waveform(peak: float) -> str:
    """Return the name and limits of the waveform's axis, which ends at its peak as a fraction of full scale."""
    return (
        f'<div><span>waveform<small>of full scale</small></span><i class="top">{peak:.2g}</i>'
        f'<i class="bottom">−{peak:.2g}</i></div>'
    )


def _name_panel(panel: Panel) -> str:
    """Return the name, unit, value and limits of a panel."""
    unit = "0 to 1" if panel.look == "vad" else "intensity, 0 to 1"
    return (
        f'<div><span>{html.escape(panel.name)}<small>{unit}</small></span><span class="value">–</span>'
        f'<i class="top">{panel.high:g}</i><i class="bottom">{_format(panel.low, "g")}</i></div>'
    )


def _make_table(result: Result, panels: Sequence[Panel]) -> str:
    """Return the table of the headline.

    It has the values' prediction intervals, if there are any; with a timeline each target's mean, maximum and its time
    too. For a recording over the cut, the values of its beginning replace the mean.
    """
    head, timeline, prediction = result.headline, result.timeline, result.prediction
    values = [*head.intensities, *(() if head.vad is None else head.vad)]
    clip = [*prediction.intensities, *(() if prediction.vad is None else prediction.vad.mean(axis=0))]
    is_mean = head.basis == "mean over time"
    names, heads = (*result.targets, *VAD)[: len(values)], [head.basis]
    pairs = None if result.intervals is None else result.intervals.compute(names, values)
    if result.intervals is not None:
        heads.append(f"{100 * result.intervals.level:.0f} % interval")
    if timeline is not None:
        heads += [f"first {round(result.covered, 1):g} s" if is_mean else "mean over time", "highest", "at"]
    rows = []
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        meter = f'<meter min="0" max="1" value="{value:.4f}" aria-hidden="true"></meter>'
        texts = [f"{_format(value)}{meter}" if math.isfinite(value) else "–"]
        if pairs is not None:
            texts.append("–" if np.isnan(pairs[i]).any() else " to ".join(map(_format, pairs[i])))
        if timeline is not None:
            mean, highest, time = _summarize(panels[i], timeline.seconds) if i < len(panels) else ["–"] * 3
            texts += [_format(clip[i]) if is_mean else mean, highest, time]
        rows.append(f'<tr><th scope="row">{html.escape(name)}</th>{_make_fields("td", texts)}</tr>')
    caption = "Values from 0 to 1 (no unit) of the recording"
    heads_row = f"<thead><tr><td></td>{_make_fields('th', heads)}</tr></thead>"
    return f"<table><caption>{caption}</caption>{heads_row}<tbody>{''.join(rows)}</tbody></table>"


def _make_fields(tag: str, texts: Sequence[str]) -> str:
    """Return one element per text."""
    return "".join(f"<{tag}>{text}</{tag}>" for text in texts)


def _summarize(panel: Panel, seconds: float) -> list[str]:
    """Return the mean, the maximum and its time as texts."""
    if not math.isfinite(panel.mean):
        return ["–"] * 3
    index = int(np.nanargmax(panel.near.high))
    time = float(panel.near.times[index])
    time_text = f"{time:.1f} s" if seconds < 90 else drawing.format_time(time, seconds)
    return [_format(panel.mean), _format(float(panel.near.high[index])), time_text]


def _format(value: float, form: str = ".2f") -> str:
    """Return a number with a typographic minus sign."""
    return f"{value:{form}}".replace("-", "−")


def _to_json(data: dict[str, Any]) -> str:
    """Return JSON for a script element: without `<`, so that no text can end or open an element."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _hash(text: str) -> str:
    """Return the hash of a script or style for the content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
