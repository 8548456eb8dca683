"""Formats: each is read back by another program than its writer, with times exact to the millisecond."""

import csv
import io
import json
import ntpath
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import parselmouth
import pympi
import pytest
import textgrid
import webvtt
import xmlschema
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from json_schema import keeps

import emimic
from emimic import EMOTIONS, EmimicError
from emimic.calibration import HalfWidth, Intervals
from emimic.inference.results import Failure, Result, Results, Timeline, VoiceSegment
from emimic.output import formats
from emimic.prediction import Prediction

VAD = ("Arousal", "Dominance", "Valence")
EAF = xmlschema.XMLSchema(Path(__file__).parents[1] / "schemas" / "eaf.xsd")
SCHEMA = json.loads((Path(formats.__file__).parent / "schema.json").read_text())
HOSTILE = 'Ünï "quoted" & <b>bold\' §%41#;'
"""A stem as people have them; `<` and quotes are letters of a file name on Linux."""

# audformat 1.4 on pandas 3.1: its own calls are to change, not ours.
pandas_4 = pytest.mark.filterwarnings("ignore:The inplace keyword")

FAST = settings(
    max_examples=15,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # shrinking a failure would take minutes here
)

Pieces = dict[str, list[tuple[int, int, float]]]


def make(
    steps: int = 12,
    *,
    hop: float = 0.2,
    first: float = 0.0,
    rest: float = 0.05,
    gaps: Any = (),
    vad: bool = True,
    voice_segments: tuple[VoiceSegment, ...] = (VoiceSegment(0.0, 0.7123), VoiceSegment(1.2, 2.0)),
    path: Path = Path("folder/clip.wav"),
    seed: int = 0,
) -> Result:
    """A result whose timeline has `steps` centers from `first` on, a hop apart, and ends `rest` after the last."""
    rng = np.random.default_rng(seed)
    times = first + hop * np.arange(steps)
    seconds = float(times[-1]) + rest
    intensities = rng.uniform(-0.1, 1.2, (steps, len(EMOTIONS))).astype(np.float32)
    intensities[list(gaps)] = np.nan
    vad_times = 0.0125 + 0.02 * np.arange(int(seconds * 50))
    frames = rng.uniform(0, 1, (len(vad_times), 3)).astype(np.float32) if vad else None
    if frames is not None:
        frames[len(frames) // 2 : len(frames) // 2 + 5] = np.nan
    line = Timeline(
        name=path.stem, seconds=seconds, targets=EMOTIONS, window=2.5, hop=hop, times=times,
        starts=np.maximum(times - 1.25, 0), ends=np.minimum(times + 1.25, seconds), intensities=intensities,
        vad_times=vad_times if vad else None, vad=frames, voice_segments=voice_segments,
    )  # fmt: skip
    return clip(seconds, vad=vad, path=path, timeline=line)


def clip(
    seconds: float = 3.21,
    *,
    vad: bool = True,
    was_cut: bool = False,
    path: Path = Path("folder/clip.wav"),
    timeline: Timeline | None = None,
    notes: tuple[str, ...] = (),
) -> Result:
    rng = np.random.default_rng(7)
    frames = 100
    one = Prediction(
        intensities=rng.uniform(0, 1, len(EMOTIONS)).astype(np.float32),
        vad=rng.uniform(0, 1, (frames, 3)).astype(np.float32) if vad else None,
        times=0.0125 + 0.02 * np.arange(frames),
    )
    return Result(path, EMOTIONS, seconds, was_cut, False, one, timeline, notes=notes)


@st.composite
def results(draw: st.DrawFn) -> Result:
    steps = draw(st.integers(1, 20))
    hop = draw(st.sampled_from([0.2, 0.1, 0.25, 1 / 3, 1.0, 2.5]))
    first = draw(st.sampled_from([0.0, hop / 2, 1.25]))
    rest = draw(st.sampled_from([0.0, 0.0123, 0.5, 0.9, 1.0, 1.4])) * hop + 1e-3
    length = int(1000 * (first + (steps - 1) * hop + rest))
    cuts = sorted(draw(st.sets(st.integers(0, length), max_size=6)))
    return make(
        steps,
        hop=hop,
        first=first,
        rest=rest,
        gaps=draw(st.sets(st.integers(0, steps - 1))),
        vad=draw(st.booleans()),
        voice_segments=tuple(
            VoiceSegment(a / 1000, b / 1000) for a, b in zip(cuts[::2], cuts[1::2], strict=False)
        ),
        seed=draw(st.integers(0, 9)),
    )


def expected(result: Result) -> Iterator[tuple[str, list[tuple[float, float, float]]]]:
    """The formula again: a step stands for the hop around its center, the last for a rest of less than half a hop too;
    VAD is the mean of the frames in it."""
    line = result.timeline
    assert line is not None
    stretches = [(max(t - line.hop / 2, 0.0), min(t + line.hop / 2, line.seconds)) for t in line.times]
    if line.seconds - line.times[-1] < line.hop:
        stretches[-1] = (stretches[-1][0], line.seconds)
    for column, name in enumerate(EMOTIONS):
        values = line.intensities[:, column]
        pieces = [(*s, float(v)) for s, v in zip(stretches, values, strict=True) if np.isfinite(v)]
        yield name, pieces
    if line.vad is not None:
        for column, name in enumerate(VAD):
            pieces = []
            for start, end in stretches:
                inside = line.vad[(line.vad_times >= start) & (line.vad_times < end), column]
                inside = inside[np.isfinite(inside)]
                if len(inside):
                    pieces.append((start, end, float(inside.mean())))
            yield name, pieces


# Readers: none has code of the writers


def by_praat(paths: list[Path]) -> Pieces:
    """Praat itself."""
    grid = parselmouth.read(str(paths[0]))
    table = parselmouth.praat.call(grid, "Down to Table", False, 15, True, False)
    collected: Pieces = {}
    for n in range(1, int(parselmouth.praat.call(grid, "Get number of tiers")) + 1):
        collected[parselmouth.praat.call(grid, "Get tier name", n)] = []
    for n in range(1, int(parselmouth.praat.call(table, "Get number of rows")) + 1):
        entry = {
            c: parselmouth.praat.call(table, "Get value", n, c) for c in ("tmin", "tmax", "tier", "text")
        }
        collected[entry["tier"]].append((ms(entry["tmin"]), ms(entry["tmax"]), number(entry["text"])))
    return collected


def by_textgrid(paths: list[Path]) -> Pieces:
    grid = textgrid.TextGrid.fromFile(str(paths[0]))
    for tier in grid:
        assert tier[0].minTime == 0
        assert tier[-1].maxTime == grid.maxTime
        assert all(a.maxTime == b.minTime for a, b in pairwise(tier))
    return {t.name: [(ms(i.minTime), ms(i.maxTime), number(i.mark)) for i in t if i.mark] for t in grid}


def by_xml(paths: list[Path]) -> Pieces:
    """The eaf against a schema, then by its references."""
    EAF.validate(paths[0].read_text("utf-8"))
    root = ElementTree.parse(paths[0]).getroot()
    assert root.find("HEADER").get("TIME_UNITS") == "milliseconds"
    slots = {s.get("TIME_SLOT_ID"): int(s.get("TIME_VALUE")) for s in root.iter("TIME_SLOT")}
    assert list(slots.values()) == sorted(slots.values())
    return {
        tier.get("TIER_ID"): [
            (slots[a.get("TIME_SLOT_REF1")], slots[a.get("TIME_SLOT_REF2")], number(a[0].text))
            for a in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        for tier in root.iter("TIER")
    }


def by_pympi(paths: list[Path]) -> Pieces:
    eaf = pympi.Elan.Eaf(str(paths[0]))
    return {
        name: sorted(
            (start, end, number(text)) for start, end, text in eaf.get_annotation_data_for_tier(name)
        )
        for name in eaf.get_tier_names()
    }


def by_audformat(paths: list[Path]) -> Pieces:
    import audformat

    db = audformat.Database.load(str(paths[0].parent))
    assert set(db.tables) == {"files", "segments", "voice_segments"}
    assert len(db["files"].df) == 1
    voice_segments = [(*span(start, end), 1.0) for _, start, end in db["voice_segments"].index]
    table = db["segments"].df
    return {"voice segments": voice_segments} | {
        name: [(*span(s, e), v) for (_, s, e), v in table[name].items() if np.isfinite(v)] for name in table
    }


def by_csv_and_yaml(paths: list[Path]) -> Pieces:
    """audformat's files without audformat or pandas."""
    header = yaml.safe_load((paths[0].parent / "db.yaml").read_text("utf-8"))
    assert set(header["tables"]) == {"files", "segments", "voice_segments"}
    rows = list(csv.DictReader(io.StringIO((paths[0].parent / "db.segments.csv").read_text("utf-8"))))
    names = list(header["tables"]["segments"]["columns"])
    voice_segments = csv.DictReader(
        io.StringIO((paths[0].parent / "db.voice_segments.csv").read_text("utf-8"))
    )
    return {"voice segments": [(since(r["start"]), since(r["end"]), 1.0) for r in voice_segments]} | {
        name: [(since(r["start"]), since(r["end"]), float(r[name])) for r in rows if r[name]]
        for name in names
    }


def ms(seconds: Any) -> int:
    """Whole milliseconds: that nothing is lost in rounding is part of the test."""
    whole = round(float(seconds) * 1000)
    assert abs(float(seconds) * 1000 - whole) < 1e-6
    return whole


def number(text: str) -> float:
    return 1.0 if text == "voice" else float(text)


def span(start: Any, end: Any) -> tuple[int, int]:
    return ms(start.total_seconds()), ms(end.total_seconds())


def since(text: str) -> int:
    days, hours, minutes, seconds = re.fullmatch(r"(\d+) days(?: (\d+):(\d+):([\d.]+))?", text).groups("0")
    return ms(((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + float(seconds))


READERS: dict[str, tuple[str, Callable[[list[Path]], Pieces]]] = {
    "praat": ("textgrid", by_praat),
    "textgrid": ("textgrid", by_textgrid),
    "xml": ("eaf", by_xml),
    "pympi": ("eaf", by_pympi),
    "audformat": ("audformat", by_audformat),
    "csv and yaml": ("audformat", by_csv_and_yaml),
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@pandas_4
@pytest.mark.parametrize("reader", READERS)
@settings(FAST)
@given(result=results())
def test_intervals_come_back(reader: str, result: Result, shelf: Path) -> None:
    kind, read = READERS[reader]
    actual = read(formats.write(result, shelf, [kind]))
    voice_segments = actual.pop("voice segments")
    assert [r[:2] for r in voice_segments] == [
        (ms(r.start), ms(r.end)) for r in result.timeline.voice_segments
    ]
    wanted = dict(expected(result))
    assert list(actual) == list(wanted)
    for name, pieces in wanted.items():
        # Of a stretch that rounds to nothing there is no interval.
        pieces = [p for p in pieces if round(1000 * p[0] + 1e-9) < round(1000 * p[1] + 1e-9)]
        assert len(actual[name]) == len(pieces)
        for (start, end, value), (begin, stop, v) in zip(actual[name], pieces, strict=True):
            assert abs(start - 1000 * begin) <= 0.51
            assert abs(end - 1000 * stop) <= 0.51
            assert value == pytest.approx(v, abs=6e-4)
        assert all(a[1] <= b[0] for a, b in pairwise(actual[name]))


# NOVA


def by_nova(paths: list[Path]) -> dict[str, tuple[float, Any]]:
    """Name of a scheme -> (rate, lines with score and conf), read as DISCOVER's handler of annotation files does."""
    collected = {}
    headers = [path for path in paths if path.suffix == ".annotation"]
    assert len(paths) == 2 * len(headers)
    for path in headers:
        root = ElementTree.parse(path).getroot()
        assert (root.tag, root.attrib) == ("annotation", {"ssi-v": "3"})
        scheme, info = root.find("scheme"), root.find("info")
        assert {k: scheme.get(k) for k in ("type", "min", "max")} == {
            "type": "CONTINUOUS",
            "min": "0",
            "max": "1",
        }
        assert info.get("ftype") == "ASCII"
        kind = [("score", np.float64), ("conf", np.float32)]
        data = np.loadtxt(f"{path}~", dtype=kind, delimiter=";", ndmin=1)
        assert int(info.get("size")) == len(data)
        collected[scheme.get("name")] = (float(scheme.get("sr")), data)
    return collected


@FAST
@given(result=results())
def test_nova_has_each_value_on_the_line_of_its_time(result: Result, shelf: Path) -> None:
    actual = by_nova(formats.write(result, shelf, ["nova"]))
    line = result.timeline
    series = dict(zip(EMOTIONS, ((line.times, v) for v in line.intensities.T), strict=True))
    if line.vad is not None:
        series |= zip(VAD, ((line.vad_times, v) for v in line.vad.T), strict=True)
    assert set(actual) == {name.lower().replace(" ", "_") for name in series}
    for name, (times, values) in series.items():
        rate, data = actual[name.lower().replace(" ", "_")]
        if len(times) > 1:
            assert rate == pytest.approx(1 / line.hop if name in EMOTIONS else 50, rel=1e-6)
        held = np.full(len(data), np.nan)
        for time, value in zip(times, values, strict=True):
            held[int(time * rate + 1e-4)] = np.clip(value, 0, 1)
        np.testing.assert_allclose(data["score"], held, atol=1e-5)
        np.testing.assert_array_equal(data["conf"], np.isfinite(held))
        assert len(data) / rate > line.seconds - 0.5 / rate - 1e-6


def test_nova_by_the_letter(tmp_path: Path) -> None:
    result = make(3, hop=0.2, first=0.1, rest=0.1, gaps=[1], vad=False)
    header, data = formats.write(result, tmp_path, ["nova"])[6:8]
    assert header.name == "clip.empathic_pain.annotation"
    assert header.read_text() == (
        '<?xml version="1.0" ?>\n<annotation ssi-v="3">\n  <info ftype="ASCII" size="3" />\n'
        '  <meta role="" annotator="emimic" />\n'
        '  <scheme name="empathic_pain" type="CONTINUOUS" sr="5" min="0" max="1" />\n</annotation>\n'
    )
    first, last = (f"{v:.6g};1" for v in result.timeline.intensities[[0, 2], 3].clip(0, 1).tolist())
    assert data.read_text() == f"{first}\nNaN;0\n{last}\n"


# WebVTT

# Of the W3C's syntax: a header line, a blank line, blocks apart by blank lines, each a line of timings, then text.
_STAMP = r"(?:(\d{2,}):)?([0-5]\d):([0-5]\d)\.(\d{3})"
_TIMINGS = re.compile(rf"{_STAMP}[ \t]+-->[ \t]+{_STAMP}")


def by_w3c(path: Path) -> list[tuple[int, int, str]]:
    head, _, body = path.read_bytes().decode("utf-8").partition("\n")
    assert re.fullmatch(r"WEBVTT(?:[ \t].*)?", head)
    cues = []
    for block in filter(None, body.lstrip("\n").split("\n\n")):
        timings, *lines = block.strip("\n").split("\n")
        h, m, s, f, h2, m2, s2, f2 = (int(g or 0) for g in _TIMINGS.fullmatch(timings).groups())
        text = "\n".join(lines)
        assert text
        assert "-->" not in text
        assert not re.search(r"<|&(?!amp;|lt;|gt;)", text)
        cues.append((((h * 60 + m) * 60 + s) * 1000 + f, ((h2 * 60 + m2) * 60 + s2) * 1000 + f2, text))
    return cues


@FAST
@given(result=results())
def test_captions_name_the_strongest_and_leave_gaps(result: Result, shelf: Path) -> None:
    (path,) = formats.write(result, shelf, ["vtt"])
    cues = by_w3c(path)
    assert [(c.start_in_seconds, c.raw_text) for c in webvtt.read(str(path), strict=True)] == [
        (start // 1000, text) for start, _, text in cues
    ]
    line = result.timeline
    assert all(start < end for start, end, _ in cues)
    assert all(a[1] <= b[0] for a, b in pairwise(cues))
    for start, end, text in cues:
        inside = (1000 * line.times > start - 1) & (1000 * line.times < end + 1)
        mean = line.intensities[inside].mean(axis=0)
        if inside.sum() == 1 and np.isfinite(mean).all():
            best = np.argsort(-mean)[:3]
            wanted = [f"{EMOTIONS[i]} {max(float(mean[i]), 0):.2f}" for i in best]
            assert text == " · ".join(wanted)
    for time, row in zip(line.times, line.intensities, strict=True):
        covered = any(start <= 1000 * time <= end for start, end, _ in cues)
        near_edge = any(abs(1000 * time - edge) <= 1 for cue in cues for edge in cue[:2])
        if 0.002 < time < line.seconds - 0.002 and not near_edge:
            assert covered == bool(np.isfinite(row).all())


def test_captions_change_about_once_a_second(tmp_path: Path) -> None:
    result = make(50, gaps=[*range(12, 20), 30])
    cues = by_w3c(formats.write(result, tmp_path, ["vtt"])[0])
    assert cues[0][0] == 0
    assert cues[-1][1] == round(1000 * result.seconds)
    assert all(500 <= end - start <= 1400 for start, end, _ in cues)
    assert [(a[1], b[0]) for a, b in pairwise(cues) if a[1] < b[0]] == [(2300, 3900), (5900, 6100)]
    assert len(cues) == 2 + 2 + 4


# JSON and CSV


def strictly(text: str) -> Any:
    """JSON as the standard has it (no NaN), by the schema, with no field that the schema does not name."""
    whole = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in JSON"))
    jsonschema.Draft202012Validator(SCHEMA).validate(whole)
    keeps("output/formats/schema.json", whole)
    return whole


@FAST
@given(result=results())
def test_json_holds_everything_and_keeps_its_schema(result: Result, shelf: Path) -> None:
    (path,) = formats.write(result, shelf, ["json"])
    whole = strictly(path.read_text("utf-8"))
    (one,) = whole["clips"]
    line, stored = result.timeline, one["timeline"]
    for key in ("times", "starts", "ends"):
        np.testing.assert_allclose(stored[key], getattr(line, key), atol=5.01e-4)  # to the millisecond,
        assert all(round(value, 3) == value for value in stored[key])  # and no more
    for name, values in zip(EMOTIONS, line.intensities.T, strict=True):
        np.testing.assert_allclose(np.array(stored["intensities"][name], float), values, atol=1e-6)
    assert [(r["start"], r["end"]) for r in stored["voice_segments"]] == [
        (r.start, r.end) for r in line.voice_segments
    ]
    assert ("vad" in stored) == (line.vad is not None) == ("vad_mean" in one)
    if line.vad is not None:
        np.testing.assert_allclose(stored["vad"]["times"], line.vad_times, atol=5.01e-4)
        for name, values in zip(VAD, line.vad.T, strict=True):
            np.testing.assert_allclose(np.array(stored["vad"]["values"][name], float), values, atol=1e-6)


def test_the_schema_refuses_what_is_wrong() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    text = formats.to_json(Results(EMOTIONS, (make(),), (Failure(Path("bad.wav"), "bad.wav: no audio"),)))
    whole = strictly(text)
    assert whole["failed"] == [{"file": "bad.wav", "reason": "bad.wav: no audio"}]
    assert (whole["schema"], whole["emimic"]) == (formats.SCHEMA, emimic.__version__)
    one = whole["clips"][0]
    wrong: list[Callable[[], Any]] = [
        lambda: whole.update(schema="emimic/results/2"),
        lambda: whole["failed"][0].pop("reason"),
        lambda: one.pop("was_cut"),
        lambda: one.update(seconds=-1),
        lambda: one["intensities"].update(Joy="high"),
        lambda: one["timeline"].pop("voice_segments"),
        lambda: one["timeline"]["vad"]["values"].pop("Valence"),
        lambda: one["timeline"]["times"].append(None),
    ]
    for spoil in wrong:
        whole = json.loads(text)
        one = whole["clips"][0]
        spoil()
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(SCHEMA).validate(whole)


@FAST
@given(result=results())
def test_csv_has_a_row_a_step(result: Result, shelf: Path) -> None:
    (path,) = formats.write(result, shelf, ["csv"])
    header, *rows = csv.reader(io.StringIO(path.read_bytes().decode("utf-8"), newline=""))
    line = result.timeline
    assert header == ["Seconds", "Start", "End", *EMOTIONS, *(VAD if line.vad is not None else ())]
    fields = np.array([[float(field) if field else np.nan for field in row] for row in rows])
    np.testing.assert_allclose(
        fields[:, :3], np.stack([line.times, line.starts, line.ends], axis=1), atol=1e-4
    )
    np.testing.assert_allclose(fields[:, 3:9], line.intensities, atol=1e-6)


def test_intervals_have_a_low_and_a_high_end_for_each_value(tmp_path: Path) -> None:
    """Without one for its dimension, and in silence, both are empty."""
    result = replace(make(gaps=[3]), intervals=INTERVALS)
    (path,) = formats.write(result, tmp_path, ["intervals"])
    assert path.name == "clip.intervals.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
    values = result.to_steps().values[:, EMOTIONS.index("Joy")]
    assert [float(row["Seconds"]) for row in rows] == pytest.approx(result.to_steps().times)
    assert rows[3]["Joy low"] == rows[3]["Joy high"] == rows[0]["Amusement low"] == ""
    for row, value in zip(rows, values, strict=True):
        if not np.isnan(value):
            half = np.interp(value, (0.2, 0.6), (0.1, 0.3))
            expected = np.clip([value - half, value + half], 0, 1)
            assert [float(row["Joy low"]), float(row["Joy high"])] == pytest.approx(expected, abs=1e-6)
    assert float(rows[0]["Valence high"]) - float(rows[0]["Valence low"]) <= 0.5 + 1e-6


def test_intervals_need_a_model_that_has_some(tmp_path: Path) -> None:
    with pytest.raises(EmimicError, match=r"clip\.wav: the model has no prediction intervals"):
        formats.write(make(), tmp_path, ["intervals"])


def test_csv_of_many_has_vad_where_it_is_known() -> None:
    both = Results(EMOTIONS, (clip(), clip(vad=False, path=Path("ä, b.wav"))), ())
    rows = list(csv.reader(io.StringIO(formats.to_csv(both))))
    assert rows[0] == ["Filename", *EMOTIONS, *VAD, "Basis", "Notes"]
    assert [row[0] for row in rows[1:]] == ["clip", "ä, b"]
    mean = both.clips[0].prediction.vad.mean(axis=0)
    np.testing.assert_allclose([float(v) for v in rows[1][7:10]], mean, atol=1e-6)
    assert rows[2][7:] == ["", "", "", "whole clip", ""]
    assert formats.to_csv(Results(EMOTIONS, (both.clips[1],), ())).splitlines()[0] == ",".join(
        ["Filename", *EMOTIONS, "Basis", "Notes"]
    )


def test_notes_are_in_every_table() -> None:
    """Without the file's path; of a recording over the cut one more."""
    path = Path("a; b\udc80.wav")
    noted = (f"{path}: damaged or cut short; only 1 s were readable and are used.", f"{path}: \udc80 is odd")
    both = Results(EMOTIONS, (clip(30.0, was_cut=True, path=path, notes=noted), clip()), ())
    expected = [
        "damaged or cut short; only 1 s were readable and are used.", "\ufffd is odd",
        "longer than 2 s, so its values are those of the first 2 s",
    ]  # fmt: skip
    assert [one["notes"] for one in strictly(formats.to_json(both))["clips"]] == [expected, []]
    rows = list(csv.DictReader(io.StringIO(formats.to_csv(both))))
    assert [row["Notes"] for row in rows] == ["; ".join(expected), ""]
    frame = both.to_frame()
    assert [*frame.Filename] == ["a; b\ufffd", "clip"]
    assert [*frame.Notes] == ["; ".join(expected), ""]
    line = make(40).timeline
    assert replace(both.clips[0], timeline=line).remarks[-1].endswith("its values are the mean over time")


def test_over_the_cut_every_table_says_what_its_values_are_about() -> None:
    """The headline is the mean over the timeline where there is one, else the column says `first ... s`."""
    long = clip(30.0, was_cut=True)
    line = make(40, gaps=[3, 4]).timeline
    assert line is not None
    three = Results(EMOTIONS, (long, replace(long, timeline=line), clip(path=Path("short.wav"))), ())
    bases = ["first 2 s", "mean over time", "whole clip"]
    assert [one.headline.basis for one in three.clips] == bases
    rows = list(csv.DictReader(io.StringIO(formats.to_csv(three))))
    assert [row["Basis"] for row in rows] == bases
    valid = line.intensities[np.isfinite(line.intensities).all(axis=1)]
    assert len(valid) == 38
    np.testing.assert_allclose([float(rows[1][name]) for name in EMOTIONS], valid.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(
        [float(rows[0][name]) for name in EMOTIONS], long.prediction.intensities, atol=1e-6
    )
    clips = strictly(formats.to_json(three))["clips"]
    assert [one["headline"]["basis"] for one in clips] == bases
    assert clips[1]["headline"]["intensities"]["Joy"] == pytest.approx(valid[:, 5].mean(), abs=1e-6)
    assert clips[1]["intensities"] == clips[0]["intensities"]  # still what the model says of the beginning
    frame = three.to_frame()
    assert list(frame.Basis) == bases
    assert frame.Joy[1] == pytest.approx(valid[:, 5].mean())
    assert all(basis in three._repr_html_() for basis in bases)


def test_a_long_recording_without_a_voice_keeps_the_values_of_its_beginning() -> None:
    line = make(4, gaps=[0, 1, 2, 3], voice_segments=()).timeline
    one = replace(clip(30.0, was_cut=True), timeline=line)
    assert one.headline.basis == "first 2 s"
    assert one.marks == ["first 2 s", "no voice"]
    late = replace(one, was_silent=True, timeline=make(4).timeline)  # silence first, then a voice
    assert late.marks == ["mean over time"]
    assert replace(late, timeline=None).marks == ["first 2 s", "silent"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [("praat", "textgrid"), ("ELAN", "eaf"), (".vtt", "vtt"), (" TextGrid ", "textgrid"), ("webvtt", "vtt")],
)
def test_formats_go_by_the_names_of_their_programs(text: str, kind: str) -> None:
    assert formats.resolve(text) == kind


def test_a_misspelt_format_is_guessed() -> None:
    for text, meant in (("textgird", "textgrid"), ("elna", "elan"), ("jsn", "json")):
        with pytest.raises(
            EmimicError, match=rf"{text}' \(did you mean '{meant}'\?\): expected some of json"
        ):
            formats.resolve(text)
    with pytest.raises(EmimicError, match="'xyz': expected"):
        formats.resolve("xyz")


@pytest.mark.parametrize("text", ["excel", ".XLSX", "spss"])
def test_a_program_of_tables_opens_csv(text: str) -> None:
    with pytest.raises(
        EmimicError, match=rf"{re.escape(text)}' \(csv is what spreadsheets .*: expected some of json"
    ):
        formats.resolve(text)


def test_a_channel_keeps_its_name_in_every_file(tmp_path: Path) -> None:
    two = tuple(replace(make(), channel=number) for number in (1, 2))
    both = Results(EMOTIONS, two, ())
    assert both.names == ["clip channel 1", "clip channel 2"]
    formats.write_all(both, tmp_path, ["json", "eaf"])
    assert {path.name for path in tmp_path.glob("*channel*")} == {
        f"clip channel {number}.{end}" for number in (1, 2) for end in ("json", "eaf")
    }
    (first, second) = strictly((tmp_path / "results.json").read_text("utf-8"))["clips"]
    assert (first["channel"], second["channel"]) == (1, 2)
    assert first["file"] == second["file"]


# Corners

INTERVALS = Intervals(
    0.9, {"Joy": HalfWidth((0.2, 0.6), (0.1, 0.3)), "Valence": HalfWidth((0.5,), (0.25,))}, {}
)

CORNERS = {
    "no voice_segments": make(voice_segments=()),
    "one step": make(1, rest=0.1, voice_segments=(VoiceSegment(0.02, 0.1),)),
    "all gaps": make(gaps=range(12), voice_segments=()),
    "no VAD": make(vad=False),
    "no timeline": clip(),
    "no timeline, no VAD": clip(vad=False),
    "cut": clip(30.0, was_cut=True),
    "less than a millisecond": make(1, rest=2e-4, vad=False, voice_segments=()),
    "hostile name": make(path=Path("folder") / f"{HOSTILE}.wav"),
    "name that is not UTF-8": make(path=Path("folder/b\udce4r\x07.wav")),
    "no name": make(path=Path("-")),
}


@pandas_4
@pytest.mark.parametrize("corner", CORNERS)
def test_corners(corner: str, tmp_path: Path) -> None:
    result = replace(CORNERS[corner], intervals=INTERVALS)
    made = {kind: formats.write(result, tmp_path / kind, [kind]) for kind in formats.FORMATS}
    for kind, paths in made.items():
        on_disk = {path for path in (tmp_path / kind).rglob("*") if path.is_file()}
        assert set(paths) == on_disk
        assert len(paths) == len(on_disk)
        for path in paths:
            if path.suffix != ".stream~":  # float32
                path.read_bytes().decode("utf-8")
    whole = strictly(made["json"][0].read_text("utf-8"))
    assert ("timeline" in whole["clips"][0]) == (result.timeline is not None)
    assert by_nova(made["nova"]).keys() == {
        name.lower().replace(" ", "_")
        for name in (*EMOTIONS, *(VAD if result.prediction.vad is not None else ()))
    }
    cues = by_w3c(made["vtt"][0])
    rows = made["csv"][0].read_text("utf-8").splitlines()
    assert len(rows) == 1 + (1 if result.timeline is None else len(result.timeline.times))
    for kind, read in READERS.values():
        actual = read(made[kind])
        voice_segments = actual.pop("voice segments")
        assert len(voice_segments) == (0 if result.timeline is None else len(result.timeline.voice_segments))
        if result.timeline is None:
            end = (
                2005 if result.was_cut else 3210
            )  # 100 frames were used of the cut clip: 0.0125 + 1.98 + 0.0125 s
            assert {piece[:2] for pieces in actual.values() for piece in pieces} == {(0, end)}
            values = [*result.prediction.intensities]
            if result.prediction.vad is not None:
                inside = result.prediction.times < end / 1000
                values += [*result.prediction.vad[inside].mean(axis=0)]
            assert [pieces[0][2] for pieces in actual.values()] == pytest.approx(values, abs=6e-4)
            assert [cue[:2] for cue in cues] == [(0, end)]
        elif corner == "all gaps":
            assert not any(actual[name] for name in EMOTIONS)
            assert not cues
        else:
            assert all(actual.values())
            assert cues


def test_an_eaf_is_linked_to_its_recording_as_elan_reads_it(tmp_path: Path) -> None:
    """ELAN drops `file://` and decodes nothing, so spaces and umlauts stand as they are."""
    (tmp_path / "in").mkdir()
    media = tmp_path / "in" / f"{HOSTILE}.mp4"
    media.touch()
    (path,) = formats.write(make(path=media), tmp_path / "out", ["eaf"])
    link = ElementTree.parse(path).getroot().find("HEADER/MEDIA_DESCRIPTOR")
    assert Path(link.get("MEDIA_URL").removeprefix("file://")) == media
    assert (path.parent / link.get("RELATIVE_MEDIA_URL")).resolve() == media.resolve()
    assert link.get("MIME_TYPE") == "video/mp4"
    (path,) = formats.write(make(path=Path("microphone")), tmp_path / "out", ["eaf"])
    assert ElementTree.parse(path).getroot().find("HEADER/MEDIA_DESCRIPTOR") is None


def test_an_eaf_beside_a_recording_on_another_drive_has_its_absolute_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = tmp_path / "a.mp4"
    media.touch()

    def on_windows(path: Path, start: Path) -> str:
        return ntpath.relpath(rf"D:\{path.name}", r"C:\out")  # raises ValueError

    monkeypatch.setattr("emimic.output.formats.elan.os.path.relpath", on_windows)
    first, second = formats.write(make(path=media), tmp_path / "out", ["eaf", "csv"])
    assert second.exists()
    EAF.validate(first.read_text("utf-8"))
    link = ElementTree.parse(first).getroot().find("HEADER/MEDIA_DESCRIPTOR")
    assert link.get("MEDIA_URL") == link.get("RELATIVE_MEDIA_URL") == f"file://{media}"


def test_the_eaf_schema_refuses_what_is_wrong(tmp_path: Path) -> None:
    (path,) = formats.write(make(), tmp_path, ["eaf"])
    text = path.read_text("utf-8")
    EAF.validate(text)
    for actual, instead in (
        (' TIME_SLOT_REF1="ts2"', ""),
        (' TIME_SLOT_REF1="ts2"', ' TIME_SLOT_REF1="ts0"'),
        (' TIME_VALUE="100"', ' TIME_VALUE="100.5"'),
        (' DATE="', ' DATE="x'),
        (' TIER_ID="Joy"', ' TIER_ID="Excitement"'),
        (' LINGUISTIC_TYPE_REF="default-lt"', ' LINGUISTIC_TYPE_REF="other"'),
    ):
        assert actual in text
        assert not EAF.is_valid(text.replace(actual, instead, 1))


# Names, whole files, libraries


def test_recordings_of_one_stem_stay_apart(tmp_path: Path) -> None:
    clips = tuple(make(3, path=Path(folder) / name, seed=n) for n, (folder, name) in enumerate(
        [("a", "clip.wav"), ("b", "clip.mp3"), ("c", "CLIP.wav"), ("d", "clip-2.wav"), ("e", "Results.wav"),
         ("f", "a:b.wav"), ("g", "a?b.wav")]
    ))  # fmt: skip
    results = Results(EMOTIONS, clips, (Failure(Path("x.wav"), "x.wav: empty"),))
    written = formats.write_all(results, tmp_path, ["json", "nova"])
    table = (tmp_path / "intensities.csv").read_bytes()
    assert table.startswith(b"Filename,")  # R would make a byte order mark a part of this name
    stems = [path.stem for path in written if path.suffix == ".json" and path.name != "results.json"]
    assert stems == ["clip", "clip-2", "CLIP-3", "clip-2-2", "Results-2", "a_b", "a_b-2"]
    assert len({str(path).lower() for path in written}) == len(written) == 2 + 7 * (1 + 2 * 9)
    for stem, one in zip(stems, clips, strict=True):
        whole = strictly((tmp_path / f"{stem}.json").read_text())
        assert whole["clips"][0]["file"] == str(one.path)
    assert len(strictly((tmp_path / "results.json").read_text())["clips"]) == 7
    assert len((tmp_path / "intensities.csv").read_text().splitlines()) == 8


@given(
    st.lists(
        st.one_of(
            st.text(max_size=200),
            st.sampled_from(["a", "A", "b.", "con", "NUL.x", "ß", "ss", "..", "", "\u00e4", "A\u0308"]),
        )
    )
)
def test_names_are_safe_and_differ(texts: list[str]) -> None:
    names = formats.make_unique(texts)
    assert len({unicodedata.normalize("NFD", name).casefold() for name in names}) == len(names) == len(texts)
    for name in names:
        assert name
        assert not re.search(r'[<>:"/\\|?*\x00-\x1f]', name)
        assert name[-1] not in " ."
        assert name[0] not in " ."
        assert len(name.encode()) < 180
        assert name.split(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt1"}


def test_ordinary_names_stay() -> None:
    names = ["interview 3", "Straße (2)", "ユーザー", "a.b", "O'Neil & Söhne"]
    assert formats.make_unique(names) == names


@pytest.mark.parametrize("kind", formats.FORMATS)
def test_a_disk_that_fills_up_leaves_the_old_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (replace(made, intervals=INTERVALS) for made in (make(), make(5, seed=1)))
    old = {path: path.read_bytes() for path in formats.write(first, tmp_path, [kind])}

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        formats.write(second, tmp_path, [kind])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == old


@pytest.mark.parametrize(
    ("kind", "module"),
    [("textgrid", "praatio"), ("eaf", "pympi"), ("audformat", "audformat"), ("vtt", "webvtt")],
)
def test_a_missing_library_names_the_extra(
    kind: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EmimicError, match=rf"need: pip install '.*\[formats\]' \({module} is not"):
        formats.write(make(), tmp_path, [kind])
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_an_unknown_kind_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(EmimicError, match=r"'wav'.*json, csv, intervals, textgrid"):
        formats.write(make(), tmp_path / "out", ["json", "wav"])
    assert not (tmp_path / "out").exists()


def test_the_base_install_writes_json_csv_and_nova(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "for name in ('pandas', 'audformat', 'pympi', 'praatio', 'webvtt', 'torch', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np\n"
        "from emimic.prediction import Prediction\n"
        "from emimic.output import formats\n"
        "from emimic.inference.results import Result\n"
        "one = Prediction(np.ones(1, np.float32), None, np.ones(1))\n"
        "result = Result(Path('a.wav'), ('Joy',), 1.5, False, False, one)\n"
        "print(len(formats.write(result, Path(sys.argv[1]), ['json', 'csv', 'nova'])))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "4"
