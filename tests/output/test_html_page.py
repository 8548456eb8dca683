"""The HTML page of a recording: self-contained, safe with any names, and with the data of the result."""

import base64
import hashlib
import io
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import soundfile
import synth_video
from made_results import result, words
from media_files import encode, noise, sine

from emimic import EMOTIONS
from emimic.calibration import HalfWidth, Intervals
from emimic.inference.results import attach_intervals
from emimic.output import drawing, html_sound, html_video
from emimic.output.html_page import make_page
from emimic.output.html_sound import make_playable
from emimic.task import AudioError, EmimicWarning

EVIL = "</script><img src=x onerror=alert(1)>\"'&{{data}}"


class Reader(HTMLParser):
    """Every element with its attributes and text; raises where the nesting is wrong."""

    VOID = ("meta", "link", "br", "img", "input", "path", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[Any] = []
        self.all: list[Any] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.all.append([tag, dict(attributes), ""])
        if tag not in self.VOID:
            self.open.append(self.all[-1])

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.all.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element[2] += data

    def find(self, tag: str, **wanted: str) -> list[Any]:
        return [e for e in self.all if e[0] == tag and all(e[1].get(k) == v for k, v in wanted.items())]


def read(one: Any, samples: Any = None) -> Reader:
    return Reader(make_page(one, b"sound", "audio/wav", sine() if samples is None else samples))


def data(reader: Reader) -> Any:
    (element,) = reader.find("script", id="data")
    return json.loads(element[2])


def same(stored: list[float | None], values: Any) -> None:
    actual = np.array([np.nan if v is None else v for v in stored])
    np.testing.assert_allclose(actual, values, atol=5.1e-5)


def test_the_data_are_the_results():
    one = result(voice_segments=((0.0, 2.0), (4.0, 6.0)))
    stored = data(read(one))
    assert stored["name"] == "clip.wav"
    assert stored["seconds"] == 6.0
    assert [c["name"] for c in stored["lines"]] == [*EMOTIONS, "Arousal", "Dominance", "Valence"]
    for i, line in enumerate(stored["lines"]):
        times, values = (one.timeline.times, one.timeline.intensities[:, i]) if i < 6 else (
            one.timeline.vad_times, one.timeline.vad[:, i - 6])  # fmt: skip
        np.testing.assert_allclose(line["times"], times, atol=5.1e-4)
        same(line["values"], values)
        assert line["values"].count(None) > 0
        assert line["reach"] == (0.2 if i < 6 else 0.02)


def test_a_clip_has_vad_and_a_table():
    one = result(timeline=False, seconds=70.0, was_cut=True)
    reader = read(one)
    stored = data(reader)
    assert [c["name"] for c in stored["lines"]] == ["Arousal", "Dominance", "Valence"]
    same(stored["lines"][1]["values"], one.prediction.vad[:, 1])
    entries = [e[2] for e in reader.find("td")]
    for value in [*one.prediction.intensities, *one.prediction.vad.mean(axis=0)]:
        assert f"{value:.2f}" in entries
    meters = [float(m[1]["value"]) for m in reader.find("meter")]
    np.testing.assert_allclose(meters[:6], one.prediction.intensities, atol=5.1e-5)
    (gray, *others) = reader.find("rect")
    assert len(others) == 3
    assert float(gray[1]["x"]) == pytest.approx(12 / 70 * 1000, abs=0.2)
    assert "predicted from the first 12 s" in reader.find("p")[0][2]
    assert "first 12 s" in [e[2] for e in reader.find("th")]


def test_the_table_shows_mean_and_time_of_the_highest():
    intensities = np.full((30, 6), 0.25)
    intensities[21, 2] = 0.75  # at 4.2 s
    rows = [e[2] for e in read(result(intensities=intensities, vad=False)).find("tr")]
    known = (intensities[:10, 2].sum() + intensities[20:, 2].sum()) / 20
    assert rows[3].endswith(f"{known:.2f}0.754.2 s")
    silent = [e[2] for e in read(result(voice_segments=())).find("tr")]
    assert silent[1].endswith("–––")


def test_what_is_to_be_known_of_the_recording():
    """The page has the notes without the path, states a missing voice, and mentions bands only where there are any."""
    notes = ("clip.wav: the sound starts 2 s after time 0 of the file.", "clip.wav: <damaged>")
    one = replace(result(voice_segments=()), notes=notes)
    actual = [e[2] for e in read(one).find("p")]
    assert actual[1:3] == ["The sound starts 2 s after time 0 of the file.", "<damaged>"]
    assert "No voice was found in it." in actual[0]
    assert "band" not in actual[0]
    unasked = replace(one, timeline=replace(one.timeline, intensities=np.ones_like(one.timeline.intensities)))
    assert "No voice" not in read(unasked).find("p")[0][2]
    long = result(seconds=240.0)
    assert len(long.timeline.times) > 1000
    caption = read(long).find("p")[0][2]
    assert "a line in a band: mean and range" in caption
    assert "No voice" not in caption


def test_over_the_cut_the_mean_over_time_comes_first():
    one = result(was_cut=True)
    reader = read(one)
    heads = [e[2] for e in reader.find("th") if "scope" not in e[1]]
    assert heads == ["mean over time", f"first {one.covered:.1f}".removesuffix(".0") + " s", "highest", "at"]
    entries = [e[2] for e in reader.find("td")]
    known = one.timeline.intensities[np.isfinite(one.timeline.intensities[:, 0])].mean(axis=0)
    assert entries[1:9:4] == [f"{v:.2f}" for v in known[:2]]  # after the empty corner of the head
    assert entries[2:10:4] == [f"{v:.2f}" for v in one.prediction.intensities[:2]]
    meters = [float(m[1]["value"]) for m in reader.find("meter")]
    np.testing.assert_allclose(meters[:6], known, atol=5.1e-5)


def test_a_phone_can_use_the_page():
    style = (files("emimic.output") / "html_page.css").read_text("utf-8")
    rem = 16  # pixels
    sizes = re.search(r"button \{[^}]*min-width: ([\d.]+)rem; min-height: ([\d.]+)rem", style)
    player = re.search(r"audio[^{]*\{[^}]*min-height: ([\d.]+)rem", style)
    assert sizes is not None
    assert player is not None
    assert all(float(size) * rem >= 40 for size in (*sizes.groups(), *player.groups()))
    phone = style.partition("@media (max-width: 40rem)")[2]
    assert "white-space: normal" in phone  # the table's entries break instead of leaving the screen
    reader = read(result())
    rows = [len(re.findall("<t[hd]", row)) for row in make_page(result(), b"", "", sine()).split("<tr>")[1:]]
    assert set(rows) == {5}
    assert "width=device-width" in reader.find("meta", name="viewport")[0][1]["content"]


def test_every_axis_has_its_unit():
    reader = read(result(), 0.25 * sine())
    units = [e[2] for e in reader.find("small")]
    assert units == ["of full scale", *["intensity, 0 to 1"] * 6, *["0 to 1"] * 3]
    tops = [e[2] for e in reader.find("i", **{"class": "top"})]
    assert len(tops) == 10
    assert float(tops[0]) == pytest.approx(0.25 * float(np.abs(sine()).max()), rel=0.05)
    assert "time in the recording, minutes:seconds" in make_page(result(), b"", "", sine())


def test_the_heights_can_follow_the_values():
    intensities = np.linspace(0.2, 0.4, 30)[:, None].repeat(6, axis=1)
    stored = data(read(result(intensities=intensities, voice_segments=((0.0, 6.0),), vad=False)))["lines"][0]
    assert (stored["low"], stored["high"]) == (0.0, 1.0)
    assert (stored["lowest"], stored["highest"]) == pytest.approx((0.2, 0.4), abs=1e-4)
    empty = data(read(result(voice_segments=(), vad=False)))["lines"][0]
    assert (empty["lowest"], empty["highest"]) == (None, None)
    (button,) = read(result()).find("button", id="heights")
    assert button[1]["aria-pressed"] == "false"


@pytest.fixture(scope="module")
def mp4(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video & more")
    sound = np.zeros(8000, np.float32)
    return synth_video.film(
        folder / "a #1 ä.mp4", synth_video.even(10, 5), lambda time: synth_video.gray(99), sound=sound
    )


def test_a_video_is_linked_or_embedded(mp4, tmp_path):
    linked, note = html_video.make_address(mp4, mp4.parent / "out" / "deep", "link")
    assert note is None
    assert linked == "../../a%20%231%20%C3%A4.mp4"
    embedded, note = html_video.make_address(mp4, tmp_path, "embed")
    assert note is None
    assert base64.b64decode(embedded.removeprefix("data:video/mp4;base64,")) == mp4.read_bytes()
    for address, allowed in ((linked, "data: file: 'self'"), (embedded, "data:")):
        reader = Reader(make_page(result(), b"sound", "audio/wav", sine(), video=address))
        (video,) = reader.find("video")
        assert video[1]["src"] == address
        assert "muted" in video[1]  # the sound is the page's own, whose position the lines follow
        (policy,) = reader.find("meta", **{"http-equiv": "Content-Security-Policy"})
        assert f"media-src {allowed};" in policy[1]["content"]
    assert not read(result()).find("video")


def test_a_video_that_no_page_can_show_is_a_note(mp4, tmp_path, monkeypatch):
    assert html_video.make_address(encode(sine(), "wav"), tmp_path, "embed") == (None, None)  # sound alone
    assert html_video.make_address(b"nothing", tmp_path, "link") == (None, None)
    avi = synth_video.film(tmp_path / "b.avi", synth_video.even(10, 3), lambda time: synth_video.gray(99))
    for mode in ("link", "embed"):
        address, note = html_video.make_address(avi, tmp_path, mode)
        assert address is None
        assert "convert it to mp4" in note
    assert "--video embed" in html_video.make_address(mp4.read_bytes(), tmp_path, "link")[1]
    monkeypatch.setattr(html_video, "MAX_BYTES", 100)
    assert "--video link" in html_video.make_address(mp4, tmp_path, "embed")[1]
    monkeypatch.setattr(html_video.os.path, "relpath", lambda *_: (_ for _ in ()).throw(ValueError("drives")))
    assert html_video.make_address(mp4, tmp_path, "link")[0] == mp4.as_uri()


@pytest.mark.parametrize("timeline", [True, False])
def test_hostile_names_are_harmless(timeline):
    one = result(EVIL.replace("/", ""), targets=(EVIL, "<b>", "Joy"), timeline=timeline)
    reader = read(one)
    assert len(reader.find("script")) == 2
    assert not reader.find("img")
    assert len(reader.find("b")) == 1
    assert not [e for e in reader.all if any(k.startswith("on") or k == "style" for k in e[1])]
    assert reader.find("h1")[0][2] == EVIL.replace("/", "")
    assert EVIL in [e[2] for e in reader.find("th")]
    assert data(reader)["name"] == EVIL.replace("/", "")
    if timeline:
        assert data(reader)["lines"][0]["name"] == EVIL


def test_nothing_is_fetched_and_the_policy_fits():
    text = make_page(result(), encode(sine()), "audio/wav", sine())
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"// .*", "", text))
    reader = Reader(text)
    places = [
        v for e in reader.all for k, v in e[1].items() if k in ("src", "href", "srcset", "data", "action")
    ]
    (sound,) = places
    assert base64.b64decode(sound.removeprefix("data:audio/wav;base64,")) == encode(sine())
    (policy,) = [e[1]["content"] for e in reader.find("meta", **{"http-equiv": "Content-Security-Policy"})]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["media-src"] == "data:"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        digest = hashlib.sha256(reader.find(tag)[-1][2].encode()).digest()
        assert rules[rule] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert "{{" not in text


def test_the_parts_are_in_the_package_and_fit_together():
    script = (files("emimic.output") / "timeline_view.js").read_text("utf-8")
    assert "</" not in script
    assert "</" not in (files("emimic.output") / "html_page.css").read_text("utf-8")
    reader = read(result())
    ids = {e[1]["id"] for e in reader.all if "id" in e[1]}
    asked = set(re.findall(r'"(\w+)"', re.findall(r"const ids = \[(.*)\];", script)[0])) - {"unseen"}
    assert {"view", "panels", "cursor", "axis", "time", "trouble"} <= asked
    assert asked <= ids
    assert len(reader.find("span", **{"class": "value"})) == len(data(reader)["lines"])


def test_it_can_be_used_without_eyes_or_mouse():
    reader = read(result())
    (panels,) = reader.find("div", role="slider")
    assert panels[1]["tabindex"] == "0"
    assert panels[1]["aria-label"]
    assert (panels[1]["aria-valuemin"], panels[1]["aria-valuemax"]) == ("0", "6.000")
    assert all(e[1].get("aria-hidden") == "true" for e in reader.find("svg"))
    assert all(e[2].strip() or e[1].get("aria-label") for e in reader.find("button"))
    assert reader.find("html")[0][1]["lang"] == "en"
    assert reader.find("audio")[0][1]["controls"] is None  # there, without a value


def test_the_notice_is_on_the_page():
    (footer,) = read(result()).find("footer")
    for part in ("Intended for", ", not for", "work and in education", "Art. 5(1)(f)", "Art. 50(3)"):
        assert part in footer[2]


def pieces(reader: Reader, look: str) -> list[list[tuple[float, float]]]:
    """The points of each piece of the line of a class."""
    (path,) = reader.find("path", **{"class": look})
    collected = []
    for piece in path[1]["d"].split("M")[1:]:
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", piece)]
        collected.append(list(zip(numbers[::2], numbers[1::2], strict=False)))
    return collected


def test_gaps_are_gaps_and_silences_are_gray():
    intensities = np.linspace(0, 1, 30)[:, None].repeat(6, axis=1)
    reader = read(result(intensities=intensities, voice_segments=((0.0, 2.0), (4.0, 6.0)), vad=False))
    first, second = pieces(reader, "c0")
    assert [p[0] / 1000 * 6 for p in (first[0], first[-1], second[0], second[-1])] == pytest.approx(
        [0.0, 1.8, 4.0, 5.8], abs=0.001
    )
    assert first[0][1] == pytest.approx(98)  # 0 is at the bottom,
    assert second[-1][1] == pytest.approx(2)  # 1 at the top
    boxes = [(float(e[1]["x"]), float(e[1]["width"])) for e in reader.find("rect")]
    assert boxes == [(pytest.approx(1000 / 3, abs=0.01), pytest.approx(1000 / 3, abs=0.01))] * 7
    (lone,) = pieces(read(result(voice_segments=((1.0, 1.1),), vad=False)), "c5")
    assert lone[0][0] == pytest.approx(1000 / 6, abs=0.01)


def test_values_beyond_their_range_stay_in_their_panel():
    reader = read(
        result(intensities=np.linspace(-0.5, 2, 30)[:, None].repeat(6, axis=1), voice_segments=((0, 6),))
    )
    ((*_, last),) = pieces(reader, "c3")
    assert last[1] == pytest.approx(2)
    assert [e[2] for e in reader.find("i", **{"class": "top"})][1:7] == ["2"] * 6
    assert [e[2] for e in reader.find("i", **{"class": "bottom"})][1:7] == ["−0.5"] * 6


def test_half_an_hour_is_coarser_and_says_so():
    one = result(seconds=1800.0, voice_segments=words(500))
    text = make_page(one, b"", "audio/mpeg", drawing.compute_envelope(noise(20.0)))
    assert len(text) < 4_000_000
    assert "Values read out are means of up to 0.1 s." in text
    stored = data(Reader(text))
    same(stored["lines"][0]["values"], one.timeline.intensities[:, 0])
    arousal = stored["lines"][6]
    assert len(arousal["values"]) == 18_000
    assert arousal["values"][7] == pytest.approx(one.timeline.vad[35:40, 0].mean(), abs=5.1e-5)


@pytest.mark.parametrize("seconds", [1 / 16_000, 0.02, 0.1])
def test_the_shortest_recordings_have_a_page(seconds):
    reader = read(
        result(seconds=seconds, voice_segments=((0, seconds),)),
        np.ones(max(1, round(seconds * 16_000)), np.float32),
    )
    assert data(reader)["lines"][0]["values"] != [None]


def test_no_samples_no_page():
    with pytest.raises(AudioError, match="no samples"):
        read(result(), np.empty(0, np.float32))


def test_a_page_needs_no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert read(result()).find("audio")


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("mp3", "audio/mpeg"),
        ("flac", "audio/flac"),
        ("wav", "audio/wav"),
        ("wav24", "audio/wav"),
        ("wavf", "audio/wav"),
    ],
)
def test_what_browsers_play_stays_as_it_is(kind, media_type, tmp_path):
    file = encode(sine(), kind)
    assert make_playable(file) == (file, media_type)
    (tmp_path / "name.xyz").write_bytes(file)
    assert make_playable(tmp_path / "name.xyz") == (file, media_type)


@pytest.mark.parametrize("kind", ["ulaw", "wavd", "aiff", "opus", "m4a", "mp4"])
def test_all_else_becomes_an_mp3_of_the_same_length(kind, tmp_path):
    file = encode(sine(), kind)
    sound, media_type = make_playable(file)
    assert media_type == "audio/mpeg"
    again, rate = soundfile.read(io.BytesIO(sound))
    assert rate == 16_000
    assert len(again) / rate == pytest.approx(1.0, abs=0.1)


def test_large_files_are_made_smaller_unless_they_are_small_for_their_length(monkeypatch):
    monkeypatch.setattr(html_sound, "_MAX_UNCHANGED", 1000)
    samples = sine(seconds=4.0)
    sound, media_type = make_playable(encode(samples, "wav"), samples)
    assert media_type == "audio/mpeg"
    assert len(sound) < 40_000
    slim = encode(samples, "mp3vbr")
    assert 1000 < len(slim) < 4 * 8000
    assert make_playable(slim) == (slim, "audio/mpeg")


def test_a_sound_too_long_for_one_browser_is_reported(monkeypatch):
    monkeypatch.setattr(html_sound, "_MAX_FIREFOX", 1000)
    with pytest.warns(EmimicWarning, match="Firefox plays at most 32"):
        make_playable(encode(sine(), "opus"))


def test_a_recording_that_is_none_is_an_error():
    with pytest.raises(AudioError):
        make_playable(b"no recording at all")


def test_the_same_result_gives_the_same_page():
    one = result()
    assert make_page(one, b"x", "audio/wav", sine()) == make_page(replace(one), b"x", "audio/wav", sine())


def test_prediction_intervals_are_bands_and_a_column():
    widths = {"Joy": HalfWidth((0.0, 1.0), (0.1, 0.3)), "Valence": HalfWidth((0.0, 1.0), (0.2, 0.2))}
    one = attach_intervals(result(), Intervals(0.9, widths, {}))
    page = read(one)
    bands = [element for element in page.find("path") if "interval" in element[1]["class"].split()]
    column = one.targets.index("Joy")
    looks = [element[1]["class"] for element in bands]
    assert looks == [f"interval band c{column}", "interval band vad"]

    # The band's corners, in the order of time, from the panel's limits of 0 and 1 at the heights 98 and 2.
    values = one.timeline.intensities[:, column]
    high = np.clip(values + 0.1 + 0.2 * values, 0, 1)
    drawn = [
        float(point.split(" ")[1])
        for run in bands[0][1]["d"].removeprefix("M").removesuffix("z").split("zM")
        for point in run.split("L")[: len(run.split("L")) // 2]
    ]
    np.testing.assert_allclose(drawn, 98 - 96 * high[np.isfinite(high)], atol=0.051)

    assert any("pale band: 90 % prediction interval" in element[2] for element in page.find("p"))
    assert [element[2] for element in page.find("th")][1] == "90 % interval"
    value = one.headline.intensities[column]
    low, high = max(0, value - 0.1 - 0.2 * value), min(1, value + 0.1 + 0.2 * value)
    fields = [element[2] for element in page.find("td")]
    assert f"{low:.2f} to {high:.2f}" in fields
    assert fields.count("–") >= len(one.targets) - 1
