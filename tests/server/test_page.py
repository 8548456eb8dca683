"""The page in a real browser: it predicts as Python does, is usable by everybody, and asks no other server.

One Chromium serves all tests. They are skipped where there is none, or where npm's packages are not installed.
"""

import csv
import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import two_graphs
from json_schema import keeps
from local_server import serve

import emimic
import emimic.sample
from benchmarks.browser import Browser, Page, find_chromium, serve_folder
from benchmarks.page import compare, download, open_ready, predict_in_browser, wait_for_result
from emimic.inference.results import Result
from emimic.media import decode
from emimic.output.formats import json_csv, webvtt
from emimic.server.build_page import build_page
from emimic.task import EMOTIONS

NPM = Path(__file__).parents[2] / "node_modules"
SPEECH = emimic.sample.get_folder() / "speech"
AUDIO = emimic.sample.get_folder() / "audio"

if find_chromium() is None:
    pytest.skip("found no Chromium: `make browser` installs Debian's", allow_module_level=True)
if not (NPM / "onnxruntime-web").is_dir():
    pytest.skip("found no npm packages: `make page` installs them", allow_module_level=True)


@dataclass
class Setup:
    """The browser with one page, its address, and a folder for downloads."""

    browser: Browser
    page: Page
    worker: Page
    address: str
    folder: Path

    def predict(self, path: Path, hop: float) -> dict[str, Any]:
        return predict_in_browser(self.page, path, self.folder, hop=hop)

    def see(self, selector: str) -> str:
        text: str = self.page.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")
        return text


def find_worker(browser: Browser) -> Page:
    """Return the worker of the page that was opened last."""
    attached = [event["params"] for event in browser.events if event["method"] == "Target.attachedToTarget"]
    sessions = [params["sessionId"] for params in attached if params["targetInfo"]["type"] == "worker"]
    return Page(browser, sessions[-1])


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    folder = tmp_path_factory.mktemp("page")
    build_page(folder / "built", runtime=NPM / "onnxruntime-web")
    voice = np.concatenate([decode.load(path) for path in sorted(SPEECH.glob("*.*a*"))])
    soundfile.write(folder / "microphone.wav", soxr.resample(voice, 16_000, 48_000), 48_000)
    (folder / "saved").mkdir()
    browser = Browser(f"--use-file-for-fake-audio-capture={folder / 'microphone.wav'}")
    try:
        with serve_folder(folder / "built") as address:
            browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder / "saved"))
            page = open_ready(browser, address)
            yield Setup(browser, page, find_worker(browser), address, folder / "saved")
    finally:
        browser.close()


@pytest.fixture(autouse=True)
def _watch(setup: Setup) -> Iterator[None]:
    """After each test: all requests were for files of the page, and the console has no error and no warning."""
    setup.page.resize(1280, 900)
    yield
    files = f"GET {setup.address}"
    foreign = [asked for asked in setup.browser.list_requests() if not asked.startswith(files)]
    complaints = setup.browser.list_complaints()
    setup.browser.events.clear()
    assert foreign == []
    assert complaints == []


@pytest.fixture(scope="module")
def predictor() -> emimic.Predictor:
    return emimic.load(threads=1)


def find_violations(page: Page) -> list[str]:
    """Return what axe-core finds in the page as it is now."""
    page.evaluate((NPM / "axe-core" / "axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run().then(({violations}) => violations.map("
                          "({id, nodes}) => id + ': ' + nodes.map(({html}) => html).join(' ')))")  # fmt: skip
    return list(found)


def test_a_file_has_the_predictions_of_python(setup: Setup, predictor: emimic.Predictor) -> None:
    path = SPEECH / "woman-happy.mp3"
    clip = setup.predict(path, 0.5)
    (expected,) = predictor.predict_files([path], timeline=True, hop=0.5).to_dict()["clips"]
    assert clip.keys() == expected.keys()
    assert clip["timeline"].keys() == expected["timeline"].keys()
    assert (clip["Filename"], clip["file"], clip["notes"]) == ("woman-happy", "woman-happy.mp3", [])
    assert clip["headline"]["basis"] == "whole clip"
    for name in ("times", "starts", "ends", "window", "hop", "method", "voice_segments"):
        assert clip["timeline"][name] == expected["timeline"][name]
    compared = compare([clip], [expected])
    assert max(compared["largest_difference"].values()) < 0.02
    assert compared["values_silent_in_one_alone"] == 0
    assert clip["novelty"] == pytest.approx(expected["novelty"], abs=0.01)
    table = setup.see("table")
    assert "90 % interval" in table
    for name, value in clip["headline"]["intensities"].items():
        low, high = clip["intervals"]["intensities"][name]
        assert re.search(rf"{name}\t{value:.2f}\s+{low:.2f} to {high:.2f}\t", table)
    bands = setup.page.evaluate("document.querySelectorAll('#panels .interval').length")
    assert bands == len(EMOTIONS) + 2  # and of dominance and valence; arousal has none


def test_downloads_are_as_python_writes_them(
    setup: Setup, predictor: emimic.Predictor, tmp_path: Path
) -> None:
    path = tmp_path / "pause, with words.wav"
    voice = decode.load(SPEECH / "man-angry.mp3")
    soundfile.write(path, np.concatenate([voice, np.zeros(32_000, np.float32), voice[:16_000]]), 16_000)
    setup.predict(path, 0.5)
    (result,) = predictor.predict_files([path], timeline=True, hop=0.5).clips
    saved = {kind: download(setup.page, kind, setup.folder, path.stem) for kind in ("csv", "json", "vtt")}
    keeps("output/formats/schema.json", json.loads(saved["json"].read_text("utf-8")))
    check_csv(saved["csv"].read_text("utf-8"), result, tmp_path)
    (vtt,) = webvtt.write(result, tmp_path, "python")
    texts = [re.sub(r"\d\.\d\d(?= |$|\n)", "value", file.read_text("utf-8")) for file in (saved["vtt"], vtt)]
    assert [line for line in texts[0].splitlines() if "-->" in line] == [
        line for line in texts[1].splitlines() if "-->" in line
    ]
    assert texts[0].splitlines()[:2] == texts[1].splitlines()[:2]
    assert len(texts[0].splitlines()) == len(texts[1].splitlines())


def check_csv(text: str, result: Result, folder: Path) -> None:
    """Assert that a CSV is Python's, apart from differences between two runtimes."""
    (written,) = json_csv.write_csv(result, folder, "python")
    ours, theirs = (list(csv.reader(io.StringIO(one))) for one in (text, written.read_text("utf-8")))
    assert ours[0] == theirs[0]
    assert [row[:3] for row in ours] == [row[:3] for row in theirs]
    assert [[field == "" for field in row] for row in ours] == [
        [field == "" for field in row] for row in theirs
    ]
    values, expected = (
        np.array([[float(field or 0) for field in row[3:]] for row in rows[1:]]) for rows in (ours, theirs)
    )
    np.testing.assert_allclose(values, expected, atol=0.02)
    assert "" in ours[6]


def make_recordings(folder: Path) -> list[Path]:
    """Write recordings that decide on voice: late, in stereo at another rate, silent; and one of the sample."""
    rng = np.random.default_rng(0)
    voice = decode.load(SPEECH / "woman-angry.flac")
    wide = soxr.resample(voice, 16_000, 44_100)
    noise = 0.003 * rng.standard_normal((44_100 * 2, 2))
    noise[30_000:70_000] += wide[:40_000, None]
    late = [np.zeros(12_345), voice[:16_000], np.zeros(30_000), voice[:16_000]]
    sounds = {
        "late": (np.concatenate(late), 16_000),
        "stereo": (noise, 44_100),
        "silence": (np.zeros(30_000), 22_050),
    }
    for name, (samples, rate) in sounds.items():
        soundfile.write(folder / f"{name}.wav", samples, rate, "FLOAT")
    return [*(folder / f"{name}.wav" for name in sounds), AUDIO / "00128.mp3"]


def test_silence_and_voice_segments_are_those_of_python(
    setup: Setup, predictor: emimic.Predictor, tmp_path: Path
) -> None:
    paths = make_recordings(tmp_path)
    clips = [setup.predict(path, 1.0) for path in paths]
    expected = predictor.predict_files(paths, timeline=True, hop=1.0).to_dict()["clips"]
    for clip, other in zip(clips, expected, strict=True):
        assert clip["timeline"]["voice_segments"] == other["timeline"]["voice_segments"]
        assert (clip["seconds"], clip["was_silent"]) == (other["seconds"], other["was_silent"])
        assert clip["notes"] == other["notes"]
    assert compare(clips, expected)["values_silent_in_one_alone"] == 0
    assert max(compare(clips, expected)["largest_difference"].values()) < 0.03
    assert len(clips[0]["timeline"]["voice_segments"]) == 2
    assert clips[2]["was_silent"]


def test_a_model_of_two_graphs_runs_once_over_a_recording(setup: Setup, tmp_path: Path) -> None:
    """Blocks, frames and windows are those of Python, to the precision of float32."""
    model = two_graphs.write_model(tmp_path / "model")
    build_page(tmp_path / "built", runtime=NPM / "onnxruntime-web", model=model)
    voice = np.concatenate([decode.load(path) for path in sorted(SPEECH.glob("*.flac"))])
    soundfile.write(
        tmp_path / "talk.wav", np.concatenate([voice, np.zeros(40_000), voice, voice]), 16_000, "FLOAT"
    )
    with serve_folder(tmp_path / "built") as address:
        page = open_ready(setup.browser, address)
        try:
            clip = predict_in_browser(page, tmp_path / "talk.wav", setup.folder)
        finally:
            page.call("Page.close")
            setup.page.call("Page.bringToFront")
    requests, complaints = setup.browser.list_requests(), setup.browser.list_complaints()
    setup.browser.events.clear()
    files = (f"GET {address}", f"GET {setup.address}")
    assert [asked for asked in requests if not asked.startswith(files)] == complaints == []
    (expected,) = emimic.load(model).predict_files([tmp_path / "talk.wav"], timeline=True).to_dict()["clips"]
    assert clip["timeline"]["method"] == expected["timeline"]["method"] == "one pass"
    assert clip["headline"]["basis"] == expected["headline"]["basis"] == "mean over time"
    compared = compare([clip], [expected])
    assert max(compared["largest_difference"].values()) < 2e-5
    assert compared["values_silent_in_one_alone"] == 0
    assert len({*clip["timeline"]["intensities"]["Joy"]}) > 20


def test_the_resampler_is_as_good_as_soxr(setup: Setup) -> None:
    """Below the pass band's end it equals soxr; the sizes of chunks change nothing."""
    rng = np.random.default_rng(0)
    for rate in (8_000, 22_050, 44_100, 48_000):
        wave = rng.uniform(-1, 1, rate // 4).astype(np.float32)
        code = f"""import("/resample.js").then(({{Resampler, resample}}) => {{
            const samples = Float32Array.from({wave.tolist()}), stream = new Resampler({rate}), parts = [];
            for (let start = 0; start < samples.length; start += 777) {{
                parts.push(...stream.push(samples.subarray(start, start + 777)));
            }}
            return [[...resample(samples, {rate})], [...parts, ...stream.flush()]];
        }})"""
        at_once, in_parts = map(np.array, setup.page.evaluate(code))
        np.testing.assert_array_equal(at_once, in_parts)
        expected = soxr.resample(wave, rate, 16_000, quality="HQ")
        assert len(at_once) == len(expected)
        np.testing.assert_allclose(at_once[200:-200], expected[200:-200], atol=0.05)
        low = np.abs(np.fft.rfft(at_once[:3_900] - expected[:3_900]))[
            : int(0.9 * min(rate, 16_000) / 16_000 * 1_950)
        ]
        assert low.max() < 1e-2 * np.abs(np.fft.rfft(expected[:3_900])).max()


def test_the_microphone_asks_first_and_shows_lines(setup: Setup) -> None:
    page = setup.page
    page.evaluate("document.getElementById('hop').value = '1'")
    page.evaluate("document.getElementById('record').click()")
    assert page.evaluate("document.getElementById('law').open")
    assert "AI Act, Art. 5(1)(f)" in setup.see("#law")
    assert find_violations(page) == []
    page.evaluate("document.querySelector('#law [value=cancel]').click()")
    assert page.evaluate("document.getElementById('live').hidden && !document.getElementById('law').open")
    page.evaluate("document.getElementById('record').click()")
    page.evaluate("document.querySelector('#law [value=agree]').click()")
    page.wait("!document.getElementById('live').hidden")
    page.wait("document.querySelectorAll('#live-panels path.c5[d^=M]').length === 1", timeout=20)
    known = "({textContent}) => /^[01]\\.\\d\\d$/.test(textContent)"
    page.wait(f"[...document.querySelectorAll('#live .value')].every({known})")
    assert find_violations(page) == []
    assert 0.5 < page.evaluate("Number(document.getElementById('live-delay').dataset.seconds)") < 20
    page.evaluate(
        "document.getElementById('status').textContent = ''; document.getElementById('stop').click()"
    )
    wait_for_result(page)
    assert re.fullmatch(r"recording \d{4}-\d\d-\d\d \d\d\.\d\d\.wav", setup.see("#report .title"))
    page.wait("document.querySelector('#report audio').duration > 1")
    assert page.evaluate(
        "navigator.mediaDevices.enumerateDevices().then(() => document.getElementById('live').hidden)"
    )


def test_nothing_can_be_sent(setup: Setup) -> None:
    """Neither the page nor its worker can reach another server, which listens here and is never asked."""
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    server = HTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    target = f"http://127.0.0.1:{server.server_port}/sound"
    code = f"""fetch("{target}", {{mode: "no-cors"}}).then(() => "sent", () => "refused")"""
    try:
        assert setup.page.evaluate(code) == "refused"
        assert setup.worker.evaluate(code) == "refused"
        assert setup.worker.evaluate(f"fetch('{setup.address}contents.json').then(({{ok}}) => ok)")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    setup.page.evaluate("1")
    assert len(setup.browser.list_complaints()) >= 2  # the policy's
    assert all(
        "Content Security Policy" in one or "refused" in one for one in setup.browser.list_complaints()
    )
    setup.browser.events.clear()
    assert asked == []


def test_everybody_can_use_it(setup: Setup) -> None:
    page = setup.page
    setup.predict(AUDIO / "00113.mp3", 0.5)
    for dark in (False, True):
        page.resize(390, 800, dark=dark)
        assert find_violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.resize(1280, 900)
    assert page.evaluate("document.activeElement.className") == "title"  # a screen reader goes on there
    assert page.evaluate("document.getElementById('status').getAttribute('role')") == "status"
    page.evaluate("document.getElementById('panels').focus()")
    page.press("End", 35)
    seconds = page.evaluate("Number(document.getElementById('panels').getAttribute('aria-valuenow'))")
    page.press("ArrowLeft", 37)
    text = page.evaluate("document.getElementById('panels').getAttribute('aria-valuetext')")
    assert text.startswith(f"{seconds - 0.2:.1f} seconds. Admiration 0.")
    page.press("Tab", 9)
    assert page.evaluate("document.activeElement.matches('.wide')")
    page.press("Tab", 9)
    assert page.evaluate("document.activeElement.dataset.format") == "csv"


def test_errors_are_explained_and_work_can_be_stopped(setup: Setup, tmp_path: Path) -> None:
    page = setup.page
    broken = tmp_path / "notes.txt"
    broken.write_text("no sound", encoding="utf-8")
    page.choose_file("#file", broken)
    with pytest.raises(RuntimeError, match=r"notes\.txt: this browser finds no sound"):
        wait_for_result(page)
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "long.wav", 0.1 * rng.standard_normal(16_000 * 60), 16_000)
    page.choose_file("#file", tmp_path / "long.wav")
    page.wait("document.getElementById('progress').value > 0")
    assert page.evaluate("document.getElementById('file').disabled")
    page.evaluate("document.getElementById('cancel').click()")
    page.wait("document.getElementById('status').textContent === 'Stopped.'")
    assert not page.evaluate("document.getElementById('file').disabled")


def test_a_file_can_be_dropped(setup: Setup) -> None:
    page = setup.page
    sound = (AUDIO / "00113.mp3").read_bytes()
    page.evaluate(f"""(() => {{
        document.getElementById("status").textContent = "";
        const files = new DataTransfer();
        files.items.add(new File([Uint8Array.from({list(sound)})], "<b>dropped</b>.mp3"));
        document.body.dispatchEvent(new DragEvent("drop", {{dataTransfer: files, bubbles: true, cancelable: true}}));
    }})()""")
    wait_for_result(page)
    assert setup.see("#report .title") == "<b>dropped</b>.mp3"


def test_the_server_serves_it_and_both_predict_alike(setup: Setup) -> None:
    """At `/` of `emimic serve`: it works under the server's policy, and asks this server alone."""
    path = AUDIO / "00113.mp3"
    with serve(page=setup.folder.parent / "built") as server:
        address = str(server.base_url)
        setup.browser.events.clear()
        page = open_ready(setup.browser, address)
        clip = predict_in_browser(page, path, setup.folder, hop=0.5)
        requests, complaints = setup.browser.list_requests(), setup.browser.list_complaints()
        page.call("Page.close")
        response = server.post("/v1/emotions", files={"file": path.read_bytes()}, data={"hop": "0.5"})
    setup.browser.events.clear()
    assert complaints == []
    assert len(requests) > 5
    assert [asked for asked in requests if not asked.startswith(f"GET {address}")] == []
    compared = compare([clip], [response.json()])
    assert max(compared["largest_difference"].values()) < 0.02
    assert compared["values_silent_in_one_alone"] == 0
