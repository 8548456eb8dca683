"""The page in the browser against Python: predictions, voice segments, the delay of the microphone, transfer size.

    make page && python -m benchmarks.page ../shared/data/speech/emodb/audio ../shared/data/tava/audio ...

Clips of each folder in a shuffled order, and the sample's, 50 in all, are predicted over time in Chromium and by
Python: each as it is, and as WAV of 44.1 and 48 kHz in turn. As a control, Python predicts the WAVs with noise of -100
dB, too. Then Chromium's fake microphone plays speech for 20 s. Writes docs/results/page.json, in which the timings of
earlier runs stay, with the machine's load.
"""

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
import soxr

import emimic
import emimic.sample
from benchmarks.browser import Browser, Page, serve_folder
from benchmarks.bursts import machine
from benchmarks.results import RESULTS, read_results
from emimic.files import write_atomically
from emimic.inference.results import Results
from emimic.media import decode
from emimic.server.build_page import BUILT
from emimic.task import SAMPLE_RATE

COUNT: Final = 50
RATES: Final = (44_100, 48_000)
LIVE_SECONDS: Final = 20


def choose_files(folders: Sequence[Path], count: int) -> list[Path]:
    """Return `count` media files, in turn from each folder."""
    shuffled = []
    for folder in folders:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in decode.MEDIA_SUFFIXES)
        shuffled.append([paths[i] for i in np.random.default_rng(0).permutation(len(paths))])
    return [paths[i] for i in range(count) for paths in shuffled if i < len(paths)][:count]


def wait_for_result(page: Page, *, timeout: float = 240.0) -> str:
    """Return the page's status after a prediction; raise RuntimeError with its error."""
    status = "document.getElementById('status').textContent"
    failed = "!document.getElementById('alert').hidden"
    text: str = page.wait(f"({failed} || {status}.startsWith('Finished')) && {status} + ' '", timeout=timeout)
    if page.evaluate(failed):
        raise RuntimeError(page.evaluate("document.getElementById('alert').textContent"))
    return text


def open_ready(browser: Browser, address: str) -> Page:
    """Open the page, and wait for its model."""
    page = browser.open_page(address)
    page.wait("document.getElementById('status').textContent === 'Ready.'", timeout=120)
    return page


def download(page: Page, kind: str, folder: Path, stem: str) -> Path:
    """Click a download, and return its file."""
    page.evaluate(f"document.querySelector('[data-format={kind}]').click()")
    path, end = folder / f"{stem}.{kind}", time.monotonic() + 20
    while not path.exists() and time.monotonic() < end:
        page.browser.receive(0.05)
    return path


def predict_in_browser(page: Page, path: Path, folder: Path, *, hop: float = 0.2) -> dict[str, Any]:
    """Return the clip of the JSON that the page gives to download; hop: 0.2, 0.5 or 1 s."""
    page.evaluate(f"document.getElementById('hop').value = '{hop:g}'")
    page.evaluate("document.getElementById('status').textContent = ''")
    page.choose_file("#file", path)
    wait_for_result(page)
    saved = download(page, "json", folder, path.stem)
    (clip,) = json.loads(saved.read_text(encoding="utf-8"))["clips"]
    saved.unlink()
    result: dict[str, Any] = clip
    return result


def list_values(clip: dict[str, Any]) -> Iterator[tuple[str, list[float | None]]]:
    """Yield each value's name, and its values: of the clip, then of the steps."""
    for name, value in (*clip["intensities"].items(), *clip["vad_mean"].items()):
        yield name, [value]
    line = clip["timeline"]
    for name, values in (*line["intensities"].items(), *line["vad"]["values"].items()):
        yield name, values


def compare(there: Sequence[dict[str, Any]], here: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the largest difference by value, and how far voice segments and silent steps differ."""
    differences: dict[str, list[float]] = defaultdict(list)
    silent, segments, edge = 0, 0, 0.0
    for one, two in zip(there, here, strict=True):
        for (name, first), (_, second) in zip(list_values(one), list_values(two), strict=True):
            for a, b in zip(first, second, strict=True):
                silent += (a is None) != (b is None)
                if a is not None and b is not None:
                    differences[name].append(abs(a - b))
        pairs = [[(s["start"], s["end"]) for s in clip["timeline"]["voice_segments"]] for clip in (one, two)]
        segments += pairs[0] == pairs[1]
        if len(pairs[0]) == len(pairs[1]) and pairs[0]:
            edge = max(edge, float(np.abs(np.subtract(*pairs)).max()))
    every = np.concatenate(list(differences.values()))
    return {
        "recordings": len(here),
        "values": len(every),
        "largest_difference": {name: round(max(values), 4) for name, values in differences.items()},
        "mean_difference": round(float(every.mean()), 5),
        "differences_above_0.01": int((every > 0.01).sum()),
        "values_silent_in_one_alone": silent,
        "recordings_with_equal_voice_segments": segments,
        "largest_difference_of_a_segment's_edge_seconds": round(edge, 3),
    }


def convert(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Write recordings as WAV of the rates in RATES, in turn."""
    converted = []
    for number, path in enumerate(paths):
        rate = RATES[number % len(RATES)]
        wave = soxr.resample(decode.load(path, notes=[]), SAMPLE_RATE, rate, quality="VHQ")
        converted.append(folder / f"{number}-{path.stem}.wav")
        soundfile.write(converted[-1], wave, rate, "FLOAT")
    return converted


def add_noise(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Write recordings with white noise of -100 dB."""
    rng, noisy = np.random.default_rng(0), []
    for path in paths:
        wave, rate = soundfile.read(path, dtype="float32")
        noisy.append(folder / f"noise-{path.name}")
        soundfile.write(noisy[-1], wave + 1e-5 * rng.standard_normal(len(wave)), rate, "FLOAT")
    return noisy


def predict_in_python(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the clips of Python's JSON."""
    results: Results = emimic.load(threads=1).predict_files(list(paths), timeline=True)
    assert not results.failed
    return list(results.to_dict()["clips"])


def measure_live(browser: Browser, address: str) -> dict[str, Any]:
    """Record with the fake microphone; return the seconds from a sound to its value on the page."""
    page = open_ready(browser, address)
    page.evaluate("document.getElementById('record').click()")
    page.evaluate("document.querySelector('#law [value=agree]').click()")
    page.wait("!document.getElementById('live').hidden")
    page.evaluate(
        "window.delays = []; new MutationObserver(() => window.delays.push("
        "Number(document.getElementById('live-delay').dataset.seconds)))"
        ".observe(document.getElementById('live-delay'), {attributes: true})"
    )
    end = time.monotonic() + LIVE_SECONDS
    while time.monotonic() < end:
        browser.receive(0.2)
    delays, dropped = (
        page.evaluate("window.delays"),
        page.evaluate("document.getElementById('live-dropped').textContent"),
    )
    page.evaluate("document.getElementById('stop').click()")
    wait_for_result(page)
    return {
        "seconds": LIVE_SECONDS,
        "updates": len(delays),
        "dropped": int(dropped),
        "seconds_from_sound_to_line": {"median": round(float(np.median(delays)), 2), "largest": max(delays)},
    }


def measure_size(folder: Path) -> dict[str, float]:
    """Return the size in MB of what a visit transfers, as it is and with gzip."""
    packed = [path for path in folder.rglob("*.gz") if path.stem != "LICENSE"]
    return {
        "mb": round(sum(path.with_suffix("").stat().st_size for path in packed) / 1e6, 2),
        "gzip_mb": round(sum(path.stat().st_size for path in packed) / 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="*")
    given = parser.parse_args()
    paths = choose_files([emimic.sample.get_folder(), *given.folders], COUNT)
    with tempfile.TemporaryDirectory() as temporary, serve_folder(BUILT) as address:
        folder = Path(temporary)
        (folder / "saved").mkdir()
        converted = convert(paths, folder)
        microphone = folder / "microphone.wav"
        speech = [
            decode.load(path, notes=[])
            for path in sorted((emimic.sample.get_folder() / "speech").glob("*.*a*"))
        ]
        soundfile.write(microphone, soxr.resample(np.concatenate(speech), SAMPLE_RATE, 48_000), 48_000)
        browser = Browser(f"--use-file-for-fake-audio-capture={microphone}")
        try:
            version = browser.call("Browser.getVersion")["product"]
            browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder / "saved"))
            start = time.perf_counter()
            page = open_ready(browser, address)
            ready, start = time.perf_counter() - start, time.perf_counter()
            original = [predict_in_browser(page, path, folder / "saved") for path in paths]
            wall = time.perf_counter() - start
            resampled = [predict_in_browser(page, path, folder / "saved") for path in converted]
            live = measure_live(browser, address)
        finally:
            browser.close()
        timing = {
            "load_average": round(os.getloadavg()[1], 1),
            "ready_seconds": round(ready, 2),
            "seconds_of_sound_per_second": round(sum(clip["seconds"] for clip in original) / wall, 2),
            "live": live,
        }
        expected = predict_in_python(converted)
        results = {
            "machine": machine(),
            "browser": version,
            "as_they_are": compare(original, predict_in_python(paths)),
            "as_wav_of_44.1_and_48_khz": compare(resampled, expected),
            "control_python_with_noise_of_-100_db": compare(
                predict_in_python(add_noise(converted, folder)), expected
            ),
            "timings": [*read_results("page")["timings"], timing],
            "transfer": measure_size(BUILT),
        }
    write_atomically(RESULTS / "page.json", json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
