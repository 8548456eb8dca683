"""Plots of recordings: texts are legible, gaps stay gaps, and the same input gives the same file."""

import itertools
import math
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import result, words
from matplotlib.backends.backend_agg import RendererAgg
from media_files import noise, sine

from emimic import EMOTIONS
from emimic.output import drawing, plots
from emimic.task import AudioError, EmimicError

SVG = "{http://www.w3.org/2000/svg}"
HARD = "a $x_1$ & <b>\"'_^{2}.wav"
LONG = (
    "Contentment & Calm",
    "A very long name of a category indeed",
    "Donaudampfschifffahrtsgesellschaft",
    "$x_1$",
)

EQUAL = np.tile(np.linspace(0, 1, 30)[:, None], 6)
CASES = {
    "six seconds": lambda: result(),
    "equal lines": lambda: result(intensities=EQUAL),
    "zeros": lambda: result(intensities=0 * EQUAL),
    "beyond [0, 1]": lambda: result(intensities=3 * EQUAL - 1),
    "one frame": lambda: result(seconds=0.02, voice_segments=((0, 0.02),)),
    "0.1 s": lambda: result(seconds=0.1, voice_segments=((0, 0.1),)),
    "89.9 s": lambda: result(seconds=89.9, voice_segments=words(25)),
    "half an hour": lambda: result(seconds=1800.0, voice_segments=words(500)),
    "four hours": lambda: result(seconds=14_400.0, voice_segments=((0, 1e5),), vad=False),
    "no voice": lambda: result(voice_segments=()),
    "no VAD": lambda: result(vad=False),
    "other targets": lambda: result(targets=LONG * 4),
    "long name": lambda: result("W" * 120 + ".wav"),
    "clip": lambda: result(timeline=False),
    "clip without VAD": lambda: result(timeline=False, vad=False),
    "clip of other targets": lambda: result(targets=LONG * 4, timeline=False),
    "cut clip": lambda: result(seconds=70.0, timeline=False, was_cut=True),
    "bars at the edges": lambda: with_bars([-0.4, 0.0, 1.0, 1.3, 0.999, -0.001]),
}


def with_bars(values: list[float]) -> Any:
    one = result(timeline=False)
    return replace(one, prediction=replace(one.prediction, intensities=np.array(values, np.float32)))


class Recorder(RendererAgg):
    """Draws, and notes the box of every line of text: text, left, top, right, bottom in pixels."""

    boxes: list[tuple[str, float, float, float, float]]

    def draw_text(
        self, gc: Any, x: Any, y: Any, s: Any, prop: Any, angle: Any, *rest: Any, **more: Any
    ) -> None:
        w, h, d = self.get_text_width_height_descent(s, prop, False)
        box = (x, y + d - h, x + w, y + d) if not angle else (x + d - h, y - w, x + d, y)  # else upwards
        self.boxes.append((s, *box))
        super().draw_text(gc, x, y, s, prop, angle, *rest, **more)


def drawn(figure: Any) -> Recorder:
    recorder = Recorder(figure.bbox.width, figure.bbox.height, figure.dpi)
    recorder.boxes = []
    figure.draw(recorder)
    return recorder


def meet(a: Any, b: Any) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("name", CASES)
def test_no_text_touches_another_or_a_panel_or_leaves_the_figure(name):
    one = CASES[name]()
    figure = plots.make_figure(one, sine(seconds=min(one.seconds, 20.0)))
    boxes = drawn(figure).boxes
    width, height = figure.bbox.width, figure.bbox.height
    assert len(boxes) > 10
    for (text, *a), (other, *b) in itertools.combinations(boxes, 2):
        assert not meet(a, b), (text, other)
    for text, *box in boxes:
        assert 0 <= box[0] < box[2] <= width, text
        assert 0 <= box[1] < box[3] <= height, text
    if one.timeline is not None:
        panels = [panel.bbox.extents for panel in figure.axes]
        for text, *box in boxes:
            assert not any(meet(box, (x0, height - y1, x1, height - y0)) for x0, y0, x1, y1 in panels), text


def svg(one: Any, samples: Any = None) -> Any:
    samples = sine(seconds=1.0) if samples is None else samples
    return ElementTree.fromstring(plots.plot_result(one, samples, form="svg"))


def texts(root: Any) -> list[str]:
    return ["".join(e.itertext()) for e in root.iter(f"{SVG}text")]


def test_svg_has_names_and_numbers_as_text():
    actual = texts(svg(result(HARD, intensities=EQUAL, voice_segments=((0, 6),))))
    assert {HARD, "waveform", *EMOTIONS, "Arousal", "Dominance", "Valence", "seconds"} <= set(actual)
    assert actual.count("mean 0.50") >= 6
    assert actual.count("max 1.00") >= 6
    assert {"0", "1", "2", "3", "4", "5", "6"} <= set(actual)


def test_bars_carry_their_values():
    actual = texts(svg(with_bars([-0.4, 0.0, 1.0, 1.3, 0.999, 0.126])))
    assert {"−0.40", "0.00", "1.00", "1.30", "0.13", *EMOTIONS} <= set(actual)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x" * 60 + "_take2.wav", "x" * 23 + "…" + "x" * 14 + "_take2.wav"),
        ("tab\tbell\x07\u202egnp.wav", "tab\ufffdbell\ufffd\ufffdgnp.wav"),
        ("latin-\udce9.wav", "latin-\ufffd.wav"),
        ("日本.wav", "日本.wav"),
    ],
)
def test_any_name_can_be_a_title(name, shown):
    one = result(name, timeline=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shown in texts(svg(one))
        assert plots.plot_result(one, sine()).startswith(b"\x89PNG")


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_same_input_gives_the_same_file_and_settings_stay(form):
    before = dict(mpl.rcParams)
    first, second = (plots.plot_result(result(), sine(), form=form) for _ in range(2))
    assert first == second
    assert dict(mpl.rcParams) == before
    assert not re.search(rb"20\d\d-\d\d-\d\d", first)


def moves(root: Any, color: str) -> list[list[tuple[float, float]]]:
    """The pieces of the lines of one color, each a list of points (x, y)."""
    collected = []
    for path in root.iter(f"{SVG}path"):
        style = path.get("style", "").lower()
        if f"stroke: {color.lower()}" in style and "fill: none" in style:
            for piece in path.get("d").split("M")[1:]:
                numbers = [float(n) for n in re.findall(r"-?[\d.]+", piece)]
                collected.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return collected


def test_a_gap_is_a_gap():
    intensities = np.random.default_rng(0).uniform(size=(30, 6))
    root = svg(result(intensities=intensities, voice_segments=((0.0, 2.0), (4.0, 6.0))))
    left, right = 1.55 * 72, (10 - 0.95) * 72  # of the panels, in points
    seconds = [
        [(x - left) / (right - left) * 6 for x, _ in piece] for piece in moves(root, drawing.COLORS[0])
    ]
    assert [(round(s[0], 1), round(s[-1], 1)) for s in seconds] == [(0.0, 1.8), (4.0, 5.8)]


def test_a_lone_value_is_a_dot():
    one = result(intensities=np.full((30, 6), 0.5), voice_segments=((1.0, 1.1),), vad=False)
    root = svg(one)
    dots = [g for g in root.iter(f"{SVG}use") if drawing.COLORS[2].lower() in g.get("style", "").lower()]
    assert len(dots) == 1
    left, right = 1.55 * 72, (10 - 0.95) * 72
    assert (float(dots[0].get("x")) - left) / (right - left) * 6 == pytest.approx(1.0, abs=0.01)


def test_panels_share_a_range_to_the_next_tenth():
    intensities = np.full((30, 6), 0.5)
    intensities[3, 0], intensities[3, 5] = -0.12, 1.04
    figure = plots.make_figure(result(intensities=intensities), sine())
    for panel in figure.axes[1:7]:
        assert panel.get_ylim() == pytest.approx((-0.2 - 0.06 * 1.3, 1.1 + 0.06 * 1.3))
    assert figure.axes[7].get_ylim() == pytest.approx((-0.06, 1.06))
    assert drawing.find_range(np.array([np.nan])) == (0, 1)


def test_silence_is_shaded_in_every_panel():
    figure = plots.make_figure(result(voice_segments=((1.0, 2.0), (4.0, 6.0))), sine())
    for panel in figure.axes:
        boxes = [path.get_extents().extents.tolist() for path in panel.collections[-1].get_paths()]
        assert boxes == [[0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 4.0, 1.0]]


def test_without_voice_segments_nothing_is_called_silent():
    one = result()
    line = replace(one.timeline, voice_segments=(), intensities=np.zeros_like(one.timeline.intensities))
    assert drawing.find_silences(line) == []
    silent = result(voice_segments=()).timeline
    assert [(r.start, r.end) for r in drawing.find_silences(silent)] == [(0.0, 6.0)]


def test_long_lines_are_means_with_their_range():
    one = result(seconds=600.0, voice_segments=((0, 600),))
    assert len(one.timeline.times) == 3000
    figure = plots.make_figure(one, sine())
    line = figure.axes[1].lines[0].get_xydata()
    assert len(line) == math.ceil(3000 / math.ceil(3000 / 450))
    values = one.timeline.intensities[:7, 0]
    assert line[0] == pytest.approx([0.6, values.mean()])
    assert line[0, 1] < values.max()
    assert len(plots.plot_result(one, sine(), form="svg")) < 1_500_000


def test_colors_stand_out_on_white():
    for color in drawing.COLORS:
        light = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in light]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 4


FLOATS = st.lists(st.one_of(st.just(math.nan), st.floats(0, 1, width=32)), max_size=60)


@settings(max_examples=100)
@given(FLOATS, st.integers(1, 70))
def test_thin_is_mean_and_range_of_neighbors(values, most):
    times = np.arange(len(values)) * 0.2
    line = drawing.thin(times, np.array(values, np.float64), most)
    assert len(line.mean) <= most
    for i, mean in enumerate(line.mean):
        part = slice(i * line.each, (i + 1) * line.each)
        known = [v for v in values[part] if not math.isnan(v)]
        assert line.times[i] == pytest.approx(times[part].mean())
        if known:
            assert mean == pytest.approx(sum(known) / len(known))
            assert (line.low[i], line.high[i]) == (min(known), max(known))
        else:
            assert math.isnan(mean)
    assert len(line.mean) * line.each >= len(values)


@settings(max_examples=50)
@given(
    st.integers(1, 5000), st.lists(st.integers(0, 5000), max_size=6), st.sampled_from([0.001, 0.01, 0.0331])
)
def test_an_envelope_does_not_depend_on_chunks(length, cuts, stretch):
    samples = noise(length / 16_000)
    whole = drawing.compute_envelope(samples, width=stretch)
    parts = drawing.compute_envelope(
        iter(np.split(samples, sorted(min(c, length) for c in cuts))), width=stretch
    )
    size = round(stretch * 16_000)
    stretches = [samples[i : i + size] for i in range(0, length, size)]
    assert whole.seconds == parts.seconds == length / 16_000
    for name, pick in (("lows", min), ("highs", max)):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
        assert getattr(whole, name).tolist() == [pick(s.tolist()) for s in stretches]


@pytest.mark.parametrize("most", [1, 7, 100, 5000])
def test_coarser_loses_no_peak(most):
    samples = noise(2.0)
    samples[20_001], samples[31_999] = 3.0, -4.0
    for given_ in (samples, drawing.compute_envelope(samples)):
        shown = drawing.coarsen(given_, most)
        assert len(shown.lows) == len(shown.highs) <= most
        assert (shown.highs.max(), shown.lows.min()) == (3.0, -4.0)
        assert shown.seconds == 2.0
        assert shown.highs.argmax() == math.floor(20_001 / 16_000 / shown.width)
        start = drawing.coarsen(given_, most, until=1.0)
        assert start.seconds == 1.0
        assert start.highs.max() < 3.0


def test_a_plot_of_an_envelope_is_the_plot_of_its_samples():
    samples = noise(6.0)
    fine = drawing.compute_envelope(samples, width=math.ceil(96_000 / 2000) / 16_000)
    assert plots.plot_result(result(), fine, form="svg") == plots.plot_result(result(), samples, form="svg")


@pytest.mark.parametrize(
    ("seconds", "whole", "text"),
    [
        (0.3, 2, "0.3"),
        (0, 2, "0"),
        (89, 89, "89"),
        (90, 90, "1:30"),
        (3599, 3599, "59:59"),
        (3723.4, 4000, "1:02:03"),
    ],
)
def test_times_are_formatted(seconds, whole, text):
    assert drawing.format_time(seconds, whole) == text


def test_refusals():
    with pytest.raises(AudioError, match="no samples"):
        plots.plot_result(result(), np.empty(0, np.float32))
    with pytest.raises(AudioError, match="no samples"):
        drawing.compute_envelope(iter([]))
    with pytest.raises(EmimicError, match="'pdf'; give png or svg"):
        plots.plot_result(result(), sine(), form="pdf")  # type: ignore[arg-type]


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EmimicError, match=r"pip install '.*\[plots\]'"):
        plots.plot_result(result(), sine())


def test_digital_silence_and_one_sample():
    assert "digital" in texts(svg(result(), np.zeros(16_000, np.float32)))
    assert plots.plot_result(result(seconds=1 / 16_000, timeline=False), np.zeros(1, np.float32))
    assert Path(plots.__file__).read_text().count("pyplot") == 0
